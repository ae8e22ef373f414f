package notary

import (
	"context"
	"errors"
	"slices"
)

const (
	// keptCommits is how many states are kept: as many as are read to find out what
	// ceased to be signed lately, and the one that is relied on.
	keptCommits = maxReplayed + 1
	// pruneEvery is how many more there may be before the oldest are removed.
	pruneEvery = 32
)

// prune removes old commits, and the files that only they name, unless a file is a
// mark that no other stands for. Without it a service could fill the disk: it signs
// snapshots and timestamps itself, and can write the unsigned parts of all files
// otherwise each time.
//
// repo is what was saved last. It doesn't matter if something can't be removed, or
// if the process ends on the way: the next time it is found again.
func (h *history) prune(ctx context.Context, repo *repository) {
	if len(h.commits) < keptCommits+pruneEvery {
		return
	}
	named := make(map[string]bool)
	for _, f := range h.commits[:keptCommits] {
		c, err := h.readCommit(ctx, f)
		if errors.Is(err, errDamaged) {
			continue // it names nothing that could be found
		}
		if err != nil {
			return // nobody knows what it names
		}
		for _, name := range c.Files {
			named[name] = true
		}
	}
	for _, f := range h.commits[keptCommits:] {
		if h.store.Remove(ctx, h.gun, f.name) != nil {
			return
		}
	}
	h.commits = h.commits[:keptCommits]
	for role, by := range repo.authorities() {
		h.pruneRole(ctx, by, h.files[role], named)
	}
}

// authorities says who may sign each role that has published something.
func (r *repository) authorities() map[string]*authority {
	by := map[string]*authority{
		roleRoot: r.root.own, roleTimestamp: r.root.roles[roleTimestamp],
		roleSnapshot: r.root.roles[roleSnapshot], roleTargets: r.root.roles[roleTargets],
	}
	for _, d := range r.targets.delegations {
		if d.targets != nil {
			by[d.role] = &d.authority
		}
	}
	return by
}

// pruneRole removes those of a role's files that no commit names and that another
// one stands for.
func (h *history) pruneRole(ctx context.Context, by *authority, files []storedFile, named map[string]bool) {
	var kept []mark
	for _, f := range files {
		if named[f.name] {
			if m := h.mark(ctx, by, f); m != nil {
				kept = append(kept, *m)
			}
		}
	}
	for _, f := range files {
		if named[f.name] {
			continue
		}
		m := h.mark(ctx, by, f)
		if m == nil {
			continue
		}
		if slices.ContainsFunc(kept, m.impliedBy) {
			_ = h.store.Remove(ctx, h.gun, f.name) // or else the next time
			continue
		}
		kept = append(kept, *m)
	}
}

// mark is what counts of a stored file under the keys in force. It holds no part of the
// file: there may be a hundred, each of many MiB.
type mark struct {
	role    string
	version int64
	signed  string // SHA-256 of the signed part
	signers []*Key
}

// mark reads a stored file; nil if it is damaged or doesn't count.
func (h *history) mark(ctx context.Context, by *authority, f storedFile) *mark {
	raw, err := h.get(ctx, f)
	if err != nil || raw == nil {
		return nil
	}
	e, signers := by.counts(raw)
	if e == nil {
		return nil
	}
	return &mark{role: by.role, version: f.number, signed: sha256Hex(e.signed), signers: signers}
}

// impliedBy tells whether other refuses whatever m refuses, as long as any of the
// keys that signed m count: the same keys signed it, and it says the same or, of the
// service's own roles, is newer. Old versions of what the publisher signs are kept.
func (m *mark) impliedBy(other mark) bool {
	ours := m.role == roleTimestamp || m.role == roleSnapshot
	if !(ours && other.version > m.version) && other.signed != m.signed {
		return false
	}
	return !slices.ContainsFunc(m.signers, func(k *Key) bool { return !slices.ContainsFunc(other.signers, k.equal) })
}
