package proxy

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/trustmirror/trustmirror/verify"
)

// Event is one request that is over, to be counted. All its words are the mirror's
// own, none is a client's.
type Event struct {
	Route    string        // "manifest", "blob", …; "" where no route fits
	Status   int           // 499: the client left before there was a response
	Outcome  string        // "served", "refused", …
	Reason   verify.Reason // why not; "" for what was served
	Bytes    int64         // of the body, as sent
	Duration time.Duration
}

// Tracing says how requests are traced.
type Tracing struct {
	// Provider makes a span of each request. nil: none is traced.
	Provider trace.TracerProvider
	// TrustedPeers are the addresses of clients whose traces are continued. What any
	// other client says of a trace becomes a link, and its request a trace of its own.
	TrustedPeers []netip.Prefix
}

// wrap puts a span around each request.
func (t Tracing) wrap(h http.Handler) http.Handler {
	if t.Provider == nil {
		return h
	}
	return otelhttp.NewHandler(h, "",
		otelhttp.WithTracerProvider(t.Provider),
		otelhttp.WithMeterProvider(noop.NewMeterProvider()), // Observe's are counted
		otelhttp.WithPropagators(parentOnly{}),
		otelhttp.WithPublicEndpointFn(func(r *http.Request) bool { return !t.trusts(r.RemoteAddr) }),
	)
}

func (t Tracing) trusts(remote string) bool {
	peer, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	address := peer.Addr().Unmap().WithZone("")
	for _, trusted := range t.TrustedPeers {
		if trusted.Contains(address) {
			return true
		}
	}
	return false
}

// parentOnly reads which trace a client is in, and nothing else that a client may
// want to have carried along: no tracestate, no baggage.
type parentOnly struct{ propagation.TraceContext }

// Extract implements propagation.TextMapPropagator.
func (p parentOnly) Extract(ctx context.Context, carrier propagation.TextMapCarrier) context.Context {
	ctx = p.TraceContext.Extract(ctx, carrier)
	parent := trace.SpanContextFromContext(ctx)
	return trace.ContextWithRemoteSpanContext(ctx, parent.WithTraceState(trace.TraceState{}))
}

// template is a route's path as spans name it.
func template(route string) string {
	switch route {
	case routeBase:
		return "/v2/"
	case routeCatalog:
		return "/v2/_catalog"
	case routeTags:
		return "/v2/{name}/tags/list"
	case routeManifest:
		return "/v2/{name}/manifests/{reference}"
	case routeBlob:
		return "/v2/{name}/blobs/{digest}"
	case routeReferrers:
		return "/v2/{name}/referrers/{digest}"
	}
	return ""
}

// attrOutcome says how a request ended, as the access log does.
const attrOutcome = attribute.Key("trustmirror.outcome")

// noteSpan tells the request's span what was asked for and what came of it.
func (s *server) noteSpan(x *exchange, a answer) {
	span := trace.SpanFromContext(x.r.Context())
	if !span.IsRecording() {
		return
	}
	if path := template(x.route); path != "" {
		span.SetName(x.r.Method + " " + path)
		span.SetAttributes(semconv.HTTPRoute(path))
	}
	span.SetAttributes(verify.RefAttributes(x.ref)...)
	span.SetAttributes(attrOutcome.String(string(a.outcome)), verify.AttrBytes.Int64(x.w.bytes), semconv.HTTPResponseBodySize(int(x.w.bytes)))
	if served := x.w.Header().Get("Docker-Content-Digest"); served != "" && (a.outcome == outcomeServed || a.outcome == outcomeRedirected) {
		span.SetAttributes(semconv.OCIManifestDigest(served), verify.AttrVerdict.String(verify.VerdictAdmitted))
	}
	if a.outcome == outcomeRefused {
		span.SetAttributes(verify.AttrVerdict.String(verify.VerdictRefused))
	}
	if a.reason != "" {
		span.SetAttributes(verify.AttrReason.String(string(a.reason)))
	}
	if a.abort {
		span.SetStatus(codes.Error, string(a.outcome))
	}
}

// tell tells of a request that is over whoever counts.
func (s *server) tell(x *exchange, a answer, took time.Duration) {
	if s.observe == nil {
		return
	}
	s.observe(Event{
		Route: x.route, Status: a.status, Outcome: string(a.outcome), Reason: a.reason, Bytes: x.w.bytes, Duration: took,
	})
}
