package notary

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/trustmirror/trustmirror/verify"
)

// root is a root that threshold many of its own keys signed.
type root struct {
	document
	keys  map[string]*Key
	roles map[string]*authority
	// own is who may sign root, as far as the keys are certificates of the GUN.
	own *authority
}

type wireRoot struct {
	header
	Keys  map[string]wireKey `json:"keys"`
	Roles map[string]struct {
		KeyIDs    []string `json:"keyids"`
		Threshold int      `json:"threshold"`
	} `json:"roles"`
	Consistent bool `json:"consistent_snapshot"` // makes no difference, but has to be what it is
}

// openRoot reads a root and verifies that it is signed by itself (T3). That
// alone is no reason to trust it: see pinned and succeeds.
func openRoot(gun string, raw []byte) (*root, error) {
	e, err := parseEnvelope(roleRoot, raw, maxRootSize)
	if err != nil {
		return nil, err
	}
	var wire wireRoot
	if err := e.decode(&wire); err != nil {
		return nil, err
	}
	r := &root{roles: make(map[string]*authority)}
	if r.keys, err = parseKeys(roleRoot, wire.Keys); err != nil {
		return nil, err
	}
	if len(wire.Roles) > maxDelegations {
		return nil, verify.Refuse(verify.Malformed, "root lists %d roles; at most %d are read", len(wire.Roles), maxDelegations)
	}
	for name, role := range wire.Roles {
		if r.roles[name], err = newAuthority(roleRoot, name, role.KeyIDs, role.Threshold, r.keys); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{roleRoot, roleTargets, roleSnapshot, roleTimestamp} {
		if r.roles[name] == nil {
			return nil, verify.Refuse(verify.Malformed, "root says nothing about the role %s", name)
		}
	}
	r.own = rootAuthority(gun, r.roles[roleRoot])
	d, err := e.open(r.own, "Root", &wire)
	if err != nil {
		return nil, err
	}
	r.document = *d
	return r, nil
}

// rootAuthority is the root role without the keys that are no certificates of
// the GUN: they don't count.
func rootAuthority(gun string, role *authority) *authority {
	own := *role
	own.keys = nil
	for _, k := range role.keys {
		if err := k.checkRootOf(gun); err != nil {
			own.excluded = append(own.excluded, fmt.Sprintf("root key %s doesn't count: %v", k.id, err))
			continue
		}
		own.keys = append(own.keys, k)
	}
	return &own
}

// succeeds verifies that r follows on prev: one version later, and signed by a
// threshold of prev's keys as well (TUF 1.0, section 5.3, "Update the root
// role").
func (r *root) succeeds(prev *root) error {
	if r.version != prev.version+1 {
		return verify.Refuse(verify.SignatureInvalid, "root version %d was given out as version %d", r.version, prev.version+1)
	}
	by := *prev.own
	by.role = fmt.Sprintf("root version %d, by the keys of version %d,", r.version, prev.version)
	_, err := by.verify(r.signed, r.signatures)
	return err
}

// pinned checks that the root uses no keys but those in the policy (T4).
func (r *root) pinned(gun string, pins *Pins) error {
	if err := pins.check(roleRoot, r.roles[roleRoot].keys, pins.isRoot); err != nil {
		return err
	}
	if err := pins.check(roleTargets, r.roles[roleTargets].keys, pins.isRepository); err != nil {
		return err
	}
	servers := make(map[string]bool) // keys that nobody pins
	for _, name := range []string{roleSnapshot, roleTimestamp} {
		for _, k := range r.roles[name].keys {
			servers[k.id] = true
		}
	}
	named := make(map[string]bool)
	for _, role := range r.roles {
		for _, id := range role.keyIDs {
			named[id] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(r.keys)) {
		k := r.keys[id]
		// Notary's client leaves the certificates of former root keys in the
		// list, without a role; they can sign nothing.
		if err := k.checkRootOf(gun); servers[id] || err == nil && !named[id] {
			continue
		}
		if err := pins.check(roleRoot, []*Key{k}, func(k *Key) bool { return pins.isRoot(k) || pins.isRepository(k) }); err != nil {
			return err
		}
	}
	return nil
}

// certificatesInDate checks that a threshold of the certificates that signed the
// root are in date (T3).
func (r *root) certificatesInDate(now time.Time) error {
	valid := 0
	var out string
	for _, k := range r.signers {
		if leaf := k.certificates[0]; inDate(leaf, now) {
			valid++
		} else {
			out = fmt.Sprintf("that of key %s is valid from %s to %s", k.id, leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339))
		}
	}
	if valid < r.own.threshold {
		return verify.Refuse(verify.MetadataExpired, "too few of the root's certificates are in date: %s; the publisher has to rotate the root key", out)
	}
	return nil
}
