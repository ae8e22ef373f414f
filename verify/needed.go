package verify

import (
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

// Needed is what a store has to keep so that what is signed now, or was within the
// last day, can be served as it is.
type Needed struct {
	// Unclear are the signed repositories of which it couldn't be told what is
	// signed, and why: all that is recorded of them is needed.
	Unclear map[string]error

	digests map[digest.Digest]bool // true: as a document
}

// Has tells whether an object is needed.
func (n *Needed) Has(d digest.Digest) bool {
	_, needed := n.digests[d]
	return needed
}

// FindNeeded finds what a store has to keep: what is signed, what an admission or
// an expectation names that holds, and what documents among these lead to. What no
// rule of the policy covers isn't needed. Errors: the store's, ctx's; then nothing
// can be told.
func FindNeeded(ctx context.Context, p *Policy, store *storage.Store) (*Needed, error) {
	s := needs{policy: p, store: store, sets: map[string]*TargetSet{}, found: &Needed{Unclear: map[string]error{}, digests: map[digest.Digest]bool{}}}
	for _, name := range p.Repositories() { // what is signed there, pulled or not
		if ref, err := ParseRef(name); err == nil {
			s.signed(ctx, ref)
		}
	}
	err := store.EachRecord(ctx, func(a storage.Admission, _ bool) error {
		ref, err := ParseRef(a.Repository)
		if err != nil {
			return nil //nolint:nilerr // no rule covers it
		}
		set, covered := s.signed(ctx, ref)
		if covered && (set == nil || len(set.ByDigest(a.Signed)) > 0) {
			s.add(a.Digest, isDocument(a.Kind))
			s.add(a.Signed, true) // copies are compared with it
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.found, s.follow(ctx)
}

// needs is a search for what is needed.
type needs struct {
	policy    *Policy
	store     *storage.Store
	sets      map[string]*TargetSet // by signed repository; nil: it can't be told
	documents []digest.Digest       // that are needed, and weren't read yet
	found     *Needed
}

func (s *needs) add(d digest.Digest, document bool) {
	known := s.found.digests[d]
	if document && !known {
		s.documents = append(s.documents, d)
	}
	s.found.digests[d] = document || known
}

// signed returns what is signed for a repository, nil if that can't be told, and
// whether a rule covers it at all.
func (s *needs) signed(ctx context.Context, ref Ref) (set *TargetSet, covered bool) {
	image, err := s.policy.Image(ref)
	if ReasonOf(err) == NoPolicy {
		return nil, false
	}
	if err != nil {
		s.found.Unclear[ref.Name()] = err
		return nil, true
	}
	name := image.Signed.Name()
	if set, known := s.sets[name]; known {
		return set, true
	}
	if set, err = image.Source.Targets(ctx); err != nil {
		s.found.Unclear[name] = err
		set = nil
	} else {
		for _, t := range set.All() {
			s.add(t.Digest, true)
		}
	}
	s.sets[name] = set
	return set, true
}

// follow adds what the documents lead to, as far as they are stored.
func (s *needs) follow(ctx context.Context) error {
	for len(s.documents) > 0 {
		d := s.documents[len(s.documents)-1]
		s.documents = s.documents[:len(s.documents)-1]
		raw, err := s.read(ctx, d)
		if err != nil {
			return storageError(err)
		}
		doc, err := parseDocument(raw, d)
		if err != nil { // nobody has it yet, or it is refused
			continue
		}
		for _, m := range doc.manifests {
			s.add(m.digest, true)
		}
		if doc.kind == storage.KindManifest {
			for _, b := range slices.Concat([]descriptor{doc.config}, doc.layers) {
				s.add(b.digest, false)
			}
		}
	}
	return nil
}

// read reads a document; it is empty if none is stored, or what is stored is damaged
// or too large for one.
func (s *needs) read(ctx context.Context, d digest.Digest) ([]byte, error) {
	content, err := s.store.OpenContent(ctx, d)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := content.Close(); err != nil || content.Size > MaxDocument {
		return nil, err
	}
	raw, err := s.store.ReadDocument(ctx, d, MaxDocument)
	if corrupt := (*storage.CorruptError)(nil); errors.Is(err, storage.ErrNotFound) || errors.As(err, &corrupt) {
		return nil, nil
	}
	return raw, err
}
