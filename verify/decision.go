package verify

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

// Decision is a verdict, for the decision log. The context that comes with it has
// the values of the request that it is for; of an admission that several requests
// wait for, those of the first.
type Decision struct {
	At        time.Time
	Image     string             // the signed repository; "" if no rule covers Ref
	Ref       Ref                // what was asked for, or what was admitted
	Refusal   *Refusal           // nil for an admission
	Admission *storage.Admission // nil for a refusal

	gate *Gate // whose decision it is; nil: nobody's who knows more
}

// decision completes a decision of the Gate's.
func (g *Gate) decision(d Decision) Decision {
	d.gate = g
	if image, err := g.policy.Image(d.Ref); err == nil {
		d.Image = image.Signed.Name()
	}
	return d
}

// Chain returns the chain of trust of an admission: its edge and those above it,
// the topmost last, and who signs what the topmost rests on. It reads storage and
// the trust source's memory; what can't be read is left out.
func (d Decision) Chain(ctx context.Context) (edges []storage.Admission, signers []string) {
	if d.Admission == nil {
		return nil, nil
	}
	edges = []storage.Admission{*d.Admission}
	if d.gate == nil {
		return edges, nil
	}
	for len(edges) < maxHeight {
		above, ok := d.gate.above(ctx, edges[len(edges)-1])
		if !ok {
			break
		}
		edges = append(edges, above)
	}
	return edges, d.gate.signers(ctx, d.Ref, d.Admission.Tag, d.Admission.Signed)
}

// maxHeight is how many edges a chain of trust has at most: to a layer or a
// config, to its manifest, to the index.
const maxHeight = 3

// above finds the edge that leads to the document from which an edge comes. Who
// pulls a blob by its digest alone has the documents above it checked, but not
// admitted: they are only expected then, and the signed one is neither.
func (g *Gate) above(ctx context.Context, a storage.Admission) (edge storage.Admission, ok bool) {
	if a.Parent == "" {
		return edge, false
	}
	store := g.store.Store // reading for the log is no part of a pull's trace
	for _, read := range []func(context.Context, string, digest.Digest) ([]storage.Admission, error){store.Admissions, store.Expected} {
		records, err := read(ctx, a.Repository, a.Parent)
		if err != nil {
			return edge, false
		}
		for _, r := range records {
			if r.Signed == a.Signed && r.Proof != storage.ProofBroken {
				return r, true
			}
		}
	}
	if a.Parent != a.Signed {
		return edge, false
	}
	edge = storage.Admission{
		Repository: a.Repository, Digest: a.Signed, Kind: storage.KindManifest, Tag: a.Tag, Signed: a.Signed, Proof: storage.ProofSigned,
	}
	if a.Kind == storage.KindManifest {
		edge.Kind = storage.KindIndex
	}
	return edge, true
}

// signers tells who signs a digest for a tag, or lately did.
func (g *Gate) signers(ctx context.Context, ref Ref, tag string, signed digest.Digest) []string {
	image, err := g.policy.Image(ref)
	if err != nil {
		return nil
	}
	set, err := image.Source.Targets(ctx)
	if err != nil {
		return nil
	}
	for _, t := range set.ByDigest(signed) {
		if t.Tag == tag {
			return t.Signers
		}
	}
	return nil
}

// workContext ends with the Gate and has the values of who asked for the work
// first.
type workContext struct {
	context.Context
	asker context.Context
}

// Value implements context.Context.
func (w workContext) Value(key any) any {
	if v := w.Context.Value(key); v != nil {
		return v
	}
	return w.asker.Value(key)
}
