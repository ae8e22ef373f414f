package notary

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify"
)

// RepoAdmin is how a tag's signer is shown that no signer's delegation signed,
// but targets or targets/releases.
const RepoAdmin = "Repo Admin"

// vote is what one role says of a tag.
type vote struct {
	role   string
	digest digest.Digest
	length int64
}

func (v vote) agrees(w vote) bool { return v.digest == w.digest && v.length == w.length }

// verdict is what a repository's metadata say of a tag: a target, or the refusal
// of a tag on which roles disagree.
type verdict struct {
	target  verify.Target
	dispute *verify.Refusal
}

// answer is what a Source says of the tag; the Refusal is the caller's own.
func (v verdict) answer() (verify.Target, error) {
	if v.dispute != nil {
		refusal := *v.dispute
		return verify.Target{}, &refusal
	}
	return v.target, nil
}

// verdicts judges every tag (T5): targets, targets/releases and targets/<signer>
// may each vouch for it, delegations within their paths. order lists the roles
// that win, first to last, where roles disagree.
func (r *repository) verdicts(order []string) map[string]verdict {
	votes := make(map[string][]vote)
	r.targets.vote(votes, func(string) bool { return true })
	for _, d := range r.targets.delegations {
		if d.targets != nil {
			d.targets.vote(votes, d.covers)
		}
	}
	verdicts := make(map[string]verdict, len(votes))
	for tag, cast := range votes {
		verdicts[tag] = judge(tag, cast, order)
	}
	return verdicts
}

func (t *targets) vote(votes map[string][]vote, covers func(string) bool) {
	for name, meta := range t.targets {
		if isTag(name) && covers(name) {
			votes[name] = append(votes[name], vote{
				role:   t.role,
				digest: meta.digest(),
				length: meta.Length,
			})
		}
	}
}

// judge decides between the votes for a tag; votes are in the order targets,
// delegations as listed.
func judge(tag string, votes []vote, order []string) verdict {
	winner := votes[0]
	if i := slices.IndexFunc(votes, func(v vote) bool { return !v.agrees(winner) }); i >= 0 {
		first := slices.IndexFunc(order, func(role string) bool { return cast(votes, role) >= 0 })
		if first < 0 {
			return verdict{dispute: disagreement(tag, winner, votes[i])}
		}
		winner = votes[cast(votes, order[first])]
	}
	target := verify.Target{Tag: tag, Digest: winner.digest, Size: winner.length}
	for _, v := range votes {
		if v.agrees(winner) && v.role != roleTargets && v.role != roleReleases {
			target.Signers = append(target.Signers, signerName(v.role))
		}
	}
	if len(target.Signers) == 0 {
		target.Signers = []string{RepoAdmin}
	}
	return verdict{target: target}
}

// cast returns the index of a role's vote, or -1.
func cast(votes []vote, role string) int {
	return slices.IndexFunc(votes, func(v vote) bool { return v.role == role })
}

func disagreement(tag string, a, b vote) *verify.Refusal {
	says := func(v vote) string { return fmt.Sprintf("%s signed %s (%d bytes)", v.role, v.digest, v.length) }
	return verify.Refuse(verify.RolesDisagree, "signers disagree on tag %s: %s, but %s; "+
		"ask the publisher, or say in role_order which role wins", tag, says(a), says(b))
}

// signed returns the targets that are vouched for, sorted by tag.
func signed(verdicts map[string]verdict) []verify.Target {
	var all []verify.Target
	for _, tag := range slices.Sorted(maps.Keys(verdicts)) {
		if v := verdicts[tag]; v.dispute == nil {
			all = append(all, v.target)
		}
	}
	return all
}

// isTag tells whether a target's name can be a tag (OCI distribution
// specification, "Pulling manifests"). Repositories may sign other things, too.
func isTag(name string) bool {
	if len(name) == 0 || len(name) > 128 || name[0] == '.' || name[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return !(r == '_' || r == '.' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	})
}
