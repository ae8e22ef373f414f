package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// otherImage is signed by the same author, with the same root key.
const otherImage = "docker.io/lab/other"

// TestArchiveRefused changes archives, and what is pinned of them: the mirror
// doesn't start, and says why.
func TestArchiveRefused(t *testing.T) {
	s := newSite(t)
	s.push(t, "0.1.18", multi(t, "0.1.18"))
	rule, err := s.world.Rule()
	check(t, err)
	o := s.newOperator(t, rule)
	export := func(file string) (archive []byte, printed string) {
		printed = o.typed(t, "trustmirror trust export -c config.yaml -o "+file+" nicolas/webdis")
		return o.read(t, file), printed
	}
	older, _ := export("older.tar")
	s.push(t, "0.1.19", multi(t, "0.1.19"))
	good, printed := export("webdis.tar")
	other := s.exportOther(t)
	if !bytes.Equal(openArchive(t, good).encode(t), good) {
		t.Fatal("the test doesn't write archives as trustmirror does, so the cases below would be refused for their form")
	}
	changed := func(edit func(*archive)) []byte {
		a := openArchive(t, good)
		edit(a)
		return a.encode(t)
	}
	// pin is the configuration with which an archive is trusted in.
	pin := func(raw []byte) string { return strings.ReplaceAll(printed, sum(good), sum(raw)) }
	oneByte := flip(good, bytes.Index(good, openArchive(t, good).contents["targets.json"]))
	unpinned := strings.Repeat("0", 64)

	tests := []struct {
		name    string
		archive []byte
		config  string // pin(archive) if empty
		want    []string
	}{
		{"a byte changed", oneByte, printed, []string{"isn't the archive that is pinned", sum(oneByte)}},
		{"a byte changed, and that pinned", oneByte, "", []string{"digest_mismatch", "targets.json"}},
		{"cut short", good[:len(good)-1024], "", []string{"malformed"}},
		{"another image's", other, "", []string{"signature_invalid", otherImage, "not for " + lab.HubName}},
		{"another image's under this one's name", renamed(t, other), "", []string{"signature_invalid", "its certificate is that of", otherImage}},
		{"another image's targets", changed(func(a *archive) {
			a.set("targets.json", openArchive(t, other).contents["targets.json"])
		}), "", []string{"size_mismatch", "targets has"}},
		{"targets changed, and listed so", changed(func(a *archive) {
			a.set("targets.json", flip(a.contents["targets.json"], 0))
		}), "", []string{"digest_mismatch", "targets"}},
		{"a root key that isn't pinned", good, strings.ReplaceAll(printed, rule.Pins.Root[0], unpinned), []string{"key_not_pinned", rule.Pins.Root[0]}},
		{"a repository key that isn't pinned", good, strings.ReplaceAll(printed, rule.Pins.Repository[0], unpinned), []string{"key_not_pinned", rule.Pins.Repository[0]}},
		{"a signer's key that isn't pinned", good, strings.ReplaceAll(printed, rule.Pins.Signers[lab.Signer][0], unpinned), []string{"key_not_pinned", rule.Pins.Signers[lab.Signer][0]}},
		{"a file added behind", appended(t, good), "", []string{"malformed", "holds more than archive.json lists"}},
		{"a file added and listed", changed(func(a *archive) {
			a.set("targets/mallory.json", a.contents["targets.json"])
		}), "", []string{"malformed", "targets/mallory.json", "nothing in the signed metadata vouches for"}},
		{"its moment moved on", changed(func(a *archive) {
			a.manifest.Moment = a.manifest.Moment.Add(time.Hour)
		}), "", []string{"metadata_expired", "the archive claims"}},
		{"metadata added after its moment", changed(func(a *archive) {
			a.manifest.Moment = a.manifest.Moment.Add(-time.Hour)
		}), "", []string{"malformed", "metadata were added to it later"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o.write(t, "webdis.tar", test.archive)
			if test.config == "" {
				test.config = pin(test.archive)
			}
			o.paste(t, test.config)
			o.servesNot(t, test.want...)
			o.refused(t, "trustmirror config check config.yaml", 2, test.want...)
		})
	}
	t.Run("an older one pinned again", func(t *testing.T) {
		o.write(t, "webdis.tar", good)
		o.paste(t, printed)
		o.typed(t, "trustmirror serve -c config.yaml")
		s.stopServing()
		o.write(t, "webdis.tar", older)
		o.paste(t, pin(older))
		o.servesNot(t, "rollback", "older than what was accepted before", "trustmirror trust reset")
	})
}

// TestArchiveIsOneFile archives the same metadata for different people at
// different times, and lists what is in the archive.
func TestArchiveIsOneFile(t *testing.T) {
	s := newSite(t)
	ctx, publisher := t.Context(), s.world.Publisher
	check(t, publisher.SignAs(ctx, lab.HubName, "0.1.19", multi(t, "0.1.19").Hub.Top(), lab.Signer))
	check(t, publisher.Publish(ctx, lab.HubName))
	check(t, publisher.RotateRoot(ctx, lab.HubName))
	check(t, publisher.Publish(ctx, lab.HubName)) // so that it knows its new key
	rule, err := s.world.Rule()
	check(t, err)
	now, later := s.newOperator(t, rule), s.newOperator(t, rule)
	now.typed(t, "trustmirror trust export -c config.yaml -o webdis.tar nicolas/webdis")
	later.aYearLater()
	later.typed(t, "trustmirror trust export -c config.yaml --all -o archives")
	all, err := filepath.Glob(filepath.Join(later.dir, "archives", "*"))
	check(t, err)
	if len(all) != 1 || !bytes.Equal(now.read(t, "webdis.tar"), later.read(t, filepath.Join("archives", filepath.Base(all[0])))) {
		t.Errorf("archives of the same metadata differ: webdis.tar and %q", all)
	}
	if !strings.Contains(later.printed, "timestamp expired") {
		t.Errorf("a year on, trust export doesn't say that the timestamp has expired:\n%s", later.printed)
	}
	const want = `archive.json
root/2.json
root/3.json
timestamp.json
snapshot.json
targets.json
targets/nicolasff.json
targets/releases.json
`
	if got := now.typed(t, "tar tf webdis.tar"); got != want {
		t.Errorf("tar tf prints\n%swant\n%s", got, want)
	}
}

// exportOther signs another image, and archives its metadata.
func (s *site) exportOther(t *testing.T) []byte {
	t.Helper()
	check(t, s.world.Publisher.Init(t.Context(), otherImage))
	check(t, s.world.Publisher.Sign(t.Context(), otherImage, "1.0", multi(t, "1.0").Hub.Top()))
	check(t, s.world.Publisher.Publish(t.Context(), otherImage))
	pins, err := s.world.Publisher.Pins(otherImage)
	check(t, err)
	o := s.newOperator(t, lab.Rule{Signed: otherImage, Notary: s.world.Notary.URL, Pins: pins})
	o.typed(t, "trustmirror trust export -c config.yaml -o other.tar "+otherImage)
	return o.read(t, "other.tar")
}

func (o *operator) read(t *testing.T, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(o.dir, file))
	check(t, err)
	return content
}

func (o *operator) write(t *testing.T, file string, content []byte) {
	t.Helper()
	check(t, os.WriteFile(filepath.Join(o.dir, file), content, 0o600))
}

// archive is an archive taken apart.
type archive struct {
	manifest archiveManifest
	contents map[string][]byte
}

// archiveManifest is an archive's archive.json.
type archiveManifest struct {
	Format string         `json:"format"`
	GUN    string         `json:"gun"`
	Moment time.Time      `json:"moment"`
	Source string         `json:"source"`
	Files  []archiveEntry `json:"files"`
}

type archiveEntry struct {
	Name   string `json:"name"`
	Size   int    `json:"size"`
	SHA256 string `json:"sha256"`
}

func openArchive(t *testing.T, raw []byte) *archive {
	t.Helper()
	a := &archive{contents: map[string][]byte{}}
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			check(t, json.Unmarshal(a.contents["archive.json"], &a.manifest))
			return a
		}
		check(t, err)
		a.contents[header.Name], err = io.ReadAll(r)
		check(t, err)
	}
}

// set puts a file in place of another, or at the end, and lists it.
func (a *archive) set(name string, content []byte) {
	entry := archiveEntry{name, len(content), sum(content)}
	at := slices.IndexFunc(a.manifest.Files, func(e archiveEntry) bool { return e.Name == name })
	if at < 0 {
		a.manifest.Files = append(a.manifest.Files, entry)
	} else {
		a.manifest.Files[at] = entry
	}
	a.contents[name] = content
}

// encode writes the archive as trustmirror would.
func (a *archive) encode(t *testing.T) []byte {
	t.Helper()
	manifest, err := json.MarshalIndent(a.manifest, "", "  ")
	check(t, err)
	var raw bytes.Buffer
	w := tar.NewWriter(&raw)
	add := func(name string, content []byte) {
		check(t, w.WriteHeader(&tar.Header{
			Name: name, Size: int64(len(content)), Mode: 0o644, ModTime: a.manifest.Moment, Format: tar.FormatGNU,
		}))
		_, err := w.Write(content)
		check(t, err)
	}
	add("archive.json", append(manifest, '\n'))
	for _, entry := range a.manifest.Files {
		add(entry.Name, a.contents[entry.Name])
	}
	check(t, w.Close())
	return raw.Bytes()
}

// renamed is the archive of another image that says it is Webdis's.
func renamed(t *testing.T, raw []byte) []byte {
	t.Helper()
	a := openArchive(t, raw)
	a.manifest.GUN = lab.HubName
	return a.encode(t)
}

// appended is an archive with a file that isn't listed, as "tar --append" adds it.
func appended(t *testing.T, raw []byte) []byte {
	t.Helper()
	var file bytes.Buffer
	w := tar.NewWriter(&file)
	check(t, w.WriteHeader(&tar.Header{Name: "targets/mallory.json", Size: 2, Mode: 0o644}))
	_, err := w.Write([]byte("{}"))
	check(t, err)
	check(t, w.Close())
	const end = 2 * 512 // empty blocks
	return append(slices.Clone(raw[:len(raw)-end]), file.Bytes()...)
}

// flip changes one byte.
func flip(raw []byte, at int) []byte {
	changed := slices.Clone(raw)
	changed[at] ^= 1
	return changed
}

func sum(content []byte) string {
	sha := sha256.Sum256(content)
	return hex.EncodeToString(sha[:])
}
