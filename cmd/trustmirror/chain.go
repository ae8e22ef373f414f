package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
)

// verdict says how something came out.
type verdict string

const (
	verified verdict = "verified"
	refused  verdict = "refused"
	unclear  verdict = "unclear" // it could not be told, now
)

// worse returns the graver of two verdicts: one refusal refuses all.
func (v verdict) worse(other verdict) verdict {
	switch {
	case v == refused || other == refused:
		return refused
	case v == unclear || other == unclear:
		return unclear
	}
	return verified
}

// outcome is a verdict with its reason, where it isn't "verified".
type outcome struct {
	Verdict verdict       `json:"verdict"`
	Reason  verify.Reason `json:"reason,omitempty"`
	Message string        `json:"message,omitempty"` // a sentence that a person can act on
}

// outcomeOf says what an error of the Gate or of a trust source means.
func outcomeOf(err error) outcome {
	if err == nil {
		return outcome{Verdict: verified}
	}
	o := outcome{Verdict: unclear, Reason: verify.ReasonOf(err), Message: err.Error()}
	var refusal *verify.Refusal
	var notFound *verify.NotFoundError
	var unavailable *verify.UnavailableError
	switch {
	case errors.As(err, &refusal):
		o.Verdict, o.Message = refused, refusal.Detail
	case errors.As(err, &notFound):
		o.Message = notFound.Detail
	case errors.As(err, &unavailable):
		o.Message = unavailable.Detail
	}
	return o
}

// chain is the chain of trust of one image: what is signed, and for the signed
// repository and its copies how what they hold hangs from it.
type chain struct {
	Image string `json:"image"`
	outcome
	At           time.Time     `json:"at"`
	Trust        *trust        `json:"trust,omitempty"` // nil, as Repositories is, where no signed tag was found
	Repositories []*repository `json:"repositories,omitempty"`
}

// The roles of repositories.
const (
	roleSigned = "signed"
	roleCopy   = "copy"
)

// repository is what one repository has for the image.
type repository struct {
	Name string `json:"name"` // "docker.io/nicolas/webdis:0.1.19"
	Role string `json:"role"` // roleSigned or roleCopy
	outcome
	Root *node `json:"root"`
}

// walk pulls the signed repository's image and the copies', and sums up.
func (c *chain) walk(ctx context.Context, w *walker, signed verify.Ref, copies []verify.Ref) {
	first := w.repository(ctx, signed, roleSigned)
	c.Repositories = []*repository{first}
	compare(first.Root, first.Root)
	for _, ref := range copies {
		r := w.repository(ctx, ref, roleCopy)
		compare(first.Root, r.Root)
		c.Repositories = append(c.Repositories, r)
	}
	c.outcome = c.Trust.outcome
	for _, r := range c.Repositories {
		if c.Verdict.worse(r.Verdict) != c.Verdict {
			c.outcome = r.outcome
		}
	}
}

// node is an object of an image, and why it may be served.
type node struct {
	Kind      storage.Kind  `json:"kind,omitempty"` // empty where a tag led nowhere, as is Digest
	Digest    digest.Digest `json:"digest,omitempty"`
	MediaType string        `json:"mediaType,omitempty"`
	Size      int64         `json:"size,omitempty"` // bytes
	Platform  string        `json:"platform,omitempty"`
	outcome
	Proof    storage.Proof `json:"proof,omitempty"`
	DiffID   digest.Digest `json:"diffID,omitempty"` // what a layer with Proof diff_id was decompressed to
	InSigned bool          `json:"inSigned"`         // the signed repository's image has the very same object
	Children []*node       `json:"children,omitempty"`

	tag string // for which the signed digest is signed
}

// worst is the gravest outcome in a tree, the first of its kind.
func (n *node) worst() outcome {
	worst := n.outcome
	for _, child := range n.Children {
		if o := child.worst(); worst.Verdict.worse(o.Verdict) != worst.Verdict {
			worst = o
		}
	}
	return worst
}

// each calls f for a node and all below it.
func (n *node) each(f func(*node)) {
	f(n)
	for _, child := range n.Children {
		child.each(f)
	}
}

// gate is what a chain is drawn from: content comes with its admission, or not
// at all (verify.Gate).
type gate interface {
	Manifest(ctx context.Context, ref verify.Ref) (*storage.Content, storage.Admission, error)
	Blob(ctx context.Context, ref verify.Ref) (*storage.Content, storage.Admission, error)
}

// walker pulls images through a Gate as a client would, and notes what it gets.
type walker struct {
	gate     gate
	layers   bool         // pull layers too
	progress func(string) // is told what comes next
}

// repository pulls what a repository has for ref.
func (w *walker) repository(ctx context.Context, ref verify.Ref, role string) *repository {
	root := w.document(ctx, ref, &node{Digest: ref.Digest})
	return &repository{Name: ref.String(), Role: role, outcome: root.worst(), Root: root}
}

// document pulls a manifest or an index, and what it names.
func (w *walker) document(ctx context.Context, ref verify.Ref, n *node) *node {
	w.progress(fmt.Sprintf("%s %s %s", n.Kind, n.Platform, ref))
	content, admission, err := w.gate.Manifest(ctx, ref)
	raw, err := n.note(content, admission, err)
	if err != nil {
		return n
	}
	var document struct {
		Manifests []ocispec.Descriptor `json:"manifests"`
		Config    *ocispec.Descriptor  `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
	}
	if err := json.Unmarshal(raw, &document); err != nil { // the Gate has read it already
		n.outcome = outcomeOf(err)
		return n
	}
	for _, m := range document.Manifests {
		child := &node{Kind: storage.KindManifest, Digest: m.Digest, Platform: platformOf(m.Platform)}
		n.Children = append(n.Children, w.document(ctx, ref.WithDigest(m.Digest), child))
	}
	if document.Config != nil {
		n.Children = append(n.Children, w.blob(ctx, ref, storage.KindConfig, document.Config.Digest))
	}
	for _, l := range document.Layers {
		if w.layers {
			n.Children = append(n.Children, w.blob(ctx, ref, storage.KindLayer, l.Digest))
		}
	}
	return n
}

// blob pulls a config or a layer.
func (w *walker) blob(ctx context.Context, ref verify.Ref, kind storage.Kind, d digest.Digest) *node {
	n := &node{Kind: kind, Digest: d}
	ref = ref.WithDigest(d)
	w.progress(fmt.Sprintf("%s %s", kind, ref))
	content, admission, err := w.gate.Blob(ctx, ref)
	if err == nil && kind == storage.KindLayer { // not into memory: it may be large
		err = errors.Join(drain(content), content.Close())
		content = nil
	}
	_, _ = n.note(content, admission, err) // the node has the error
	return n
}

func drain(content *storage.Content) error {
	_, err := io.Copy(io.Discard, content)
	return err
}

// note fills in what the Gate said of a node, and reads its content.
func (n *node) note(content *storage.Content, a storage.Admission, err error) (raw []byte, _ error) {
	if err == nil && content != nil {
		raw, err = io.ReadAll(content)
		err = errors.Join(err, content.Close())
	}
	n.outcome = outcomeOf(err)
	if err == nil {
		n.Kind, n.Digest, n.MediaType, n.Size = a.Kind, a.Digest, a.MediaType, a.Size
		n.Proof, n.DiffID, n.tag = a.Proof, a.DiffID, a.Tag
	}
	return raw, err
}

func platformOf(p *ocispec.Platform) string {
	if p == nil {
		return ""
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// compare marks what another tree has in common with that of the signed
// repository.
func compare(signed, other *node) {
	objects := make(map[digest.Digest]bool)
	signed.each(func(n *node) { objects[n.Digest] = n.Verdict == verified })
	other.each(func(n *node) { n.InSigned = n.Verdict == verified && objects[n.Digest] })
}
