package verify

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

// maxSearched bounds how many documents one request may have searched for a
// digest that nobody led to. What was searched is remembered, so that asking
// again goes on from there.
const maxSearched = 256

// discover looks for an object that was asked for by digest and that nothing
// admitted so far names: a pod pinned to a digest on an empty cache. What it
// finds is recorded as expected, or admitted at once.
func (g *Gate) discover(ctx context.Context, image *Image, set *TargetSet, ref Ref, document bool) error {
	s := search{gate: g, image: image, set: set, ref: ref, left: maxSearched}
	if document && ref.Name() != image.Signed.Name() {
		return s.copyDocument(ctx)
	}
	found, err := s.signed(ctx, document)
	if found || err != nil {
		return err
	}
	if !document && ref.Name() != image.Signed.Name() {
		return s.copyTags(ctx)
	}
	return s.nothing()
}

// search is one walk over what is signed.
type search struct {
	gate  *Gate
	image *Image
	set   *TargetSet
	ref   Ref // what is looked for
	left  int // documents that may still be searched
}

func (s *search) nothing() error {
	return Refuse(NotAdmitted, "nothing that is signed for %s leads to %s", s.image.Signed.Name(), s.ref.Digest)
}

// targets lists what holds, each digest once.
func (s *search) targets() []Target {
	var list []Target
	seen := map[digest.Digest]bool{}
	for _, t := range s.gate.current(s.image, s.set.All()) {
		if !seen[t.Digest] {
			seen[t.Digest] = true
			list = append(list, t)
		}
	}
	return list
}

func (s *search) spend() error {
	if s.left--; s.left < 0 {
		return &UnavailableError{
			Reason: UpstreamUnavailable, RetryAfter: time.Second,
			Detail: "what is signed was searched in part only; ask again, and the search goes on (or pull by tag)",
		}
	}
	return nil
}

// signed walks from the signed digests down, recording what each document names,
// until the object is named.
func (s *search) signed(ctx context.Context, document bool) (found bool, err error) {
	for _, t := range s.targets() {
		doc, err := s.walk(ctx, t, descriptor{digest: t.Digest, size: t.Size})
		if err != nil {
			return false, err
		}
		if found, err := s.expected(ctx, document); found || err != nil {
			return found, err
		}
		if document || doc == nil || doc.kind != storage.KindIndex {
			continue
		}
		for _, m := range doc.manifests {
			if _, err := s.walk(ctx, t, m); err != nil {
				return false, err
			}
		}
		if found, err := s.expected(ctx, document); found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// walk records what one signed document names, unless that was done before. A
// document that is refused or gone leads nowhere: nil.
func (s *search) walk(ctx context.Context, t Target, d descriptor) (*document, error) {
	g := s.gate
	var claims []string
	if d.mediaType != "" {
		claims = append(claims, d.mediaType)
	}
	if err := s.spend(); err != nil {
		return nil, err
	}
	doc, err := g.document(ctx, s.image, s.image.Signed, d.digest, d.size, claims...)
	if leadsNowhere(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	key := s.ref.Name() + " " + t.Digest.String() + " " + d.digest.String()
	if !g.walked.Contains(key) {
		if err := g.record(ctx, s.image, s.ref, nil, g.named(s.ref, t, doc)); err != nil {
			return nil, err
		}
		g.walked.Add(key, struct{}{})
	}
	return doc, nil
}

// leadsNowhere tells whether err is a verdict about one document, so that a
// search may go on with the next.
func leadsNowhere(err error) bool {
	var refusal *Refusal
	var notFound *NotFoundError
	return errors.As(err, &refusal) || errors.As(err, &notFound)
}

func (s *search) expected(ctx context.Context, document bool) (bool, error) {
	found, err := s.gate.expected(ctx, s.image, s.set, s.ref, document)
	return len(found) > 0, err
}

// copyDocument fetches a document of a copy and holds it against everything that
// is signed (C1, C2: by digest, for any signed tag).
func (s *search) copyDocument(ctx context.Context) error {
	doc, err := s.gate.fetchDocument(ctx, s.ref, 0)
	var notFound *NotFoundError
	if errors.As(err, &notFound) {
		return Refuse(NotAdmitted, "%s has no %s, and nothing that is signed for %s is known to lead to it", s.ref.Name(), s.ref.Digest, s.image.Signed.Name())
	}
	if err != nil {
		return err
	}
	return s.match(ctx, doc, s.targets(), s.nothing())
}

// match admits a copy's document for the first target that it matches. If it
// matches none, it returns the refusal that says most: none, unless for some
// target the configs are right and something else is wrong.
func (s *search) match(ctx context.Context, doc *document, targets []Target, none error) error {
	for _, t := range targets {
		if err := s.spend(); err != nil {
			return err
		}
		err := s.gate.admitCopy(ctx, s.image, s.ref, doc, t)
		if err == nil {
			return nil
		}
		if !leadsNowhere(err) {
			return err
		}
		if reason := ReasonOf(err); reason != ConfigMismatch && reason != ExtraPlatform && reason != NotFound {
			none = err
		}
	}
	return none
}

// copyTags looks a copy's tags up, because a blob of the copy may hang from a
// document that nobody asked for since the cache was emptied.
func (s *search) copyTags(ctx context.Context) error {
	for _, t := range s.targets() {
		if err := s.spend(); err != nil {
			return err
		}
		tag := Ref{Registry: s.ref.Registry, Repository: s.ref.Repository, Tag: t.Tag}
		if _, err := s.gate.tagged(ctx, s.image, tag, t); err != nil && !leadsNowhere(err) {
			return err
		}
		if found, err := s.expected(ctx, false); found || err != nil {
			return err
		}
	}
	return s.nothing()
}

// admitCopyTag asks a copy what its tag is, and admits that for what is signed for
// the tag, now or until grace ago (C2).
func (g *Gate) admitCopyTag(ctx context.Context, image *Image, set *TargetSet, ref Ref) (digest.Digest, error) {
	desc, raw, err := g.fetcher.Manifest(ctx, ref)
	if err != nil {
		return "", err
	}
	doc, err := g.commitDocument(ctx, raw, desc.Digest, desc.MediaType)
	if err != nil {
		return "", err
	}
	var refused error
	for _, t := range g.current(image, set.ByTag(ref.Tag)) {
		err := g.admitCopy(ctx, image, ref, doc, t)
		if err == nil {
			if err := g.store.BindTag(ctx, ref.Name(), ref.Tag, t.Digest, doc.digest); err != nil {
				return "", storageError(err)
			}
			return doc.digest, nil
		}
		if !leadsNowhere(err) {
			return "", err
		}
		if refused == nil {
			refused = err
		}
	}
	return "", refused
}
