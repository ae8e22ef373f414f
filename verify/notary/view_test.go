package notary_test

import (
	"context"
	"reflect"
	"testing"

	"github.com/trustmirror/trustmirror/verify/notary"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
)

func TestMetadata(t *testing.T) {
	signer := notarytest.NewKey(t, "ecdsa")
	cert := signer.Certified(t, notarytest.Certificate{CommonName: "alice", NotBefore: notarytest.Epoch, NotAfter: notarytest.Epoch.AddDate(1, 0, 0)})
	w := newWorld(t, func(r *notarytest.Repository) {
		r.Targets.Keys = append(r.Targets.Keys, notarytest.NewKey(t, "ed25519"))
		r.Targets.Threshold = 2
		r.Sign("a/file", digestB, 3)
		alice := r.Delegate("alice", cert)
		alice.Paths = []string{"1.", "2."}
		alice.Sign("1.0", digestA, 1)
		alice.Sign("3.0", digestA, 1)
		alice.Delegate(t, "sub")
		r.Delegate("bob")
	})
	w.Publish("targets")
	got, err := w.source().Metadata(context.Background())
	if err != nil {
		t.Fatal(err)
	}

	key := func(k *notarytest.Key) notary.RoleKey {
		return notary.RoleKey{ID: k.ID, PublicKeyID: k.ID, Type: k.KeyType}
	}
	role := func(r *notarytest.Role) notary.Role {
		viewed := notary.Role{Name: r.Name, Version: r.Version, Expires: r.Expires, Threshold: r.Threshold}
		for _, k := range r.Keys {
			viewed.Keys, viewed.SignedBy = append(viewed.Keys, key(k)), append(viewed.SignedBy, k.ID)
		}
		return viewed
	}
	unpublished := func(r *notarytest.Role) notary.Role {
		return notary.Role{Name: r.Name, Threshold: 1, Keys: []notary.RoleKey{key(r.Keys[0])}}
	}
	alice, bob := w.Delegations[0], w.Delegations[1]
	want := &notary.Metadata{
		GUN: gun, Root: role(&w.Root), Timestamp: role(&w.Timestamp), Snapshot: role(&w.Snapshot),
		Targets: notary.TargetsRole{
			Role: role(&w.Targets), Paths: []string{""}, Published: true,
			Targets: []notary.SignedTarget{{Name: "0.1.19", Digest: digestA, Size: 772}, {Name: "a/file", Digest: digestB, Size: 3}},
			Delegations: []notary.TargetsRole{
				{
					Role: role(&alice.Role), Paths: []string{"1.", "2."}, Published: true,
					Targets: []notary.SignedTarget{{Name: "1.0", Digest: digestA, Size: 1}, {Name: "3.0", Digest: digestA, Size: 1}},
					Delegations: []notary.TargetsRole{
						{Role: unpublished(&alice.Children[0].Role), Paths: []string{""}},
					},
				},
				{Role: unpublished(&bob.Role), Paths: []string{""}},
			},
		},
	}
	rootKey, aliceKey := &want.Root.Keys[0], &want.Targets.Delegations[0].Keys[0]
	parsed, err := notary.ParseKeyPEM(w.Root.Keys[0].PEM())
	if err != nil {
		t.Fatal(err)
	}
	rootKey.PublicKeyID, rootKey.NotBefore, rootKey.NotAfter = parsed.PublicKeyID(), notarytest.Epoch.AddDate(0, 0, -1), notarytest.Epoch.AddDate(10, 0, 0)
	aliceKey.PublicKeyID, aliceKey.NotBefore, aliceKey.NotAfter = signer.ID, notarytest.Epoch, notarytest.Epoch.AddDate(1, 0, 0)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	seen := got.Targets.Delegations[0]
	if !seen.Covers("1.0") || seen.Covers("3.0") || !got.Targets.Covers("anything") {
		t.Error("Covers is wrong")
	}
}
