package verify

import (
	"context"

	"github.com/trustmirror/trustmirror/storage"
)

// notBroken refuses a document of a copy that markBroken marked.
func (g *Gate) notBroken(ctx context.Context, ref Ref) error {
	records, err := g.store.Admissions(ctx, ref.Name(), ref.Digest)
	if err != nil {
		return storageError(err)
	}
	for _, a := range records {
		if err := notBrokenBy(a); err != nil {
			return err
		}
	}
	return nil
}

func notBrokenBy(a storage.Admission) error {
	if a.Proof == storage.ProofBroken {
		return Refuse(LayerMismatch, "%s leads to layer %s, which isn't what its config says, as was found when the layer was pulled", a.Digest, a.Parent)
	}
	return nil
}

// standing is what the targets that name a signed digest say of what hangs from it,
// the better the higher (S2).
type standing int

const (
	unrecorded standing = iota
	superseded
	signedLately // until grace ago
	signedNow
)

func (g *Gate) standing(image *Image, targets []Target) standing {
	best := superseded
	for _, t := range targets {
		switch {
		case t.Superseded.IsZero():
			return signedNow
		case g.now().Before(t.Superseded.Add(image.Grace)):
			best = signedLately
		}
	}
	return best
}

// holding keeps the records whose signed digest is signed now, or was until grace
// ago (S2); what is signed now comes first.
func (g *Gate) holding(image *Image, set *TargetSet, records []storage.Admission) []storage.Admission {
	var now, lately []storage.Admission
	for _, a := range records {
		switch g.standing(image, set.ByDigest(a.Signed)) {
		case signedNow:
			now = append(now, a)
		case signedLately:
			lately = append(lately, a)
		}
	}
	return append(now, lately...)
}

// current keeps the targets that are signed now, or were until grace ago; what
// is signed now comes first.
func (g *Gate) current(image *Image, targets []Target) []Target {
	var now, lately []Target
	for _, t := range targets {
		switch {
		case t.Superseded.IsZero():
			now = append(now, t)
		case g.now().Before(t.Superseded.Add(image.Grace)):
			lately = append(lately, t)
		}
	}
	return append(now, lately...)
}
