package verify_test

import (
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/storage/storagetest"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// needs finds what store has to keep while source vouches for the image.
func needs(t *testing.T, store *storage.Store, source verify.Source, copies ...string) (*verify.Needed, error) {
	t.Helper()
	policy, err := verify.NewPolicy([]verify.ImageRule{{
		Signed: hubName, Copies: copies, Source: func(verify.Ref) (verify.Source, error) { return source, nil },
	}})
	if err != nil {
		t.Fatal(err)
	}
	return verify.FindNeeded(t.Context(), policy, store)
}

// collect removes what isn't needed of a store whose content is days old.
func (w *world) collect(source verify.Source, copies ...string) storage.Collected {
	w.t.Helper()
	needed, err := needs(w.t, w.store, source, copies...)
	if err != nil {
		w.t.Fatal(err)
	}
	removed, err := storage.New(storagetest.Older{StorageDriver: w.driver, By: 48 * time.Hour}).Collect(w.t.Context(), needed.Has, false)
	if err != nil {
		w.t.Fatal(err)
	}
	return removed
}

// TestNeeded removes what isn't needed of a store in which a release and an older
// one are, and pulls what has to be there while nobody can be asked.
func TestNeeded(t *testing.T) {
	older, newer := verifytest.NewRelease("0.1.18", amd64), verifytest.NewRelease("0.1.19", amd64, arm64)
	for name, test := range map[string]struct {
		pulled  []string
		change  func(w *world) verify.Source // what vouches when it's collected; nil: what did
		copies  []string
		objects int // that are removed
		served  []string
	}{
		"all is signed": {
			pulled: []string{hubName + ":0.1.19", ecrName + ":0.1.19"}, copies: []string{ecrName},
			served: []string{hubName + ":0.1.19", ecrName + ":0.1.19"},
		},
		"only the copy was pulled": { // the signed documents that it is held against have no admission
			pulled: []string{ecrName + ":0.1.19"}, copies: []string{ecrName},
			served: []string{ecrName + ":0.1.19"},
		},
		"a tag was signed again a moment ago": {
			pulled: []string{hubName + ":0.1.19", hubName + ":0.1.18"},
			change: func(w *world) verify.Source {
				w.source.Unsign("0.1.18", w.clock())
				return w.source
			},
			served: []string{hubName + ":0.1.19"},
		},
		"a tag is no longer signed": { // index, manifest, config, layer; both have the other layer
			pulled: []string{hubName + ":0.1.19", hubName + ":0.1.18"},
			change: func(w *world) verify.Source {
				source := &verifytest.Source{}
				target, err := w.source.Target(w.t.Context(), "0.1.19")
				if err != nil {
					w.t.Fatal(err)
				}
				source.Sign("0.1.19", target.Digest, target.Size, w.clock())
				return source
			},
			objects: 4, served: []string{hubName + ":0.1.19"},
		},
		"the copy isn't in the configuration any more": { // index, two manifests, two layers for each
			pulled: []string{hubName + ":0.1.19", ecrName + ":0.1.19"}, objects: 7, served: []string{hubName + ":0.1.19"},
		},
		"what is signed can't be told": {
			pulled: []string{ecrName + ":0.1.19", hubName + ":0.1.18"}, copies: []string{ecrName},
			change: func(*world) verify.Source {
				source := &verifytest.Source{}
				source.Fail(verify.Refuse(verify.MetadataExpired, "expired"))
				return source
			},
			served: []string{ecrName + ":0.1.19", hubName + ":0.1.18"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.publish("0.1.18", older, verifytest.Format{})
			w.publish("0.1.19", newer, verifytest.Format{OCI: true})
			for _, name := range test.pulled {
				w.mustPull(name)
			}
			var source verify.Source = w.source
			if test.change != nil {
				source = test.change(w)
			}
			if removed := w.collect(source, test.copies...); removed.Unneeded.Files != test.objects {
				t.Errorf("%d objects were removed, want %d", removed.Unneeded.Files, test.objects)
			}
			w.hub.SetDown(true)
			w.ecr.SetDown(true)
			for _, name := range test.served {
				w.mustPull(name)
			}
		})
	}
}

// What was removed and is signed again is fetched again.
func TestNeededAgain(t *testing.T) {
	w := newWorld(t)
	w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	before := w.mustPull(hubName + ":0.1.19")
	if removed := w.collect(&verifytest.Source{}); removed.Unneeded.Files != len(before) {
		t.Fatalf("%d objects were removed of %d", removed.Unneeded.Files, len(before))
	}
	if again := w.mustPull(hubName + ":0.1.19"); len(again) != len(before) {
		t.Errorf("%d objects, then %d", len(before), len(again))
	}
}

// TestAttack33_NeededInDoubt damages or hides parts of a store: what can't be read
// is an error, never nobody's.
func TestAttack33_NeededInDoubt(t *testing.T) {
	w := newWorld(t)
	w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	pulled := w.mustPull(hubName + ":0.1.19")
	faulty := storagetest.NewFaulty(w.driver)
	faulty.Set(storagetest.Fault{})
	if _, err := needs(t, storage.New(faulty), w.source); err != nil {
		t.Fatal(err)
	}
	for at := range faulty.Operations() {
		faulty.Set(storagetest.Fault{At: at + 1})
		if needed, err := needs(t, storage.New(faulty), w.source); !errors.Is(err, storagetest.ErrInjected) {
			t.Errorf("fault at %d: %v, %v", at+1, needed, err)
		}
	}
	for d := range pulled {
		if err := w.driver.PutContent(t.Context(), storedAt(d), []byte("damaged")); err != nil {
			t.Fatal(err)
		}
	}
	needed, err := needs(t, w.store, w.source)
	if err != nil || len(needed.Unclear) > 0 {
		t.Fatalf("%v, %v", needed, err)
	}
	for d := range maps.Keys(pulled) {
		if !needed.Has(d) {
			t.Errorf("%s isn't needed since it is damaged", d)
		}
	}
	if needed.Has(digest.FromString("else")) {
		t.Error(fmt.Sprint("everything is needed: ", needed))
	}
}
