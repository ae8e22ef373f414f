package notary

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/internal/strictjson"
)

// Bounds on what is read. Real metadata stay far below: the reference client
// allows 1 MiB for a timestamp and 100 MiB for anything else, which is more than
// a small mirror should hold.
const (
	maxRootSize      = 1 << 20
	maxTimestampSize = 64 << 10
	maxSnapshotSize  = 1 << 20
	maxTargetsSize   = 16 << 20
	maxTotalSize     = 64 << 20 // of targets and all delegations together
	maxUnsigned      = 1 << 20  // of one file: signatures, white space, ways to write a character

	maxSignatures  = 256    // on one file
	maxKeys        = 1024   // listed in one file
	maxDelegations = 256    // listed in one file
	maxTargets     = 20_000 // listed in one file; each takes a few KiB of memory for a moment
	maxMeta        = 1024   // files that a snapshot lists

	maxValues = 160_000 // JSON values in one file: more than maxTargets targets take
)

// document is one file of metadata whose signatures were verified. What is read
// from it is decoded from signed, the very bytes that the signatures are over.
type document struct {
	role    string
	raw     []byte
	sum     string // SHA-256 of raw, hexadecimal
	signed  []byte // canonical JSON of the value of "signed"
	version int64
	expires time.Time

	signatures []signature // as they are in the file
	signers    []*Key      // who validly signed, distinct
}

// envelope is a file of metadata that was parsed, but not verified.
type envelope struct {
	role       string
	raw        []byte
	signed     []byte
	signatures []signature
}

type signature struct {
	KeyID     string `json:"keyid"`
	Method    string `json:"method"`
	Signature []byte `json:"sig"`
}

// header is what every file's signed part begins with.
type header struct {
	Type    string    `json:"_type"`
	Version int64     `json:"version"`
	Expires time.Time `json:"expires"`
}

func (h *header) head() *header { return h }

// fileMeta describes a file, or a target, by length and hashes.
type fileMeta struct {
	Length int64             `json:"length"`
	Hashes map[string][]byte `json:"hashes"`
}

// tagNames are data, and may differ in case only: the names below
// signed.targets. Every other name in metadata is a word of the format or an ID.
const (
	memberSigned  = "signed"
	memberTargets = "targets"
)

// parseEnvelope reads a file of at most limit bytes. Errors are Refusals with
// Malformed.
func parseEnvelope(role string, raw []byte, limit int64) (*envelope, error) {
	var wire struct {
		Signed     json.RawMessage `json:"signed"`
		Signatures []signature     `json:"signatures"`
	}
	err := strictjson.Unmarshal(raw, &wire, strictjson.MaxBytes(int(limit)), strictjson.MaxValues(maxValues),
		strictjson.ExactNames(memberSigned, memberTargets))
	if err != nil {
		return nil, verify.Refuse(verify.Malformed, "%s is not strict JSON: %w", role, err)
	}
	if len(wire.Signed) == 0 || wire.Signed[0] != '{' {
		return nil, verify.Refuse(verify.Malformed, "%s has no signed part", role)
	}
	if len(wire.Signatures) > maxSignatures {
		return nil, verify.Refuse(verify.Malformed, "%s has %d signatures; at most %d are read", role, len(wire.Signatures), maxSignatures)
	}
	signed, err := canonical(wire.Signed)
	if err != nil {
		return nil, verify.Refuse(verify.Malformed, "%s has no canonical form: %w", role, err)
	}
	if len(raw)-len(signed) > maxUnsigned {
		return nil, verify.Refuse(verify.Malformed, "%s has %d bytes, of which %d are signed; at most %d others are read", role, len(raw), len(signed), maxUnsigned)
	}
	return &envelope{role: role, raw: raw, signed: signed, signatures: wire.Signatures}, nil
}

// decode reads the signed part into v.
func (e *envelope) decode(v any) error {
	if err := strictjson.Unmarshal(e.signed, v, strictjson.ExactNames(memberTargets)); err != nil {
		return verify.Refuse(verify.Malformed, "the signed part of %s: %w", e.role, err)
	}
	return nil
}

// open verifies the signatures, and only then reads the signed part into v.
func (e *envelope) open(by *authority, wantType string, v interface{ head() *header }) (*document, error) {
	signers, err := by.verify(e.signed, e.signatures)
	if err != nil {
		return nil, err
	}
	if err := e.decode(v); err != nil {
		return nil, err
	}
	h := v.head()
	switch {
	case h.Type != wantType:
		return nil, verify.Refuse(verify.Malformed, "%s has type %.32q, not %q", e.role, h.Type, wantType)
	case h.Version < 1:
		return nil, verify.Refuse(verify.Malformed, "%s has version %d; versions begin with 1", e.role, h.Version)
	case h.Expires.IsZero():
		return nil, verify.Refuse(verify.Malformed, "%s doesn't say when it expires", e.role)
	}
	return &document{
		role: e.role, raw: e.raw, sum: sha256Hex(e.raw), signed: e.signed,
		version: h.Version, expires: h.Expires,
		signatures: e.signatures, signers: signers,
	}, nil
}

// check checks that raw is the file that m describes (T4).
func (m *fileMeta) check(role string, raw []byte) error {
	if int64(len(raw)) != m.Length {
		return verify.Refuse(verify.SizeMismatch, "%s has %d bytes, but what vouches for it says %d", role, len(raw), m.Length)
	}
	if sum := sha256.Sum256(raw); string(sum[:]) != string(m.Hashes["sha256"]) {
		return verify.Refuse(verify.DigestMismatch, "%s is not the file that is vouched for: its SHA-256 is %x, not %x", role, sum, m.Hashes["sha256"])
	}
	if want, ok := m.Hashes["sha512"]; ok {
		if sum := sha512.Sum512(raw); string(sum[:]) != string(want) {
			return verify.Refuse(verify.DigestMismatch, "%s is not the file that is vouched for: its SHA-512 is %x, not %x", role, sum, want)
		}
	}
	return nil
}

// valid checks that m can describe a file: a length, and a SHA-256.
func (m *fileMeta) valid(name string, limit int64) error {
	switch {
	case len(m.Hashes["sha256"]) != sha256.Size:
		return verify.Refuse(verify.Malformed, "%.128q is listed without a SHA-256", name)
	case m.Length < 0 || m.Length > limit:
		return verify.Refuse(verify.Malformed, "%.128q is listed with %d bytes; at most %d are read", name, m.Length, limit)
	}
	return nil
}

func (m *fileMeta) digest() digest.Digest {
	return digest.NewDigestFromBytes(digest.SHA256, m.Hashes["sha256"])
}

func sha256Hex(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// wireKey is a key as files list it.
type wireKey struct {
	Type  string `json:"keytype"`
	Value struct {
		Private json.RawMessage `json:"private"` // null
		Public  []byte          `json:"public"`
	} `json:"keyval"`
}

// parseKeys reads the keys that a file lists, and checks that each has the ID it
// is listed under (T2). Errors are Refusals.
func parseKeys(role string, wire map[string]wireKey) (map[string]*Key, error) {
	if len(wire) > maxKeys {
		return nil, verify.Refuse(verify.Malformed, "%s lists %d keys; at most %d are read", role, len(wire), maxKeys)
	}
	keys := make(map[string]*Key, len(wire))
	for id, w := range wire {
		// The ID is over a null there, so anything else isn't what the ID stands for.
		if private := string(w.Value.Private); private != "" && private != "null" {
			return nil, verify.Refuse(verify.SignatureInvalid, "%s lists key %.64s with a private part; only the public part may be published", role, id)
		}
		k, err := newKey(w.Type, w.Value.Public)
		if err != nil {
			return nil, verify.Refuse(verify.SignatureInvalid, "%s lists key %.64s, which can't be used: %w", role, id, err)
		}
		if k.id != id {
			return nil, verify.Refuse(verify.SignatureInvalid, "%s lists key %.64s, but its ID is %s", role, id, k.id)
		}
		keys[id] = k
	}
	return keys, nil
}

// newAuthority looks up the keys of a role that a file, in, defines. Errors are
// Refusals.
func newAuthority(in, role string, keyIDs []string, threshold int, keys map[string]*Key) (*authority, error) {
	a := &authority{role: role, keyIDs: keyIDs, threshold: threshold}
	if len(keyIDs) > maxKeys {
		return nil, verify.Refuse(verify.Malformed, "%s lists %d keys for %s; at most %d are read", in, len(keyIDs), role, maxKeys)
	}
	if threshold < 1 {
		return nil, verify.Refuse(verify.SignatureInvalid, "%s gives %s a threshold of %d; it has to be at least 1", in, role, threshold)
	}
	for _, id := range keyIDs {
		k, ok := keys[id]
		if !ok {
			return nil, verify.Refuse(verify.Malformed, "%s names key %.64s for %s, but doesn't list it", in, strings.ToValidUTF8(id, ""), role)
		}
		a.keys = append(a.keys, k)
	}
	return a, nil
}
