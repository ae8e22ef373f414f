package verify_test

import (
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/storage/storagetest"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// seenWithin is how long what other processes write may go unnoticed.
const seenWithin = 5 * time.Second

// marks are the records that say of a copy's document that it is broken.
func (w *world) marks(document verify.Ref) []storage.Admission {
	w.t.Helper()
	records, err := w.store.Admissions(w.t.Context(), document.Name(), document.Digest)
	if err != nil || len(records) == 0 {
		w.t.Fatalf("records %v: %v", records, err)
	}
	for i := range records {
		records[i].Parent, records[i].Proof = records[i].Digest, storage.ProofBroken
	}
	return records
}

// TestAttack34_BrokenElsewhere: what another replica finds broken is served no
// longer, though its records and its bytes are in memory; what another gate on the
// same store finds, not once more.
func TestAttack34_BrokenElsewhere(t *testing.T) {
	for name, test := range map[string]struct {
		here   bool
		within time.Duration
	}{
		"by another process":             {false, seenWithin},
		"by another gate on this memory": {true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			_, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
			for range 2 {
				w.mustPull(ecrName + ":0.1.19")
			}
			store := storage.New(w.driver)
			if test.here {
				store = w.store
			}
			if err := store.Admit(t.Context(), w.marks(ref(t, ecrName).WithDigest(ecr.Root))...); err != nil {
				t.Fatal(err)
			}
			w.advance(test.within)
			w.refused(ecrName+"@"+ecr.Root.String(), verify.LayerMismatch)
		})
	}
}

// TestAttack34_TagElsewhere: a copy's tag that another replica found to be stale is
// asked for again.
func TestAttack34_TagElsewhere(t *testing.T) {
	w := newWorld(t)
	release := verifytest.NewRelease("0.1.19", amd64)
	hub, ecr := w.publish("0.1.19", release, verifytest.Format{})
	for range 2 {
		w.mustPull(ecrName + ":0.1.19")
	}
	anew := release.Push(w.ecr, ecrRepo, verifytest.Format{Level: 9, Tags: []string{"0.1.19"}})
	if anew.Root == ecr.Root {
		t.Fatal("the copy is the same as before")
	}
	if err := storage.New(w.driver).UnbindTag(t.Context(), ecrName, "0.1.19", hub.Root); err != nil {
		t.Fatal(err)
	}
	w.advance(seenWithin)
	if all := w.mustPull(ecrName + ":0.1.19"); all[anew.Root] == nil {
		t.Error("the tag leads to what it was before")
	}
}

// TestAttack20_RememberedAndSuperseded: memory keeps nothing alive that isn't signed
// (S2).
func TestAttack20_RememberedAndSuperseded(t *testing.T) {
	w := newWorld(t)
	hub, ecr := w.publish("latest", verifytest.NewRelease("0.1.18", amd64), verifytest.Format{})
	for range 2 {
		w.mustPull(hubName + ":latest")
		w.mustPull(ecrName + ":latest")
	}
	w.source.Unsign("latest", w.clock().Add(-time.Hour)) // the grace is over; no time passes
	for name, d := range map[string]string{hubName: hub.Root.String(), ecrName: ecr.Root.String()} {
		w.refused(name+":latest", verify.UnsignedTag)
		w.refused(name+"@"+d, verify.Superseded)
	}
}

// TestAttack25_RememberedElsewhere: what is in memory for one repository is served in
// no other (S1).
func TestAttack25_RememberedElsewhere(t *testing.T) {
	w := newWorld(t)
	_, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	for range 2 {
		w.mustPull(ecrName + ":0.1.19")
	}
	w.refused(hubName+"@"+ecr.Root.String(), verify.NotAdmitted)
}

// What is warm is served from memory: documents without any operation of storage.
func TestWarmDocumentsTouchNoStorage(t *testing.T) {
	w := newWorld(t)
	faulty := storagetest.NewFaulty(w.driver)
	w.store = storage.New(faulty)
	w.store.Remember(w.clock)
	w.start()
	hub, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	names := []string{hubName + ":0.1.19", hubName + "@" + hub.Root.String(), ecrName + ":0.1.19", ecrName + "@" + ecr.Manifests[amd64].String()}
	for range 2 {
		for _, name := range names {
			w.mustPull(name)
		}
	}
	faulty.Set(storagetest.Fault{})
	for _, name := range names {
		if _, _, err := w.read(ref(t, name), true); err != nil {
			t.Error(err)
		}
	}
	if n := faulty.Operations(); n != 0 {
		t.Errorf("%d operations of storage", n)
	}
	w.advance(seenWithin)
	faulty.Set(storagetest.Fault{At: 1, Stay: true})
	for _, name := range names {
		if _, _, err := w.read(ref(t, name), true); verify.ReasonOf(err) != verify.StorageUnavailable {
			t.Errorf("%s, as storage fails for good: %v", name, err)
		}
	}
}
