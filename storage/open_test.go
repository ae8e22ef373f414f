package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
)

func TestOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "as", "needed")
	for range 2 {
		s, err := Open(t.Context(), "filesystem", map[string]any{"rootdirectory": dir, "maxthreads": 30})
		if err != nil {
			t.Fatal(err)
		}
		putContent(t, s)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "staging")); err != nil || len(left) > 0 {
		t.Errorf("staging holds %v, %v", left, err)
	}
	s, err := Open(t.Context(), "inmemory", nil)
	if err != nil {
		t.Fatal(err)
	}
	putContent(t, s)
}

func TestOpenMistakes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		driver string
		params map[string]any
		want   []string // parts of the message
		is     error
	}{
		{"filesytem", nil, []string{`"filesytem" is unknown`, "use filesystem, s3 or inmemory"}, nil},
		{"", nil, []string{`"" is unknown`}, nil},
		{"filesystem", nil, []string{"needs rootdirectory"}, nil},
		{"filesystem", map[string]any{"rootdirectory": ""}, []string{"needs rootdirectory"}, nil},
		{"filesystem", map[string]any{"rootdirectory": 5}, []string{"needs rootdirectory"}, nil},
		{"filesystem", map[string]any{"rootdir": "x"}, []string{`no parameter "rootdir"`, "use rootdirectory"}, nil},
		{"filesystem", map[string]any{"rootdirectory": t.TempDir(), "maxthreads": "many"}, []string{"maxthreads", "many"}, nil},
		{"filesystem", map[string]any{"rootdirectory": file}, []string{file, "not a directory", "folder that user ID"}, nil},
		{"filesystem", map[string]any{"rootdirectory": file + "/below"}, []string{file + "/below", "user ID"}, syscall.ENOTDIR},
		{"filesystem", map[string]any{"rootdirectory": unwritable(t)}, []string{"user ID"}, nil},
	} {
		_, err := Open(t.Context(), test.driver, test.params)
		if err == nil {
			t.Errorf("Open(%q, %v) succeeds", test.driver, test.params)
			continue
		}
		for _, part := range test.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("Open(%q, %v): %q lacks %q", test.driver, test.params, err, part)
			}
		}
		if test.is != nil && !errors.Is(err, test.is) {
			t.Errorf("Open(%q, %v): %v isn't %v", test.driver, test.params, err, test.is)
		}
	}
}

// unwritable is a folder in which not even root can write: staging is a file.
func unwritable(t *testing.T) string {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "staging"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestOpenSweepsStaging(t *testing.T) {
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{"left": staleAfter + time.Minute, "at-work": staleAfter - time.Minute} {
		file := filepath.Join(dir, "staging", name)
		written := time.Now().Add(-age)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o750), os.WriteFile(file, nil, 0o600), os.Chtimes(file, written, written)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(t.Context(), "filesystem", map[string]any{"rootdirectory": dir}); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(dir, "staging"))
	if err != nil || len(left) != 1 || left[0].Name() != "at-work" {
		t.Errorf("staging holds %v, %v; want only at-work", left, err)
	}
}

func TestDriverErrors(t *testing.T) {
	system := &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	for _, err := range []error{
		system,
		storagedriver.Error{DriverName: "d", Detail: system},
		storagedriver.Error{DriverName: "d", Detail: storagedriver.Error{DriverName: "d", Detail: fmt.Errorf("flush: %w", system)}},
		storagedriver.Errors{DriverName: "d", Errs: []error{errors.New("x"), system}},
	} {
		if got := driverError(err); !errors.Is(got, syscall.ENOSPC) || !strings.Contains(got.Error(), "no space left") {
			t.Errorf("%#v becomes %v", err, got)
		}
	}
	for _, err := range []error{
		storagedriver.PathNotFoundError{Path: "/x"},
		storagedriver.Error{DriverName: "d", Detail: storagedriver.PathNotFoundError{Path: "/x"}},
	} {
		if got := driverError(err); !errors.Is(got, ErrNotFound) {
			t.Errorf("%#v becomes %v", err, got)
		}
	}
	if driverError(nil) != nil {
		t.Error("no error becomes one")
	}
}
