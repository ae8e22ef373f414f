package verify_test

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/storage/storagetest"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// onSmallDisk puts a world on a disk with room for so many bytes; when it's full
// content is evicted, or isn't.
func (w *world) onSmallDisk(bytes int64, evicting bool) *storagetest.Small {
	disk := storagetest.NewSmall(w.driver, bytes)
	w.store = storage.New(disk)
	if evicting {
		w.store.EvictBy(storage.Eviction{Free: disk.Free})
	}
	w.start()
	return disk
}

// missing tells which objects aren't stored.
func (w *world) missing(objects map[digest.Digest][]byte) (gone []digest.Digest) {
	w.t.Helper()
	stock, err := w.store.Stock(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for d := range objects {
		if _, ok := stock.Objects[d]; !ok {
			gone = append(gone, d)
		}
	}
	return gone
}

// TestAttack33_EvictedIsVerifiedAgain evicts all of an image and of its copy, and
// pulls both again: what they rest on was kept, each object is fetched again once by
// its digest, and other bytes than those admitted are refused.
func TestAttack33_EvictedIsVerifiedAgain(t *testing.T) {
	w := newWorld(t)
	hub, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	disk := w.onSmallDisk(1<<20, true)
	want := w.mustPull(hubName + ":0.1.19")
	maps.Copy(want, w.mustPull(ecrName+":0.1.19"))
	evictAll := func() {
		t.Helper()
		room, err := disk.Free()
		if err != nil {
			t.Fatal(err)
		}
		stock, err := w.store.Stock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range stock.Objects {
			room += size
		}
		filler := strings.Repeat("x", int(room))
		if err := w.store.Put(t.Context(), digest.FromString(filler), int64(len(filler)), strings.NewReader(filler)); err != nil {
			t.Fatal(err)
		}
		if gone := w.missing(want); len(gone) != len(want) {
			t.Fatalf("%d of %d objects are gone", len(gone), len(want))
		}
	}
	evictAll()
	before, err := w.store.Admissions(t.Context(), ecrName, ecr.Layers[amd64][1])
	if err != nil || len(before) == 0 || !slices.ContainsFunc(before, func(a storage.Admission) bool { return a.DiffID != "" }) {
		t.Fatalf("a layer of the copy's own is admitted as %+v, %v", before, err)
	}
	w.decisions = nil
	w.hub.Requests()
	w.ecr.Requests()
	got := w.mustPull(ecrName + ":0.1.19")
	maps.Copy(got, w.mustPull(hubName+":0.1.19"))
	for d, raw := range want {
		if string(got[d]) != string(raw) {
			t.Errorf("%s is served as %d other bytes", d, len(got[d]))
		}
	}
	asked := append(w.hub.Requests(), w.ecr.Requests()...)
	for d := range want {
		if n := len(slices.DeleteFunc(slices.Clone(asked), func(r string) bool { return !strings.HasSuffix(r, d.String()) })); n != 1 {
			t.Errorf("%s was asked for %d times", d, n)
		}
	}
	if len(asked) != len(want) || len(w.decisions) > 0 {
		t.Errorf("there were the requests %q, and the decisions %+v", asked, w.decisions)
	}
	after, err := w.store.Admissions(t.Context(), ecrName, ecr.Layers[amd64][1])
	if err != nil || !slices.Equal(before, after) {
		t.Errorf("the layer is admitted as %+v, %v; it was as %+v", after, err, before)
	}

	evictAll()
	for _, layer := range []digest.Digest{hub.Layers[amd64][0], ecr.Layers[amd64][1]} {
		w.hub.SetBlob(hubRepo, layer, []byte("evil"))
		w.ecr.SetBlob(ecrRepo, layer, []byte("evil"))
		for _, name := range []string{hubName, ecrName} {
			raw, _, err := w.read(ref(t, name).WithDigest(layer), false)
			if err == nil || len(raw) > 0 {
				t.Errorf("%s: %d other bytes are served for %s", name, len(raw), layer)
			}
		}
	}
}

// TestAttack33_FullIsServed fills the disk for good: documents and configs that were
// admitted are served without being stored, everything else isn't, and nothing is
// admitted that couldn't be recorded.
func TestAttack33_FullIsServed(t *testing.T) {
	w := newWorld(t)
	_, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	w.publish("0.1.20", verifytest.NewRelease("0.1.20", amd64), verifytest.Format{})
	disk := w.onSmallDisk(1<<20, false)
	want := w.mustPull(ecrName + ":0.1.19")
	for d := range want {
		if err := w.driver.Delete(t.Context(), storedAt(d)); err != nil {
			t.Fatal(err)
		}
	}
	free, _ := disk.Free()
	disk.Take(free)
	for d, raw := range want {
		document := bytes.Contains(raw, []byte(`"schemaVersion"`))
		got, _, err := w.read(ref(t, ecrName).WithDigest(d), document)
		if slices.Contains(ecr.Layers[amd64], d) {
			if verify.ReasonOf(err) != verify.StorageUnavailable || !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("layer %s: %d bytes, %v", d, len(got), err)
			}
		} else if err != nil || string(got) != string(raw) {
			t.Errorf("%s: %d of %d bytes, %v", d, len(got), len(raw), err)
		}
	}
	if gone := w.missing(want); len(gone) != len(want) {
		t.Errorf("%d of %d objects aren't stored on a full disk", len(gone), len(want))
	}
	for _, name := range []string{hubName, ecrName} {
		if all, err := w.pull(name + ":0.1.20"); verify.ReasonOf(err) != verify.StorageUnavailable {
			t.Errorf("%s:0.1.20: %d objects, %v", name, len(all), err)
		}
	}
	disk.Take(-free)
	w.mustPull(hubName + ":0.1.20")
	for d, raw := range w.mustPull(ecrName + ":0.1.19") {
		if string(want[d]) != string(raw) {
			t.Errorf("%s is served as other bytes", d)
		}
	}
	if gone := w.missing(want); len(gone) > 0 {
		t.Errorf("%v aren't stored", gone)
	}
}

// TestAttack33_FullAndLiedTo has registries deliver something else for a config that a
// full disk has no room for: what isn't stored is verified no less.
func TestAttack33_FullAndLiedTo(t *testing.T) {
	for name, test := range map[string]struct {
		lie  func(raw []byte) []byte
		want verify.Reason
	}{
		"the truth":   {func(raw []byte) []byte { return raw }, ""},
		"a bit":       {func(raw []byte) []byte { raw[len(raw)/2] ^= 1; return raw }, verify.DigestMismatch},
		"a byte more": {func(raw []byte) []byte { return append(raw, ' ') }, verify.SizeMismatch},
		"a byte less": {func(raw []byte) []byte { return raw[:len(raw)-1] }, verify.SizeMismatch},
	} {
		w := newWorld(t)
		_, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
		disk := w.onSmallDisk(1<<20, false)
		config := ecr.Configs[amd64]
		raw := test.lie(bytes.Clone(w.mustPull(ecrName + ":0.1.19")[config]))
		if err := w.driver.Delete(t.Context(), storedAt(config)); err != nil {
			t.Fatal(err)
		}
		free, _ := disk.Free()
		disk.Take(free)
		w.hub.SetBlob(hubRepo, config, raw)
		w.ecr.SetBlob(ecrRepo, config, raw)
		if got, _, err := w.read(ref(t, ecrName).WithDigest(config), false); verify.ReasonOf(err) != test.want {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}
