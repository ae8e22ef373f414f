package verify

import (
	"context"
	"slices"

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
func (g *Gate) admitCopy(ctx context.Context, image *Image, copyRepo Ref, doc *document, target Target) error {
	if doc.digest == target.Digest { // C1
		return g.admitSigned(ctx, image, copyRepo, target)
	}
	signed, err := g.document(ctx, image, image.Signed, target.Digest, target.Size)
	if err != nil {
		return err
	}
	m := matcher{gate: g, image: image, copyRepo: copyRepo, target: target, signed: signed}
	switch listed := m.listed(doc.digest); {
	case listed >= 0: // C1: its rules are checked when it's asked for
		m.expectations = append(m.expectations, m.child(storage.KindManifest, signed.manifests[listed], signed.digest, storage.ProofListed))
	case doc.kind == storage.KindManifest:
		err = m.manifest(ctx, doc, nil, "")
	default:
		err = m.index(ctx, doc)
	}
	if err != nil {
		return err
	}
	return g.record(ctx, image, copyRepo, m.admissions, m.expectations)
}

// matcher holds one document of a copy against one signed document, and collects
// what is to be recorded if all of it matches.
type matcher struct {
	gate     *Gate
	image    *Image
	copyRepo Ref
	target   Target
	signed   *document // an index or a manifest

	admissions   []storage.Admission
	expectations []storage.Admission
}

// index checks a copy's index: every entry has to match, no platform twice (C2).
func (m *matcher) index(ctx context.Context, doc *document) error {
	if err := m.saysNoMore(doc, m.signed); err != nil {
		return err
	}
	if len(doc.manifests) == 0 {
		return Refuse(ConfigMismatch, "%s lists no manifests, so nothing in it is signed", doc.digest)
	}
	for i, entry := range doc.manifests {
		listed := m.listed(entry.digest)
		if twice := slices.IndexFunc(doc.manifests[:i], func(e descriptor) bool { return samePlatform(e.platform, entry.platform) }); twice >= 0 &&
			!(listed >= 0 && isNone(entry.platform)) { // attestations have no platform
			return Refuse(ExtraPlatform, "%s lists %s twice: %s and %s", doc.digest, entry.platform, doc.manifests[twice].digest, entry.digest)
		}
		if err := m.entry(ctx, doc, entry, listed); err != nil {
			return err
		}
	}
	m.admissions = append(m.admissions, m.admission(doc, "", storage.ProofSameConfig))
	return nil
}

func (m *matcher) entry(ctx context.Context, doc *document, entry descriptor, listed int) error {
	candidates := m.compatible(entry.platform)
	if len(candidates) == 0 {
		return Refuse(ExtraPlatform, "%s lists %s (%s), a platform that is not in the signed %s", doc.digest, entry.digest, entry.platform, m.signed.digest)
	}
	if listed >= 0 {
		candidates = m.signed.manifests[listed : listed+1]
		if !candidates[0].platform.compatible(entry.platform) {
			return Refuse(PlatformMismatch, "%s lists %s for %s, the signed %s for %s", doc.digest, entry.digest, entry.platform, m.signed.digest, candidates[0].platform)
		}
	}
	if err := m.descriptorSaysNoMore(doc, entry, candidates); err != nil {
		return err
	}
	if listed >= 0 { // C1: its rules are checked when it's asked for
		m.expectations = append(m.expectations, m.child(storage.KindManifest, entry, doc.digest, storage.ProofListed))
		return nil
	}
	manifest, err := m.gate.document(ctx, m.image, m.copyRepo, entry.digest, entry.size, entry.mediaType)
	if err != nil {
		return err
	}
	return m.manifest(ctx, manifest, entry.platform, doc.digest)
}

// manifest checks a copy's manifest that isn't itself signed (C2 to C4). parent
// is the copy's index that lists it for a platform, if one does.
func (m *matcher) manifest(ctx context.Context, doc *document, p *platform, parent digest.Digest) error {
	if !isImageConfig(doc.config.mediaType) {
		return Refuse(ConfigMismatch, "%s has a config of type %s, which doesn't say what the image is; it would have to be the signed manifest itself", doc.digest, doc.config.mediaType)
	}
	config, err := m.gate.config(ctx, m.image, m.copyRepo, doc.config)
	if err != nil {
		return err
	}
	if !config.identifies() {
		return Refuse(ConfigMismatch, "config %s of %s doesn't say what the image is; it would have to be the signed manifest itself", doc.config.digest, doc.digest)
	}
	if !config.runs(p) {
		return Refuse(PlatformMismatch, "%s is listed for %s but its config says %s/%s", doc.digest, p, config.OS, config.Architecture)
	}
	match, err := m.signedWithConfig(ctx, doc, p)
	if err != nil {
		return err
	}
	if err := m.saysNoMore(doc, match); err != nil {
		return err
	}
	if err := m.descriptorSaysNoMore(doc, doc.config, []descriptor{match.config}); err != nil {
		return err
	}
	m.admissions = append(m.admissions,
		m.admission(doc, parent, storage.ProofSameConfig),
		m.child(storage.KindConfig, doc.config, doc.digest, storage.ProofListed))
	return m.layers(doc, match, config)
}

// signedWithConfig finds the signed manifest whose config the copy's has, among
// those for its platform.
func (m *matcher) signedWithConfig(ctx context.Context, doc *document, p *platform) (*document, error) {
	var seen []digest.Digest
	for _, candidate := range m.compatible(p) {
		signed := m.signed
		if signed.kind == storage.KindIndex {
			var err error
			if signed, err = m.gate.document(ctx, m.image, m.image.Signed, candidate.digest, candidate.size, candidate.mediaType); err != nil {
				return nil, err
			}
		}
		if signed.config.digest == doc.config.digest && signed.config.size == doc.config.size && isImageConfig(signed.config.mediaType) {
			return signed, m.signedPlatform(ctx, candidate.platform, signed)
		}
		seen = append(seen, signed.config.digest)
	}
	return nil, Refuse(ConfigMismatch, "%s has config %s, but signed for tag %s is %v: it is another image than the publisher signed", doc.digest, doc.config.digest, m.target.Tag, seen)
}

// signedPlatform holds the signed entry's platform against its config (D4).
func (m *matcher) signedPlatform(ctx context.Context, p *platform, signed *document) error {
	config, err := m.gate.config(ctx, m.image, m.copyRepo, signed.config)
	if err != nil {
		return err
	}
	if !config.runs(p) {
		return Refuse(PlatformMismatch, "%s is listed for %s but its config says %s/%s", signed.digest, p, config.OS, config.Architecture)
	}
	return nil
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
			if at[0].digest == layer.digest && at[0].size == layer.size {
				edge.Proof = storage.ProofSameLayer
			}
		}
		if err := m.descriptorSaysNoMore(doc, layer, at); err != nil {
			return err
		}
		if edge.Proof == storage.ProofDiffID && !canDecompress(layer.mediaType) {
			return Refuse(MediaType, "layer %s of %s has type %q, which can't be held against its diff ID", layer.digest, doc.digest, layer.mediaType)
		}
		m.expectations = append(m.expectations, edge)
	}
	return nil
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

// signedManifests lists the manifests that the signed document leads to.
func (m *matcher) signedManifests() []descriptor {
	if m.signed.kind == storage.KindIndex {
		return m.signed.manifests
	}
	return []descriptor{{mediaType: m.signed.mediaType, digest: m.signed.digest, size: int64(len(m.signed.raw))}}
}

// listed returns where the signed index lists a manifest, or -1.
func (m *matcher) listed(d digest.Digest) int {
	return slices.IndexFunc(m.signed.manifests, func(s descriptor) bool { return s.digest == d })
}

// compatible lists the signed manifests for a platform.
func (m *matcher) compatible(p *platform) []descriptor {
	var list []descriptor
	for _, d := range m.signedManifests() {
		if d.platform.compatible(p) {
			list = append(list, d)
		}
	}
	return list
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

func isNone(p *platform) bool {
	return p == nil || p.OS == "unknown" && p.Architecture == "unknown"
}
