package verify

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// DigestSigner is who is shown to have signed what DigestSource vouches for.
const DigestSigner = "pinned in the configuration"

// DigestSource is a trust source that needs no trust service: an operator says
// which digest each tag has. Nobody else can add or move a tag, and nothing
// expires; nor does anybody revoke but the operator. It keeps no state: a digest
// that is taken out is refused from the next start on.
type DigestSource struct {
	repository string
	set        *TargetSet
}

var _ Source = (*DigestSource)(nil)

// NewDigestSource makes the source of a repository ("docker.io/nicolas/webdis")
// from digests by tag. It refuses none at all, what can't be a tag, and digests
// that ValidateDigest does.
func NewDigestSource(repository string, digests map[string]digest.Digest) (*DigestSource, error) {
	if len(digests) == 0 {
		return nil, fmt.Errorf("no digests for %s: write at least one tag with its digest", repository)
	}
	named, err := reference.WithName(repository)
	if err != nil {
		return nil, fmt.Errorf("%s is not a repository name: %w", repository, err)
	}
	var targets []Target
	for _, tag := range slices.Sorted(maps.Keys(digests)) {
		if _, err := reference.WithTag(named, tag); err != nil {
			return nil, &InvalidError{Part: PartTag, Value: tag, Err: err}
		}
		if err := ValidateDigest(digests[tag]); err != nil {
			return nil, fmt.Errorf("tag %s: %w", tag, err)
		}
		targets = append(targets, Target{Tag: tag, Digest: digests[tag], Signers: []string{DigestSigner}})
	}
	return &DigestSource{repository: repository, set: NewTargetSet(targets)}, nil
}

// Target returns the digest that is pinned for a tag. Its size isn't known. The
// error is a *Refusal with UnsignedTag.
func (s *DigestSource) Target(ctx context.Context, tag string) (Target, error) {
	NoteSource(ctx, sourceDigests)
	if found := s.set.ByTag(tag); len(found) == 1 {
		return found[0], nil
	}
	return Target{}, Refuse(UnsignedTag, "the configuration pins no digest for tag %s of %s", tag, s.repository)
}

// Targets returns all that is pinned. There are no errors.
func (s *DigestSource) Targets(ctx context.Context) (*TargetSet, error) {
	NoteSource(ctx, sourceDigests)
	return s.set, nil
}

// sourceDigests is the kind of source, as spans name it.
const sourceDigests = "digests"
