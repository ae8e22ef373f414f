package notary_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
)

// export makes an archive of what the service has now.
func (w *world) export() *notary.Exported {
	w.tb.Helper()
	e, err := notary.Export(context.Background(), notary.ExportConfig{
		GUN: gun, Pins: w.Pins(), Fetcher: w.service, Source: "https://notary.example",
	})
	if err != nil {
		w.tb.Fatalf("export: %v", err)
	}
	return e
}

// delegated makes two signers who have published, and one who hasn't.
func delegated(r *notarytest.Repository) {
	r.Delegate("releases").Sign("0.2", digestB, 5)
	r.Delegate("alice").Sign("0.2", digestB, 5)
	r.Delegate("bob")
}

// rotate makes n new roots, each with a new root key.
func (w *world) rotate(n int) {
	w.tb.Helper()
	for range n {
		w.Root.Keys = []*notarytest.Key{notarytest.RootKey(w.tb, gun)}
		w.Publish("root")
	}
	w.pins = w.Pins()
}

const archiveListing = "archive.json root/1.json root/2.json root/3.json timestamp.json snapshot.json targets.json targets/alice.json targets/releases.json"

func TestArchiveReadsWellAsATar(t *testing.T) {
	w := newWorld(t, delegated)
	w.rotate(2)
	e := w.export()
	if oldest, newest := e.Roots(); oldest != 1 || newest != 3 || e.Gap != nil {
		t.Errorf("roots %d to %d, gap %v", oldest, newest, e.Gap)
	}
	files := w.service.Files(gun)
	var names []string
	contents := make(map[string][]byte)
	for r := tar.NewReader(bytes.NewReader(e.Bytes())); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg || h.Mode != 0o644 || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || !h.ModTime.Equal(e.Moment()) {
			t.Errorf("header of %s: %+v", h.Name, h)
		}
		names = append(names, h.Name)
		if contents[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(names, " "); got != archiveListing {
		t.Errorf("files are %s", got)
	}
	for name, service := range map[string]string{
		"root/1.json": "1.root", "root/2.json": "2.root", "root/3.json": "root", "timestamp.json": "timestamp", "snapshot.json": "snapshot",
		"targets.json": "targets", "targets/alice.json": "targets/alice", "targets/releases.json": "targets/releases",
	} {
		if !bytes.Equal(contents[name], files[service]) {
			t.Errorf("%s is not what the service gave out", name)
		}
	}
	var manifest struct {
		Format, GUN, Source string
		Moment              time.Time
		Files               []struct {
			Name, SHA256 string
			Size         int
		}
	}
	if err := json.Unmarshal(contents["archive.json"], &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest.GUN != gun || manifest.Source != "https://notary.example" || !manifest.Moment.Equal(w.Timestamp.Expires.Add(-time.Second)) {
		t.Errorf("archive.json: %s", contents["archive.json"])
	}
	for _, f := range manifest.Files {
		sum := sha256.Sum256(contents[f.Name])
		if f.SHA256 != hex.EncodeToString(sum[:]) || f.Size != len(contents[f.Name]) {
			t.Errorf("archive.json says of %s: %d bytes, %s", f.Name, f.Size, f.SHA256)
		}
	}
	sum := sha256.Sum256(e.Bytes())
	if e.SHA256() != hex.EncodeToString(sum[:]) {
		t.Errorf("SHA256 is %s", e.SHA256())
	}
}

func TestArchiveIsListedByTar(t *testing.T) {
	program, err := exec.LookPath("tar")
	if err != nil {
		t.Skip("SKIPPED: there is no tar here")
	}
	long := strings.Repeat("a-long-name", 20)
	w := newWorld(t, delegated, func(r *notarytest.Repository) { r.Delegate(long).Sign("0.3", digestA, 1) })
	w.rotate(2)
	file := filepath.Join(t.TempDir(), "archive.tar")
	if err := os.WriteFile(file, w.export().Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program, "tf", file).CombinedOutput()
	want := strings.Replace(archiveListing, "targets/alice", "targets/"+long+".json targets/alice", 1)
	if got := strings.Join(strings.Fields(string(out)), " "); err != nil || got != want {
		t.Errorf("tar tf: %v\n%s\nwant %s", err, got, want)
	}
	if raw, err := os.ReadFile(file); err != nil {
		t.Error(err)
	} else if _, err := notary.ReadArchive(raw); err != nil {
		t.Errorf("an archive with a long name: %v", err)
	}
}

func TestExportingTwiceGivesTheSameBytes(t *testing.T) {
	w := newWorld(t, delegated)
	first := w.export()
	w.clock.Advance(day(3))
	if second := w.export(); !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the second archive differs")
	}
	again, err := notary.ReadArchive(first.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if again.GUN() != gun || !again.Moment().Equal(first.Moment()) || again.Source() != first.Source() || again.SHA256() != first.SHA256() {
		t.Errorf("read again it is %s, %s, %s", again.GUN(), again.Moment(), again.Source())
	}
}

// TestArchiveFormIsRefused changes what is not metadata: nothing but the bytes
// that export writes is an archive.
func TestArchiveFormIsRefused(t *testing.T) {
	w := newWorld(t, delegated)
	w.rotate(1)
	e := w.export()
	other := map[string][]byte{"x": []byte("{}")}
	forged := func(change func(*notary.Forgery)) []byte { return notary.Forge(e.Archive, change) }
	add := func(name string, at int) []byte {
		return forged(func(f *notary.Forgery) {
			f.Names = slices.Insert(f.Names, at, name)
			f.Contents[name] = other["x"]
		})
	}
	remove := func(name string) []byte {
		return forged(func(f *notary.Forgery) {
			f.Names = slices.DeleteFunc(f.Names, func(n string) bool { return n == name })
		})
	}
	library := func(edit func(*tar.Header), trailer string) []byte { return libraryTar(t, e.Bytes(), edit, trailer) }
	unchanged := func(*tar.Header) {}
	if raw := library(unchanged, ""); !bytes.Equal(raw, e.Bytes()) {
		t.Error("archive/tar writes the same files in another way")
	}
	manifest := func(old, new string) []byte {
		if len(old) != len(new) || !bytes.Contains(e.Bytes(), []byte(old)) {
			t.Fatalf("%q for %q is no change", new, old)
		}
		return bytes.Replace(e.Bytes(), []byte(old), []byte(new), 1)
	}
	tests := map[string]struct {
		raw  []byte
		want verify.Reason
		says string
	}{
		"nothing":                   {nil, verify.Malformed, "no archive"},
		"something else":            {bytes.Repeat([]byte("<html>"), 1000), verify.Malformed, "no archive"},
		"zeros":                     {make([]byte, 10240), verify.Malformed, "no archive"},
		"half of it":                {e.Bytes()[:len(e.Bytes())/2], verify.Malformed, "ends before the end of"},
		"without its end":           {e.Bytes()[:len(e.Bytes())-1], verify.Malformed, "between its files"},
		"data after the end":        {append(bytes.Clone(e.Bytes()), 0), verify.Malformed, "more than archive.json lists"},
		"a file after the last":     {library(unchanged, "targets/mallory.json"), verify.Malformed, "more than archive.json lists"},
		"another mode":              {library(func(h *tar.Header) { h.Mode = 0o755 }, ""), verify.Malformed, "between its files"},
		"another owner":             {library(func(h *tar.Header) { h.Uname = "mallory" }, ""), verify.Malformed, "between its files"},
		"another time":              {library(func(h *tar.Header) { h.ModTime = h.ModTime.Add(time.Hour) }, ""), verify.Malformed, "between its files"},
		"another name":              {library(func(h *tar.Header) { h.Name = strings.Replace(h.Name, "targets", "target5", 1) }, ""), verify.Malformed, "between its files"},
		"a link":                    {library(asLink, ""), verify.DigestMismatch, "timestamp.json"},
		"bytes of a file":           {changeByte(e.Bytes(), notary.ArchiveFile(e.Archive, "targets.json"), 20), verify.DigestMismatch, "targets.json"},
		"a hash":                    {forged(list("snapshot.json", nil, strings.Repeat("0", 64))), verify.DigestMismatch, "snapshot.json"},
		"a hash in upper case":      {forged(list("snapshot.json", nil, strings.Repeat("A", 64))), verify.Malformed, "snapshot.json"},
		"a size of 2^62":            {forged(list("snapshot.json", new(int64(1<<62)), "")), verify.Malformed, "snapshot.json"},
		"a negative size":           {forged(list("snapshot.json", new(int64(-1)), "")), verify.Malformed, "snapshot.json"},
		"a size too large":          {forged(list("targets/releases.json", new(int64(1<<20)), "")), verify.Malformed, "ends before"},
		"an unknown file":           {add("README", 4), verify.Malformed, "targets.json after snapshot.json"},
		"an unknown file last":      {add("targets/zoe.txt", 7), verify.Malformed, "no file of trust metadata"},
		"an odd name":               {add("targets/../../etc/passwd.json", 7), verify.Malformed, "no file of trust metadata"},
		"a grandchild":              {add("targets/alice/bob.json", 7), verify.Malformed, "no file of trust metadata"},
		"a file twice":              {add("targets/releases.json", 7), verify.Malformed, "out of order"},
		"files out of order":        {add("targets/aaron.json", 6), verify.Malformed, "out of order"},
		"a gap in the roots":        {add("root/4.json", 2), verify.Malformed, "timestamp.json after root/2.json"},
		"a root twice":              {add("root/2.json", 2), verify.Malformed, "timestamp.json after root/2.json"},
		"a root with a zero":        {add("root/01.json", 0), verify.Malformed, "no version of root"},
		"no timestamp":              {remove("timestamp.json"), verify.Malformed, "timestamp.json after"},
		"no snapshot":               {remove("snapshot.json"), verify.Malformed, "snapshot.json after"},
		"no targets":                {remove("targets.json"), verify.Malformed, "targets.json after"},
		"another format":            {forged(func(f *notary.Forgery) { f.Format += "1" }), verify.Malformed, "version 1"},
		"no GUN":                    {forged(func(f *notary.Forgery) { f.GUN = "" }), verify.Malformed, "not the name of a repository"},
		"a GUN with ..":             {forged(func(f *notary.Forgery) { f.GUN = "docker.io/../x" }), verify.Malformed, "not the name of a repository"},
		"no moment":                 {forged(func(f *notary.Forgery) { f.Moment = time.Time{} }), verify.Malformed, "moment"},
		"a moment elsewhere":        {forged(func(f *notary.Forgery) { f.Moment = f.Moment.In(time.FixedZone("", 3600)) }), verify.Malformed, "UTC"},
		"a part of a second":        {forged(func(f *notary.Forgery) { f.Moment = f.Moment.Add(time.Millisecond) }), verify.Malformed, "whole seconds"},
		"a source of two lines":     {forged(func(f *notary.Forgery) { f.Source = "a\nb" }), verify.Malformed, "source"},
		"archive.json, a member":    {manifest(`"source": "https`, `"sourze": "https`), verify.Malformed, "archive.json"},
		"archive.json, a duplicate": {manifest(`"source": "https`, `"format": "https`), verify.Malformed, "archive.json"},
		"archive.json, white space": {manifest("{\n  \"format\"", "{  \n\"format\""), verify.Malformed, "between its files"},
	}
	for name, test := range tests {
		_, err := notary.ReadArchive(test.raw)
		if verify.ReasonOf(err) != test.want || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %s with %q", name, err, test.want, test.says)
		}
	}
	if _, err := notary.ReadArchive(make([]byte, notary.MaxArchive+1)); verify.ReasonOf(err) != verify.Malformed {
		t.Errorf("an archive that is too large: %v", err)
	}
}

// list makes archive.json say something else of a file.
func list(name string, size *int64, sum string) func(*notary.Forgery) {
	return func(f *notary.Forgery) {
		f.List = func(listed string, s *int64, h *string) {
			if listed != name {
				return
			}
			if size != nil {
				*s = *size
			}
			if sum != "" {
				*h = sum
			}
		}
	}
}

func asLink(h *tar.Header) {
	if h.Name == "timestamp.json" {
		h.Typeflag, h.Linkname = tar.TypeSymlink, "/etc/passwd"
	}
}

// changeByte flips a bit of content within raw.
func changeByte(raw, content []byte, at int) []byte {
	raw = bytes.Clone(raw)
	raw[bytes.Index(raw, content)+at] ^= 1
	return raw
}

// libraryTar writes an archive again with Go's own tar, headers changed by edit,
// and with one more file.
func libraryTar(t *testing.T, raw []byte, edit func(*tar.Header), extra string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	r := tar.NewReader(bytes.NewReader(raw))
	var last tar.Header
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		last = *h
		edit(h)
		if h.Typeflag == tar.TypeSymlink {
			h.Size, content = 0, nil
		}
		writeTar(t, w, h, content)
	}
	if extra != "" {
		last.Name, last.Size = extra, 2
		writeTar(t, w, &last, []byte("{}"))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func writeTar(t *testing.T, w *tar.Writer, h *tar.Header, content []byte) {
	t.Helper()
	if err := w.WriteHeader(h); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
}

// TestEveryByteOfAnArchiveCounts flips a bit of each byte in turn.
func TestEveryByteOfAnArchiveCounts(t *testing.T) {
	w := newWorld(t)
	e := w.export()
	raw := bytes.Clone(e.Bytes())
	reasons := make(map[verify.Reason]int)
	for i := range raw {
		raw[i] ^= 1
		changed, err := notary.ReadArchive(raw)
		if err == nil { // a hexadecimal digit, the GUN, the source, the moment: what is listed is another archive
			_, err = changed.Verify(t.Context(), gun, w.Pins())
		}
		if err == nil && changed.Source() == e.Source() {
			t.Fatalf("a change of byte %d isn't noticed", i)
		}
		reasons[verify.ReasonOf(err)]++
		raw[i] ^= 1
	}
	for reason := range maps.Keys(reasons) {
		switch reason {
		case "", verify.Malformed, verify.DigestMismatch, verify.SignatureInvalid, verify.MetadataExpired:
		default:
			t.Errorf("a changed byte leads to %s", reason)
		}
	}
	if reasons[""] > len(e.Source()) {
		t.Errorf("%d changes of %d characters of the source", reasons[""], len(e.Source()))
	}
}

// FuzzReadArchive asserts that what is accepted is exactly what would be written
// of its contents, and that refusals are typed.
func FuzzReadArchive(f *testing.F) {
	w := newWorld(f, delegated)
	raw := w.export().Bytes()
	f.Add(raw)
	f.Add(notary.Forge(w.export().Archive, func(f *notary.Forgery) { f.Source = strings.Repeat("x", 100) }))
	f.Add(notary.Forge(w.export().Archive, func(f *notary.Forgery) { f.Contents["snapshot.json"] = nil }))
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := notary.ReadArchive(raw)
		if err != nil {
			if reason := verify.ReasonOf(err); reason != verify.Malformed && reason != verify.DigestMismatch {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		if again := notary.Forge(a, func(*notary.Forgery) {}); !bytes.Equal(raw, again) {
			t.Fatalf("accepted %d bytes, but writes %d", len(raw), len(again))
		}
		names := make(map[string]bool)
		for r := tar.NewReader(bytes.NewReader(raw)); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || names[h.Name] || h.Typeflag != tar.TypeReg || strings.Contains(h.Name, "..") {
				t.Fatalf("accepted what tar reads as %+v, %v", h, err)
			}
			names[h.Name] = true
		}
		if _, err := a.Verify(context.Background(), gun, w.Pins()); err != nil && verify.ReasonOf(err) == "" {
			t.Fatalf("verifying: %v", err)
		}
	})
}

func BenchmarkArchive(b *testing.B) {
	w := newWorld(b, func(r *notarytest.Repository) {
		for i := range 20 {
			d := r.Delegate(fmt.Sprintf("signer%02d", i))
			for j := range 50 {
				d.Sign(fmt.Sprintf("%d.%d", i, j), digestA, 772)
				r.Sign(fmt.Sprintf("%d.%d", i, j), digestA, 772)
			}
		}
	})
	raw := w.export().Bytes()
	for b.Loop() {
		a, err := notary.ReadArchive(raw)
		if err != nil {
			b.Fatal(err)
		}
		s, err := notary.NewArchiveSource(b.Context(), notary.ArchiveConfig{
			Archive: a, GUN: gun, Pins: w.Pins(), Store: notarytest.NewStore(), Clock: w.clock.Now,
		})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Target(b.Context(), "19.49"); err != nil {
			b.Fatal(err)
		}
	}
}
