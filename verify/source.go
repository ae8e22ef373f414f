package verify

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Target is a tag with the digest that is signed for it.
type Target struct {
	Tag     string
	Digest  digest.Digest
	Size    int64    // bytes of the signed document; 0 where the source doesn't know
	Signers []string // as `docker trust inspect` shows them: "Repo Admin", "nicolasff"

	// Superseded is when the digest ceased to be signed for the tag; zero while
	// it is signed.
	Superseded time.Time
}

// Source is a trust source: it answers which digests are signed in one signed
// repository. Implementations are safe for concurrent use, answer from memory
// where they can, and never return anything that isn't verified.
//
// Errors: *Refusal when what there is must not be trusted (signature_invalid,
// key_not_pinned, rollback, metadata_expired, …), *UnavailableError
// (trust_unavailable) when there is nothing to judge yet.
type Source interface {
	// Target returns what is signed for a tag now. A tag that isn't signed is a
	// *Refusal with UnsignedTag, one on which signers disagree with RolesDisagree.
	Target(ctx context.Context, tag string) (Target, error)
	// Targets returns all that is signed now, and what ceased to be signed
	// within the last day. The set is shared: it is the same pointer until
	// something changes, and must not be modified.
	Targets(ctx context.Context) (*TargetSet, error)
}

// TargetSet is what a Source vouches for at one moment. It is immutable.
type TargetSet struct {
	all      []Target // sorted by tag
	byDigest map[digest.Digest][]Target
	byTag    map[string][]Target
}

// NewTargetSet indexes targets, both signed and superseded ones.
func NewTargetSet(targets []Target) *TargetSet {
	s := &TargetSet{
		all:      slices.Clone(targets),
		byDigest: make(map[digest.Digest][]Target),
		byTag:    make(map[string][]Target),
	}
	slices.SortStableFunc(s.all, func(a, b Target) int {
		switch {
		case a.Tag < b.Tag:
			return -1
		case a.Tag > b.Tag:
			return 1
		}
		return 0
	})
	for _, t := range s.all {
		s.byDigest[t.Digest] = append(s.byDigest[t.Digest], t)
		s.byTag[t.Tag] = append(s.byTag[t.Tag], t)
	}
	return s
}

// All returns every target, sorted by tag.
func (s *TargetSet) All() []Target { return s.all }

// ByDigest returns the targets that name a digest.
func (s *TargetSet) ByDigest(d digest.Digest) []Target { return s.byDigest[d] }

// ByTag returns what is, or lately was, signed for a tag.
func (s *TargetSet) ByTag(tag string) []Target { return s.byTag[tag] }

// MaxDocument is how many bytes a manifest or an index may have
// (OCI distribution specification, "Pushing Manifests").
const MaxDocument = 4 << 20

// Fetcher gets objects from registries. It verifies nothing: callers hash what
// they get. Errors: *NotFoundError (the registry has no such object),
// *UnavailableError (UpstreamUnavailable, RateLimited), *Refusal with
// SizeMismatch for a document that is too large.
type Fetcher interface {
	// Manifest fetches a manifest or an index by digest or tag: its exact bytes,
	// and a descriptor with the Content-Type as the registry gave it (without
	// parameters) and the size; the descriptor's digest is computed from the bytes.
	Manifest(ctx context.Context, ref Ref) (ocispec.Descriptor, []byte, error)
	// Blob opens a blob by digest. The reader resumes broken downloads by
	// itself; it may deliver anything, without end.
	Blob(ctx context.Context, ref Ref) (io.ReadCloser, error)
}
