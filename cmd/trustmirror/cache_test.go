package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/rogpeppe/go-internal/testscript"
)

// pull pulls the release from a mirror, by both names and for all platforms.
func (l *lab) pull(t *testing.T, ts *testscript.TestScript) {
	s := startServe(t, ts.MkAbs("config.yaml"))
	for _, name := range []string{signedRef.Name(), copyRef.Name()} {
		s.pull(name, "0.1.19")
	}
	if status := s.end(); status != statusOK {
		ts.Fatalf("serve ended with %d", status)
	}
}

// pull pulls a document and all that it leads to.
func (s *served) pull(name, reference string) {
	s.t.Helper()
	get := func(kind, reference string) []byte {
		status, body := s.get("/v2/" + name + "/" + kind + "/" + reference)
		if status != http.StatusOK {
			s.t.Fatalf("%s of %s: %d %s", reference, name, status, body)
		}
		return body
	}
	type link struct{ Digest digest.Digest }
	var doc struct {
		Manifests, Layers []link
		Config            *link
	}
	if err := json.Unmarshal(get("manifests", reference), &doc); err != nil {
		s.t.Fatal(err)
	}
	for _, m := range doc.Manifests {
		s.pull(name, m.Digest.String())
	}
	if doc.Config != nil {
		doc.Layers = append(doc.Layers, *doc.Config)
	}
	for _, b := range doc.Layers {
		get("blobs", b.Digest.String())
	}
}

// TestServeScrubs has something damaged in the part of storage that is scrubbed
// first.
func TestServeScrubs(t *testing.T) {
	l := newLab(t)
	config := l.write(t)
	name := strings.Repeat("0", 64)
	folder := filepath.Join(filepath.Dir(config), "data", "content", "sha256", "00")
	if err := errors.Join(os.MkdirAll(folder, 0o750), os.WriteFile(filepath.Join(folder, name), []byte("damaged"), 0o600)); err != nil {
		t.Fatal(err)
	}
	s := startServe(t, config)
	s.line("a stored object was damaged; it was set aside, and is fetched again when somebody pulls it", "digest", "sha256:"+name)
	if _, err := os.Stat(filepath.Join(folder, name)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if _, metrics := get(t, testClient, "http://"+s.admin+"/metrics"); !strings.Contains(string(metrics), "\ntrustmirror_quarantines_total 1\n") {
		t.Errorf("it isn't counted: %s", metrics)
	}
}

// TestCacheAsRoot leaves nothing of root's in a storage that belongs to another user.
func TestCacheAsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: that root touches nobody's storage, since this isn't root")
	}
	config := newLab(t).write(t)
	data := filepath.Join(filepath.Dir(config), "data")
	if err := errors.Join(os.Mkdir(data, 0o750), os.Chown(data, 12345, 12345)); err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]int{"ls": statusOK, "scrub": statusUnclear, "gc": statusUnclear, "warm webdis": statusUnclear} {
		var stdout, stderr strings.Builder
		t.Chdir(filepath.Dir(config))
		status := run(t.Context(), append(strings.Fields("cache "+command), "-c", config), &stdout, &stderr)
		if status != want || want != statusOK && !strings.Contains(stderr.String(), "run this as that user, as with sudo -u '#12345' trustmirror") {
			t.Errorf("cache %s: %d %s%s", command, status, stdout.String(), stderr.String())
		}
	}
	if left, err := os.ReadDir(data); len(left) > 0 || err != nil {
		t.Errorf("%v is left, %v", left, err)
	}
}

// damage changes a bit in a stored layer.
func (l *lab) damage(ts *testscript.TestScript) {
	layer := l.hubPushed.Layers["linux/amd64"][1]
	file := ts.MkAbs(filepath.Join("data", "content", "sha256", layer.Encoded()[:2], layer.Encoded()))
	raw, err := os.ReadFile(file)
	ts.Check(err)
	raw[len(raw)/2] ^= 1
	ts.Check(os.WriteFile(file, raw, 0o600))
	ts.Setenv("DAMAGED", layer.String())
}
