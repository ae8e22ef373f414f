package notary

import (
	"context"
	"fmt"
	"maps"
	"slices"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/trustmirror/trustmirror/verify"
)

// The kinds of sources, as spans name them.
const (
	sourceNotary  = "notary"
	sourceArchive = "archive"
)

// traced makes a flight that asks the service a trace of its own, with a link to
// who asked for it, and returns what ends the span.
func (s *Source) traced(ctx context.Context, f *flight) (context.Context, func(error)) {
	if s.config.Tracer == nil {
		return ctx, func(error) {}
	}
	options := []trace.SpanStartOption{trace.WithNewRoot(), trace.WithAttributes(
		semconv.ContainerImageName(s.config.GUN), verify.AttrSource.String(sourceNotary))}
	if f.asker.IsValid() {
		options = append(options, trace.WithLinks(verify.SpanLink(f.asker, verify.LinkAsked)))
	}
	ctx, span := s.config.Tracer.Start(ctx, "trust.refresh", options...)
	f.span = span.SpanContext()
	return ctx, func(err error) {
		noteVersions(ctx, s.state.Load())
		verify.NoteError(span, err)
		span.End()
	}
}

// noteVersions notes on the span in ctx, if it is recorded, which versions of the
// roles the answer rests on.
func noteVersions(ctx context.Context, st *state) {
	span := trace.SpanFromContext(ctx)
	if st == nil || !span.IsRecording() {
		return
	}
	versions := st.repo.versions()
	var list []string
	for _, role := range slices.Sorted(maps.Keys(versions)) {
		list = append(list, fmt.Sprintf("%s=%d", role, versions[role]))
	}
	span.SetAttributes(verify.AttrVersions.StringSlice(list))
}
