package storage

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
)

const filesystemContent = "content"

var filesystemDigest = digest.FromString(filesystemContent)

// newTestFilesystem makes a store on a driver in a temporary folder.
func newTestFilesystem(t *testing.T) (*Store, *filesystem, string) {
	t.Helper()
	dir := t.TempDir()
	d, err := newFilesystem(dir)
	if err != nil {
		t.Fatal(err)
	}
	return New(d), d, dir
}

func putContent(t *testing.T, s *Store) {
	t.Helper()
	err := s.Put(t.Context(), filesystemDigest, int64(len(filesystemContent)), strings.NewReader(filesystemContent))
	if err != nil {
		t.Fatal(err)
	}
}

func storedPath(t *testing.T, dir string) string {
	t.Helper()
	p, err := digestPath(contentFolder, filesystemDigest)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, p)
}

// A write is on disk in this order: the file's bytes, then its name, with the
// names of all folders on the way.
func TestDurability(t *testing.T) {
	s, d, dir := newTestFilesystem(t)
	stored := storedPath(t, dir)
	var (
		synced          []string
		visibleUnsynced bool
	)
	d.sync = func(f *os.File) error {
		name, err := filepath.Rel(dir, f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(name, "staging/") {
			_, err := os.Stat(stored)
			visibleUnsynced = visibleUnsynced || err == nil
		}
		synced = append(synced, name)
		return f.Sync()
	}
	putContent(t, s)
	shard := "content/sha256/" + filesystemDigest.Encoded()[:2]
	for _, want := range []string{".", "content", "content/sha256", shard, "staging"} {
		if !slices.Contains(synced, want) {
			t.Errorf("%s was not synced, only %q", want, synced)
		}
	}
	if visibleUnsynced {
		t.Error("the file is synced only after it became visible")
	}

	// Folders that are known to be on disk aren't synced again.
	if err := os.Remove(stored); err != nil {
		t.Fatal(err)
	}
	synced = nil
	putContent(t, s)
	if len(synced) != 3 || !strings.HasPrefix(synced[0], "staging/") || synced[1] != shard || synced[2] != "staging" {
		t.Errorf("the second write synced %q, want the file and two folders", synced)
	}

	// Records and their removal are synced, too.
	for name, write := range map[string]func() error{
		"trust/gun": func() error { return s.Trust().Put(t.Context(), "gun", "root", nil) },
		"tags/a/b":  func() error { return s.BindTag(t.Context(), "a", "b", filesystemDigest, filesystemDigest) },
		"tags/a/b/": func() error { return s.UnbindTag(t.Context(), "a", "b", filesystemDigest) },
	} {
		if strings.HasSuffix(name, "/") { // the removal needs something to remove
			if err := s.BindTag(t.Context(), "a", "b", filesystemDigest, filesystemDigest); err != nil {
				t.Fatal(err)
			}
		}
		synced = nil
		if err := write(); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(synced, strings.TrimSuffix(name, "/")) {
			t.Errorf("%s was not synced, only %q", name, synced)
		}
	}
}

func TestFailedSyncFailsTheWrite(t *testing.T) {
	s, d, dir := newTestFilesystem(t)
	for failing := 1; ; failing++ {
		count := 0
		d.sync = func(*os.File) error {
			if count++; count == failing {
				return &fs.PathError{Op: "sync", Path: "x", Err: syscall.EIO}
			}
			return nil
		}
		err := s.Put(t.Context(), filesystemDigest, int64(len(filesystemContent)), strings.NewReader(filesystemContent))
		if count < failing {
			if err != nil || failing < 4 {
				t.Errorf("%d syncs, then %v", count, err)
			}
			return
		}
		if !errors.Is(err, syscall.EIO) {
			t.Fatalf("sync %d fails: %v", failing, err)
		}
		if err := os.RemoveAll(filepath.Join(dir, "content")); err != nil {
			t.Fatal(err)
		}
		clear(d.durable)
	}
}

func TestFilesystemModes(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "new", "root")
	d, err := newFilesystem(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := New(d)
	putContent(t, s)
	if err := s.Trust().Put(t.Context(), "gun", "root", nil); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err = filepath.WalkDir(filepath.Dir(dir), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		seen++
		if info.Mode().Perm()&0o027 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil || seen < 9 {
		t.Errorf("%d files seen, %v", seen, err)
	}
}

func TestContentIsAFile(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), filesystemDriver, map[string]any{rootParameter: dir})
	if err != nil {
		t.Fatal(err)
	}
	putContent(t, s)
	c, err := s.OpenContent(t.Context(), filesystemDigest)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, ok := c.ReadSeekCloser.(*os.File); !ok {
		t.Errorf("content is a %T, which sendfile doesn't take", c.ReadSeekCloser)
	}
}

// What isn't a regular file in a stored file's place is not followed, not read,
// and replaced by the next write.
func TestAttack33_NotAFile(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte(filesystemContent), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, plant := range map[string]func(dir, path string) error{
		"link to the outside":     func(_, path string) error { return os.Symlink(outside, path) },
		"link to the inside":      func(dir, path string) error { return os.Symlink(filepath.Join(dir, "inside"), path) },
		"relative link":           func(_, path string) error { return os.Symlink("../../../inside", path) },
		"link that leads nowhere": func(_, path string) error { return os.Symlink("/nowhere", path) },
		"link to itself":          func(_, path string) error { return os.Symlink(path, path) },
		"pipe":                    func(_, path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			s, _, dir := newTestFilesystem(t)
			putContent(t, s)
			path := storedPath(t, dir)
			if err := errors.Join(os.Remove(path), os.WriteFile(filepath.Join(dir, "inside"), []byte(filesystemContent), 0o600), plant(dir, path)); err != nil {
				t.Fatal(err)
			}
			if c, err := s.OpenContent(t.Context(), filesystemDigest); !errors.Is(err, ErrNotFound) {
				t.Fatalf("OpenContent: %v, %v", c, err)
			}
			if raw, err := s.ReadDocument(t.Context(), filesystemDigest, 100); !errors.Is(err, ErrNotFound) {
				t.Fatalf("ReadDocument: %q, %v", raw, err)
			}
			putContent(t, s)
			c, err := s.OpenContent(t.Context(), filesystemDigest)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if raw, err := io.ReadAll(c); err != nil || string(raw) != filesystemContent {
				t.Errorf("stored anew: %q, %v", raw, err)
			}
			if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
				t.Errorf("in its place: %v, %v", info.Mode(), err)
			}
		})
	}
	if raw, err := os.ReadFile(outside); err != nil || string(raw) != filesystemContent {
		t.Errorf("the file outside: %q, %v", raw, err)
	}
}

// A folder that became a link out of the root is an error, not a way out.
func TestAttack33_FolderLeadsOut(t *testing.T) {
	for _, folder := range []string{"content", "staging", "trust"} {
		s, _, dir := newTestFilesystem(t)
		outside := t.TempDir()
		if err := os.Symlink(outside, filepath.Join(dir, folder)); err != nil {
			t.Fatal(err)
		}
		err := errors.Join(
			s.Put(t.Context(), filesystemDigest, int64(len(filesystemContent)), strings.NewReader(filesystemContent)),
			s.Trust().Put(t.Context(), "gun", "root", []byte("root")),
		)
		if err == nil {
			t.Errorf("%s: writes succeed", folder)
		}
		if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
			t.Errorf("%s: outside there are %v, %v", folder, entries, err)
		}
	}
}

// The driver keeps the interface's contract where the store doesn't use it.
func TestFilesystemAppend(t *testing.T) {
	_, d, _ := newTestFilesystem(t)
	for i, appending := range []bool{false, true, false} {
		w, err := d.Writer(t.Context(), "/a/b", appending)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("0123456789")[i:]); err != nil {
			t.Fatal(err)
		}
		size := w.Size()
		if err := errors.Join(w.Commit(t.Context()), w.Close()); err != nil {
			t.Fatal(err)
		}
		want := []string{"0123456789", "0123456789123456789", "23456789"}[i]
		if got, err := d.GetContent(t.Context(), "/a/b"); err != nil || string(got) != want || size != int64(len(want)) {
			t.Errorf("content %q of size %d, %v; want %q", got, size, err, want)
		}
	}
}
