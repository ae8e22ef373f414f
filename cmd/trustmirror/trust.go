package main

import (
	"context"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
)

// trust is what a trust source says of a tag, and what that rests on.
type trust struct {
	Service string `json:"service"`
	GUN     string `json:"gun"`
	outcome
	Tag     string        `json:"tag,omitempty"`
	Digest  digest.Digest `json:"digest,omitempty"`
	Signers []string      `json:"signers,omitempty"`
	Roles   []role        `json:"roles,omitempty"`
}

// role is one role's metadata, as far as it is verified.
type role struct {
	Role    string    `json:"role"`
	Version int64     `json:"version"`
	Expires time.Time `json:"expires"` // zero, as Version is, where nothing was published yet
	Keys    []roleKey `json:"keys"`
}

// roleKey is a key that may sign for a role.
type roleKey struct {
	ID     string `json:"id"`
	Pinned bool   `json:"pinned"` // the configuration names it
	Signed bool   `json:"signed"` // its signature is on the role's metadata
}

// trustOf asks an image's trust source about a tag.
func trustOf(ctx context.Context, image *verify.Image, tag string) *trust {
	t := &trust{Tag: tag}
	if src, ok := image.Source.(*source); ok {
		t.Service, t.GUN = src.notary.URL, src.Status().GUN
		if m, err := src.Metadata(ctx); err == nil { // the error is Target's too
			t.Roles = src.notary.roles(m)
		}
	}
	target, err := image.Source.Target(ctx, tag)
	t.outcome = outcomeOf(err)
	t.Digest, t.Signers = target.Digest, target.Signers
	return t
}

// roles says what metadata rests on: the pinned roles, then the service's own.
func (n Notary) roles(m *notary.Metadata) []role {
	roles := []role{
		newRole(m.Root, func(k notary.RoleKey) bool { return slices.Contains(n.RootKeys, k.ID) }),
		newRole(m.Targets.Role, func(k notary.RoleKey) bool { return slices.Contains(n.RepositoryKeys, k.ID) }),
	}
	var delegations func(notary.TargetsRole)
	delegations = func(parent notary.TargetsRole) {
		for _, d := range parent.Delegations {
			roles = append(roles, newRole(d.Role, n.isSigner))
			delegations(d)
		}
	}
	delegations(m.Targets)
	none := func(notary.RoleKey) bool { return false }
	return append(roles, newRole(m.Snapshot, none), newRole(m.Timestamp, none))
}

// isSigner tells whether the configuration names a key as a signer's.
func (n Notary) isSigner(k notary.RoleKey) bool {
	for _, ids := range n.Signers {
		if slices.Contains(ids, k.ID) || slices.Contains(ids, k.PublicKeyID) {
			return true
		}
	}
	return false
}

func newRole(r notary.Role, pinned func(notary.RoleKey) bool) role {
	shown := role{Role: r.Name, Version: r.Version, Expires: r.Expires}
	for _, k := range r.Keys {
		shown.Keys = append(shown.Keys, roleKey{ID: k.ID, Pinned: pinned(k), Signed: slices.Contains(r.SignedBy, k.ID)})
	}
	return shown
}
