package notary_test

import (
	"context"
	"testing"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
)

// TestUnpinnedKeys lists a key too many in each place where keys are listed
// (T4): nothing needs it, and all is refused.
func TestUnpinnedKeys(t *testing.T) {
	rogue := notarytest.NewKey(t, "ecdsa")
	rogueRoot := notarytest.RootKey(t, gun)
	for name, test := range map[string]struct {
		key    *notarytest.Key
		change func(*notarytest.Repository)
	}{
		"root":             {rogueRoot, func(r *notarytest.Repository) { r.Root.Keys = append(r.Root.Keys, rogueRoot) }},
		"targets":          {rogue, func(r *notarytest.Repository) { r.Targets.Keys = append(r.Targets.Keys, rogue) }},
		"root's list":      {rogue, func(r *notarytest.Repository) { r.ExtraKeys = []*notarytest.Key{rogue} }},
		"targets' list":    {rogue, func(r *notarytest.Repository) { r.ExtraDelegationKeys = []*notarytest.Key{rogue} }},
		"a delegation":     {rogue, func(r *notarytest.Repository) { r.Delegations[0].Keys = append(r.Delegations[0].Keys, rogue) }},
		"releases":         {rogue, func(r *notarytest.Repository) { r.Delegations[1].Keys = append(r.Delegations[1].Keys, rogue) }},
		"a new delegation": {rogue, func(r *notarytest.Repository) { r.Delegate("eve", rogue) }},
		"a grandchild":     {rogue, func(r *notarytest.Repository) { r.Delegations[0].Delegate(t, "eve", rogue) }},
		"a former root's place": {rogueRoot, func(r *notarytest.Repository) {
			r.Timestamp.Keys = append(r.Timestamp.Keys, rogueRoot)
			r.Targets.Keys = append(r.Targets.Keys, rogueRoot)
		}},
		"an unknown role": {rogue, func(r *notarytest.Repository) {
			r.ExtraKeys = []*notarytest.Key{rogue}
			r.Root.Edit = func(signed map[string]any) {
				signed["roles"].(map[string]any)["mirrors"] = map[string]any{"keyids": []string{rogue.ID}, "threshold": 1}
			}
		}},
		"an unknown role, with a root certificate": {rogueRoot, func(r *notarytest.Repository) {
			r.ExtraKeys = []*notarytest.Key{rogueRoot}
			r.Root.Edit = func(signed map[string]any) {
				signed["roles"].(map[string]any)["mirrors"] = map[string]any{"keyids": []string{rogueRoot.ID}, "threshold": 1}
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var pins notary.Pins
			w := newWorld(t, func(r *notarytest.Repository) {
				r.Delegate("alice").Sign("0.2", digestB, 1)
				r.Delegate("releases", r.Delegations[0].Keys...).Sign("0.2", digestB, 1)
				pins = r.Pins()
				test.change(r)
			})
			w.pins = pins
			w.wantRefused(verify.KeyNotPinned, test.key.ID)
		})
	}
}

// TestPinnedElsewhere checks that a pin holds for its role only.
func TestPinnedElsewhere(t *testing.T) {
	w := newWorld(t, func(r *notarytest.Repository) {
		r.Delegate("alice").Sign("0.2", digestB, 1)
		r.Delegate("bob").Sign("0.2", digestB, 1)
	})
	good := w.Pins()
	alice, bob := good.Signers["alice"], good.Signers["bob"]
	for name, pins := range map[string]notary.Pins{
		"root pinned as repository":   {Root: good.Repository, Repository: append(good.Root, good.Repository...), Signers: good.Signers},
		"root and repository swapped": {Root: good.Repository, Repository: good.Root, Signers: good.Signers},
		"signers swapped":             {Root: good.Root, Repository: good.Repository, Signers: map[string][]string{"alice": bob, "bob": alice}},
		"signer pinned as repository": {Root: good.Root, Repository: append(good.Repository, bob...), Signers: map[string][]string{"alice": alice}},
		"signer pinned for releases":  {Root: good.Root, Repository: good.Repository, Signers: map[string][]string{"alice": alice, "releases": bob}},
		"repository pinned as signer": {Root: good.Root, Repository: alice, Signers: map[string][]string{"alice": alice, "bob": append(bob, good.Repository...)}},
	} {
		t.Run(name, func(t *testing.T) {
			w.pins = pins
			w.wantRefused(verify.KeyNotPinned)
		})
	}
}

func TestServerKeysArentPinned(t *testing.T) {
	w := newWorld(t)
	s := w.source()
	wantTarget(t, s, "0.1.19", digestA)
	w.Timestamp.Keys = []*notarytest.Key{notarytest.NewKey(t, "ed25519")}
	w.Snapshot.Keys = []*notarytest.Key{notarytest.NewKey(t, "ed25519"), notarytest.RootKey(t, gun)}
	w.Publish("root")
	refresh(t, s)
	if v := s.Status().Versions; v["root"] != 2 || v["timestamp"] != 2 {
		t.Errorf("versions are %v", v)
	}
}

// TestFormerRootCertificates: the reference client leaves the certificates of
// former root keys in root's list of keys.
func TestFormerRootCertificates(t *testing.T) {
	w := newWorld(t, func(r *notarytest.Repository) { r.ExtraKeys = []*notarytest.Key{notarytest.RootKey(t, gun)} })
	wantTarget(t, w.source(), "0.1.19", digestA)

	foreign := notarytest.RootKey(t, "docker.io/other/image")
	w = newWorld(t, func(r *notarytest.Repository) { r.ExtraKeys = []*notarytest.Key{foreign} })
	w.wantRefused(verify.KeyNotPinned, foreign.ID)
}

func TestSignersInCertificates(t *testing.T) {
	key := notarytest.NewKey(t, "ecdsa")
	cert := key.Certified(t, notarytest.Certificate{CommonName: "alice", NotBefore: notarytest.Epoch, NotAfter: notarytest.Epoch.AddDate(1, 0, 0)})
	w := newWorld(t, func(r *notarytest.Repository) { r.Delegate("alice", cert).Sign("0.2", digestB, 1) })
	for _, id := range []string{cert.ID, key.ID} { // as listed, and as docker trust inspect prints it
		w.pins.Signers = map[string][]string{"alice": {id}}
		w.store = notarytest.NewStore()
		wantTarget(t, w.source(), "0.2", digestB, "alice")
	}
	// A root is pinned by its certificate only (T3).
	root := notarytest.NewKey(t, "ecdsa")
	w = newWorld(t, func(r *notarytest.Repository) {
		r.Root.Keys = []*notarytest.Key{root.Certified(t, notarytest.Certificate{CommonName: gun, NotBefore: notarytest.Epoch, NotAfter: notarytest.Epoch.AddDate(1, 0, 0)})}
	})
	w.pins.Root = []string{root.ID}
	w.wantRefused(verify.KeyNotPinned, w.Root.Keys[0].ID)
}

func TestReleasesTakesAnySignersKeys(t *testing.T) {
	w := newWorld(t, func(r *notarytest.Repository) {
		alice, bob := r.Delegate("alice"), r.Delegate("bob")
		releases := r.Delegate("releases", alice.Keys[0], bob.Keys[0])
		releases.Signers = bob.Keys
		releases.Sign("0.2", digestB, 1)
	})
	delete(w.pins.Signers, "releases")
	wantTarget(t, w.source(), "0.2", digestB, notary.RepoAdmin)

	own := newWorld(t, func(r *notarytest.Repository) { r.Delegate("releases").Sign("0.2", digestB, 1) })
	wantTarget(t, own.source(), "0.2", digestB)
}

func TestPinsChangeAfterARestart(t *testing.T) {
	w := newWorld(t, func(r *notarytest.Repository) { r.Delegate("alice").Sign("0.2", digestB, 1) })
	wantTarget(t, w.source(), "0.2", digestB)
	w.pins.Signers = nil
	for _, down := range []bool{false, true} {
		if down {
			w.service.Down()
		}
		s := w.source()
		_, err := s.Target(context.Background(), "0.1.19")
		wantReason(t, err, verify.KeyNotPinned, "targets/alice")
		if set, err := s.Targets(context.Background()); set != nil || err == nil {
			t.Errorf("got %v, %v", set, err)
		}
	}
}
