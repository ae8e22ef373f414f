package verify

import (
	"context"
	"errors"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/trustmirror/trustmirror/storage"
)

// Attributes of spans, where the semantic conventions have none.
const (
	AttrVerdict  = attribute.Key("trustmirror.verdict")       // VerdictAdmitted or VerdictRefused; absent where none was reached
	AttrReason   = attribute.Key("trustmirror.reason")        // a Reason
	AttrCache    = attribute.Key("trustmirror.cache")         // a Cache
	AttrSource   = attribute.Key("trustmirror.source")        // the kind of trust source: notary, archive, digests
	AttrVersions = attribute.Key("trustmirror.role_versions") // of signed metadata: ["root=1", "targets=5", …]
	AttrBytes    = attribute.Key("trustmirror.bytes")         // of the object, or of as much of it as was sent
	AttrLink     = attribute.Key("trustmirror.link")          // of a link: what the other span is to this one

	VerdictAdmitted = "admitted"
	VerdictRefused  = "refused"
)

// What the span at the other end of a link is.
const (
	LinkAsked    = "asked"    // it was the first to ask for this work
	LinkWork     = "work"     // it is the work that this one waited for
	LinkAdmitted = "admitted" // it admitted what this one serves, or admits something below
)

// tracing makes the spans of a Gate. A nil tracer makes none, and costs nothing.
type tracing struct{ tracer trace.Tracer }

// step is the span of one step of a pull; zero where nothing is traced.
type step struct{ span trace.Span }

// begin begins a step; end it.
func (t tracing) begin(ctx context.Context, name string) (context.Context, step) {
	if t.tracer == nil {
		return ctx, step{}
	}
	ctx, span := t.tracer.Start(ctx, name)
	return ctx, step{span}
}

// work begins shared work: a trace of its own, with a link to who asked first.
func (t tracing) work(ctx context.Context, name string, about Ref) (context.Context, step) {
	if t.tracer == nil {
		return ctx, step{}
	}
	options := []trace.SpanStartOption{trace.WithNewRoot(), trace.WithAttributes(RefAttributes(about)...)}
	if asker := trace.SpanContextFromContext(ctx); asker.IsValid() {
		options = append(options, trace.WithLinks(SpanLink(asker, LinkAsked)))
	}
	ctx, span := t.tracer.Start(ctx, name, options...)
	return ctx, step{span}
}

// end ends a step, and notes why it failed if it did.
func (s step) end(err error) {
	if s.span == nil {
		return
	}
	NoteError(s.span, err)
	s.span.End()
}

// bytes notes how large the object is.
func (s step) bytes(n int64) {
	if s.span != nil {
		s.span.SetAttributes(AttrBytes.Int64(n))
	}
}

// noteCache notes on the span in ctx how an object was come by.
func (t tracing) noteCache(ctx context.Context, c Cache) {
	if t.tracer != nil {
		trace.SpanFromContext(ctx).SetAttributes(AttrCache.String(string(c)))
	}
}

// noteFetch notes on the span in ctx that a repository was asked for an object,
// and why it was of no use if it wasn't.
func (t tracing) noteFetch(ctx context.Context, from Ref, err error) {
	if t.tracer == nil {
		return
	}
	attrs := RefAttributes(from)
	if reason := ReasonOf(err); reason != "" {
		attrs = append(attrs, AttrReason.String(string(reason)))
	}
	trace.SpanFromContext(ctx).AddEvent("asked", trace.WithAttributes(attrs...))
}

// context names the step to those that link to it.
func (s step) context() trace.SpanContext {
	if s.span == nil {
		return trace.SpanContext{}
	}
	return s.span.SpanContext()
}

// linkTo links the span in ctx to another one, if there are both.
func (t tracing) linkTo(ctx context.Context, to trace.SpanContext, what string) {
	if t.tracer != nil && to.IsValid() {
		trace.SpanFromContext(ctx).AddLink(SpanLink(to, what))
	}
}

// SpanLink is a link to a span that did what LinkAsked and the like say.
func SpanLink(to trace.SpanContext, what string) trace.Link {
	return trace.Link{SpanContext: to, Attributes: []attribute.KeyValue{AttrLink.String(what)}}
}

// NoteError notes on a span why something failed; nothing for nil, and for what
// storage doesn't have. A refusal is a verdict, and no error of the span's.
func NoteError(span trace.Span, err error) {
	if err == nil || errors.Is(err, storage.ErrNotFound) {
		return
	}
	reason := ReasonOf(err)
	if reason != "" {
		span.SetAttributes(AttrReason.String(string(reason)))
	}
	if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
		span.SetAttributes(AttrVerdict.String(VerdictRefused))
		return
	}
	span.SetStatus(codes.Error, string(reason)) // the sentence is in the log
}

// RefAttributes are the attributes of a span that is about an object.
func RefAttributes(ref Ref) []attribute.KeyValue {
	attrs := make([]attribute.KeyValue, 0, 3)
	if ref.Registry != "" {
		attrs = append(attrs, semconv.ContainerImageName(ref.Name()))
	}
	if ref.Tag != "" {
		attrs = append(attrs, semconv.ContainerImageTags(ref.Tag))
	}
	if ref.Digest != "" {
		attrs = append(attrs, semconv.OCIManifestDigest(ref.Digest.String()))
	}
	return attrs
}

// NoteSource notes on the span in ctx, if it is recorded, which kind of trust
// source answered.
func NoteSource(ctx context.Context, kind string) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(AttrSource.String(kind))
	}
}

// maxAdmitters bounds how many admissions' spans are remembered, which takes a few
// MiB at most.
const maxAdmitters = 16384

// admitters remembers which span admitted an object in a repository, so that who is
// served it later can be linked to it. It is kept in memory rather than with the
// admission: spans are of use for hours, records for years. Nil where nothing is
// traced.
type admitters struct {
	spans *lru.Cache[admitted, trace.SpanContext]
}

type admitted struct {
	repository string
	digest     digest.Digest
}

func newAdmitters(t trace.Tracer) (admitters, error) {
	if t == nil {
		return admitters{}, nil
	}
	spans, err := lru.New[admitted, trace.SpanContext](maxAdmitters)
	return admitters{spans}, err
}

// of returns the span that admitted an object; invalid if it isn't known.
func (a admitters) of(repository string, d digest.Digest) trace.SpanContext {
	if a.spans == nil {
		return trace.SpanContext{}
	}
	span, _ := a.spans.Get(admitted{repository, d})
	return span
}

// note remembers that the span in ctx admitted an object, and links it to the one
// that admitted what the object hangs from.
func (g *Gate) noteAdmission(ctx context.Context, a storage.Admission) {
	if g.admitters.spans == nil {
		return
	}
	if a.Parent != "" {
		g.trace.linkTo(ctx, g.admitters.of(a.Repository, a.Parent), LinkAdmitted)
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		g.admitters.spans.Add(admitted{a.Repository, a.Digest}, span)
	}
}
