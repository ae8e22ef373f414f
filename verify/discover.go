package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

// maxSearched bounds how many documents one request may have searched for a
// digest that nobody led to. What was searched is remembered, so that asking
// again goes on from there.
const maxSearched = 256

// nowhereMemory is how long a document that is gone or refused, or a copy's tag
// that is, isn't searched again.
const nowhereMemory = 5 * time.Minute

// walked says what a search found at one place.
type walked struct {
	manifests []descriptor // that a signed index lists
	nowhere   time.Time    // when it was found to lead nowhere; zero if it leads on
}

// discover looks for an object that was asked for by digest and that nothing
// admitted so far names: a pod pinned to a digest on an empty cache. What it
// finds is recorded as expected, or admitted at once.
func (g *Gate) discover(ctx context.Context, image *Image, set *TargetSet, ref Ref, document bool) error {
	s := &search{gate: g, image: image, set: set, left: maxSearched}
	isCopy := ref.Name() != image.Signed.Name()
	if document && isCopy {
		err := s.copyDocument(ctx, ref)
		var notFound *NotFoundError
		if !errors.As(err, &notFound) {
			return err
		}
	}
	found, err := s.signed(ctx, ref, document)
	if !document && isCopy && len(found) == 0 && err == nil {
		found, err = s.copyTags(ctx, ref)
	}
	if len(found) == 0 && err == nil {
		err = s.nothing(ref)
	}
	return err
}

// search is one walk over what is signed.
type search struct {
	gate  *Gate
	image *Image
	set   *TargetSet
	left  int // documents that may still be searched
}

// targets lists what holds, each digest once; twice if it is signed with two sizes, of
// which one leads nowhere.
func (s *search) targets() []Target {
	type sized struct {
		digest digest.Digest
		size   int64
	}
	var list []Target
	seen := map[sized]bool{}
	for _, t := range s.gate.current(s.image, s.set.All()) {
		if key := (sized{t.Digest, t.Size}); !seen[key] {
			seen[key] = true
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

func (s *search) nothing(ref Ref) error {
	return Refuse(NotAdmitted, "nothing that is signed for %s leads to %s", s.image.Signed.Name(), ref.Digest)
}

// known tells whether a place was searched before, and what was found there.
func (s *search) known(key string) (walked, bool) {
	w, ok := s.gate.walked.Get(key)
	age := s.gate.now().Sub(w.nowhere)
	return w, ok && (w.nowhere.IsZero() || age >= 0 && age < nowhereMemory) // clocks jump
}

// signed records for ref's repository what the signed documents name, until ref
// is named. It returns what names ref.
func (s *search) signed(ctx context.Context, ref Ref, document bool) (found []storage.Admission, err error) {
	err = s.each(ctx, ref, !document, func(_ Target, fresh bool) (done bool, err error) {
		if fresh {
			found, err = s.gate.expected(ctx, s.image, s.set, ref, document)
		}
		return len(found) > 0, err
	})
	if len(found) > 0 || err != nil {
		return found, err
	}
	return s.gate.expected(ctx, s.image, s.set, ref, document)
}

// each walks from each signed digest down, to blobs if they are looked for,
// recording for a repository what each document names. It tells visit whether
// anything of that wasn't recorded before.
func (s *search) each(ctx context.Context, repo Ref, blobs bool, visit func(t Target, fresh bool) (done bool, err error)) error {
	for _, t := range s.targets() {
		manifests, fresh, err := s.walk(ctx, repo, t, descriptor{digest: t.Digest, size: documentSize(t)})
		if err != nil {
			return err
		}
		for _, m := range manifests {
			if !blobs { // only they are below manifests
				break
			}
			_, more, err := s.walk(ctx, repo, t, m)
			if err != nil {
				return err
			}
			fresh = fresh || more
		}
		if done, err := visit(t, fresh); done || err != nil {
			return err
		}
	}
	return nil
}

// walk records what one signed document names, unless that was done before
// (fresh tells), and returns the manifests that it lists. A document that is
// refused or gone leads nowhere.
func (s *search) walk(ctx context.Context, repo Ref, t Target, d descriptor) (manifests []descriptor, fresh bool, err error) {
	g := s.gate
	key := fmt.Sprintf("%s %s %s %d", repo.Name(), t.Digest, d.digest, d.size)
	if w, ok := s.known(key); ok {
		return w.manifests, false, nil
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
		g.walked.Add(key, walked{nowhere: g.now()})
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if err := g.record(ctx, s.image, repo, nil, g.named(repo, t, doc)); err != nil {
		return nil, false, err
	}
	g.walked.Add(key, walked{manifests: doc.manifests})
	return doc.manifests, true, nil
}

// leadsNowhere tells whether err is a verdict about one document, so that a
// search may go on with the next.
func leadsNowhere(err error) bool {
	var refusal *Refusal
	var notFound *NotFoundError
	return errors.As(err, &refusal) || errors.As(err, &notFound)
}

// copyDocument fetches a document of a copy, and holds it against everything
// signed that leads to the same config (C1, C2: by digest, for any signed tag).
// A *NotFoundError says that the copy has no such document.
func (s *search) copyDocument(ctx context.Context, ref Ref) error {
	g := s.gate
	release, err := g.copies.take(ctx, ref.Registry)
	if err != nil {
		return err
	}
	defer release()
	doc, err := g.fetchDocument(ctx, ref, unknownSize)
	if err != nil {
		return err
	}
	manifest, seen := doc, arrived{}
	if doc.kind == storage.KindIndex {
		if len(doc.manifests) == 0 {
			return s.nothing(ref)
		}
		first := doc.manifests[0]
		if manifest, err = g.unproven(ctx, s.image, ref, first, seen); err != nil {
			return err
		}
	}
	config := s.image.Signed.WithDigest(manifest.config.digest)
	leading, err := g.expected(ctx, s.image, s.set, config, false)
	if err != nil {
		return err
	}
	admitted, refused := false, s.nothing(ref)
	err = s.each(ctx, config, true, func(t Target, fresh bool) (done bool, err error) {
		if fresh {
			if leading, err = g.expected(ctx, s.image, s.set, config, false); err != nil {
				return false, err
			}
		}
		if !slices.ContainsFunc(leading, func(e storage.Admission) bool { return e.Signed == t.Digest }) {
			return false, nil
		}
		err = g.admitCopy(ctx, s.image, ref, doc, t, seen)
		if leadsNowhere(err) {
			refused = err
			return false, nil
		}
		admitted = err == nil
		return admitted, err
	})
	if admitted || err != nil {
		return err
	}
	return refused
}

// copyTags looks a copy's tags up, because a blob of the copy may hang from a
// document that nobody asked for since the cache was emptied.
func (s *search) copyTags(ctx context.Context, ref Ref) ([]storage.Admission, error) {
	g := s.gate
	for _, t := range s.targets() {
		key := ref.Name() + ":" + t.Tag + " " + t.Digest.String()
		if _, ok := s.known(key); ok {
			continue
		}
		if err := s.spend(); err != nil {
			return nil, err
		}
		tag := Ref{Registry: ref.Registry, Repository: ref.Repository, Tag: t.Tag}
		var w walked
		if _, _, err := g.tagged(ctx, s.image, tag, t); leadsNowhere(err) {
			w.nowhere = g.now()
		} else if err != nil {
			return nil, err
		}
		g.walked.Add(key, w)
		if found, err := g.expected(ctx, s.image, s.set, ref, false); len(found) > 0 || err != nil {
			return found, err
		}
	}
	return nil, nil
}

// admitCopyTag asks a copy what its tag is, and admits that for what is signed for
// the tag, now or until grace ago (C2).
func (g *Gate) admitCopyTag(ctx context.Context, image *Image, set *TargetSet, ref Ref) (digest.Digest, error) {
	release, err := g.copies.take(ctx, ref.Registry)
	if err != nil {
		return "", err
	}
	defer release()
	doc, err := g.fetchDocument(ctx, ref, unknownSize)
	if err != nil {
		return "", err
	}
	var refused error
	seen := arrived{}
	for _, t := range g.current(image, set.ByTag(ref.Tag)) {
		err := g.admitCopy(ctx, image, ref, doc, t, seen)
		if err == nil {
			if err := g.store.BindTag(ctx, ref.Name(), ref.Tag, t.Digest, doc.digest); err != nil {
				return "", storageError(err)
			}
			return doc.digest, nil
		}
		if !leadsNowhere(err) {
			return "", err
		}
		refused = cmp.Or(refused, err)
	}
	return "", cmp.Or(refused, error(Refuse(UnsignedTag, "tag %s of %s is no longer signed", ref.Tag, image.Signed.Name())))
}
