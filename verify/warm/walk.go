// Package warm has images fetched and verified before anybody waits for them: it
// asks for each of their objects as a client would, and lets go of what it gets.
// It decides nothing. Walk does it for one image (walk.go), through the Gate
// (gate.go) or through a mirror elsewhere; Keeper does it whenever something is
// signed that is to be warm (keep.go).
package warm

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
)

// Mirror is what verifies and stores an object when it is asked for it. Both tell
// since when the object is there in that repository, verified and stored; zero where
// that can't be told. Errors: *verify.Refusal, *verify.NotFoundError,
// *verify.UnavailableError, ctx's.
type Mirror interface {
	// Manifest returns a manifest or an index, by tag or digest, and its digest.
	Manifest(ctx context.Context, ref verify.Ref) (raw []byte, d digest.Digest, since time.Time, err error)
	// Blob returns once a config or a layer of so many bytes is there.
	Blob(ctx context.Context, ref verify.Ref, size int64) (since time.Time, err error)
}

// Object is one object of an image that was asked for.
type Object struct {
	Ref  verify.Ref   // by digest; by tag where that led nowhere
	Kind storage.Kind // "" where a tag led nowhere
	Size int64        // bytes
	New  bool         // it wasn't there in this repository before
	Err  error        // why it isn't there; nil: it is, verified and stored
}

// Image is what came of warming one image in one repository.
type Image struct {
	Ref     verify.Ref
	Objects []Object   // each once
	Missing []Platform // that were asked for, and that its index doesn't list
}

// Failed are the objects that aren't there, the topmost first.
func (i *Image) Failed() []Object {
	return slices.DeleteFunc(slices.Clone(i.Objects), func(o Object) bool { return o.Err == nil })
}

// Sum is a number of objects.
type Sum struct {
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

// Sum counts the objects that are there, and those of them that are new.
func (i *Image) Sum() (there, fresh Sum) {
	for _, o := range i.Objects {
		if o.Err == nil {
			there = Sum{there.Objects + 1, there.Bytes + o.Size}
		}
		if o.Err == nil && o.New {
			fresh = Sum{fresh.Objects + 1, fresh.Bytes + o.Size}
		}
	}
	return there, fresh
}

// Progress is how far a walk is. The totals grow while documents are read.
type Progress struct {
	Ref               verify.Ref
	Objects, Total    int
	Bytes, TotalBytes int64
	Complete          bool // the totals don't grow any more
}

// Walk says how images are warmed.
type Walk struct {
	Mirror Mirror // never nil
	// Platforms are those that are taken from an index; nil means all that it lists,
	// attestations ("unknown/unknown") too. An image without an index is of one
	// platform, and is taken as it is.
	Platforms []Platform
	AtOnce    int            // objects that are asked for at once, at least 1
	Told      func(Progress) // of each step, one at a time; nil means nobody is
	Tracer    trace.Tracer   // makes a span of each image; nil means none is made
	// Clock is the Gate's; nil means time.Now.
	Clock func() time.Time
}

// descriptor is what a walk reads of one. The mirror has parsed the document
// strictly; a walk that were led astray would only be refused.
type descriptor struct {
	Digest   digest.Digest     `json:"digest"`
	Size     int64             `json:"size"`
	Platform *ocispec.Platform `json:"platform"`
	kind     storage.Kind
}

type document struct {
	Manifests []descriptor `json:"manifests"`
	Config    *descriptor  `json:"config"`
	Layers    []descriptor `json:"layers"`
}

// Image asks for what ref names and for all that it leads to: documents first,
// since a blob is only known by what names it. What fails is noted, and the rest is
// asked for all the same. When ctx ends, the rest is left out.
func (w *Walk) Image(ctx context.Context, ref verify.Ref) *Image {
	image := &Image{Ref: ref}
	if w.Tracer != nil {
		var span trace.Span
		ctx, span = w.Tracer.Start(ctx, "warm", trace.WithNewRoot(), trace.WithAttributes(verify.RefAttributes(ref)...))
		defer func() { w.end(span, image) }()
	}
	clock := w.Clock
	if clock == nil {
		clock = time.Now
	}
	r := &run{Walk: w, began: clock(), image: image, progress: Progress{Ref: ref}, seen: map[digest.Digest]bool{}}
	r.expect(descriptor{})
	root := r.document(ctx, ref, 0) // how large it is, nobody has said
	if root == nil {
		return image
	}
	manifests, documents := r.choose(root), []*document{root}
	for range manifests {
		documents = append(documents, nil)
	}
	r.expect(manifests...)
	r.each(manifests, func(i int) { documents[i+1] = r.document(ctx, ref.WithDigest(manifests[i].Digest), manifests[i].Size) })
	blobs := r.blobs(documents)
	r.progress.Complete = true
	r.expect(blobs...)
	r.each(blobs, func(i int) { r.blob(ctx, ref, blobs[i]) })
	return image
}

// end ends an image's span.
func (w *Walk) end(span trace.Span, image *Image) {
	if failed := image.Failed(); len(failed) > 0 {
		verify.NoteError(span, failed[0].Err)
	}
	there, _ := image.Sum()
	span.SetAttributes(verify.AttrBytes.Int64(there.Bytes))
	span.End()
}

// run is one walk.
type run struct {
	*Walk
	began time.Time
	seen  map[digest.Digest]bool // owned by the goroutine that runs Image

	mu       sync.Mutex // guards what follows
	image    *Image
	progress Progress
}

// expect adds to the totals.
func (r *run) expect(more ...descriptor) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range more {
		r.progress.Total++
		r.progress.TotalBytes += d.Size
	}
	r.tell()
}

// note adds an object that was asked for, of which so many bytes were expected.
func (r *run) note(o Object, expected int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.image.Objects = append(r.image.Objects, o)
	if o.Err == nil {
		r.progress.Objects++
		r.progress.Bytes += o.Size
	}
	r.progress.TotalBytes += o.Size - expected
	r.tell()
}

// tell tells of progress. The caller holds mu.
func (r *run) tell() {
	if r.Told != nil {
		r.Told(r.progress)
	}
}

// each calls do for each descriptor, so many at once.
func (r *run) each(all []descriptor, do func(i int)) {
	var group errgroup.Group
	group.SetLimit(max(1, r.AtOnce))
	for i := range all {
		group.Go(func() error {
			do(i)
			return nil
		})
	}
	_ = group.Wait() // nothing fails
}

// document asks for a manifest or an index; nil if it can't be had.
func (r *run) document(ctx context.Context, ref verify.Ref, expected int64) *document {
	if ctx.Err() != nil {
		return nil
	}
	raw, d, since, err := r.Mirror.Manifest(ctx, ref)
	o := Object{Ref: ref, Size: int64(len(raw)), New: !since.Before(r.began), Err: err}
	if ref.Digest != "" {
		o.Kind = storage.KindManifest
	}
	var doc *document
	if err == nil {
		doc = &document{}
		o.Err = json.Unmarshal(raw, doc)
		o.Ref.Digest, o.Kind = d, storage.KindManifest
		if doc.Config == nil {
			o.Kind = storage.KindIndex
		}
	}
	r.note(o, expected)
	if o.Err != nil {
		return nil
	}
	return doc
}

// choose picks the manifests of an index that are for the platforms.
func (r *run) choose(index *document) []descriptor {
	chosen := index.Manifests
	if len(r.Platforms) > 0 && len(index.Manifests) > 0 {
		chosen = nil
		for _, p := range r.Platforms {
			listed := slices.DeleteFunc(slices.Clone(index.Manifests), func(m descriptor) bool { return !p.covers(m.Platform) })
			if len(listed) == 0 {
				r.image.Missing = append(r.image.Missing, p)
			}
			chosen = append(chosen, listed...)
		}
	}
	return r.fresh(storage.KindManifest, chosen...)
}

// blobs lists what the documents name, configs before layers.
func (r *run) blobs(documents []*document) []descriptor {
	var configs, layers []descriptor
	for _, doc := range documents {
		if doc != nil && doc.Config != nil {
			configs = append(configs, *doc.Config)
			layers = append(layers, doc.Layers...)
		}
	}
	return append(r.fresh(storage.KindConfig, configs...), r.fresh(storage.KindLayer, layers...)...)
}

// fresh keeps what comes for the first time.
func (r *run) fresh(kind storage.Kind, all ...descriptor) (fresh []descriptor) {
	for _, d := range all {
		if !r.seen[d.Digest] {
			r.seen[d.Digest] = true
			d.kind = kind
			fresh = append(fresh, d)
		}
	}
	return fresh
}

func (r *run) blob(ctx context.Context, repo verify.Ref, d descriptor) {
	if ctx.Err() != nil {
		return
	}
	o := Object{Ref: repo.WithDigest(d.Digest), Kind: d.kind, Size: d.Size}
	since, err := r.Mirror.Blob(ctx, o.Ref, d.Size)
	o.New, o.Err = !since.Before(r.began), err
	r.note(o, d.Size)
}

// names lists platforms, for people.
func names(all []Platform) string {
	var list []string
	for _, p := range all {
		list = append(list, p.String())
	}
	return strings.Join(list, ", ")
}

// MissingText tells which platforms an image lacks; "" if none.
func (i *Image) MissingText() string {
	if len(i.Missing) == 0 {
		return ""
	}
	return "its index lists nothing for " + names(i.Missing)
}
