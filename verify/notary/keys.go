package notary

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
)

// Key types (T2). The public part of an x509 key is PEM: a certificate, which
// others may follow that lead to a CA; of ecdsa and rsa keys it is PKIX DER, of
// ed25519 keys the 32 bytes.
const (
	TypeECDSA     = "ecdsa"
	TypeECDSAx509 = "ecdsa-x509"
	TypeRSA       = "rsa"
	TypeRSAx509   = "rsa-x509"
	TypeED25519   = "ed25519"
)

// Signature methods (T2), all over SHA-256 but eddsa.
const (
	MethodECDSA       = "ecdsa"       // r and s, each as long as the curve's order
	MethodRSAPSS      = "rsapss"      // with a salt of 32 bytes
	MethodRSAPKCS1v15 = "rsapkcs1v15" // PKCS #1 v1.5
	MethodEdDSA       = "eddsa"       // Ed25519
)

// Bounds on RSA keys. The upper one bounds the time that a signature takes.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// maxCertificates bounds how many certificates an x509 key may hold.
const maxCertificates = 8

// Key is a public key as Notary's metadata lists it.
type Key struct {
	id           string
	keyType      string
	public       crypto.PublicKey
	pkix         []byte              // the public key alone: what makes keys distinct
	certificates []*x509.Certificate // of an x509 key, the one that holds the key first
}

// ID is the key's ID in the metadata, 64 hexadecimal digits. For an x509 key it
// is over the certificate.
func (k *Key) ID() string { return k.id }

// Type is the key's type: "ecdsa", "rsa-x509".
func (k *Key) Type() string { return k.keyType }

// PublicKeyID is the ID of the public key alone, without its certificate:
// `docker trust inspect` prints it for the keys of signers.
func (k *Key) PublicKeyID() string {
	switch k.keyType {
	case TypeECDSAx509:
		return keyID(TypeECDSA, k.pkix)
	case TypeRSAx509:
		return keyID(TypeRSA, k.pkix)
	}
	return k.id
}

func keyID(keyType string, public []byte) string {
	sum := sha256.Sum256(canonicalKey(keyType, public))
	return hex.EncodeToString(sum[:])
}

// ParseKeyPEM reads a public key, or a certificate, from a PEM file that holds
// one, such as publishers hand out and `docker trust key generate` writes.
func ParseKeyPEM(raw []byte) (*Key, error) {
	block, rest := pem.Decode(raw)
	switch {
	case block == nil:
		return nil, errors.New("no PEM block; a public key begins with -----BEGIN PUBLIC KEY-----")
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("more than one PEM block; leave the one with the public key")
	}
	switch block.Type {
	case "CERTIFICATE":
		block.Headers = nil
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("unreadable certificate: %w", err)
		}
		keyType := TypeECDSAx509
		if cert.PublicKeyAlgorithm == x509.RSA {
			keyType = TypeRSAx509
		}
		return newKey(keyType, pem.EncodeToMemory(block))
	case "PUBLIC KEY":
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("unreadable public key: %w", err)
		}
		switch public := public.(type) {
		case *ecdsa.PublicKey:
			return newKey(TypeECDSA, block.Bytes)
		case *rsa.PublicKey:
			return newKey(TypeRSA, block.Bytes)
		case ed25519.PublicKey:
			return newKey(TypeED25519, public)
		}
		return nil, fmt.Errorf("a %T is not one of ECDSA, RSA and Ed25519", public)
	}
	return nil, fmt.Errorf("a PEM block %q is neither PUBLIC KEY nor CERTIFICATE", block.Type)
}

// newKey reads the public part of a key, and checks that it is of its type.
func newKey(keyType string, public []byte) (*Key, error) {
	k := &Key{id: keyID(keyType, public), keyType: keyType}
	var err error
	switch keyType {
	case TypeECDSA, TypeRSA:
		k.public, err = x509.ParsePKIXPublicKey(public)
	case TypeECDSAx509, TypeRSAx509:
		k.certificates, err = parseCertificates(public)
		if err == nil {
			k.public = k.certificates[0].PublicKey
		}
	case TypeED25519:
		if len(public) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("an ed25519 key has %d bytes, not %d", ed25519.PublicKeySize, len(public))
		}
		k.public = ed25519.PublicKey(bytes.Clone(public))
	default:
		return nil, fmt.Errorf("key type %.32q is not supported", keyType)
	}
	if err != nil {
		return nil, err
	}
	if err := k.checkStrength(); err != nil {
		return nil, err
	}
	k.pkix, err = x509.MarshalPKIXPublicKey(k.public)
	return k, err
}

// checkStrength checks that the public key is what the type says, on a curve or
// of a size that is still safe.
func (k *Key) checkStrength() error {
	switch public := k.public.(type) {
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
		default:
			return fmt.Errorf("curve %s is not supported", public.Params().Name)
		}
		if k.keyType == TypeECDSA || k.keyType == TypeECDSAx509 {
			return nil
		}
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return fmt.Errorf("an RSA key of %d bits; %d to %d are accepted", bits, minRSABits, maxRSABits)
		}
		if k.keyType == TypeRSA || k.keyType == TypeRSAx509 {
			return nil
		}
	case ed25519.PublicKey:
		if k.keyType == TypeED25519 {
			return nil
		}
	}
	return fmt.Errorf("a %T is no %s key", k.public, k.keyType)
}

func parseCertificates(raw []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := raw; len(bytes.TrimSpace(rest)) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("an x509 key holds something that isn't a certificate")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("unreadable certificate: %w", err)
		}
		if certs = append(certs, cert); len(certs) > maxCertificates {
			return nil, fmt.Errorf("more than %d certificates in one key", maxCertificates)
		}
	}
	if len(certs) == 0 {
		return nil, errors.New("an x509 key without a certificate")
	}
	return certs, nil
}

// verify checks a signature over a message. Method and key type must fit (T2).
func (k *Key) verify(method string, message, sig []byte) error {
	sum := sha256.Sum256(message)
	switch public := k.public.(type) {
	case *ecdsa.PublicKey:
		if method == MethodECDSA {
			return verifyECDSA(public, sum[:], sig)
		}
	case *rsa.PublicKey:
		switch method {
		case MethodRSAPSS:
			return rsa.VerifyPSS(public, crypto.SHA256, sum[:], sig, &rsa.PSSOptions{SaltLength: sha256.Size})
		case MethodRSAPKCS1v15:
			return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], sig)
		}
	case ed25519.PublicKey:
		if method == MethodEdDSA {
			if !ed25519.Verify(public, message, sig) {
				return errors.New("wrong signature")
			}
			return nil
		}
	}
	return fmt.Errorf("method %.32q does not fit a key of type %s", method, k.keyType)
}

func verifyECDSA(public *ecdsa.PublicKey, sum, sig []byte) error {
	size := (public.Params().BitSize + 7) / 8
	if len(sig) != 2*size {
		return fmt.Errorf("the signature has %d bytes, not %d", len(sig), 2*size)
	}
	r, s := new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])
	if !ecdsa.Verify(public, sum, r, s) {
		return errors.New("wrong signature")
	}
	return nil
}
