package notary_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/trustmirror/trustmirror/verify"
)

// manyAnswers is more than the states that are kept.
const manyAnswers = 110

// TestAttack98_StateGrowsWithEachAnswer: who has the keys of snapshot and timestamp
// publishes both anew each time it is asked, and with them each time another form
// of what the publisher signed. That must not fill the disk.
func TestAttack98_StateGrowsWithEachAnswer(t *testing.T) {
	w := newWorld(t, withAlice)
	s := w.source()
	wantTarget(t, s, "0.1.19", digestA)
	pad := 0
	padded := func(raw []byte) []byte { return append(raw, bytes.Repeat([]byte(" "), pad)...) }
	w.Root.EditFile, w.Targets.EditFile, w.role("targets/alice").EditFile = padded, padded, padded
	for pad = range manyAnswers {
		w.Root.Version, w.Targets.Version, w.role("targets/alice").Version = 0, 0, 0
		w.Publish("root", "targets", "targets/alice")
		refresh(t, s)
	}
	names := w.store.Names(gun)
	if most := 6 * 97; len(names) > most { // files of a state, with its commit; states
		t.Errorf("%d files are stored, of which at most %d can be of use", len(names), most)
	}

	// Nothing is forgotten that counts.
	w.service.Down()
	again := w.source()
	wantTarget(t, again, "0.1.19", digestA)
	w.service.Fail(nil)
	for role, version := range map[string]int64{"timestamp": manyAnswers, "snapshot": manyAnswers} {
		known := w.service.Files(gun)
		w.republish(role, version)
		wantReason(t, again.Refresh(context.Background()), verify.Rollback, role)
		w.role(role).Version = version + 1
		w.service.Serve(gun, known)
	}
}

// TestAttack98_MarksOutlastPruning: the versions that were accepted under keys that
// were replaced since still count when those keys return.
func TestAttack98_MarksOutlastPruning(t *testing.T) {
	w := newWorld(t)
	s := w.source()
	wantTarget(t, s, "0.1.19", digestA)
	first := w.Snapshot.Keys
	w.republish("snapshot", 500)
	refresh(t, s)
	other := newWorld(t).Snapshot.Keys
	w.Snapshot.Keys = other
	w.Publish("root")
	w.republish("snapshot", 1)
	refresh(t, s)
	for range manyAnswers {
		w.Publish()
		refresh(t, s)
	}
	w.Snapshot.Keys = first
	w.Publish("root")
	w.republish("snapshot", 499)
	wantReason(t, s.Refresh(context.Background()), verify.Rollback, "snapshot", "500")
}

// TestAttack98_PruningNeedsNoDisk: a store from which nothing can be removed stays
// as good as it was, and what can't be read isn't taken for useless.
func TestAttack98_PruningNeedsNoDisk(t *testing.T) {
	w := newWorld(t)
	s := w.source()
	wantTarget(t, s, "0.1.19", digestA)
	w.store.Fail("remove", true)
	for range manyAnswers {
		w.Publish()
		refresh(t, s)
	}
	if got := len(w.stored("commits/")); got != manyAnswers+1 {
		t.Errorf("%d commits are stored", got)
	}
	w.store.Fail("remove", false)
	w.Publish()
	refresh(t, s)
	if got := len(w.stored("commits/")); got != 65 {
		t.Errorf("%d commits are left", got)
	}
	for _, prefix := range []string{"root/", "targets/"} {
		if got := w.stored(prefix); len(got) != 1 {
			t.Errorf("%s has become %q", prefix, got)
		}
	}
}
