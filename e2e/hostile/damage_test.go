package hostile

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// scrubs runs trustmirror cache scrub beside the mirror, which has to end with a
// status.
func (m *mirror) scrubs(t *testing.T, want int) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, "cache", "scrub", "-c", m.ConfigFile).CombinedOutput()
	status := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status = exit.ExitCode()
	} else {
		check(t, err)
	}
	if status != want {
		t.Errorf("cache scrub ends with %d, not %d: %s", status, want, out)
	}
	return string(out)
}

// forgets starts the mirror anew, without what it remembers.
func (m *mirror) forgets(t *testing.T) {
	t.Helper()
	m.Process.Stop()
	check(t, m.Start(t.Context()))
}

// fetched lists the digests that the registries of a site were asked for.
func (s *site) fetched() (asked []digest.Digest) {
	for _, registry := range []*server{s.hub, s.copy} {
		for path := range registry.counts() {
			if d, err := digest.Parse(path[strings.LastIndex(path, "/")+1:]); err == nil {
				asked = append(asked, d)
			}
		}
	}
	return asked
}

// TestAttack33_DamageIsFound damages each object of an image and its copy in turn: a
// document's damage, and any change of length, is found when it is read, a layer's by
// scrubbing. Each is set aside, and fetched again once. Sound documents are served
// from memory as long as they are there, so the mirror is started anew for each.
func TestAttack33_DamageIsFound(t *testing.T) {
	s := newSite(t, "damaged")
	m := startMirror(t, s)
	pull := func() {
		t.Helper()
		check(t, m.pull(t.Context(), s.signed(), tag, s.release.Hub))
		check(t, m.pull(t.Context(), s.copied(), tag, s.release.ECR))
	}
	pull()
	before := m.footprint(t)
	stored, _ := scan(t, m)
	if out := m.scrubs(t, 0); !strings.Contains(out, "damaged: 0; not told: 0") {
		t.Errorf("nothing is damaged, and scrubbing says: %s", out)
	}
	var layers []digest.Digest
	for _, r := range []lab.Release{s.release.Hub, s.release.ECR} {
		for _, image := range r.Images {
			for _, layer := range image.Layers {
				layers = append(layers, layer.Digest())
			}
		}
	}
	for d, file := range stored {
		for name, damage := range map[string]func([]byte) []byte{"flipped": flipped, "shorter": shorter, "longer": longer, "empty": nothing} {
			isLayer := slices.Contains(layers, d)
			raw, err := os.ReadFile(file)
			check(t, err)
			check(t, os.WriteFile(file, damage(bytes.Clone(raw)), 0o640))
			if !isLayer {
				m.forgets(t)
			}
			if name == "flipped" && isLayer {
				if out := m.scrubs(t, 1); !strings.Contains(out, d.String()+" was damaged") {
					t.Errorf("%s was flipped, and scrubbing says: %s", d, out)
				}
			}
			s.fetched()
			pull()
			if asked := s.fetched(); !slices.Contains(asked, d) || len(asked) > 2 { // of both registries, at most
				t.Errorf("after %s was %s, %v were fetched", d, name, asked)
			}
		}
	}
	m.nothingPartial(t)
	m.scrubs(t, 0)
	kept, err := os.ReadDir(m.data("quarantine"))
	check(t, err)
	if len(kept) == 0 || len(kept) > 16 {
		t.Errorf("%d damaged objects are kept", len(kept))
	}
	m.settles(t, before)
}

// TestAttack33_LinkInPlace puts links in the place of stored objects, and of a
// folder of them. Where they lead is neither served nor written to.
func TestAttack33_LinkInPlace(t *testing.T) {
	s := newSite(t, "linked")
	m := startMirror(t, s)
	check(t, m.pull(t.Context(), s.signed(), tag, s.release.Hub))
	stored, _ := scan(t, m)
	for d, file := range stored {
		raw, err := os.ReadFile(file)
		check(t, err)
		evil := filepath.Join(t.TempDir(), d.Encoded())
		check(t, os.WriteFile(evil, flipped(bytes.Clone(raw)), 0o600))
		for _, to := range []string{evil, filepath.Dir(evil), evil + ".absent"} {
			check(t, os.Remove(file))
			check(t, os.Symlink(to, file))
			m.scrubs(t, 0)
			m.forgets(t)
			check(t, m.pull(t.Context(), s.signed(), tag, s.release.Hub))
			if info, err := os.Lstat(file); err != nil || !info.Mode().IsRegular() {
				t.Errorf("%s is still a link to %s: %v", d, to, err)
			}
		}
		// The folder that the object is in leads out, to one that has an object of the name.
		folder := filepath.Dir(file)
		check(t, os.Rename(folder, folder+".away"))
		check(t, os.Symlink(filepath.Dir(evil), folder))
		m.forgets(t)
		err = m.pull(t.Context(), s.signed(), tag, s.release.Hub)
		var refused *refusal
		if !errors.As(err, &refused) || refused.status != 503 || refused.reason != "storage_unavailable" {
			t.Errorf("with a link for the folder of %s: %v", d, err)
		}
		check(t, os.Remove(folder))
		check(t, os.Rename(folder+".away", folder))
		check(t, m.pull(t.Context(), s.signed(), tag, s.release.Hub))
		if now, err := os.ReadFile(evil); err != nil || !bytes.Equal(now, flipped(bytes.Clone(raw))) {
			t.Errorf("where the links led was written to: %v", err)
		}
	}
	if _, corrupt := scan(t, m); len(corrupt) > 0 {
		t.Errorf("stored, but hashing to something else: %v", corrupt)
	}
}

// TestAttack33_CollectWhileServing removes what nobody needs, again and again, beside
// a mirror from which a stored image and a cold one are pulled: neither notices.
func TestAttack33_CollectWhileServing(t *testing.T) {
	s := newStock(t, "collected")
	m := startMirror(t, s.site)
	s.served(t, m, tag, s.release)
	evil := filepath.Join(m.data("content"), "sha256", "00", strings.Repeat("0", 64)) // nobody needs it
	check(t, os.MkdirAll(filepath.Dir(evil), 0o750))
	s.fetched()
	for range 5 {
		check(t, os.WriteFile(evil, []byte("x"), 0o640))
		old := time.Now().Add(-48 * time.Hour)
		stored, _ := scan(t, m)
		for _, file := range stored {
			check(t, os.Chtimes(file, old, old))
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if out, err := exec.CommandContext(t.Context(), program, "cache", "gc", "-c", m.ConfigFile).CombinedOutput(); err != nil || !strings.Contains(string(out), "removed: 1 object that nobody needs, 1 B;") {
				t.Errorf("cache gc: %v: %s", err, out)
			}
		}()
		s.served(t, m, tag, s.release)
		s.served(t, m, "small", s.small)
		<-done
	}
	seen := map[digest.Digest]bool{}
	for _, d := range s.fetched() {
		seen[d] = true
	}
	for _, r := range []lab.Release{s.release.Hub, s.release.ECR} {
		for _, image := range r.Images {
			if seen[image.Manifest.Digest()] {
				t.Errorf("%s was stored, and fetched again", image.Manifest.Digest())
			}
		}
	}
	s.served(t, m, "small", s.small)
	if again := s.fetched(); len(again) > 0 {
		t.Errorf("%v were stored, and fetched again", again)
	}
	if _, err := os.Stat(evil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what nobody needs is still there: %v", err)
	}
}
