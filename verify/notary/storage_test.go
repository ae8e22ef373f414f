package notary_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
)

// flip changes one bit of a stored file.
func flip(raw []byte) []byte {
	raw = bytes.Clone(raw)
	raw[len(raw)/2] ^= 1
	return raw
}

// stored returns the names of stored files that begin with a prefix.
func (w *world) stored(prefix string) []string {
	var names []string
	for _, name := range w.store.Names(gun) {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names
}

// TestCrashDuringSave stops the store at each write of an update in turn. After a
// restart either the old state or the new one is there.
func TestCrashDuringSave(t *testing.T) {
	w := newWorld(t, withAlice)
	wantTarget(t, w.source(), "0.1.19", digestA)
	w.Sign("0.1.19", digestB, 5)
	w.pinRootKeys(w.rotateRoot())
	w.Publish("targets", "targets/alice")
	before := w.store
	for n := 1; ; n++ {
		w.store = before.Clone()
		w.store.FailPut(n)
		s := w.source()
		err := s.Refresh(context.Background())
		if err == nil {
			if n != 7 { // root, timestamp, snapshot, targets, targets/alice, commit
				t.Errorf("%d writes", n-1)
			}
			break
		}
		wantReason(t, err, verify.StorageUnavailable)
		wantTarget(t, s, "0.1.19", digestA) // what isn't stored isn't relied on

		w.store.FailPut(0)
		w.service.Down()
		wantTarget(t, w.source(), "0.1.19", digestA)
		w.service.Fail(nil)
		s = w.source()
		refresh(t, s)
		wantTarget(t, s, "0.1.19", digestB)
		wantTarget(t, w.source(), "0.1.19", digestB)
	}
}

func TestStoreThatFails(t *testing.T) {
	for _, operation := range []string{"list", "get", "put"} {
		w := newWorld(t)
		if operation == "get" {
			wantTarget(t, w.source(), "0.1.19", digestA)
		}
		w.store.Fail(operation, true)
		s := w.source()
		_, err := s.Target(context.Background(), "0.1.19")
		wantReason(t, err, verify.StorageUnavailable, notarytest.ErrStore.Error())
		w.store.Fail(operation, false)
		w.clock.Advance(30 * time.Second)
		wantTarget(t, s, "0.1.19", digestA)
	}
}

// TestDamagedFiles damages each stored file of the newest state in turn. What it
// replaced doesn't come back, the mark stays, and a refresh mends it.
func TestDamagedFiles(t *testing.T) {
	w := newWorld(t, withAlice)
	wantTarget(t, w.source(), "0.1.19", digestA)
	old := w.service.Files(gun)
	w.Sign("0.1.19", digestB, 5)
	w.Publish("targets", "targets/alice")
	s := w.source()
	refresh(t, s)
	whole := w.store
	for _, prefix := range []string{"timestamp/2", "snapshot/2", "targets/2", "targets.alice/2", "commits/2"} {
		for how, change := range map[string]func([]byte) []byte{
			"flipped":   flip,
			"truncated": func(raw []byte) []byte { return raw[:len(raw)-1] },
			"empty":     func([]byte) []byte { return []byte{} },
		} {
			t.Run(prefix+" "+how, func(t *testing.T) {
				w.tb, w.store = t, whole.Clone()
				name := w.stored(prefix)[0]
				w.store.Damage(gun, name, change)

				w.service.Down()
				s := w.source()
				_, err := s.Target(context.Background(), "0.1.19")
				wantReason(t, err, verify.TrustUnavailable)
				w.service.Fail(nil)

				newest := w.service.Files(gun)
				w.service.Serve(gun, old)
				wantReason(t, s.Refresh(context.Background()), verify.Rollback)
				w.service.Serve(gun, newest)
				refresh(t, s)
				wantTarget(t, s, "0.1.19", digestB)
				w.service.Down()
				wantTarget(t, w.source(), "0.1.19", digestB)
				w.service.Fail(nil)
			})
		}
	}
}

// TestDamagedTimestamp: a timestamp that only said again what the one before it
// said isn't needed while that one is in date.
func TestDamagedTimestamp(t *testing.T) {
	w := newWorld(t)
	wantTarget(t, w.source(), "0.1.19", digestA)
	w.PublishTimestamp()
	refresh(t, w.source())
	w.store.Damage(gun, w.stored("timestamp/2")[0], flip)
	w.service.Down()
	wantTarget(t, w.source(), "0.1.19", digestA)
}

// TestDamagedFileKeepsItsMark: the version in a damaged file's name is a mark
// even when nothing else says so.
func TestDamagedFileKeepsItsMark(t *testing.T) {
	w := newWorld(t)
	wantTarget(t, w.source(), "0.1.19", digestA)
	w.republish("targets", 5)
	refresh(t, w.source())
	w.store.Damage(gun, w.stored("targets/5")[0], flip)
	w.republish("targets", 4)
	wantReason(t, w.source().Refresh(context.Background()), verify.Rollback, "version 5", "damaged", w.stored("targets/5")[0])
	w.republish("targets", 6)
	refresh(t, w.source())
}

// TestDamageDoesntBringReplacedKeysBack: past a damaged state only one with the
// same root is relied on.
func TestDamageDoesntBringReplacedKeysBack(t *testing.T) {
	w := newWorld(t)
	wantTarget(t, w.source(), "0.1.19", digestA)
	w.pinRootKeys(w.rotateRoot())
	refresh(t, w.source())
	w.store.Damage(gun, w.stored("timestamp/2")[0], flip)
	w.service.Down()
	_, err := w.source().Target(context.Background(), "0.1.19")
	wantReason(t, err, verify.TrustUnavailable)
	w.service.Fail(nil)
	wantTarget(t, w.source(), "0.1.19", digestA)
}

func TestDamagedRoot(t *testing.T) {
	w := newWorld(t)
	wantTarget(t, w.source(), "0.1.19", digestA)
	old := w.service.Files(gun)
	w.pinRootKeys(w.rotateRoot())
	refresh(t, w.source())
	w.store.Damage(gun, w.stored("root/2")[0], flip)
	newest := w.service.Files(gun)
	w.service.Serve(gun, old)
	wantReason(t, w.source().Refresh(context.Background()), verify.Rollback, "root", "damaged")
	w.service.Serve(gun, newest)
	refresh(t, w.source())
	if got := w.stored("root/"); len(got) != 2 {
		t.Errorf("stored %q", got)
	}
}

// TestForeignFilesInTheStore: what isn't named as ours is nothing to us.
func TestForeignFilesInTheStore(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"x", "root/x", "root/1", "root/-1-" + strings.Repeat("a", 64), "timestamp/01-" + strings.Repeat("a", 64), "timestamp/9-abc"} {
		if err := w.store.Put(context.Background(), gun, name, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	wantTarget(t, w.source(), "0.1.19", digestA)
}

// TestStoredCommitIsNoProof: a commit that names files that don't belong
// together, or that aren't signed, gets nobody anywhere.
func TestStoredCommitIsNoProof(t *testing.T) {
	w := newWorld(t)
	wantTarget(t, w.source(), "0.1.19", digestA)
	evil := newWorld(t)
	evil.Sign("0.1.19", digestB, 5)
	evil.Publish("targets")
	wantTarget(t, evil.source(), "0.1.19", digestB)
	evil.pins = w.pins // its own store, under the pins of the other
	_, err := evil.source().Target(context.Background(), "0.1.19")
	wantReason(t, err, verify.KeyNotPinned)
}

func TestTwoReplicasShareAStore(t *testing.T) {
	w := newWorld(t)
	one, two := w.source(), w.source()
	wantTarget(t, one, "0.1.19", digestA)
	wantTarget(t, two, "0.1.19", digestA)
	old := w.service.Files(gun)
	w.Sign("0.2", digestB, 5)
	w.Publish("targets")
	refresh(t, one)
	w.service.Serve(gun, old)
	// The other has not seen the new version, but the store has.
	wantReason(t, two.Refresh(context.Background()), verify.Rollback, "timestamp", "version 2")
	wantTarget(t, two, "0.1.19", digestA)
}
