package activity

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// mustAppend appends a line that has to be written without complaint.
func mustAppend(t *testing.T, f *file, text string) {
	t.Helper()
	if written, err := f.append([]byte(text + "\n")); !written || err != nil {
		t.Fatalf("%q: written %v, error %v", text, written, err)
	}
}

func mustOpen(t *testing.T, path string, maxSize int64, keep int) *file {
	t.Helper()
	f, err := openFile(path, maxSize, keep)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.close() })
	return f
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s holds %q, error %v; want %q", filepath.Base(path), got, err, want)
	}
}

func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f := mustOpen(t, path, 10, 3)
	for i := range 10 {
		mustAppend(t, f, fmt.Sprintf("no %d", i)) // 5 bytes
	}
	wantFile(t, path, "no 8\nno 9\n")
	wantFile(t, path+".1", "no 6\nno 7\n")
	wantFile(t, path+".2", "no 4\nno 5\n")
	wantFile(t, path+".3", "no 2\nno 3\n")
	if _, err := os.Stat(path + ".4"); err == nil {
		t.Error("a fourth older file is kept")
	}
	mustAppend(t, f, "longer than a whole file")
	wantFile(t, path, "longer than a whole file\n")
	mustAppend(t, f, "next")
	wantFile(t, path+".1", "longer than a whole file\n")
}

// Wherever a process dies while it renames files, nothing is lost, and the next
// process goes on.
func TestRotationInterrupted(t *testing.T) {
	for missing := range 4 { // the file that was renamed last: "log" itself is 0
		folder := t.TempDir()
		path := filepath.Join(folder, "log")
		var before []string
		for i := range 4 {
			name := path
			if i > 0 {
				name = fmt.Sprintf("%s.%d", path, i)
			}
			if i == missing {
				continue
			}
			before = append(before, fmt.Sprintf("old %d\n", i))
			if err := os.WriteFile(name, []byte(before[len(before)-1]), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f := mustOpen(t, path, 8, 3)
		mustAppend(t, f, "new")
		names, err := filepath.Glob(path + "*")
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for _, name := range names {
			raw, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(raw)
		}
		for _, line := range append(before, "new\n") {
			if strings.Count(all.String(), line) != 1 {
				t.Errorf("without file %d: %q is there %d times", missing, line, strings.Count(all.String(), line))
			}
		}
	}
}

func TestOthersRotate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f := mustOpen(t, path, 1000, 3)
	mustAppend(t, f, "one")
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, f, "two")
	wantFile(t, path+".old", "one\n")
	wantFile(t, path, "two\n")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, f, "three")
	wantFile(t, path, "three\n")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, f, "four")
	wantFile(t, path, "four\n")
}

// A file keeps the permissions that the operator gave the first one.
func TestRotationKeepsMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := mustOpen(t, path, 5, 1)
	mustAppend(t, f, "one")
	mustAppend(t, f, "two")
	for _, name := range []string{path, path + ".1"} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, error %v", name, info.Mode(), err)
		}
	}
}

// When the disk is full in the middle of a line, no part of it stays.
func TestDiskFullInALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f := mustOpen(t, path, 1000, 3)
	mustAppend(t, f, "before")
	for _, fits := range []int{0, 1, 4} {
		f.write = func(o *os.File, line []byte) (int, error) {
			n, err := o.Write(line[:fits])
			return n, errors.Join(err, syscall.ENOSPC)
		}
		if written, err := f.append([]byte("lost\n")); written || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("written %v, error %v", written, err)
		}
		wantFile(t, path, "before\n")
	}
	f.write = (*os.File).Write
	mustAppend(t, f, "after")
	wantFile(t, path, "before\nafter\n")
}

// What a crash left of a line is ended, not removed: it may be another's file.
func TestTornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("whole\nhal"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := mustOpen(t, path, 1000, 3)
	mustAppend(t, f, "new")
	mustAppend(t, f, "next")
	wantFile(t, path, "whole\nhal\nnew\nnext\n")
}

// Where files can't be renamed lines are still written, with a complaint.
func TestCannotRename(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f := mustOpen(t, path, 5, 1)
	mustAppend(t, f, "one")
	if err := os.MkdirAll(path+".1/in the way", 0o750); err != nil {
		t.Fatal(err)
	}
	if written, err := f.append([]byte("two\n")); !written || err == nil {
		t.Errorf("written %v, error %v", written, err)
	}
	wantFile(t, path, "one\ntwo\n")
}

func TestOpenFileRefuses(t *testing.T) {
	folder := t.TempDir()
	for path, says := range map[string]string{
		filepath.Join(folder, "none", "log"): "there is no folder " + filepath.Join(folder, "none") + "; make it",
		folder:                               "name a file that user ID",
		"/dev/null":                          "it is no regular file",
	} {
		if _, err := openFile(path, 1000, 3); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v, want one that says %q", path, err, says)
		}
	}
}

// lines returns the lines of a log and of its older files, the oldest first; each
// has to be whole.
func lines(t *testing.T, path string) [][]byte {
	t.Helper()
	var all [][]byte
	for n := 100; n >= 0; n-- {
		name := path
		if n > 0 {
			name = fmt.Sprintf("%s.%d", path, n)
		}
		raw, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(raw) > 0 && raw[len(raw)-1] != '\n' {
			t.Errorf("%s ends within a line", name)
		}
		all = append(all, bytes.Split(bytes.TrimSuffix(raw, []byte("\n")), []byte("\n"))...)
	}
	return all
}
