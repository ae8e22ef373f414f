package notary_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"testing"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
)

// rotateRoot gives the root a new key and publishes it.
func (w *world) rotateRoot() *notarytest.Key {
	w.tb.Helper()
	key := notarytest.RootKey(w.tb, gun)
	w.Root.Keys = []*notarytest.Key{key}
	w.Publish("root")
	return key
}

// pinRootKeys pins further root keys for the next Source.
func (w *world) pinRootKeys(keys ...*notarytest.Key) {
	for _, k := range keys {
		w.pins.Root = append(w.pins.Root, k.ID)
	}
}

func TestRootRotation(t *testing.T) {
	w := newWorld(t)
	wantTarget(t, w.source(), "0.1.19", digestA)
	w.service.Requests()

	// Two versions are skipped; each is fetched and verified.
	w.pinRootKeys(w.rotateRoot(), w.rotateRoot(), w.rotateRoot())
	s := w.source()
	refresh(t, s)
	if got := fmt.Sprint(w.service.Requests()[:3]); got != "[root 2.root 3.root]" {
		t.Errorf("asked for %s", got)
	}
	if v := s.Status().Versions["root"]; v != 4 {
		t.Errorf("root has version %d", v)
	}
	w.service.Down()
	wantTarget(t, w.source(), "0.1.19", digestA)

	// At first use only the newest is needed, and only its key pinned.
	w.service.Fail(nil)
	w.store = notarytest.NewStore()
	w.pins = w.Pins()
	w.service.Requests()
	wantTarget(t, w.source(), "0.1.19", digestA)
	if got := fmt.Sprint(w.service.Requests()[:2]); got != "[root timestamp]" {
		t.Errorf("asked for %s", got)
	}
}

func TestRootRotationToAKeyThatIsntPinned(t *testing.T) {
	w := newWorld(t)
	s := w.source()
	wantTarget(t, s, "0.1.19", digestA)
	key := w.rotateRoot()
	w.wantRefreshRefused(s, verify.KeyNotPinned, key.ID)
}

func TestIntermediateRootsMayUseOtherKeys(t *testing.T) {
	w := newWorld(t)
	wantTarget(t, w.source(), "0.1.19", digestA)
	w.rotateRoot()
	w.pinRootKeys(w.rotateRoot())
	s := w.source()
	refresh(t, s)
	wantTarget(t, s, "0.1.19", digestA)
}

func TestAttack8_Rotation(t *testing.T) {
	tests := []struct {
		name  string
		sign  func(was, is *notarytest.Key) []*notarytest.Key
		then  func(w *world) // after the new root is published
		wants verify.Reason
		says  string
	}{
		{name: "by both", sign: func(was, is *notarytest.Key) []*notarytest.Key { return []*notarytest.Key{is, was} }},
		{name: "by the new only", sign: func(_, is *notarytest.Key) []*notarytest.Key { return []*notarytest.Key{is} },
			wants: verify.SignatureInvalid, says: "by the keys of version 1"},
		{name: "by the old only", sign: func(was, _ *notarytest.Key) []*notarytest.Key { return []*notarytest.Key{was} },
			wants: verify.SignatureInvalid, says: "root is validly signed by 0"},
		{name: "a version is missing", then: func(w *world) {
			w.pinRootKeys(w.rotateRoot())
			w.service.Remove(gun, "2.root")
		}, wants: verify.SignatureInvalid, says: "doesn't have version 2"},
		{name: "a version is another", then: func(w *world) {
			w.pinRootKeys(w.rotateRoot())
			w.service.Set(gun, "2.root", w.service.Files(gun)["3.root"])
		}, wants: verify.SignatureInvalid, says: "root version 3 was given out as version 2"},
		{name: "a version is the one before", then: func(w *world) {
			w.pinRootKeys(w.rotateRoot())
			w.service.Set(gun, "2.root", w.service.Files(gun)["1.root"])
		}, wants: verify.SignatureInvalid, says: "root version 1 was given out as version 2"},
		{name: "an intermediate has expired", then: func(w *world) {
			w.Root.Expires = notarytest.Epoch.AddDate(0, 0, -1)
			w.pinRootKeys(w.rotateRoot())
			w.Root.Expires = notarytest.Epoch.AddDate(1, 0, 0)
			w.pinRootKeys(w.rotateRoot())
		}},
		{name: "the last has expired", then: func(w *world) {
			w.Root.Expires = notarytest.Epoch
			w.pinRootKeys(w.rotateRoot())
		}, wants: verify.MetadataExpired, says: "root expired"},
		{name: "the intermediate's chain breaks", then: func(w *world) {
			w.Root.Signers = []*notarytest.Key{notarytest.RootKey(t, gun)}
			w.Root.Keys = w.Root.Signers
			w.Publish("root") // signed by itself only
			w.Root.Signers = nil
			w.pinRootKeys(w.rotateRoot())
		}, wants: verify.SignatureInvalid, says: "by the keys of version 2"},
		{name: "too many versions", then: func(w *world) {
			w.Root.Version = 5000
			w.Publish("root")
		}, wants: verify.SignatureInvalid, says: "at most 1024"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			was := w.Root.Keys[0]
			wantTarget(t, w.source(), "0.1.19", digestA)
			is := notarytest.RootKey(t, gun)
			w.pinRootKeys(is)
			w.Root.Keys = []*notarytest.Key{is}
			if test.sign != nil {
				w.Root.Signers = test.sign(was, is)
			}
			w.Publish("root")
			w.Root.Signers = nil
			if test.then != nil {
				test.then(w)
			}
			s := w.source()
			if test.wants == "" {
				refresh(t, s)
				wantTarget(t, s, "0.1.19", digestA)
				return
			}
			w.wantRefreshRefused(s, test.wants, test.says)
		})
	}
}

func TestRootCertificates(t *testing.T) {
	good := notarytest.Certificate{CommonName: gun, NotBefore: notarytest.Epoch, NotAfter: notarytest.Epoch.AddDate(1, 0, 0)}
	with := func(change func(*notarytest.Certificate)) *notarytest.Key {
		c := good
		change(&c)
		return notarytest.NewKey(t, "ecdsa").Certified(t, c)
	}
	bundle := func(keys ...*notarytest.Key) *notarytest.Key {
		return keys[0].With(func(k *notarytest.Key) {
			k.Public = nil
			for _, other := range keys {
				k.Public = append(k.Public, other.Public...)
			}
		})
	}
	leaf := with(func(*notarytest.Certificate) {})
	ca := with(func(c *notarytest.Certificate) { c.CA = true })
	tests := []struct {
		name string
		key  *notarytest.Key
		want verify.Reason
		says string
	}{
		{"good", leaf, "", ""},
		{"leaf and CA", bundle(leaf, ca), "", ""},
		{"no certificate", notarytest.NewKey(t, "ecdsa"), verify.SignatureInvalid, "not a certificate"},
		{"ed25519", notarytest.NewKey(t, "ed25519"), verify.SignatureInvalid, "not a certificate"},
		{"another repository's", with(func(c *notarytest.Certificate) { c.CommonName = gun + "-evil" }), verify.SignatureInvalid, gun + "-evil"},
		{"a wildcard", with(func(c *notarytest.Certificate) { c.CommonName = "docker.io/nicolas/*" }), verify.SignatureInvalid, "docker.io/nicolas/*"},
		{"a CA's", ca, verify.SignatureInvalid, "no CA"},
		{"CA and leaf", bundle(ca, leaf), verify.SignatureInvalid, "no CA"},
		{"two leaves", bundle(leaf, with(func(*notarytest.Certificate) {})), verify.SignatureInvalid, "no CA"},
		{"signed with SHA-1", with(func(c *notarytest.Certificate) { c.Algorithm = x509.ECDSAWithSHA1 }), verify.SignatureInvalid, "SHA1"},
		{"expired", with(func(c *notarytest.Certificate) { c.NotAfter = notarytest.Epoch.Add(-1e9) }), verify.MetadataExpired, "certificate"},
		{"not yet valid", with(func(c *notarytest.Certificate) { c.NotBefore = notarytest.Epoch.Add(1e9) }), verify.MetadataExpired, "certificate"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, func(r *notarytest.Repository) { r.Root.Keys = []*notarytest.Key{test.key} })
			if test.want == "" {
				wantTarget(t, w.source(), "0.1.19", digestA)
				return
			}
			w.wantRefused(test.want, test.key.ID, test.says)
		})
	}
}

func TestRootCertificateThatExpiresLater(t *testing.T) {
	short := notarytest.NewKey(t, "ecdsa").Certified(t, notarytest.Certificate{
		CommonName: gun, NotBefore: notarytest.Epoch, NotAfter: notarytest.Epoch.AddDate(0, 0, 1),
	})
	w := newWorld(t, func(r *notarytest.Repository) { r.Root.Keys = []*notarytest.Key{short} })
	s := w.source()
	wantTarget(t, s, "0.1.19", digestA)
	w.clock.Advance(day(1) + 1e9)
	_, err := s.Target(context.Background(), "0.1.19")
	wantReason(t, err, verify.MetadataExpired, short.ID)

	// With two keys and a threshold of one, one certificate in date is enough.
	long := notarytest.RootKey(t, gun)
	w = newWorld(t, func(r *notarytest.Repository) { r.Root.Keys = []*notarytest.Key{short, long} })
	w.clock.Advance(day(2))
	wantTarget(t, w.source(), "0.1.19", digestA)
	w = newWorld(t, func(r *notarytest.Repository) {
		r.Root.Keys, r.Root.Threshold = []*notarytest.Key{short, long}, 2
	})
	w.clock.Advance(day(2))
	w.wantRefused(verify.MetadataExpired, short.ID)
}

func TestRootNeedsAllRoles(t *testing.T) {
	for _, role := range []string{"root", "targets", "snapshot", "timestamp"} {
		w := newWorld(t, func(r *notarytest.Repository) {
			r.Root.Edit = func(signed map[string]any) { delete(signed["roles"].(map[string]any), role) }
		})
		w.wantRefused(verify.Malformed, "nothing about the role "+role)
	}
}

func TestPEMOfRootKeysMustBeCertificates(t *testing.T) {
	key := notarytest.RootKey(t, gun)
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: notarytest.NewKey(t, "ecdsa").Public})
	mixed := key.With(func(k *notarytest.Key) { k.Public = append(bytes.Clone(k.Public), block...) })
	w := newWorld(t, func(r *notarytest.Repository) { r.Root.Keys = []*notarytest.Key{mixed} })
	w.wantRefused(verify.SignatureInvalid, mixed.ID)
}

// Of a former root's keys one has signed, where two are needed.
func TestAttack117_ThresholdOfTheFormerRoot(t *testing.T) {
	stays, goes, comes := notarytest.RootKey(t, gun), notarytest.RootKey(t, gun), notarytest.RootKey(t, gun)
	for _, byBoth := range []bool{false, true} {
		w := newWorld(t, func(r *notarytest.Repository) {
			r.Root.Keys, r.Root.Threshold = []*notarytest.Key{stays, goes}, 2
		})
		wantTarget(t, w.source(), "0.1.19", digestA)
		w.pinRootKeys(comes)
		w.Root.Keys = []*notarytest.Key{stays, comes}
		w.Root.Signers = w.Root.Keys
		if byBoth {
			w.Root.Signers = []*notarytest.Key{stays, goes, comes}
		}
		w.Publish("root")
		if s := w.source(); byBoth {
			refresh(t, s)
		} else {
			w.wantRefreshRefused(s, verify.SignatureInvalid, "by the keys of version 1", "by 1 of its keys, and needs 2")
		}
	}
}
