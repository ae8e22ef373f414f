package notary

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Metadata is a repository's verified metadata, to be shown.
type Metadata struct {
	GUN       string
	Root      Role
	Timestamp Role
	Snapshot  Role
	Targets   TargetsRole // "targets"; Paths is [""]
}

// Role is a role with what root, or the parent, says of it.
type Role struct {
	Name      string
	Version   int64
	Expires   time.Time
	Threshold int
	Keys      []RoleKey // as listed, in that order
	SignedBy  []string  // IDs of the keys, distinct, whose signatures are valid
}

// RoleKey is a key of a role.
type RoleKey struct {
	ID          string // as listed; for a certificate the ID over it
	PublicKeyID string // of the key without its certificate
	Type        string // "ecdsa", "rsa-x509", …
	// NotBefore and NotAfter are a certificate's dates, zero for other keys.
	NotBefore, NotAfter time.Time
}

// TargetsRole is targets or a delegation.
type TargetsRole struct {
	Role
	Paths []string // prefixes of the tags that the role may sign; "" is all
	// Published is false for a delegation that was never published to, and for
	// delegations of delegations, which aren't looked at: of those Version and
	// Expires are zero, and they have no targets.
	Published   bool
	Targets     []SignedTarget // sorted by name; also those outside Paths
	Delegations []TargetsRole  // direct children in listed order
}

// SignedTarget is a target as a role lists it.
type SignedTarget struct {
	Name   string
	Digest digest.Digest
	Size   int64
}

// Covers tells whether a tag is within the role's paths. What is not is ignored.
func (t *TargetsRole) Covers(tag string) bool {
	return slices.ContainsFunc(t.Paths, func(p string) bool { return strings.HasPrefix(tag, p) })
}

func (r *repository) view(gun string) *Metadata {
	roles := r.root.roles
	m := &Metadata{
		GUN:       gun,
		Root:      viewRole(roles[roleRoot], &r.root.document),
		Timestamp: viewRole(roles[roleTimestamp], r.timestamp),
		Snapshot:  viewRole(roles[roleSnapshot], r.snapshot),
	}
	m.Targets = viewTargets(roles[roleTargets], []string{""}, r.targets)
	return m
}

func viewRole(a *authority, d *document) Role {
	role := Role{Name: a.role, Threshold: a.threshold}
	for _, k := range a.keys {
		key := RoleKey{ID: k.id, PublicKeyID: k.PublicKeyID(), Type: k.keyType}
		if len(k.certificates) > 0 {
			key.NotBefore, key.NotAfter = k.certificates[0].NotBefore, k.certificates[0].NotAfter
		}
		role.Keys = append(role.Keys, key)
	}
	if d == nil {
		return role
	}
	role.Version, role.Expires = d.version, d.expires
	for _, k := range d.signers {
		role.SignedBy = append(role.SignedBy, k.id)
	}
	return role
}

func viewTargets(a *authority, paths []string, t *targets) TargetsRole {
	if t == nil {
		return TargetsRole{Role: viewRole(a, nil), Paths: paths}
	}
	role := TargetsRole{Role: viewRole(a, &t.document), Paths: paths, Published: true}
	for _, name := range slices.Sorted(maps.Keys(t.targets)) {
		meta := t.targets[name]
		role.Targets = append(role.Targets, SignedTarget{Name: name, Digest: meta.digest(), Size: meta.Length})
	}
	for _, d := range t.delegations {
		role.Delegations = append(role.Delegations, viewTargets(&d.authority, d.paths, d.targets))
	}
	return role
}
