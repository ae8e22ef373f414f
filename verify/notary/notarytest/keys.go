// Package notarytest makes Notary v1 metadata for tests: whole repositories,
// signed with keys of every type, that can be rotated, delegated, expired,
// rolled back and falsified; and services and stores that misbehave as told.
//
// It encodes, hashes and signs by itself, so that it is a second opinion on what
// package notary reads.
package notarytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"
)

// Key is a key pair as metadata list it.
type Key struct {
	ID      string // SHA-256 of the listed key's canonical JSON
	KeyType string // "ecdsa", "ecdsa-x509", "rsa", "rsa-x509" or "ed25519"
	Method  string // how it signs: "ecdsa", "rsapss", "rsapkcs1v15" or "eddsa"
	Public  []byte // as listed: PKIX DER, PEM of a certificate, or 32 bytes

	signer crypto.Signer
	says   string // the method that Seal writes down instead of Method; empty: Method
}

// rsaKey is made once in a test process; that takes long.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// NewKey makes a key: "ecdsa" (P-256), "ecdsa-384", "ecdsa-521", "ed25519" or
// "rsa", which is the same one each time. Certified makes x509 keys of them.
func NewKey(tb testing.TB, kind string) *Key {
	tb.Helper()
	switch kind {
	case "ecdsa":
		return newECDSA(tb, elliptic.P256())
	case "ecdsa-384":
		return newECDSA(tb, elliptic.P384())
	case "ecdsa-521":
		return newECDSA(tb, elliptic.P521())
	case "ed25519":
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			tb.Fatal(err)
		}
		return list(&Key{KeyType: "ed25519", Method: "eddsa", Public: public, signer: private})
	case "rsa":
		private, err := rsaKey()
		if err != nil {
			tb.Fatal(err)
		}
		return FromSigner(tb, private)
	}
	tb.Fatalf("no kind of key is called %q", kind)
	return nil
}

func newECDSA(tb testing.TB, curve elliptic.Curve) *Key {
	tb.Helper()
	private, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return FromSigner(tb, private)
}

// FromSigner lists an ECDSA or RSA key that was made elsewhere.
func FromSigner(tb testing.TB, signer crypto.Signer) *Key {
	tb.Helper()
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		tb.Fatal(err)
	}
	k := &Key{KeyType: "ecdsa", Method: "ecdsa", Public: public, signer: signer}
	if _, ok := signer.(*rsa.PrivateKey); ok {
		k.KeyType, k.Method = "rsa", "rsapss"
	}
	return list(k)
}

// Certificate says what the certificate of an x509 key is like.
type Certificate struct {
	CommonName          string
	NotBefore, NotAfter time.Time
	CA                  bool
	Algorithm           x509.SignatureAlgorithm // zero: what suits the key, with SHA-256
}

// Certified lists the same ECDSA or RSA key pair as a self-signed certificate.
func (k *Key) Certified(tb testing.TB, c Certificate) *Key {
	tb.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: c.CommonName},
		NotBefore: c.NotBefore, NotAfter: c.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		BasicConstraintsValid: true, IsCA: c.CA, SignatureAlgorithm: c.Algorithm,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.signer.Public(), k.signer)
	if err != nil {
		tb.Fatal(err)
	}
	certified := *k
	certified.KeyType += "-x509"
	certified.Public = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return list(&certified)
}

// With returns a key with the same pair that is changed by edit, and whose ID is
// computed again: another type, other public bytes, another method.
func (k *Key) With(edit func(*Key)) *Key {
	changed := *k
	edit(&changed)
	return list(&changed)
}

// Listed is the key as metadata list it.
func (k *Key) Listed() map[string]any {
	return map[string]any{
		"keytype": k.KeyType,
		"keyval":  map[string]any{"private": nil, "public": base64.StdEncoding.EncodeToString(k.Public)},
	}
}

// PEM is the public key, or the certificate, as a file.
func (k *Key) PEM() []byte {
	if k.KeyType == "ecdsa-x509" || k.KeyType == "rsa-x509" {
		return k.Public
	}
	der := k.Public
	if k.KeyType == "ed25519" {
		der, _ = x509.MarshalPKIXPublicKey(ed25519.PublicKey(k.Public)) // never fails for such a key
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func list(k *Key) *Key {
	sum := sha256.Sum256(canonical(k.Listed()))
	k.ID = hex.EncodeToString(sum[:])
	return k
}

// Sign signs a message by the key's method.
func (k *Key) Sign(message []byte) ([]byte, error) {
	sum := sha256.Sum256(message)
	switch k.Method {
	case "ecdsa":
		private, ok := k.signer.(*ecdsa.PrivateKey)
		if !ok {
			break
		}
		r, s, err := ecdsa.Sign(rand.Reader, private, sum[:])
		if err != nil {
			return nil, err
		}
		size := (private.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...), nil
	case "rsapss":
		return k.signer.Sign(rand.Reader, sum[:], &rsa.PSSOptions{SaltLength: sha256.Size, Hash: crypto.SHA256})
	case "rsapkcs1v15":
		return k.signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	case "eddsa":
		return k.signer.Sign(rand.Reader, message, crypto.Hash(0))
	}
	return nil, fmt.Errorf("a %s key can't sign by method %q", k.KeyType, k.Method)
}
