package verify

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

// maxLinks bounds how many objects of one repository a Chain shows.
const maxLinks = 1000

// State is what is known of an object without asking a registry.
type State string

// The states.
const (
	StateVerified State = "verified" // admitted: it is served
	StateWaiting  State = "waiting"  // named, but nobody has pulled it yet
	StateRefused  State = "refused"  // refused when it was last pulled
)

// Chain is what is known of a tag's chain of trust.
type Chain struct {
	Image   string        `json:"image"` // the signed repository
	Tag     string        `json:"tag"`
	Digest  digest.Digest `json:"digest"` // signed for the tag
	Signers []string      `json:"signers"`
	Sides   []Side        `json:"repositories"` // the signed one first
}

// Side is what one repository has for the tag.
type Side struct {
	Name   string `json:"name"`
	Signed bool   `json:"signed"` // false: a copy
	Root   *Link  `json:"root"`
}

// Link is one object of a chain of trust, and what proved it.
type Link struct {
	Kind      storage.Kind  `json:"kind,omitempty"`   // empty: not known yet
	Digest    digest.Digest `json:"digest,omitempty"` // empty: a copy's tag that nobody has pulled yet, or that was refused
	MediaType string        `json:"media_type,omitempty"`
	Size      int64         `json:"size,omitempty"` // bytes; 0: not known yet
	Platform  string        `json:"platform,omitempty"`
	Proof     storage.Proof `json:"proof,omitempty"`   // what vouches for it, or has to
	DiffID    digest.Digest `json:"diff_id,omitempty"` // of a layer, as its config says
	Shared    bool          `json:"shared,omitempty"`  // a copy's object that the signed repository's image has too
	State     State         `json:"state"`
	At        *time.Time    `json:"at,omitempty"`     // when it was admitted or refused; nil while waiting
	Reason    Reason        `json:"reason,omitempty"` // where refused
	Detail    string        `json:"detail,omitempty"` // where refused
	Children  []*Link       `json:"children,omitempty"`
	Omitted   int           `json:"omitted,omitempty"` // children that aren't shown, since there are too many
}

// Each calls f for a link and all below it.
func (l *Link) Each(f func(*Link)) {
	f(l)
	for _, child := range l.Children {
		child.Each(f)
	}
}

// Chain tells what is known of the chain of trust of a tag, in the signed
// repository that ref names and in its copies: from the trust source and from
// storage, so that no registry is asked. Errors: *Refusal where nothing holds for
// the tag, *UnavailableError, ctx's.
func (g *Gate) Chain(ctx context.Context, ref Ref, tag string) (*Chain, error) {
	return g.chain(ctx, ref, tag, maxLinks)
}

// Roots is Chain without what is below the topmost objects.
func (g *Gate) Roots(ctx context.Context, ref Ref, tag string) (*Chain, error) {
	return g.chain(ctx, ref, tag, 1)
}

func (g *Gate) chain(ctx context.Context, ref Ref, tag string, limit int) (*Chain, error) {
	image, err := g.policy.Image(ref)
	if err != nil {
		return nil, err
	}
	set, err := image.Source.Targets(ctx)
	if err != nil {
		return nil, err
	}
	targets := g.current(image, set.ByTag(tag))
	if len(targets) == 0 {
		return nil, Refuse(UnsignedTag, "%s has no signed tag %s", image.Signed.Name(), tag)
	}
	c := &Chain{Image: image.Signed.Name(), Tag: tag, Digest: targets[0].Digest, Signers: targets[0].Signers}
	signed := map[digest.Digest]bool{}
	for _, repo := range image.repositories(image.Signed) {
		s := survey{gate: g, image: image, set: set, target: targets[0], repo: repo, left: limit, wrong: map[digest.Digest]storage.Admission{}}
		root, err := s.root(ctx)
		if err != nil {
			return nil, err
		}
		side := Side{Name: repo.Name(), Signed: repo.Name() == c.Image, Root: root}
		root.Each(func(l *Link) {
			if side.Signed {
				signed[l.Digest] = true
			}
			l.Shared = !side.Signed && l.Digest != "" && signed[l.Digest]
		})
		c.Sides = append(c.Sides, side)
	}
	return c, nil
}

// survey looks at what storage holds of one target in one repository.
type survey struct {
	gate   *Gate
	image  *Image
	set    *TargetSet
	target Target
	repo   Ref
	left   int                                 // links that may still be made
	wrong  map[digest.Digest]storage.Admission // layers that aren't what their config says
}

// root finds the topmost object, and all below it.
func (s *survey) root(ctx context.Context) (*Link, error) {
	if s.repo.Name() == s.image.Signed.Name() {
		return s.link(ctx, "", descriptor{digest: s.target.Digest, size: s.target.Size}, "")
	}
	ref := s.repo
	ref.Tag = s.target.Tag
	bound, err := s.gate.bound(ctx, ref, s.target)
	if err != nil {
		return nil, err
	}
	if bound == "" {
		l := &Link{State: StateWaiting}
		s.remembered(l, "resolve "+ref.String())
		return l, nil
	}
	return s.link(ctx, "", descriptor{digest: bound}, "")
}

// link says what is known of an object that parent names, and of all below it.
func (s *survey) link(ctx context.Context, kind storage.Kind, d descriptor, parent digest.Digest) (*Link, error) {
	s.left--
	l := &Link{Kind: kind, Digest: d.digest, MediaType: d.mediaType, Size: d.size, State: StateWaiting}
	if d.platform != nil {
		l.Platform = d.platform.String()
	}
	document := kind == "" || isDocument(kind)
	if err := s.judge(ctx, l, parent, document); err != nil || !document || s.left <= 0 && l.Kind != "" {
		return l, err
	}
	doc, err := s.gate.storedDocument(ctx, d.digest)
	var refusal *Refusal
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return l, nil
	case errors.As(err, &refusal):
		s.refuse(l, refusal, s.gate.now())
		return l, nil
	case err != nil:
		return nil, err
	case kind != "" && kind != doc.kind:
		return l, nil // refused when somebody pulls it
	}
	l.Kind, l.MediaType, l.Size = doc.kind, doc.mediaType, int64(len(doc.raw))
	return l, s.children(ctx, l, doc)
}

// children adds what a document names.
func (s *survey) children(ctx context.Context, l *Link, doc *document) error {
	if s.left <= 0 {
		l.Omitted = len(doc.children())
		return nil
	}
	config := s.config(ctx, doc)
	if config != nil && l.Platform == "" {
		l.Platform = (&platform{OS: config.OS, Architecture: config.Architecture, Variant: config.Variant}).String()
	}
	for i, d := range doc.children() {
		if s.left <= 0 {
			l.Omitted++
			continue
		}
		kind := storage.KindManifest
		switch {
		case doc.kind == storage.KindManifest && i == 0:
			kind = storage.KindConfig
		case doc.kind == storage.KindManifest:
			kind = storage.KindLayer
		}
		child, err := s.link(ctx, kind, d, doc.digest)
		if err != nil {
			return err
		}
		if kind == storage.KindLayer && config != nil && len(config.RootFS.DiffIDs) == len(doc.layers) {
			child.DiffID = config.RootFS.DiffIDs[i-1]
		}
		l.Children = append(l.Children, child)
	}
	return nil
}

// config returns a manifest's config, or nil where it isn't stored or tells nothing.
func (s *survey) config(ctx context.Context, doc *document) *imageConfig {
	if doc.kind != storage.KindManifest || !isImageConfig(doc.config.mediaType) {
		return nil
	}
	raw, err := s.gate.stored(ctx, doc.config.digest, doc.config.size)
	if err != nil {
		return nil
	}
	config, err := parseConfig(raw, doc.config.digest)
	if err != nil {
		return nil
	}
	return config
}

// judge says what is recorded of an object: why it is served, what it has to be,
// or why it was refused.
func (s *survey) judge(ctx context.Context, l *Link, parent digest.Digest, document bool) error {
	admitted, err := s.gate.store.Admissions(ctx, s.repo.Name(), l.Digest)
	if err != nil {
		return storageError(err)
	}
	other := func(a storage.Admission) bool { return isDocument(a.Kind) != document }
	admitted = slices.DeleteFunc(admitted, other)
	for _, a := range admitted {
		if a.Proof == storage.ProofBroken {
			s.wrong[a.Parent] = a
			s.refuse(l, Refuse(LayerMismatch, "it leads to layer %s, which isn't what its config says", a.Parent), a.At)
		}
	}
	if mark, ok := s.wrong[l.Digest]; ok {
		s.refuse(l, Refuse(LayerMismatch, "it isn't what its config says, as was found when it was pulled"), mark.At)
	}
	held := s.gate.holding(s.image, s.set, admitted)
	if l.State == StateWaiting && len(held) > 0 {
		l.State, l.At = StateVerified, &held[0].At
	}
	if l.State == StateWaiting {
		s.remembered(l, admitKey(s.repo.WithDigest(l.Digest).String(), document))
	}
	e, ok := s.edge(held, parent)
	if !ok {
		expected, err := s.gate.store.Expected(ctx, s.repo.Name(), l.Digest)
		if err != nil {
			return storageError(err)
		}
		e, ok = s.edge(s.gate.holding(s.image, s.set, slices.DeleteFunc(expected, other)), parent)
	}
	switch {
	case ok:
		l.Kind, l.MediaType, l.Size, l.Proof, l.DiffID = e.Kind, e.MediaType, e.Size, e.Proof, e.DiffID
	case l.Digest == s.target.Digest:
		l.Proof = storage.ProofSigned
	case s.repo.Name() == s.image.Signed.Name():
		l.Proof = storage.ProofListed
	}
	return nil
}

// edge picks the record that leads from parent, and from the target if one does.
func (s *survey) edge(records []storage.Admission, parent digest.Digest) (storage.Admission, bool) {
	best := -1
	for i, a := range records {
		if a.Proof == storage.ProofBroken || a.Parent != parent {
			continue
		}
		if a.Signed == s.target.Digest {
			return a, true
		}
		if best < 0 {
			best = i
		}
	}
	if best < 0 {
		return storage.Admission{}, false
	}
	return records[best], true
}

// remembered marks a link as refused if that is how asking for it ended, and
// nothing else is signed since.
func (s *survey) remembered(l *Link, key string) {
	if known, ok := s.gate.refused.Peek(key); ok && known.set == s.set {
		s.refuse(l, known.refusal, known.at)
	}
}

func (s *survey) refuse(l *Link, r *Refusal, at time.Time) {
	l.State, l.Reason, l.Detail, l.At = StateRefused, r.Reason, r.Detail, &at
}
