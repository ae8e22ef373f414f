package hostile

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// signer publishes Notary v1 metadata for one repository, without a notary server.
type signer struct {
	gun                                string
	root, timestamp, snapshot, targets *key
	version                            int
	signed                             map[string]any
	rootMeta                           map[string]any              // of the root, which is made once
	change                             func(targets []byte) []byte // after it is signed, and before the others vouch for it; nil: it is right
}

type key struct {
	id      string
	listed  map[string]any
	private *ecdsa.PrivateKey
}

func newSigner(t *testing.T, gun string) *signer {
	t.Helper()
	s := &signer{gun: gun, signed: map[string]any{}}
	for _, k := range []**key{&s.root, &s.timestamp, &s.snapshot, &s.targets} {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		check(t, err)
		if k == &s.root {
			*k = newKey("ecdsa-x509", certificate(t, gun, private), private)
			continue
		}
		public, err := x509.MarshalPKIXPublicKey(private.Public())
		check(t, err)
		*k = newKey("ecdsa", public, private)
	}
	return s
}

func certificate(t *testing.T, gun string, private *ecdsa.PrivateKey) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: gun},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	check(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func newKey(kind string, public []byte, private *ecdsa.PrivateKey) *key {
	k := &key{private: private, listed: map[string]any{
		"keytype": kind, "keyval": map[string]any{"private": nil, "public": public},
	}}
	sum := sha256.Sum256(canonical(k.listed))
	k.id = hex.EncodeToString(sum[:])
	return k
}

func (s *signer) pins() lab.Pins {
	return lab.Pins{Root: []string{s.root.id}, Repository: []string{s.targets.id}}
}

// sign signs a tag; publish makes it known.
func (s *signer) sign(tag string, top lab.Blob) {
	sum := sha256.Sum256(top.Content)
	s.signed[tag] = map[string]any{"length": len(top.Content), "hashes": map[string]any{"sha256": sum[:]}}
}

// publish makes the files of all roles that are new, by the paths at which a trust
// service has them.
func (s *signer) publish(t *testing.T) map[string][]byte {
	t.Helper()
	s.version++
	files := map[string][]byte{}
	put := func(name string, k *key, signed map[string]any) map[string]any {
		signed["version"], signed["expires"] = s.version, time.Now().AddDate(1, 0, 0).UTC().Format(time.RFC3339)
		raw := k.seal(t, canonical(signed))
		if name == "targets" && s.change != nil {
			raw = s.change(raw)
		}
		sum := sha256.Sum256(raw)
		for _, name := range []string{name, name + "." + hex.EncodeToString(sum[:])} {
			files["/v2/"+s.gun+"/_trust/tuf/"+name+".json"] = raw
		}
		return map[string]any{"length": len(raw), "hashes": map[string]any{"sha256": sum[:]}}
	}
	if s.rootMeta == nil {
		keys, roles := map[string]any{}, map[string]any{}
		for role, k := range map[string]*key{"root": s.root, "timestamp": s.timestamp, "snapshot": s.snapshot, "targets": s.targets} {
			keys[k.id], roles[role] = k.listed, map[string]any{"keyids": []string{k.id}, "threshold": 1}
		}
		s.rootMeta = put("root", s.root, map[string]any{"_type": "Root", "keys": keys, "roles": roles, "consistent_snapshot": false})
	}
	targets := put("targets", s.targets, map[string]any{
		"_type": "Targets", "targets": s.signed, "delegations": map[string]any{"keys": map[string]any{}, "roles": []any{}},
	})
	snapshot := put("snapshot", s.snapshot, map[string]any{"_type": "Snapshot", "meta": map[string]any{"root": s.rootMeta, "targets": targets}})
	put("timestamp", s.timestamp, map[string]any{"_type": "Timestamp", "meta": map[string]any{"snapshot": snapshot}})
	return files
}

func (k *key) seal(t *testing.T, signed []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(signed)
	r, s, err := ecdsa.Sign(rand.Reader, k.private, sum[:])
	check(t, err)
	sig := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return fmt.Appendf(nil, `{"signed":%s,"signatures":[{"keyid":"%s","method":"ecdsa","sig":"%s"}]}`,
		signed, k.id, base64.StdEncoding.EncodeToString(sig))
}

// canonical is canonical JSON for the plain text that is used here.
func canonical(v any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSpace(b.Bytes())
}
