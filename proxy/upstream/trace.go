package upstream

import (
	"net/http"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// traced puts a span around what a call sends, "GET manifest", if requests are
// traced. Servers aren't told of our traces: they are somebody else's.
func (e *endpoint) traced(t http.RoundTripper, c call) http.RoundTripper {
	if e.opts.TracerProvider == nil {
		return t
	}
	return otelhttp.NewTransport(discreet{t},
		otelhttp.WithTracerProvider(e.opts.TracerProvider),
		otelhttp.WithMeterProvider(noop.NewMeterProvider()), // Observe's are counted
		otelhttp.WithPropagators(propagation.NewCompositeTextMapPropagator()),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return r.Method + " " + string(c.kind) }),
	)
}

// discreet keeps the query of a URL out of the span around it: registries redirect
// to URLs that let everybody in who knows them.
type discreet struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (d discreet) RoundTrip(req *http.Request) (*http.Response, error) {
	bare := *req.URL
	bare.User, bare.RawQuery, bare.ForceQuery, bare.Fragment, bare.RawFragment = nil, "", false, "", ""
	trace.SpanFromContext(req.Context()).SetAttributes(semconv.URLFull(bare.String()))
	return d.RoundTripper.RoundTrip(req)
}
