package storage

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func attackEdge() Admission {
	return Admission{
		Repository: "docker.io/nicolas/webdis", Digest: filesystemDigest, Kind: KindLayer, Signed: digest.FromString("s"), Proof: ProofListed,
		At: time.Unix(1, 0).UTC(),
	}
}

// recordPaths is where an admission is recorded, and a tag that leads to it.
func recordPaths(t *testing.T, a Admission) (record, tag string) {
	t.Helper()
	record, err := a.path(admissionFolder)
	tag, tagErr := tagPath(a.Repository, "tag", a.Signed)
	if err := errors.Join(err, tagErr); err != nil {
		t.Fatal(err)
	}
	return record, tag
}

// A folder where content, a record or trust state would be is none, and the next write
// puts it out of the way, with what is in it.
func TestAttack68_FolderInAFilesPlace(t *testing.T) {
	a := attackEdge()
	record, tag := recordPaths(t, a)
	s, _, dir := newTestFilesystem(t)
	for _, path := range []string{storedPath(t, ""), record, tag, trustPath("gun", "root")} {
		if err := os.MkdirAll(filepath.Join(dir, path, "below"), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	absent := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := s.OpenContent(t.Context(), filesystemDigest)
	absent("content", err)
	_, err = s.ReadDocument(t.Context(), filesystemDigest, 100)
	absent("document", err)
	_, err = s.BoundTag(t.Context(), a.Repository, "tag", a.Signed)
	absent("tag", err)
	_, err = s.Trust().Get(t.Context(), "gun", "root")
	absent("trust state", err)
	if found, err := s.Admissions(t.Context(), a.Repository, a.Digest); len(found) > 0 || err != nil {
		t.Errorf("admissions: %v, %v", found, err)
	}

	err = errors.Join(
		s.Put(t.Context(), filesystemDigest, int64(len(filesystemContent)), strings.NewReader(filesystemContent)),
		s.Admit(t.Context(), a),
		s.BindTag(t.Context(), a.Repository, "tag", a.Signed, a.Digest),
		s.Trust().Put(t.Context(), "gun", "root", []byte("root")),
	)
	if err != nil {
		t.Fatal(err)
	}
	raw, readErr := s.ReadDocument(t.Context(), filesystemDigest, 100)
	bound, boundErr := s.BoundTag(t.Context(), a.Repository, "tag", a.Signed)
	root, rootErr := s.Trust().Get(t.Context(), "gun", "root")
	found, foundErr := s.Admissions(t.Context(), a.Repository, a.Digest)
	if err := errors.Join(readErr, boundErr, rootErr, foundErr); err != nil || string(raw) != filesystemContent || bound != a.Digest || string(root) != "root" || len(found) != 1 {
		t.Errorf("%q, %s, %q, %v, %v", raw, bound, root, found, err)
	}
}

// Files that somebody else left in any folder, under names that no driver accepts,
// neither keep the store from opening nor get in the way of anything.
func TestAttack69_StrayFiles(t *testing.T) {
	dir := t.TempDir()
	params := map[string]any{rootParameter: dir}
	open := func() *Store {
		t.Helper()
		s, err := Open(t.Context(), filesystemDriver, params)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	a := attackEdge()
	putContent(t, s)
	if err := errors.Join(s.Admit(t.Context(), a), s.Trust().Put(t.Context(), "gun", "root", []byte("root"))); err != nil {
		t.Fatal(err)
	}
	edges, err := edgesPath(admissionFolder, a.Repository, digest.FromString("other"))
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{stagingFolder, quarantineFolder, edges, trustPath("gun"), filepath.Dir(storedPath(t, ""))} {
		for _, name := range []string{"lost+found", "a b~", "!first"} {
			file := filepath.Join(dir, folder, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o750), os.WriteFile(file, nil, 0o600), os.Chtimes(file, time.Unix(1, 0), time.Unix(1, 0))); err != nil {
				t.Fatal(err)
			}
		}
	}
	s = open()
	if found, err := s.Admissions(t.Context(), a.Repository, digest.FromString("other")); len(found) > 0 || err != nil {
		t.Errorf("admissions: %v, %v", found, err)
	}
	if names, err := s.Trust().List(t.Context(), "gun"); len(names) != 1 || err != nil {
		t.Errorf("trust state: %v, %v", names, err)
	}
	for range maxQuarantine + 1 {
		putContent(t, s)
		if err := s.Quarantine(t.Context(), filesystemDigest); err != nil {
			t.Fatal(err)
		}
	}
	if stock, err := s.Stock(t.Context()); err != nil || stock.Quarantined.Files > maxQuarantine+3 {
		t.Errorf("%+v, %v", stock, err)
	}
}

// A record that has grown to whatever size is damaged: it isn't read into memory.
func TestAttack70_HugeRecord(t *testing.T) {
	const huge = 1 << 40
	s, _, dir := newTestFilesystem(t)
	a := attackEdge()
	if err := errors.Join(
		s.Admit(t.Context(), a), s.BindTag(t.Context(), a.Repository, "tag", a.Signed, a.Digest),
		s.Trust().Put(t.Context(), "gun", "root", []byte("root")),
	); err != nil {
		t.Fatal(err)
	}
	record, tag := recordPaths(t, a)
	s.EvictBy(Eviction{})
	s.saveObjects(t.Context(), runningFile)
	for _, path := range []string{record, tag, trustPath("gun", "root"), runningFile} {
		if err := os.Truncate(filepath.Join(dir, path), huge); err != nil {
			t.Skipf("no file of %d bytes: %v", int64(huge), err)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if found, err := s.Admissions(t.Context(), a.Repository, a.Digest); len(found) > 0 || err != nil {
		t.Errorf("admissions: %v, %v", found, err)
	}
	if d, err := s.BoundTag(t.Context(), a.Repository, "tag", a.Signed); !errors.Is(err, ErrNotFound) {
		t.Errorf("tag: %s, %v", d, err)
	}
	if raw, err := s.Trust().Get(t.Context(), "gun", "root"); err == nil && len(raw) > maxSmall {
		t.Errorf("trust state: %d bytes", len(raw))
	}
	if s.loadObjects(t.Context()) {
		t.Error("what was used when is said to be complete")
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > maxSmall {
		t.Errorf("reading took %d bytes of memory", took)
	}
	// They are written anew.
	if err := errors.Join(s.Admit(t.Context(), a), s.Trust().Put(t.Context(), "gun", "root", []byte("root"))); err != nil {
		t.Fatal(err)
	}
	found, err := s.Admissions(t.Context(), a.Repository, a.Digest)
	raw, rootErr := s.Trust().Get(t.Context(), "gun", "root")
	if err := errors.Join(err, rootErr); err != nil || len(found) != 1 || string(raw) != "root" {
		t.Errorf("%v, %q, %v", found, raw, err)
	}
}
