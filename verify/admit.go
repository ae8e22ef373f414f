package verify

import (
	"cmp"
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

// admit finds out whether an object may be served in ref's repository and
// records it. Errors: *Refusal and what fetching gives.
func (g *Gate) admit(ctx context.Context, image *Image, set *TargetSet, ref Ref, document bool) error {
	if targets := g.current(image, set.ByDigest(ref.Digest)); document && len(targets) > 0 {
		return g.admitSigned(ctx, image, ref, targets)
	}
	expected, err := g.expected(ctx, image, set, ref, document)
	if err != nil {
		return err
	}
	if len(expected) == 0 {
		if err := g.discover(ctx, image, set, ref, document); err != nil {
			return err
		}
		if expected, err = g.expected(ctx, image, set, ref, document); err != nil || len(expected) == 0 {
			return err // discovery of a copy's document admits it at once
		}
	}
	if document {
		return g.admitListed(ctx, image, ref, expected)
	}
	return g.admitBlob(ctx, image, set, ref)
}

// expected returns what admitted documents that hold now say of an object.
func (g *Gate) expected(ctx context.Context, image *Image, set *TargetSet, ref Ref, document bool) ([]storage.Admission, error) {
	claims, err := g.claims(ctx, ref, document)
	return g.holding(image, set, claims), err
}

// claims returns what any documents say of an object that were admitted once.
func (g *Gate) claims(ctx context.Context, ref Ref, document bool) ([]storage.Admission, error) {
	records, err := g.store.Expected(ctx, ref.Name(), ref.Digest)
	if err != nil {
		return nil, storageError(err)
	}
	return slices.DeleteFunc(records, func(a storage.Admission) bool { return isDocument(a.Kind) != document }), nil
}

// admitSigned admits a document that is signed itself, by the first of the targets
// that name it whose size is right: each is its own signer's word.
func (g *Gate) admitSigned(ctx context.Context, image *Image, ref Ref, targets []Target) error {
	var failed error
	tried := map[int64]bool{}
	for _, target := range targets {
		size := documentSize(target)
		if tried[size] {
			continue
		}
		tried[size] = true
		doc, err := g.document(ctx, image, ref, target.Digest, size)
		if err == nil {
			root := descriptor{mediaType: doc.mediaType, digest: doc.digest, size: int64(len(doc.raw))}
			return g.record(ctx, image, ref, []storage.Admission{g.edge(ref, target, doc.kind, root, "", storage.ProofSigned)}, g.named(ref, target, doc))
		}
		if !leadsNowhere(err) {
			return err
		}
		failed = cmp.Or(failed, err)
	}
	return failed
}

// admitListed admits a manifest because indexes that are admitted list it (D4).
func (g *Gate) admitListed(ctx context.Context, image *Image, ref Ref, expected []storage.Admission) error {
	var admissions, expectations []storage.Admission
	var failed error
	for _, e := range expected {
		doc, err := g.document(ctx, image, ref, e.Digest, e.Size, e.MediaType)
		if err == nil {
			err = g.matchesPlatform(ctx, image, ref, e.Parent, doc)
		}
		if err != nil {
			failed = cmp.Or(failed, err)
			continue
		}
		e.At = g.now()
		admissions = append(admissions, e)
		expectations = append(expectations, g.named(ref, Target{Tag: e.Tag, Digest: e.Signed}, doc)...)
	}
	if len(admissions) == 0 {
		return failed
	}
	return g.record(ctx, image, ref, admissions, expectations)
}

// matchesPlatform holds the platforms for which an index lists a manifest
// against the manifest's config (D4).
func (g *Gate) matchesPlatform(ctx context.Context, image *Image, repo Ref, index digest.Digest, doc *document) error {
	parent, err := g.document(ctx, image, repo, index, unknownSize)
	if err != nil {
		return err
	}
	for _, entry := range parent.manifests {
		if entry.digest != doc.digest || entry.platform == nil || !isImageConfig(doc.config.mediaType) {
			continue
		}
		config, err := g.config(ctx, image, repo, doc.config)
		if err != nil {
			return err
		}
		if !config.runs(entry.platform) {
			return Refuse(PlatformMismatch, "%s is listed for %s but its config says %s/%s", doc.digest, entry.platform, config.OS, config.Architecture)
		}
	}
	return nil
}

// admitBlob brings a blob into storage and admits it for each reason that holds:
// a layer that rests on a diff ID is decompressed first (C4). A manifest whose
// layer turns out not to be what its config says is broken for good.
func (g *Gate) admitBlob(ctx context.Context, image *Image, set *TargetSet, ref Ref) error {
	for {
		claims, err := g.claims(ctx, ref, false)
		if err != nil {
			return err
		}
		var admissions []storage.Admission
		var failed error
		for _, e := range g.holding(image, set, claims) {
			if !shown(admissions, e) {
				if err := g.expectedBlob(ctx, image, ref, e); err != nil {
					failed = cmp.Or(failed, err)
					continue
				}
			}
			e.At = g.now()
			admissions = append(admissions, e)
		}
		if len(admissions) == 0 {
			return failed
		}
		if err := g.settle(ctx, image, ref, claims, admissions); err != nil {
			return err
		}
		if done, err := g.recordBlob(ctx, ref, claims, admissions); done || err != nil {
			return err
		}
	}
}

// shown tells whether one of the admissions says that a layer has the diff ID that is
// expected of it.
func shown(admissions []storage.Admission, e storage.Admission) bool {
	return e.Proof == storage.ProofDiffID && slices.ContainsFunc(admissions, func(a storage.Admission) bool {
		return a.Proof == e.Proof && a.DiffID == e.DiffID && a.Size == e.Size && sameLayerType(a.MediaType, e.MediaType)
	})
}

// settle marks what claims another diff ID or size of a layer that is about to be
// served for other reasons, where nobody would look at it any more. That includes what
// doesn't hold now: it holds again when its digest is signed again.
func (g *Gate) settle(ctx context.Context, image *Image, ref Ref, claims, admissions []storage.Admission) error {
	for _, e := range claims {
		if e.Proof != storage.ProofDiffID || shown(admissions, e) {
			continue
		}
		var err error
		if e.Size != admissions[0].Size { // which is known to be right
			err = g.markBroken(ctx, ref, e)
		} else if err = g.expectedBlob(ctx, image, ref, e); ReasonOf(err) == LayerMismatch {
			err = nil // it is marked
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// expectedBlob brings a blob into storage and checks what is expected of it. It marks
// what leads to a layer that is something else.
func (g *Gate) expectedBlob(ctx context.Context, image *Image, ref Ref, e storage.Admission) error {
	var layer *storage.Admission
	if e.Proof == storage.ProofDiffID {
		layer = &e
	}
	err := g.blob(ctx, image, ref, e.Size, layer)
	if layer != nil && ReasonOf(err) == LayerMismatch {
		if err := g.markBroken(ctx, ref, e); err != nil {
			return err
		}
	}
	return err
}

// documentSize is what a trust source says of a document's size.
func documentSize(t Target) int64 {
	if t.Size == 0 {
		return unknownSize
	}
	return t.Size
}

// recordBlob writes a blob's admissions, unless more is expected of it by now. It
// looks once more when they are written: another process may have expected more
// meanwhile (see record).
func (g *Gate) recordBlob(ctx context.Context, ref Ref, claims, admissions []storage.Admission) (done bool, err error) {
	g.recording.Lock()
	defer g.recording.Unlock()
	if more, err := g.claimedMore(ctx, ref, claims); more || err != nil {
		return false, err
	}
	if err := g.write(ctx, admissions, nil); err != nil {
		return false, err
	}
	more, err := g.claimedMore(ctx, ref, claims)
	return !more, err
}

func (g *Gate) claimedMore(ctx context.Context, ref Ref, claims []storage.Admission) (bool, error) {
	now, err := g.claims(ctx, ref, false)
	for _, e := range now {
		if !slices.ContainsFunc(claims, func(x storage.Admission) bool { return x.Signed == e.Signed && x.Parent == e.Parent }) {
			return true, err
		}
	}
	return false, err
}

// markBroken records that a copy's manifest names a layer that isn't what its
// config says, and so is every index that lists it: facts about their bytes.
func (g *Gate) markBroken(ctx context.Context, ref Ref, layer storage.Admission) error {
	manifest, err := g.store.Admissions(ctx, ref.Name(), layer.Parent)
	if err != nil {
		return storageError(err)
	}
	var marks []storage.Admission
	for _, m := range manifest {
		if m.Proof == storage.ProofBroken { // its parent is a layer
			continue
		}
		marks = append(marks, m)
		if m.Parent == "" {
			continue
		}
		index, err := g.store.Admissions(ctx, ref.Name(), m.Parent)
		if err != nil {
			return storageError(err)
		}
		marks = append(marks, index...)
	}
	if len(marks) == 0 { // it is being admitted just now
		marks = append(marks, storage.Admission{
			Repository: layer.Repository, Digest: layer.Parent, Kind: storage.KindManifest, Tag: layer.Tag, Signed: layer.Signed,
		})
	}
	for i := range marks {
		marks[i].Parent, marks[i].Proof, marks[i].At = layer.Digest, storage.ProofBroken, g.now()
	}
	return g.write(ctx, marks, nil)
}

// record writes what was found out: first what is expected, then what is
// admitted. It refuses a manifest of a copy that contradicts what is known of a
// layer.
func (g *Gate) record(ctx context.Context, image *Image, repo Ref, admissions, expectations []storage.Admission) error {
	checked := map[storage.Admission]bool{}
	for {
		unchecked, err := g.recordUnless(ctx, checked, admissions, expectations)
		if err != nil {
			return err
		}
		if len(unchecked) == 0 {
			break
		}
		for _, e := range unchecked {
			if err := g.blob(ctx, image, repo.WithDigest(e.Digest), e.Size, &e); err != nil {
				return err
			}
			checked[e] = true
		}
	}
	// Another process may have admitted one of the layers meanwhile. It looks again,
	// too, once it has, and one of the two sees what the other wrote.
	unchecked, err := g.unchecked(ctx, checked, nil, expectations)
	if err != nil {
		return err
	}
	for _, e := range unchecked {
		if err := g.expectedBlob(ctx, image, repo.WithDigest(e.Digest), e); err != nil {
			return err
		}
	}
	return nil
}

// recordUnless records, unless there are layers which are served already, or will
// be now, for other reasons than their diff ID: these it returns.
func (g *Gate) recordUnless(ctx context.Context, checked map[storage.Admission]bool, admissions, expectations []storage.Admission) (unchecked []storage.Admission, err error) {
	g.recording.Lock()
	defer g.recording.Unlock()
	if unchecked, err = g.unchecked(ctx, checked, admissions, expectations); err != nil || len(unchecked) > 0 {
		return unchecked, err
	}
	return nil, g.write(ctx, admissions, expectations)
}

// unchecked returns the layers that are served, or will be by admissions, for other
// reasons than the diff ID that is expected of them.
func (g *Gate) unchecked(ctx context.Context, checked map[storage.Admission]bool, admissions, expectations []storage.Admission) (unchecked []storage.Admission, err error) {
	for _, e := range expectations {
		if e.Proof != storage.ProofDiffID || checked[e] {
			continue
		}
		known, err := g.store.Admissions(ctx, e.Repository, e.Digest)
		if err != nil {
			return nil, storageError(err)
		}
		for _, a := range admissions {
			if a.Digest == e.Digest {
				known = append(known, a)
			}
		}
		if slices.ContainsFunc(known, func(k storage.Admission) bool {
			return k.DiffID != e.DiffID || !sameLayerType(k.MediaType, e.MediaType)
		}) {
			unchecked = append(unchecked, e)
		}
	}
	return unchecked, nil
}

func (g *Gate) write(ctx context.Context, admissions, expectations []storage.Admission) error {
	if err := g.store.Expect(ctx, expectations...); err != nil {
		return storageError(err)
	}
	g.forgetRefusals(expectations)
	if err := g.store.Admit(ctx, admissions...); err != nil {
		return storageError(err)
	}
	for _, a := range admissions {
		if a.Proof == storage.ProofBroken {
			continue
		}
		g.noteAdmission(ctx, a)
		repo, err := ParseRef(a.Repository)
		if err != nil {
			return err
		}
		g.decided(ctx, g.decision(Decision{At: a.At, Ref: repo.WithDigest(a.Digest), Admission: &a}))
	}
	return nil
}

// forgetRefusals forgets that objects were refused because nothing led to them.
func (g *Gate) forgetRefusals(expectations []storage.Admission) {
	for _, e := range expectations {
		key := admitKey(e.Repository+"@"+e.Digest.String(), isDocument(e.Kind))
		if known, ok := g.refused.Peek(key); ok && undecided(known.refusal) {
			g.refused.Remove(key)
		}
	}
}

// named lists what an admitted document leads to, to be checked when it's asked for.
func (g *Gate) named(repo Ref, target Target, doc *document) []storage.Admission {
	var list []storage.Admission
	if doc.kind == storage.KindIndex {
		for _, m := range doc.manifests {
			list = append(list, g.edge(repo, target, storage.KindManifest, m, doc.digest, storage.ProofListed))
		}
		return list
	}
	list = append(list, g.edge(repo, target, storage.KindConfig, doc.config, doc.digest, storage.ProofListed))
	for _, l := range doc.layers {
		list = append(list, g.edge(repo, target, storage.KindLayer, l, doc.digest, storage.ProofListed))
	}
	return list
}

// edge is one edge of a chain of trust.
func (g *Gate) edge(repo Ref, target Target, kind storage.Kind, d descriptor, parent digest.Digest, proof storage.Proof) storage.Admission {
	return storage.Admission{
		Repository: repo.Name(), Digest: d.digest, Kind: kind, MediaType: d.mediaType, Size: d.size,
		Tag: target.Tag, Signed: target.Digest, Parent: parent, Proof: proof, At: g.now(),
	}
}
