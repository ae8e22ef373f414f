package verify

import (
	"context"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

// A copy's document is served under the copy's name because everything in it
// leads to configs that the publisher signed (C1 to C4). What leads where is
// kept as admissions (what has been checked) and expectations (what a checked
// document names, to be checked when somebody asks).

// admitCopy checks a document of a copy against what is signed for one target
// and records it. Errors: *Refusal with the rule that is broken, or what
// fetching gives.
func (g *Gate) admitCopy(ctx context.Context, image *Image, copyRepo Ref, doc *document, target Target, seen arrived) error {
	if doc.digest == target.Digest { // C1
		return g.admitSigned(ctx, image, copyRepo, []Target{target})
	}
	signed, err := g.document(ctx, image, image.Signed, target.Digest, documentSize(target))
	if err != nil {
		return err
	}
	m := matcher{
		gate: g, image: image, copyRepo: copyRepo, target: target, signed: signed, manifests: signed.manifests,
		documents: []*document{doc}, seen: seen,
	}
	if signed.kind == storage.KindManifest {
		m.manifests = []descriptor{{mediaType: signed.mediaType, digest: signed.digest, size: int64(len(signed.raw))}}
	}
	switch listed := m.listed(doc.digest); {
	case listed >= 0: // C1: its rules are checked when it's asked for
		m.expectations = append(m.expectations, m.child(storage.KindManifest, m.manifests[listed], signed.digest, storage.ProofListed))
	case doc.kind == storage.KindManifest:
		_, err = m.manifest(ctx, doc, all(m.manifests), nil, "")
	default:
		err = m.index(ctx, doc)
	}
	if err != nil {
		return err
	}
	if err := g.forms.take(m.admissions, m.expectations, g.now()); err != nil {
		return err
	}
	for _, d := range m.documents {
		if err := g.notBroken(ctx, copyRepo.WithDigest(d.digest)); err != nil {
			return err
		}
		if err := g.commit(ctx, d); err != nil {
			return err
		}
	}
	return g.record(ctx, image, copyRepo, m.admissions, m.expectations)
}

// matcher holds one document of a copy against one signed document, and collects
// what is to be stored and recorded if all of it matches.
type matcher struct {
	gate      *Gate
	image     *Image
	copyRepo  Ref
	target    Target
	signed    *document    // an index or a manifest
	manifests []descriptor // those that signed lists, or signed itself

	seen         arrived
	documents    []*document
	admissions   []storage.Admission
	expectations []storage.Admission
}

// index checks a copy's index: every entry has to stand for a signed one of its
// own, so that no platform is there twice (C2).
func (m *matcher) index(ctx context.Context, doc *document) error {
	if err := m.saysNoMore(doc, m.signed); err != nil {
		return err
	}
	if len(doc.manifests) == 0 {
		return Refuse(ConfigMismatch, "%s lists no manifests, so nothing in it is signed", doc.digest)
	}
	var unsigned int64
	for _, entry := range doc.manifests {
		if m.listed(entry.digest) < 0 {
			unsigned += entry.size
		}
	}
	if unsigned > MaxDocument { // they are in memory together until all of them are compared
		return Refuse(BadDescriptor, "%s lists manifests of %d bytes that aren't signed; together they may have %d", doc.digest, unsigned, MaxDocument)
	}
	taken := map[int]bool{}
	for _, entry := range doc.manifests {
		candidates := m.forPlatform(entry.platform)
		if len(candidates) == 0 {
			return Refuse(ExtraPlatform, "%s lists %s for %s, a platform that is not in the signed %s, or could be several of it", doc.digest, entry.digest, entry.platform, m.signed.digest)
		}
		candidates = slices.DeleteFunc(candidates, func(i int) bool { return taken[i] })
		if len(candidates) == 0 {
			return Refuse(ExtraPlatform, "%s lists %s for %s, a platform that it has already", doc.digest, entry.digest, entry.platform)
		}
		match, err := m.entry(ctx, doc, entry, candidates)
		if err != nil {
			return err
		}
		taken[match] = true
		if err := m.descriptorSaysNoMore(doc, entry, m.manifests[match:match+1]); err != nil {
			return err
		}
	}
	m.admissions = append(m.admissions, m.admission(doc, "", storage.ProofSameConfig))
	return nil
}

// entry returns which of the candidates an entry of a copy's index stands for.
func (m *matcher) entry(ctx context.Context, doc *document, entry descriptor, candidates []int) (int, error) {
	for _, i := range candidates {
		signed := m.manifests[i]
		switch {
		case signed.digest != entry.digest:
			continue
		case signed.size != entry.size:
			return 0, Refuse(SizeMismatch, "%s lists %s with %d bytes, the signed %s with %d", doc.digest, entry.digest, entry.size, m.signed.digest, signed.size)
		case signed.mediaType != entry.mediaType:
			return 0, Refuse(AmbiguousDoc, "%s lists %s as %s, the signed %s as %s", doc.digest, entry.digest, entry.mediaType, m.signed.digest, signed.mediaType)
		}
		// C1: its rules are checked when it's asked for.
		m.expectations = append(m.expectations, m.child(storage.KindManifest, entry, doc.digest, storage.ProofListed))
		return i, nil
	}
	manifest, err := m.gate.unproven(ctx, m.image, m.copyRepo, entry, m.seen)
	if err != nil {
		return 0, err
	}
	m.documents = append(m.documents, manifest)
	return m.manifest(ctx, manifest, candidates, entry.platform, doc.digest)
}

// manifest checks a copy's manifest that isn't itself signed (C2 to C4), and
// returns for which of the candidates it stands. parent is the copy's index that
// lists it for a platform, if one does.
func (m *matcher) manifest(ctx context.Context, doc *document, candidates []int, p *platform, parent digest.Digest) (int, error) {
	at, match, err := m.sameConfig(ctx, doc, candidates)
	if err != nil {
		return 0, err
	}
	config, err := m.gate.config(ctx, m.image, m.copyRepo, match.config)
	if err != nil {
		return 0, err
	}
	if !isImageConfig(doc.config.mediaType) || !isImageConfig(match.config.mediaType) || !config.identifies() { // C3
		return 0, Refuse(ConfigMismatch, "config %s of %s doesn't say what the image is; it would have to be the signed manifest itself", doc.config.digest, doc.digest)
	}
	for _, p := range []*platform{p, m.manifests[at].platform} { // D4
		if !config.runs(p) {
			return 0, Refuse(PlatformMismatch, "%s is listed for %s but its config says %s/%s", doc.digest, p, config.OS, config.Architecture)
		}
	}
	if err := m.saysNoMore(doc, match); err != nil {
		return 0, err
	}
	if err := m.descriptorSaysNoMore(doc, doc.config, []descriptor{match.config}); err != nil {
		return 0, err
	}
	m.admissions = append(m.admissions, m.admission(doc, parent, storage.ProofSameConfig))
	// Admitted when it's asked for: something may call it a layer.
	m.expectations = append(m.expectations, m.child(storage.KindConfig, doc.config, doc.digest, storage.ProofListed))
	return at, m.layers(doc, match, config)
}

// sameConfig finds the signed manifest whose config a copy's manifest has, among
// the candidates.
func (m *matcher) sameConfig(ctx context.Context, doc *document, candidates []int) (int, *document, error) {
	var seen []string
	for _, i := range candidates {
		signed, err := m.signedManifest(ctx, i)
		if err != nil {
			return 0, nil, err
		}
		if signed.config.digest == doc.config.digest && signed.config.size == doc.config.size {
			return i, signed, nil
		}
		seen = append(seen, signed.config.digest.String())
	}
	for _, i := range all(m.manifests) { // to say more
		if signed, err := m.signedManifest(ctx, i); err == nil && signed.config.digest == doc.config.digest && !slices.Contains(candidates, i) {
			return 0, nil, Refuse(PlatformMismatch, "%s has the config %s, which is signed for %s", doc.digest, doc.config.digest, m.manifests[i].platform)
		}
	}
	return 0, nil, Refuse(ConfigMismatch, "%s has config %s, but signed for tag %s is %s: it is another image than the publisher signed", doc.digest, doc.config.digest, m.target.Tag, strings.Join(seen, " or "))
}

func (m *matcher) signedManifest(ctx context.Context, i int) (*document, error) {
	if m.signed.kind == storage.KindManifest {
		return m.signed, nil
	}
	d := m.manifests[i]
	return m.gate.document(ctx, m.image, m.image.Signed, d.digest, d.size, d.mediaType)
}

// layers says what each layer of a copy's manifest has to be (C4).
func (m *matcher) layers(doc, match *document, config *imageConfig) error {
	diffIDs := config.RootFS.DiffIDs
	if len(doc.layers) != len(diffIDs) {
		return Refuse(LayerMismatch, "%s has %d layers, but its config names %d", doc.digest, len(doc.layers), len(diffIDs))
	}
	for i, layer := range doc.layers {
		edge := m.child(storage.KindLayer, layer, doc.digest, storage.ProofDiffID)
		edge.DiffID = diffIDs[i]
		var at []descriptor
		if i < len(match.layers) && len(match.layers) == len(doc.layers) {
			at = match.layers[i : i+1]
			if at[0].digest == layer.digest && sameLayerType(at[0].mediaType, layer.mediaType) {
				edge.Proof = storage.ProofSameLayer
			}
		}
		if err := m.descriptorSaysNoMore(doc, layer, at); err != nil {
			return err
		}
		if most := mostLayerBytes(match); edge.Proof == storage.ProofDiffID && layer.size > most {
			return Refuse(BadDescriptor, "%s gives layer %s %d bytes; going by the signed %s, at most %d are accepted", doc.digest, layer.digest, layer.size, match.digest, most)
		}
		if edge.Proof == storage.ProofDiffID && !canDecompress(layer.mediaType) {
			return Refuse(MediaType, "layer %s of %s has type %q, which can't be held against its diff ID", layer.digest, doc.digest, layer.mediaType)
		}
		if slices.ContainsFunc(m.expectations, func(e storage.Admission) bool { return contradict(e, edge) }) {
			return Refuse(LayerMismatch, "%s has layer %s in two places, but it can't decompress to what the config has at both", doc.digest, layer.digest)
		}
		m.expectations = append(m.expectations, edge)
	}
	return nil
}

// mostLayerBytes is how many bytes a copy's layer may be said to have that isn't the
// signed one: what all signed layers together may decompress to. So what is
// downloaded before it turns out to be wrong isn't the copy's to choose.
func mostLayerBytes(signed *document) int64 {
	var total int64
	for _, l := range signed.layers {
		total += min(l.size, maxLayerOutput)
	}
	return min(maxLayerOutput, max(freeLayerOutput, maxLayerRatio*min(total, maxLayerOutput)))
}

// contradict tells whether two edges say different things of one layer of one
// manifest: only the first would be recorded.
func contradict(a, b storage.Admission) bool {
	return a.Digest == b.Digest && a.Parent == b.Parent && !(a.DiffID == b.DiffID && a.Size == b.Size && sameLayerType(a.MediaType, b.MediaType))
}

// saysNoMore refuses what a copy's document says beyond the signed one: clients
// act on annotations and subjects, and nobody signed these.
func (m *matcher) saysNoMore(doc, signed *document) error {
	switch {
	case doc.subject:
		return Refuse(Annotation, "%s has a subject, which a copy may not have", doc.digest)
	case len(doc.unknown) > 0:
		return Refuse(Annotation, "%s has members that no specification knows: %q", doc.digest, doc.unknown)
	case !within(doc.annotations, signed.annotations):
		return Refuse(Annotation, "%s has annotations that the signed %s doesn't have", doc.digest, signed.digest)
	case doc.artifactType != "" && doc.artifactType != signed.artifactType:
		return Refuse(Annotation, "%s has the artifact type %q, which the signed %s doesn't have", doc.digest, doc.artifactType, signed.digest)
	}
	return nil
}

// descriptorSaysNoMore is saysNoMore for a descriptor, against the signed ones in
// whose place it may stand.
func (m *matcher) descriptorSaysNoMore(doc *document, d descriptor, signed []descriptor) error {
	if d.unknown {
		return Refuse(Annotation, "%s gives %s members that no specification knows", doc.digest, d.digest)
	}
	if len(d.annotations) == 0 && d.artifactType == "" {
		return nil
	}
	for _, s := range signed {
		if within(d.annotations, s.annotations) && (d.artifactType == "" || d.artifactType == s.artifactType) {
			return nil
		}
	}
	return Refuse(Annotation, "%s gives %s annotations that the signed document doesn't have", doc.digest, d.digest)
}

// listed returns where a manifest is among the signed ones, or -1.
func (m *matcher) listed(d digest.Digest) int {
	return slices.IndexFunc(m.manifests, func(s descriptor) bool { return s.digest == d })
}

// forPlatform lists the signed manifests that an entry for a platform may stand
// for: those for just that platform. An entry that names less or more stands for
// the compatible ones, if clients can't take it for one of several.
func (m *matcher) forPlatform(p *platform) []int {
	var exact, loose []int
	for i, d := range m.manifests {
		if samePlatform(d.platform, p) {
			exact = append(exact, i)
		}
		if d.platform.compatible(p) {
			loose = append(loose, i)
		}
	}
	if len(exact) > 0 {
		return exact
	}
	for _, i := range loose {
		if !samePlatform(m.manifests[i].platform, m.manifests[loose[0]].platform) {
			return nil
		}
	}
	return loose
}

func all(list []descriptor) []int {
	var indexes []int
	for i := range list {
		indexes = append(indexes, i)
	}
	return indexes
}

func (m *matcher) admission(doc *document, parent digest.Digest, proof storage.Proof) storage.Admission {
	d := descriptor{mediaType: doc.mediaType, digest: doc.digest, size: int64(len(doc.raw))}
	return m.child(doc.kind, d, parent, proof)
}

func (m *matcher) child(kind storage.Kind, d descriptor, parent digest.Digest, proof storage.Proof) storage.Admission {
	return m.gate.edge(m.copyRepo, m.target, kind, d, parent, proof)
}

// samePlatform tells whether two entries of one index are for the same platform.
func samePlatform(p, q *platform) bool {
	if p == nil || q == nil {
		return p == q
	}
	return p.OS == q.OS && p.Architecture == q.Architecture && p.Variant == q.Variant && p.OSVersion == q.OSVersion &&
		slices.Equal(p.OSFeatures, q.OSFeatures)
}
