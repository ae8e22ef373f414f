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
	s := &search{gate: g, image: image, set: set, left: maxSearched}
	nothing := Refuse(NotAdmitted, "nothing that is signed for %s leads to %s", image.Signed.Name(), ref.Digest)
	isCopy := ref.Name() != image.Signed.Name()
	if document && isCopy {
		return s.copyDocument(ctx, ref, nothing)
	}
	found, err := s.signed(ctx, ref, document)
	if len(found) > 0 || err != nil {
		return err
	}
	if !document && isCopy {
		found, err = s.copyTags(ctx, ref)
		if len(found) > 0 || err != nil {
			return err
		}
	}
	return nothing
}

// search is one walk over what is signed.
type search struct {
	gate  *Gate
	image *Image
	set   *TargetSet
	left  int // documents that may still be searched
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

// signed walks from the signed digests down, recording for ref's repository what
// each document names, until ref is named. It returns what names ref.
func (s *search) signed(ctx context.Context, ref Ref, document bool) ([]storage.Admission, error) {
	for _, t := range s.targets() {
		manifests, fresh, err := s.walk(ctx, ref, t, descriptor{digest: t.Digest, size: t.Size})
		if err != nil {
			return nil, err
		}
		for _, m := range manifests {
			if document { // only what is below the manifests is missing then
				break
			}
			_, more, err := s.walk(ctx, ref, t, m)
			if err != nil {
				return nil, err
			}
			fresh = fresh || more
		}
		if !fresh {
			continue
		}
		if found, err := s.gate.expected(ctx, s.image, s.set, ref, document); len(found) > 0 || err != nil {
			return found, err
		}
	}
	return s.gate.expected(ctx, s.image, s.set, ref, document)
}

// walk records what one signed document names, unless that was done before
// (fresh tells), and returns the manifests that it lists. A document that is
// refused or gone leads nowhere.
func (s *search) walk(ctx context.Context, ref Ref, t Target, d descriptor) (manifests []descriptor, fresh bool, err error) {
	g := s.gate
	key := ref.Name() + " " + t.Digest.String() + " " + d.digest.String()
	if manifests, ok := g.walked.Get(key); ok {
		return manifests, false, nil
	}
	if err := s.spend(); err != nil {
		return nil, false, err
	}
	var claims []string
	if d.mediaType != "" {
		claims = append(claims, d.mediaType)
	}
	doc, err := g.document(ctx, s.image, s.image.Signed, d.digest, d.size, claims...)
	if leadsNowhere(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if err := g.record(ctx, s.image, ref, nil, g.named(ref, t, doc)); err != nil {
		return nil, false, err
	}
	g.walked.Add(key, doc.manifests)
	return doc.manifests, true, nil
}

// leadsNowhere tells whether err is a verdict about one document, so that a
// search may go on with the next.
func leadsNowhere(err error) bool {
	var refusal *Refusal
	var notFound *NotFoundError
	return errors.As(err, &refusal) || errors.As(err, &notFound)
}

// copyDocument fetches a document of a copy, and holds it against what is signed
// with the same config (C1, C2: by digest, for any signed tag).
func (s *search) copyDocument(ctx context.Context, ref Ref, nothing error) error {
	doc, err := s.gate.fetchDocument(ctx, ref, 0)
	var notFound *NotFoundError
	if errors.As(err, &notFound) {
		return Refuse(NotAdmitted, "%s has no %s, and nothing that is signed for %s is known to lead to it", ref.Name(), ref.Digest, s.image.Signed.Name())
	}
	if err != nil {
		return err
	}
	manifest := doc
	if doc.kind == storage.KindIndex {
		if len(doc.manifests) == 0 {
			return nothing
		}
		first := doc.manifests[0]
		if manifest, err = s.gate.document(ctx, s.image, ref, first.digest, first.size, first.mediaType); err != nil {
			return err
		}
	}
	edges, err := s.signed(ctx, s.image.Signed.WithDigest(manifest.config.digest), false)
	if err != nil {
		return err
	}
	for _, e := range edges {
		err := s.gate.admitCopy(ctx, s.image, ref, doc, Target{Tag: e.Tag, Digest: e.Signed})
		if err == nil || !leadsNowhere(err) {
			return err
		}
		nothing = err
	}
	return nothing
}

// copyTags looks a copy's tags up, because a blob of the copy may hang from a
// document that nobody asked for since the cache was emptied.
func (s *search) copyTags(ctx context.Context, ref Ref) ([]storage.Admission, error) {
	g := s.gate
	for _, t := range s.targets() {
		key := ref.Name() + ":" + t.Tag + " " + t.Digest.String()
		if g.walked.Contains(key) {
			continue
		}
		if err := s.spend(); err != nil {
			return nil, err
		}
		tag := Ref{Registry: ref.Registry, Repository: ref.Repository, Tag: t.Tag}
		if _, err := g.tagged(ctx, s.image, tag, t); err != nil && !leadsNowhere(err) {
			return nil, err
		}
		g.walked.Add(key, nil)
		if found, err := g.expected(ctx, s.image, s.set, ref, false); len(found) > 0 || err != nil {
			return found, err
		}
	}
	return nil, nil
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
