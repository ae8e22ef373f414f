package verify_test

import (
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// decided waits until decisions were made on all of these.
func (w *world) decided(digests ...digest.Digest) {
	w.t.Helper()
	for range 10_000 { // milliseconds at least
		w.mu.Lock()
		missing := slices.ContainsFunc(digests, func(d digest.Digest) bool {
			return !slices.ContainsFunc(w.decisions, func(x verify.Decision) bool { return x.Ref.Digest == d })
		})
		w.mu.Unlock()
		if !missing {
			return
		}
		time.Sleep(time.Millisecond)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Fatalf("no decision on all of %q, but these: %+v", digests, w.decisions)
}

// A manifest's config and layers are there when they are asked for; nothing else
// of the image is.
func TestFetchAhead(t *testing.T) {
	for _, name := range []string{hubName, ecrName} {
		w := newWorld(t)
		w.ahead = true
		w.start()
		hub, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64, arm64), verifytest.Format{})
		pushed, registry := hub, w.hub
		if name == ecrName {
			pushed, registry = ecr, w.ecr
		}
		if _, _, err := w.read(ref(t, name+":0.1.19"), true); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.read(ref(t, name).WithDigest(pushed.Manifests[amd64]), true); err != nil {
			t.Fatal(err)
		}
		w.decided(pushed.Blobs(amd64)...)
		if asked := registry.Requests(); slices.Contains(asked, "GET "+hubRepo+"/blobs/"+pushed.Layers[arm64][0].String()) {
			t.Errorf("another platform's layer was fetched: %q", asked)
		}
		for _, d := range pushed.Blobs(amd64) {
			if _, _, err := w.read(ref(t, name).WithDigest(d), false); err != nil {
				t.Error(err)
			}
		}
		if asked := registry.Requests(); len(asked) > 0 {
			t.Errorf("asked again: %q", asked)
		}
		w.gate.Close()
	}
}

// What is fetched ahead and turns out wrong is refused when it's asked for, as if
// it hadn't been.
func TestFetchAheadRefuses(t *testing.T) {
	w := newWorld(t)
	w.ahead = true
	w.start()
	hub, _ := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	layer := hub.Layers[amd64][0]
	w.hub.SetBlob(hubRepo, layer, []byte("something else"))
	if _, _, err := w.read(ref(t, hubName).WithDigest(hub.Manifests[amd64]), true); err != nil {
		t.Fatal(err)
	}
	w.decided(hub.Blobs(amd64)[0]) // the config arrives all the same
	if _, _, err := w.read(ref(t, hubName).WithDigest(layer), false); verify.ReasonOf(err) == "" {
		t.Errorf("a layer that isn't what was signed: %v", err)
	}
}
