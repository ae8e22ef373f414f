package notary_test

import (
	"context"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
)

// wantSet asserts what the set has for a tag: digests, each with the time since
// Epoch at which it ceased to be signed, or -1 if it is signed.
func wantSet(tb testing.TB, s *notary.Source, tag string, want map[digest.Digest]time.Duration) {
	tb.Helper()
	set, err := s.Targets(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	got := set.ByTag(tag)
	if len(got) != len(want) {
		tb.Errorf("the set has %+v for %s, want %v", got, tag, want)
	}
	for _, target := range got {
		since, ok := want[target.Digest]
		switch {
		case !ok:
			tb.Errorf("the set has %s", target.Digest)
		case since < 0 != target.Superseded.IsZero(), since >= 0 && !target.Superseded.Equal(notarytest.Epoch.Add(since)):
			tb.Errorf("%s is superseded %v, want %v after the epoch", target.Digest, target.Superseded, since)
		}
	}
}

type ceased = map[digest.Digest]time.Duration

func TestSuperseded(t *testing.T) {
	digestC := digest.FromString("c")
	w := newWorld(t)
	s := w.source()
	wantTarget(t, s, "0.1.19", digestA)
	first, err := s.Targets(context.Background())
	if err != nil {
		t.Fatal(err)
	}

	// The set stays the same one while nothing changes in it.
	w.PublishTimestamp()
	refresh(t, s)
	if again, _ := s.Targets(context.Background()); again != first {
		t.Error("a new timestamp made another set")
	}

	// A tag is signed anew, and an hour later again.
	w.clock.Advance(time.Hour)
	w.Sign("0.1.19", digestB, 5)
	w.Publish("targets")
	refresh(t, s)
	w.clock.Advance(time.Hour)
	w.Sign("0.1.19", digestC, 5)
	w.Publish("targets")
	refresh(t, s)
	want := ceased{digestA: time.Hour, digestB: 2 * time.Hour, digestC: -1}
	wantSet(t, s, "0.1.19", want)
	wantSet(t, w.source(), "0.1.19", want)

	// Other news don't change that, nor does a service that is down.
	w.Publish("targets")
	refresh(t, s)
	w.service.Down()
	w.clock.Advance(day(1) - time.Hour - 1)
	wantSet(t, s, "0.1.19", want)
	wantSet(t, w.source(), "0.1.19", want)

	// A day after each has ceased it is forgotten, without a refresh.
	w.clock.Advance(1)
	delete(want, digestA)
	wantSet(t, s, "0.1.19", want)
	wantSet(t, w.source(), "0.1.19", want)
	w.clock.Advance(time.Hour)
	wantSet(t, s, "0.1.19", ceased{digestC: -1})
	wantSet(t, w.source(), "0.1.19", ceased{digestC: -1})
}

func TestSupersededAndSignedAgain(t *testing.T) {
	w := newWorld(t)
	s := w.source()
	wantTarget(t, s, "0.1.19", digestA)
	delete(w.Signed, "0.1.19")
	w.clock.Advance(time.Hour)
	w.Publish("targets")
	refresh(t, s)
	wantSet(t, s, "0.1.19", ceased{digestA: time.Hour})
	_, err := s.Target(context.Background(), "0.1.19")
	wantReason(t, err, verify.UnsignedTag)

	w.clock.Advance(time.Hour)
	w.Sign("0.1.19", digestA, 772)
	w.Publish("targets")
	refresh(t, s)
	wantSet(t, s, "0.1.19", ceased{digestA: -1})
	wantSet(t, w.source(), "0.1.19", ceased{digestA: -1})

	w.clock.Advance(time.Hour)
	delete(w.Signed, "0.1.19")
	w.Publish("targets")
	refresh(t, s)
	wantSet(t, s, "0.1.19", ceased{digestA: 3 * time.Hour})
	wantSet(t, w.source(), "0.1.19", ceased{digestA: 3 * time.Hour})
}

func TestDisputedTagIsSuperseded(t *testing.T) {
	w := newWorld(t, func(r *notarytest.Repository) { r.Delegate("alice") })
	s := w.source()
	wantTarget(t, s, "0.1.19", digestA)
	w.Delegations[0].Sign("0.1.19", digestB, 5)
	w.Publish("targets/alice")
	refresh(t, s)
	wantSet(t, s, "0.1.19", ceased{digestA: 0})
}

// TestSupersededNeedsPinnedKeys: what was signed by a key that is no longer
// pinned isn't remembered after a restart.
func TestSupersededNeedsPinnedKeys(t *testing.T) {
	w := newWorld(t)
	s := w.source()
	wantTarget(t, s, "0.1.19", digestA)
	w.Targets.Keys = []*notarytest.Key{notarytest.NewKey(t, "ecdsa")}
	w.Sign("0.1.19", digestB, 5)
	w.Publish("root", "targets")
	w.pins.Repository = append(w.pins.Repository, w.Targets.Keys[0].ID)
	s = w.source()
	refresh(t, s)
	wantSet(t, w.source(), "0.1.19", ceased{digestA: 0, digestB: -1})
	w.pins.Repository = w.pins.Repository[1:]
	wantSet(t, w.source(), "0.1.19", ceased{digestB: -1})
}
