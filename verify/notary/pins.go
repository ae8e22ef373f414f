package notary

import (
	"fmt"
	"maps"
	"slices"

	"github.com/trustmirror/trustmirror/verify"
)

// Pins are the IDs of the keys that a repository may use. Whatever root, targets
// and delegations list has to be among them: a key that isn't is a refusal, even
// if nothing relies on it (T4). The keys of snapshot and timestamp are the
// service's, and are not pinned.
type Pins struct {
	// Root are the IDs of root keys, over the certificates, as `docker trust
	// inspect` prints them. At least one.
	Root []string
	// Repository are the IDs of the keys of the role targets ("Repository Key").
	// At least one.
	Repository []string
	// Signers are the IDs of the keys of each signer, that is, of the delegation
	// targets/<signer>. All of them may be keys of targets/releases too, as may
	// those under the name "releases". For a key in a certificate the ID may be
	// that of the public key alone, which is what `docker trust inspect` prints.
	Signers map[string][]string
}

func (p *Pins) validate() error {
	if len(p.Root) == 0 || len(p.Repository) == 0 {
		return fmt.Errorf("at least one root key and one repository key have to be pinned; `docker trust inspect` prints their IDs")
	}
	for _, ids := range [][]string{p.Root, p.Repository} {
		if err := validateKeyIDs(ids); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Signers)) {
		if !isSignerName(name) {
			return fmt.Errorf("%q is not the name of a signer: lower-case letters, digits, - and _ are allowed", name)
		}
		if len(p.Signers[name]) == 0 {
			return fmt.Errorf("signer %q has no key", name)
		}
		if err := validateKeyIDs(p.Signers[name]); err != nil {
			return fmt.Errorf("signer %q: %w", name, err)
		}
	}
	return nil
}

func validateKeyIDs(ids []string) error {
	for _, id := range ids {
		if !isSHA256(id) {
			return fmt.Errorf("%q is not a key ID: those have 64 lower-case hexadecimal digits", id)
		}
	}
	return nil
}

// isSHA256 tells whether s is a SHA-256 in lower-case hexadecimal.
func isSHA256(s string) bool {
	for _, c := range []byte(s) {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return len(s) == 64
}

func (p *Pins) isRoot(k *Key) bool       { return slices.Contains(p.Root, k.id) }
func (p *Pins) isRepository(k *Key) bool { return slices.Contains(p.Repository, k.id) }

// isSignerOf tells whether a key is one of a direct delegation of targets.
func (p *Pins) isSignerOf(role string) func(*Key) bool {
	if role == roleReleases {
		return p.isSigner
	}
	return func(k *Key) bool { return p.has(signerName(role), k) }
}

// isSigner tells whether a key is any signer's.
func (p *Pins) isSigner(k *Key) bool {
	for name := range p.Signers {
		if p.has(name, k) {
			return true
		}
	}
	return false
}

func (p *Pins) has(signer string, k *Key) bool {
	return slices.ContainsFunc(p.Signers[signer], func(id string) bool { return id == k.id || id == k.PublicKeyID() })
}

// check refuses the first key that isn't pinned.
func (p *Pins) check(role string, keys []*Key, pinned func(*Key) bool) error {
	for _, k := range keys {
		if !pinned(k) {
			return verify.Refuse(verify.KeyNotPinned, "%s lists key %s, which is not pinned for it; "+
				"if the publisher announced the key, add it to the configuration, else trust nothing here", role, k.id)
		}
	}
	return nil
}
