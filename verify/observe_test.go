package verify_test

import (
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// What the Gate did is told: what was verified for who asked, what was there, and
// what storage had spoilt.
func TestObserve(t *testing.T) {
	for _, name := range []string{hubName, ecrName} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			hub, ecr := w.publish("1", verifytest.NewRelease("1", amd64), verifytest.Format{})
			pushed := map[string]verifytest.Pushed{hubName: hub, ecrName: ecr}[name]
			document := func(c verify.Cache) verify.Event {
				return verify.Event{Kind: verify.Opened, Cache: c, Document: true}
			}
			tag, layer := ref(t, name+":1"), ref(t, name).WithDigest(pushed.Layers[amd64][0])
			step := func(what string, do func() error, want ...verify.Event) {
				t.Helper()
				w.events = nil
				if err := do(); err != nil || !slices.Equal(w.events, want) {
					t.Errorf("%s: %v, told %+v, want %+v", what, err, w.events, want)
				}
			}
			open := func(r verify.Ref, document bool) func() error {
				return func() error { _, _, err := w.read(r, document); return err }
			}
			step("cold", open(tag, true), document(verify.CacheMiss))
			step("warm", open(tag, true), document(verify.CacheHit))
			step("a cold layer", open(layer, false), verify.Event{Kind: verify.Opened, Cache: verify.CacheMiss})
			step("a warm layer", open(layer, false), verify.Event{Kind: verify.Opened, Cache: verify.CacheHit})
			w.spoil(pushed.Root)
			w.forget()
			step("a spoilt document", open(tag, true), verify.Event{Kind: verify.Quarantined}, document(verify.CacheMiss))
			w.spoil(layer.Digest)
			step("a layer cut short", open(layer, false), verify.Event{Kind: verify.Quarantined}, verify.Event{Kind: verify.Opened, Cache: verify.CacheMiss})
		})
	}
}

// spoil cuts a stored object short.
func (w *world) spoil(d digest.Digest) {
	w.t.Helper()
	raw, err := w.driver.GetContent(w.t.Context(), storedAt(d))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.driver.PutContent(w.t.Context(), storedAt(d), raw[:len(raw)-1]); err != nil {
		w.t.Fatal(err)
	}
}
