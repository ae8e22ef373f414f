package storage

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// Kind is what an admitted object is.
type Kind string

// The kinds of objects.
const (
	KindIndex    Kind = "index"
	KindManifest Kind = "manifest"
	KindConfig   Kind = "config"
	KindLayer    Kind = "layer"
)

// Proof is what an edge of a chain of trust rests on.
type Proof string

// The proofs.
const (
	ProofSigned     Proof = "signed"      // a pinned key signed the digest itself
	ProofListed     Proof = "listed"      // an admitted document names the digest
	ProofSameConfig Proof = "same_config" // a copy's document that leads to signed configs only
	ProofSameLayer  Proof = "same_layer"  // a copy's layer that the signed manifest names at the same position
	ProofDiffID     Proof = "diff_id"     // a copy's layer that has to decompress to DiffID before it's served
	ProofBroken     Proof = "broken"      // not a reason to serve: Parent is a layer of it that isn't what its config says
)

// Admission is the record that a digest may be served in a repository, and why:
// one edge of its chain of trust. A digest may have several. Records are
// written once and never change.
type Admission struct {
	Repository string        `json:"repository"` // "public.ecr.aws/nicolas/webdis"
	Digest     digest.Digest `json:"digest"`
	Kind       Kind          `json:"kind"`
	MediaType  string        `json:"mediaType"`
	Size       int64         `json:"size"` // bytes, exact

	Tag    string        `json:"tag"`              // the tag for which Signed was signed
	Signed digest.Digest `json:"signed"`           // the signed digest from which this one hangs
	Parent digest.Digest `json:"parent,omitempty"` // the document that names this one; empty for the topmost
	Proof  Proof         `json:"proof"`
	DiffID digest.Digest `json:"diffID,omitempty"` // of a copy's layer, as its config says

	At time.Time `json:"at"` // when it was admitted
}
