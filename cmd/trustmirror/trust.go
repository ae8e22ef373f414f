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
	Source  string     `json:"source"`            // "notary", "archive" or "digests"
	Service string     `json:"service,omitempty"` // the service's URL, or the file; empty: the configuration itself
	GUN     string     `json:"gun,omitempty"`
	Moment  *time.Time `json:"moment,omitempty"` // as of which an archive is judged
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
	Expires time.Time `json:"expires"`                // zero, as Version is, where nothing was published yet
	Left    *int64    `json:"left_seconds,omitempty"` // until it expires, in trust show
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
	if src, ok := image.Source.(described); ok {
		o := src.origin()
		t.Source, t.Service, t.GUN = o.Kind, o.From, o.GUN
		if !o.Moment.IsZero() {
			t.Moment = &o.Moment
		}
	}
	if src, ok := image.Source.(documented); ok {
		if m, err := src.Metadata(ctx); err == nil { // the error is Target's too
			t.Roles = src.origin().Keys.roles(m)
		}
	}
	target, err := image.Source.Target(ctx, tag)
	t.outcome = outcomeOf(err)
	t.Digest, t.Signers = target.Digest, target.Signers
	return t
}

// roles says what metadata rests on: the pinned roles, then the service's own.
func (k Keys) roles(m *notary.Metadata) []role {
	roles := []role{
		newRole(m.Root, func(key notary.RoleKey) bool { return slices.Contains(k.RootKeys, key.ID) }),
		newRole(m.Targets.Role, func(key notary.RoleKey) bool { return slices.Contains(k.RepositoryKeys, key.ID) }),
	}
	var delegations func(notary.TargetsRole)
	delegations = func(parent notary.TargetsRole) {
		for _, d := range parent.Delegations {
			roles = append(roles, newRole(d.Role, k.isSigner))
			delegations(d)
		}
	}
	delegations(m.Targets)
	none := func(notary.RoleKey) bool { return false }
	return append(roles, newRole(m.Snapshot, none), newRole(m.Timestamp, none))
}

// isSigner tells whether the configuration names a key as a signer's.
func (k Keys) isSigner(key notary.RoleKey) bool {
	for _, ids := range k.Signers {
		if slices.Contains(ids, key.ID) || slices.Contains(ids, key.PublicKeyID) {
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
