package notary_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
)

// dockerFolder is what Docker's client keeps of a repository.
func (w *world) dockerFolder() fstest.MapFS {
	folder := make(fstest.MapFS)
	for name, raw := range w.service.Files(gun) {
		if !strings.Contains(name, ".") {
			folder[name+".json"] = &fstest.MapFile{Data: bytes.Clone(raw), Mode: 0o600}
		}
	}
	return folder
}

func (w *world) exportFrom(f notary.Fetcher) (*notary.Exported, error) {
	return notary.Export(context.Background(), notary.ExportConfig{GUN: gun, Pins: w.pins, Fetcher: f, Source: "somewhere"})
}

func TestExportFromAFolder(t *testing.T) {
	w := newWorld(t, delegated)
	w.rotate(2)
	e, err := w.exportFrom(notary.NewFolder(w.dockerFolder()))
	if err != nil {
		t.Fatal(err)
	}
	if oldest, newest := e.Roots(); oldest != 3 || newest != 3 || e.Gap == nil || !strings.Contains(e.Gap.Error(), "root version 2 can't be had") {
		t.Errorf("roots %d to %d, gap %v", oldest, newest, e.Gap)
	}
	w.clock.Advance(day(1000))
	if target := archiveTarget(t, w.mustArchived(e.Archive), "0.2"); target.Digest != digestB {
		t.Errorf("0.2 is %s", target.Digest)
	}
}

func TestExportFromAFolderThatIsWrong(t *testing.T) {
	w := newWorld(t, delegated)
	older := w.dockerFolder()
	w.Publish("targets")
	tests := map[string]struct {
		change func(fstest.MapFS)
		want   verify.Reason
		says   string
	}{
		"empty":            {func(f fstest.MapFS) { clear(f) }, verify.TrustUnavailable, "no root.json"},
		"no timestamp":     {func(f fstest.MapFS) { delete(f, "timestamp.json") }, verify.TrustUnavailable, "no timestamp.json"},
		"no delegation":    {func(f fstest.MapFS) { delete(f, "targets/alice.json") }, verify.TrustUnavailable, "no targets/alice.json"},
		"an older part":    {func(f fstest.MapFS) { f["targets.json"] = older["targets.json"] }, verify.DigestMismatch, "targets"},
		"a changed byte":   {func(f fstest.MapFS) { f["targets.json"].Data[30] ^= 1 }, verify.DigestMismatch, "targets"},
		"a huge timestamp": {func(f fstest.MapFS) { f["timestamp.json"].Data = make([]byte, 1<<20) }, verify.Malformed, "timestamp.json"},
		"a folder for it":  {func(f fstest.MapFS) { f["root.json/x"] = f["root.json"]; delete(f, "root.json") }, verify.TrustUnavailable, "not a file"},
	}
	for name, test := range tests {
		folder := w.dockerFolder()
		test.change(folder)
		_, err := w.exportFrom(notary.NewFolder(folder))
		if verify.ReasonOf(err) != test.want || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %s with %q", name, err, test.want, test.says)
		}
	}
}

func TestExportFromState(t *testing.T) {
	w := newWorld(t, delegated)
	_, err := notary.NewStored(t.Context(), w.store, gun, w.pins)
	if verify.ReasonOf(err) != verify.NotFound {
		t.Errorf("from nothing: %v", err)
	}
	refresh(t, w.source())
	keys := w.Root.Keys
	w.rotate(1)
	w.pins.Root = append(w.pins.Root, keys[0].ID)
	refresh(t, w.source())
	live := w.export()
	w.service.Down()

	stored, err := notary.NewStored(t.Context(), w.store, gun, w.pins)
	if err != nil {
		t.Fatal(err)
	}
	e, err := w.exportFrom(stored)
	if err != nil {
		t.Fatal(err)
	}
	if oldest, _ := e.Roots(); oldest != 1 || e.Gap != nil || e.SHA256() == live.SHA256() { // the sources differ
		t.Errorf("oldest root %d, gap %v", oldest, e.Gap)
	}
	for _, name := range strings.Fields("root/1.json root/2.json timestamp.json snapshot.json targets.json targets/alice.json targets/releases.json") {
		if !bytes.Equal(notary.ArchiveFile(e.Archive, name), notary.ArchiveFile(live.Archive, name)) {
			t.Errorf("%s is not what the service gave out", name)
		}
	}
	w.clock.Advance(day(400))
	w.mustArchived(e.Archive)

	unpinned := w.pins
	unpinned.Signers = nil
	_, err = notary.NewStored(t.Context(), w.store, gun, unpinned)
	wantReason(t, err, verify.KeyNotPinned)
	w.store.Fail("list", true)
	_, err = notary.NewStored(t.Context(), w.store, gun, w.pins)
	wantReason(t, err, verify.StorageUnavailable)
	w.store.Fail("list", false)
	for _, name := range w.store.Names(gun) {
		w.store.Damage(gun, name, func(raw []byte) []byte { return raw[1:] })
	}
	_, err = notary.NewStored(t.Context(), w.store, gun, w.pins)
	wantReason(t, err, verify.StorageUnavailable, "damaged")
}

// TestExportVerifies shows that nothing unverified gets into an archive.
func TestExportVerifies(t *testing.T) {
	tests := map[string]struct {
		change func(*world)
		want   verify.Reason
	}{
		"a key that isn't pinned": {func(w *world) { w.pins.Repository = w.pins.Root }, verify.KeyNotPinned},
		"a false signature":       {func(w *world) { w.service.Set(gun, "timestamp", w.service.Files(gun)["snapshot"]) }, verify.SignatureInvalid},
		"service down":            {func(w *world) { w.service.Down() }, verify.TrustUnavailable},
		"nothing there":           {func(w *world) { w.service.Serve(gun, nil) }, verify.NotFound},
		"no targets":              {func(w *world) { removeAll(w, "targets") }, verify.TrustUnavailable},
	}
	for name, test := range tests {
		w := newWorld(t)
		test.change(w)
		if e, err := w.exportFrom(w.service); verify.ReasonOf(err) != test.want || e != nil {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
	w := newWorld(t)
	for name, c := range map[string]notary.ExportConfig{
		"no GUN":                {Pins: w.pins, Fetcher: w.service},
		"no pins":               {GUN: gun, Fetcher: w.service},
		"no fetcher":            {GUN: gun, Pins: w.pins},
		"a source of two lines": {GUN: gun, Pins: w.pins, Fetcher: w.service, Source: "a\nb"},
	} {
		if _, err := notary.Export(t.Context(), c); err == nil {
			t.Errorf("%s: exported", name)
		}
	}
}

func removeAll(w *world, role string) {
	for name := range w.service.Files(gun) {
		if strings.HasPrefix(name, role) {
			w.service.Remove(gun, name)
		}
	}
}

func TestExportWithAGapInTheRoots(t *testing.T) {
	w := newWorld(t)
	w.rotate(3)
	files := w.service.Files(gun)
	for name, test := range map[string]struct {
		change func()
		oldest int64
		says   string
	}{
		"gone":        {func() { w.service.Remove(gun, "2.root") }, 3, "root version 2 can't be had"},
		"not JSON":    {func() { w.service.Set(gun, "2.root", []byte("<html>")) }, 3, "root version 2 doesn't lead to version 3"},
		"another one": {func() { w.service.Set(gun, "1.root", files["3.root"]) }, 2, "root version 1 doesn't lead to version 2"},
	} {
		w.service.Serve(gun, files)
		test.change()
		e := w.export()
		if oldest, newest := e.Roots(); oldest != test.oldest || newest != 4 || e.Gap == nil || !strings.Contains(e.Gap.Error(), test.says) {
			t.Errorf("%s: roots %d to %d, gap %v", name, oldest, newest, e.Gap)
		}
		w.mustArchived(e.Archive)
	}
	w.service.Serve(gun, files)
	w.service.Fail(func(name string) error {
		if name == "2.root" {
			return verify.Unavailable(verify.TrustUnavailable, "connection reset")
		}
		return nil
	})
	_, err := w.exportFrom(w.service)
	wantReason(t, err, verify.TrustUnavailable, "connection reset")
}

func TestExportIsMadeInOnePass(t *testing.T) {
	w := newWorld(t, delegated)
	w.rotate(2)
	w.service.Requests()
	var told []string
	_, err := notary.Export(t.Context(), notary.ExportConfig{
		GUN: gun, Pins: w.pins, Fetcher: w.service, Progress: func(name string) { told = append(told, name) },
	})
	if err != nil {
		t.Fatal(err)
	}
	asked := w.service.Requests()
	if !slices.Equal(told, asked) || len(asked) != 8 {
		t.Errorf("told of %q, asked for %q", told, asked)
	}
	slices.Sort(asked)
	if len(slices.Compact(asked)) != 8 {
		t.Errorf("asked twice: %q", asked)
	}
}

// TestArchiveKeys shows an archive of which no key is known.
func TestArchiveKeys(t *testing.T) {
	w := newWorld(t, delegated, func(r *notarytest.Repository) {
		r.Delegations[0].Keys = append(r.Delegations[0].Keys, r.Delegations[1].Keys...)
		r.ExtraDelegationKeys = []*notarytest.Key{notarytest.NewKey(t, "ed25519")}
		r.Delegations[1].Delegate(t, "sub")
	})
	w.pins.Signers["releases"] = append(w.pins.Signers["releases"], w.ExtraDelegationKeys[0].ID)
	e, err := w.exportFrom(w.service)
	if err != nil {
		t.Fatal(err)
	}
	pins, err := e.Keys()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(pins.Root, w.pins.Root) || !slices.Equal(pins.Repository, w.pins.Repository) || !slices.Equal(pins.Signers["bob"], w.pins.Signers["bob"]) {
		t.Errorf("keys are %+v", pins)
	}
	if _, err := e.Verify(t.Context(), gun, pins); err != nil {
		t.Errorf("under its own keys: %v", err)
	}
}
