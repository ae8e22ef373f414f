package notary_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
)

// withAlice adds a delegation to the repository.
func withAlice(r *notarytest.Repository) { r.Delegate("alice").Sign("0.2", digestB, 1) }

// role finds a role by name.
func (w *world) role(name string) *notarytest.Role {
	for _, r := range []*notarytest.Role{&w.Root, &w.Timestamp, &w.Snapshot, &w.Targets} {
		if r.Name == name {
			return r
		}
	}
	for _, d := range w.Delegations {
		if d.Name == name {
			return &d.Role
		}
	}
	w.tb.Fatalf("no role %s", name)
	return nil
}

// republish publishes a version of a role, and makes sure that the roles above
// it rise, as the holder of all other keys could.
func (w *world) republish(role string, version int64) {
	w.tb.Helper()
	w.role(role).Version = version - 1
	switch role {
	case "timestamp":
		w.PublishTimestamp()
	case "snapshot":
		w.Publish()
	default:
		w.Publish(role)
	}
}

func TestAttack2_Rollback(t *testing.T) {
	for _, role := range []string{"root", "timestamp", "snapshot", "targets", "targets/alice"} {
		t.Run(role, func(t *testing.T) {
			w := newWorld(t, withAlice)
			wantTarget(t, w.source(), "0.1.19", digestA)
			w.republish(role, 5)
			if role == "root" { // each version on the way exists
				w = newWorld(t, withAlice)
				wantTarget(t, w.source(), "0.1.19", digestA)
				for range 4 {
					w.Publish("root")
				}
			}
			s := w.source()
			refresh(t, s)
			if v := s.Status().Versions[role]; v != 5 {
				t.Fatalf("%s has version %d", role, v)
			}
			w.republish(role, 4)
			w.wantRefreshRefused(s, verify.Rollback, role, "version 4", "version 5")
			w.republish(role, 6)
			refresh(t, w.source())
		})
	}
}

func TestAttack2_WholeServiceRolledBack(t *testing.T) {
	w := newWorld(t)
	old := w.service.Files(gun)
	w.Publish("targets")
	s := w.source()
	wantTarget(t, s, "0.1.19", digestA)
	w.service.Serve(gun, old)
	w.wantRefreshRefused(s, verify.Rollback, "timestamp")
}

func TestAttack2_SameVersionOtherContent(t *testing.T) {
	for _, role := range []string{"root", "timestamp", "snapshot", "targets", "targets/alice"} {
		t.Run(role, func(t *testing.T) {
			w := newWorld(t, withAlice)
			s := w.source()
			wantTarget(t, s, "0.1.19", digestA)
			w.role(role).Expires = w.role(role).Expires.Add(1e9)
			w.republish(role, 1)
			w.wantRefreshRefused(s, verify.Rollback, role, "version 1 that is not the one accepted before")
		})
	}
}

func TestSameVersionWithOtherSignaturesIsTheSame(t *testing.T) {
	for _, role := range []string{"root", "timestamp", "snapshot", "targets", "targets/alice"} {
		w := newWorld(t, withAlice)
		wantTarget(t, w.source(), "0.1.19", digestA)
		w.republish(role, 1) // signed again; ECDSA signatures differ each time
		refresh(t, w.source())
	}
}

func TestAttack3_FastForward(t *testing.T) {
	const far = 1 << 31
	for _, role := range []string{"timestamp", "snapshot", "targets", "targets/alice"} {
		t.Run(role, func(t *testing.T) {
			w := newWorld(t, withAlice)
			wantTarget(t, w.source(), "0.1.19", digestA)
			w.republish(role, far)
			s := w.source()
			refresh(t, s)
			w.republish(role, 2)
			w.wantRefreshRefused(s, verify.Rollback, role, fmt.Sprint(far))

			// A new root, or a new key besides the old one, is no way out.
			parent := "root"
			if role == "targets/alice" {
				parent = "targets"
			}
			w.Publish(parent)
			w.wantRefreshRefused(w.source(), verify.Rollback, role)
			old := w.role(role).Keys
			w.role(role).Keys = append([]*notarytest.Key{notarytest.NewKey(t, "ecdsa")}, old...)
			w.pins = w.Pins()
			w.Publish(parent)
			w.wantRefreshRefused(w.source(), verify.Rollback, role)

			// Replacing the key is.
			w.role(role).Keys = w.role(role).Keys[:1]
			w.Publish(parent)
			w.republish(role, 3)
			s = w.source()
			refresh(t, s)
			if v := s.Status().Versions[role]; v != 3 {
				t.Errorf("%s has version %d", role, v)
			}
			w.service.Down()
			wantTarget(t, w.source(), "0.1.19", digestA)

			// And from there on the versions count again.
			w.service.Fail(nil)
			w.republish(role, 2)
			w.wantRefreshRefused(w.source(), verify.Rollback, role, "version 2", "version 3")
		})
	}
}

func TestAttack9_RefusedRootStaysRefused(t *testing.T) {
	w := newWorld(t)
	wantTarget(t, w.source(), "0.1.19", digestA)
	good := w.service.Files(gun)
	evil := notarytest.RootKey(t, gun)
	w.Root.Keys, w.Root.Signers = []*notarytest.Key{evil}, []*notarytest.Key{evil}
	w.pinRootKeys(evil)
	w.Publish("root")
	w.wantRefreshRefused(w.source(), verify.SignatureInvalid, "root version 2")
	for _, name := range w.store.Names(gun) {
		if strings.HasPrefix(name, "root/2") {
			t.Errorf("stored %s", name)
		}
	}
	w.service.Serve(gun, good)
	s := w.source()
	refresh(t, s)
	wantTarget(t, s, "0.1.19", digestA)
}

func TestDelegationThatVanishes(t *testing.T) {
	w := newWorld(t, withAlice)
	s := w.source()
	wantTarget(t, s, "0.2", digestB)

	// The snapshot must not drop what targets still delegates to.
	w.Snapshot.Edit = func(signed map[string]any) { delete(signed["meta"].(map[string]any), "targets/alice") }
	w.Publish()
	w.wantRefreshRefused(s, verify.Rollback, "targets/alice", "vanished")

	// The publisher may, by taking the delegation back.
	delegations := w.Delegations
	w.Delegations = nil
	w.Publish("targets")
	s = w.source()
	refresh(t, s)
	_, err := s.Target(context.Background(), "0.2")
	wantReason(t, err, verify.UnsignedTag)

	// If it comes back with the same key, old versions of it don't.
	w.Snapshot.Edit = nil
	w.Delegations = delegations
	w.Publish("targets")
	w.republish("targets/alice", 2)
	refresh(t, s)
	wantTarget(t, s, "0.2", digestB)
	w.Snapshot.Edit = nil
	w.republish("targets/alice", 1)
	wantReason(t, s.Refresh(context.Background()), verify.Rollback, "targets/alice")
}

func TestRootsCountIfTheirKeysArePinned(t *testing.T) {
	w := newWorld(t)
	first := w.Root.Keys[0]
	wantTarget(t, w.source(), "0.1.19", digestA)
	w.Publish("root")
	refresh(t, w.source())

	// The publisher begins anew, with other keys and at version 1. Nothing but the
	// operator's pins can say that this is right.
	anew := newWorld(t)
	anew.store = w.store
	both := anew.pins
	both.Root = append(both.Root, first.ID)
	both.Repository = append(both.Repository, w.pins.Repository...)
	anew.pins = both
	wantReason(t, anew.source().Refresh(context.Background()), verify.Rollback, "root")
	anew.pins = anew.Pins()
	s := anew.source()
	refresh(t, s)
	wantTarget(t, s, "0.1.19", digestA)
	anew.service.Down()
	wantTarget(t, anew.source(), "0.1.19", digestA)
}
