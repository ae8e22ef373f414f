package notary_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
)

// replace changes a file after it was signed, in a way that has to be there.
func replace(tb testing.TB, from, to string) func([]byte) []byte {
	return func(raw []byte) []byte {
		if !bytes.Contains(raw, []byte(from)) {
			tb.Errorf("%q is not in %.200s", from, raw)
		}
		return bytes.Replace(raw, []byte(from), []byte(to), 1)
	}
}

func TestEveryKeyTypeAndMethod(t *testing.T) {
	rsa := notarytest.NewKey(t, "rsa")
	pkcs := rsa.With(func(k *notarytest.Key) { k.Method = "rsapkcs1v15" })
	leaf := notarytest.Certificate{CommonName: gun, NotBefore: notarytest.Epoch, NotAfter: notarytest.Epoch.AddDate(1, 0, 0)}
	ca := leaf
	ca.CA = true
	keys := map[string]*notarytest.Key{
		"ecdsa P-256":             notarytest.NewKey(t, "ecdsa"),
		"ecdsa P-384":             notarytest.NewKey(t, "ecdsa-384"),
		"ecdsa P-521":             notarytest.NewKey(t, "ecdsa-521"),
		"ecdsa-x509":              notarytest.NewKey(t, "ecdsa").Certified(t, leaf),
		"ecdsa-x509, a CA's":      notarytest.NewKey(t, "ecdsa").Certified(t, ca),
		"rsa, rsapss":             rsa,
		"rsa, rsapkcs1v15":        pkcs,
		"rsa-x509, rsapss":        rsa.Certified(t, leaf),
		"rsa-x509, rsapkcs1v15":   pkcs.Certified(t, leaf),
		"ed25519":                 notarytest.NewKey(t, "ed25519"),
		"certificate out of date": notarytest.NewKey(t, "ecdsa").Certified(t, notarytest.Certificate{CommonName: "alice"}),
	}
	for name, key := range keys {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(r *notarytest.Repository) {
				r.Delegate("alice", key).Sign("0.2", digestB, 1)
				r.Targets.Keys, r.Snapshot.Keys, r.Timestamp.Keys = []*notarytest.Key{key}, []*notarytest.Key{key}, []*notarytest.Key{key}
			})
			wantTarget(t, w.source(), "0.2", digestB, "alice")
		})
	}
	for _, key := range []*notarytest.Key{rsa.Certified(t, leaf), pkcs.Certified(t, leaf)} {
		w := newWorld(t, func(r *notarytest.Repository) { r.Root.Keys = []*notarytest.Key{key} })
		wantTarget(t, w.source(), "0.1.19", digestA)
	}
}

func TestParseKeyPEM(t *testing.T) {
	rsa := notarytest.NewKey(t, "rsa")
	cert := notarytest.Certificate{CommonName: "alice", NotBefore: notarytest.Epoch, NotAfter: notarytest.Epoch.AddDate(1, 0, 0)}
	for _, key := range []*notarytest.Key{
		notarytest.NewKey(t, "ecdsa"), notarytest.NewKey(t, "ecdsa-384"), notarytest.NewKey(t, "ed25519"), rsa,
	} {
		got, err := notary.ParseKeyPEM(key.PEM())
		if err != nil || got.ID() != key.ID || got.PublicKeyID() != key.ID || got.Type() != key.KeyType {
			t.Errorf("%s: got %v, %v", key.KeyType, got, err)
		}
		if key.KeyType == "ed25519" {
			continue
		}
		certified := key.Certified(t, cert)
		got, err = notary.ParseKeyPEM(certified.PEM())
		if err != nil || got.ID() != certified.ID || got.PublicKeyID() != key.ID || got.Type() != certified.KeyType {
			t.Errorf("%s: got %v, %v", certified.KeyType, got, err)
		}
	}
	good := notarytest.NewKey(t, "ecdsa").PEM()
	for name, raw := range map[string][]byte{
		"nothing":     nil,
		"no PEM":      []byte("dd0768b9"),
		"two keys":    append(bytes.Clone(good), good...),
		"private key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}),
		"no key":      pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}),
		"no cert":     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}),
	} {
		if key, err := notary.ParseKeyPEM(raw); err == nil {
			t.Errorf("%s: accepted as %s", name, key.ID())
		}
	}
}

func TestAttack1_TargetsChangedAfterSigning(t *testing.T) {
	for name, change := range map[string]struct{ from, to string }{
		"a hash":           {base64Digest(digestA), base64Digest(digestB)},
		"a size":           {`"length":772`, `"length":773`},
		"a tag added":      {`"targets":{`, `"targets":{"evil":{"hashes":{"sha256":"` + base64Digest(digestB) + `"},"length":1},`},
		"a tag renamed":    {`"0.1.19"`, `"0.1.20"`},
		"the expiry":       {`"expires":"20`, `"expires":"21`},
		"the version":      {`"version":1`, `"version":2`},
		"a delegation's":   {`"roles":[]`, `"roles":[{"keyids":[],"name":"targets/x","paths":[""],"threshold":1}]`},
		"a byte of a name": {`0.1.19`, `0.1.1\u003a`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(r *notarytest.Repository) { r.Targets.EditFile = replace(t, change.from, change.to) })
			w.wantRefused(verify.SignatureInvalid, "targets", "0 of its keys")
		})
	}
}

func TestAttack1_SignedByOthers(t *testing.T) {
	other := notarytest.NewKey(t, "ecdsa")
	roles := map[string]func(*notarytest.Repository) *notarytest.Role{
		"root":          func(r *notarytest.Repository) *notarytest.Role { return &r.Root },
		"timestamp":     func(r *notarytest.Repository) *notarytest.Role { return &r.Timestamp },
		"snapshot":      func(r *notarytest.Repository) *notarytest.Role { return &r.Snapshot },
		"targets":       func(r *notarytest.Repository) *notarytest.Role { return &r.Targets },
		"targets/alice": func(r *notarytest.Repository) *notarytest.Role { return &r.Delegations[0].Role },
	}
	for name, role := range roles {
		for how, signer := range map[string]func(*notarytest.Role) *notarytest.Key{
			"by a key that isn't listed": func(*notarytest.Role) *notarytest.Key { return other },
			"by another under its name": func(r *notarytest.Role) *notarytest.Key {
				forged := *other
				forged.ID = r.Keys[0].ID
				return &forged
			},
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				w := newWorld(t, func(r *notarytest.Repository) {
					r.Delegate("alice").Sign("0.2", digestB, 1)
					role(r).Signers = []*notarytest.Key{signer(role(r))}
				})
				w.wantRefused(verify.SignatureInvalid, name)
			})
		}
		t.Run(name+" not at all", func(t *testing.T) {
			w := newWorld(t, func(r *notarytest.Repository) {
				r.Delegate("alice").Sign("0.2", digestB, 1)
				role(r).Signers = []*notarytest.Key{}
			})
			w.wantRefused(verify.SignatureInvalid, name)
		})
		t.Run(name+" by a role below", func(t *testing.T) {
			w := newWorld(t, func(r *notarytest.Repository) {
				r.Delegate("alice").Sign("0.2", digestB, 1)
				keys := r.Timestamp.Keys
				if name == "timestamp" {
					keys = r.Snapshot.Keys
				}
				role(r).Signers = keys
			})
			w.wantRefused(verify.SignatureInvalid, name)
		})
	}
}

func TestAttack7_KeyAndMethodDontFit(t *testing.T) {
	ecdsa, rsa, ed := notarytest.NewKey(t, "ecdsa"), notarytest.NewKey(t, "rsa"), notarytest.NewKey(t, "ed25519")
	for _, key := range []*notarytest.Key{ecdsa, rsa, ed} {
		for _, claim := range []string{"ecdsa", "rsapss", "rsapkcs1v15", "eddsa", "ECDSA", "none", ""} {
			if claim == key.Method {
				continue
			}
			w := newWorld(t, func(r *notarytest.Repository) {
				r.Targets.Keys = []*notarytest.Key{key}
				r.Targets.EditFile = replace(t, `"method":"`+key.Method+`"`, `"method":"`+claim+`"`)
			})
			w.wantRefused(verify.SignatureInvalid, "targets")
		}
	}
}

func TestAttack7_KeysThatArentWhatTheySay(t *testing.T) {
	ecdsa, rsa := notarytest.NewKey(t, "ecdsa"), notarytest.NewKey(t, "rsa")
	for name, key := range map[string]*notarytest.Key{
		"ecdsa listed as rsa":      ecdsa.With(func(k *notarytest.Key) { k.KeyType = "rsa" }),
		"rsa listed as ecdsa":      rsa.With(func(k *notarytest.Key) { k.KeyType = "ecdsa" }),
		"ecdsa listed as ed25519":  ecdsa.With(func(k *notarytest.Key) { k.KeyType = "ed25519" }),
		"ecdsa listed as x509":     ecdsa.With(func(k *notarytest.Key) { k.KeyType = "ecdsa-x509" }),
		"x509 listed as the other": notarytest.RootKey(t, gun).With(func(k *notarytest.Key) { k.KeyType = "rsa-x509" }),
		"unknown type":             ecdsa.With(func(k *notarytest.Key) { k.KeyType = "dsa" }),
		"type in upper case":       ecdsa.With(func(k *notarytest.Key) { k.KeyType = "ECDSA" }),
		"no bytes":                 ecdsa.With(func(k *notarytest.Key) { k.Public = nil }),
		"bytes after the key":      ecdsa.With(func(k *notarytest.Key) { k.Public = append(bytes.Clone(k.Public), 0) }),
		"RSA of 1024 bits":         weakRSA(t),
		"RSA of 8193 bits":         slowRSA(t),
		"curve P-224":              weakCurve(t),
		"certificate and garbage":  notarytest.RootKey(t, gun).With(func(k *notarytest.Key) { k.Public = append(bytes.Clone(k.Public), "garbage"...) }),
		"nine certificates":        notarytest.RootKey(t, gun).With(func(k *notarytest.Key) { k.Public = bytes.Repeat(k.Public, 9) }),
		"no certificate":           notarytest.RootKey(t, gun).With(func(k *notarytest.Key) { k.Public = nil }),
		"certificate by another name": notarytest.RootKey(t, gun).With(func(k *notarytest.Key) {
			k.Public = bytes.ReplaceAll(k.Public, []byte("CERTIFICATE"), []byte("PUBLIC KEY"))
		}),
		"ed25519 listed as ecdsa": notarytest.NewKey(t, "ed25519").With(func(k *notarytest.Key) {
			der, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(k.Public))
			if err != nil {
				t.Fatal(err)
			}
			k.KeyType, k.Public = "ecdsa", der
		}),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(r *notarytest.Repository) {
				r.Timestamp.Keys = append(r.Timestamp.Keys, key)
				r.Timestamp.Signers = r.Timestamp.Keys[:1]
			})
			w.wantRefused(verify.SignatureInvalid, "root lists key")
		})
	}
}

// shortSalt signs with a salt of 20 bytes, whatever it is asked for.
type shortSalt struct{ crypto.Signer }

func (s shortSalt) Sign(random io.Reader, sum []byte, _ crypto.SignerOpts) ([]byte, error) {
	return s.Signer.Sign(random, sum, &rsa.PSSOptions{SaltLength: 20, Hash: crypto.SHA256})
}

// TestSaltOfRSAPSS: the reference client signs with 32 bytes of salt, and accepts
// no other length.
// Whatever the key and the method, a signature over something else is none.
func TestAttack118_SignatureOverSomethingElse(t *testing.T) {
	rsa := notarytest.NewKey(t, "rsa")
	for name, key := range map[string]*notarytest.Key{
		"ecdsa P-256": notarytest.NewKey(t, "ecdsa"),
		"ecdsa P-384": notarytest.NewKey(t, "ecdsa-384"),
		"ecdsa P-521": notarytest.NewKey(t, "ecdsa-521"),
		"rsapss":      rsa,
		"rsapkcs1v15": rsa.With(func(k *notarytest.Key) { k.Method = "rsapkcs1v15" }),
		"eddsa":       notarytest.NewKey(t, "ed25519"),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(r *notarytest.Repository) {
				r.Targets.Keys = []*notarytest.Key{key}
				r.Targets.EditFile = replace(t, base64Digest(digestA), base64Digest(digestB))
			})
			w.wantRefused(verify.SignatureInvalid, "targets", key.ID)
		})
	}
}

// A key is listed with a private part, over which its ID isn't.
func TestAttack119_KeyWithAPrivatePart(t *testing.T) {
	w := newWorld(t, func(r *notarytest.Repository) {
		r.Root.Edit = func(signed map[string]any) {
			key := signed["keys"].(map[string]any)[r.Timestamp.Keys[0].ID].(map[string]any)
			key["keyval"].(map[string]any)["private"] = "AAAA"
		}
	})
	w.wantRefused(verify.SignatureInvalid, "private part")
}

func TestSaltOfRSAPSS(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(r *notarytest.Repository) {
		key := notarytest.FromSigner(t, shortSalt{private})
		r.Targets.Keys = []*notarytest.Key{key.With(func(k *notarytest.Key) { k.KeyType, k.Method = "rsa", "rsapss" })}
	})
	w.wantRefused(verify.SignatureInvalid, "targets is validly signed by 0")
}

func TestAttack7_IDThatIsntTheKeys(t *testing.T) {
	id := strings.Repeat("ab", 32)
	t.Run("in root", func(t *testing.T) {
		w := newWorld(t, func(r *notarytest.Repository) {
			renamed := *r.Timestamp.Keys[0]
			renamed.ID = id
			r.Timestamp.Keys = []*notarytest.Key{&renamed}
		})
		w.wantRefused(verify.SignatureInvalid, id, "its ID is")
	})
	t.Run("in targets", func(t *testing.T) {
		key := *notarytest.NewKey(t, "ecdsa")
		key.ID = id
		w := newWorld(t, func(r *notarytest.Repository) { r.Delegate("alice", &key) })
		w.wantRefused(verify.SignatureInvalid, id, "its ID is")
	})
	t.Run("a role names a key that isn't there", func(t *testing.T) {
		w := newWorld(t, func(r *notarytest.Repository) {
			r.Root.Edit = func(signed map[string]any) {
				delete(signed["keys"].(map[string]any), r.Snapshot.Keys[0].ID)
			}
		})
		w.wantRefused(verify.Malformed, "snapshot")
	})
}

func TestAttack7And10_AKeyCountsOnce(t *testing.T) {
	one := notarytest.NewKey(t, "ecdsa")
	certificate := func() *notarytest.Key {
		return one.Certified(t, notarytest.Certificate{CommonName: gun, NotBefore: notarytest.Epoch, NotAfter: notarytest.Epoch.AddDate(1, 0, 0)})
	}
	a, b := certificate(), certificate()
	for name, keys := range map[string][]*notarytest.Key{
		"one key":                      {one},
		"one key listed twice":         {one, one},
		"a key and its certificate":    {one, a},
		"two certificates of one key":  {a, b},
		"two, of which one has signed": {one, notarytest.NewKey(t, "ecdsa")},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(r *notarytest.Repository) {
				r.Targets.Keys, r.Targets.Threshold = keys, 2
				if strings.HasPrefix(name, "two, ") {
					r.Targets.Signers = []*notarytest.Key{one, one}
				}
			})
			w.wantRefused(verify.SignatureInvalid, "targets", "validly signed by 1 of its keys, and needs 2")
		})
	}
	w := newWorld(t, func(r *notarytest.Repository) {
		r.Targets.Keys, r.Targets.Threshold = []*notarytest.Key{one, notarytest.NewKey(t, "ed25519"), one}, 2
	})
	wantTarget(t, w.source(), "0.1.19", digestA)
}

func TestAttack10_Thresholds(t *testing.T) {
	for _, threshold := range []int{0, -1, 2, 1 << 40} {
		for _, role := range []string{"root", "timestamp", "snapshot", "targets", "targets/alice"} {
			t.Run(fmt.Sprintf("%s %d", role, threshold), func(t *testing.T) {
				w := newWorld(t, func(r *notarytest.Repository) {
					d := r.Delegate("alice")
					d.Sign("0.2", digestB, 1)
					for _, changed := range []*notarytest.Role{&r.Root, &r.Timestamp, &r.Snapshot, &r.Targets, &d.Role} {
						if changed.Name == role {
							changed.Threshold = threshold
						}
					}
				})
				w.wantRefused(verify.SignatureInvalid, role)
			})
		}
	}
}

func TestSignatureLengths(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"one byte less":   func(sig []byte) []byte { return sig[:len(sig)-1] },
		"one byte more":   func(sig []byte) []byte { return append(sig, 0) },
		"leading zeros":   func(sig []byte) []byte { return append(append(append([]byte{0}, sig[:32]...), 0), sig[32:]...) },
		"a zero between":  func(sig []byte) []byte { return append(append(bytes.Clone(sig[:32]), 0), sig[32:]...) },
		"nothing":         func([]byte) []byte { return nil },
		"all zeros":       func(sig []byte) []byte { return make([]byte, len(sig)) },
		"r and s swapped": func(sig []byte) []byte { return append(bytes.Clone(sig[32:]), sig[:32]...) },
	} {
		w := newWorld(t, func(r *notarytest.Repository) {
			r.Targets.EditFile = func(raw []byte) []byte {
				head, tail, _ := bytes.Cut(raw, []byte(`"sig":"`))
				text, tail, _ := bytes.Cut(tail, []byte(`"`))
				sig, err := base64.StdEncoding.DecodeString(string(text))
				if err != nil {
					t.Fatal(err)
				}
				return fmt.Appendf(nil, `%s"sig":"%s"%s`, head, base64.StdEncoding.EncodeToString(change(sig)), tail)
			}
		})
		t.Log(name)
		w.wantRefused(verify.SignatureInvalid, "targets")
	}
}
