package proxy_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/trustmirror/trustmirror/proxy"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

const (
	manifestSpan = "GET /v2/{name}/manifests/{reference}"
	blobSpan     = "GET /v2/{name}/blobs/{digest}"
)

// spans are those of a mirror.
type spans struct {
	t        testing.TB
	m        *mirror
	recorder *tracetest.SpanRecorder
}

// trace makes a mirror that isn't started yet record its spans.
func (m *mirror) trace() spans {
	s := spans{m.t, m, tracetest.NewSpanRecorder()}
	m.tracing = proxy.Tracing{Provider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(s.recorder))}
	m.audit = nil // it would choose the traces of requests
	return s
}

// named returns the spans that have ended with a name and these attributes, key,
// value…; the oldest first.
func (s spans) named(name string, attributes ...string) []sdktrace.ReadOnlySpan {
	s.m.answering.Wait() // a span ends after its response
	var found []sdktrace.ReadOnlySpan
	for _, span := range s.recorder.Ended() {
		fits := span.Name() == name
		for i := 0; i < len(attributes); i += 2 {
			fits = fits && attribute(span, attributes[i]) == attributes[i+1]
		}
		if fits {
			found = append(found, span)
		}
	}
	return found
}

// last returns the last of named.
func (s spans) last(name string, attributes ...string) sdktrace.ReadOnlySpan {
	s.t.Helper()
	found := s.named(name, attributes...)
	if len(found) == 0 {
		s.t.Fatalf("no span %s with %q; there are:\n%s", name, attributes, s)
	}
	return found[len(found)-1]
}

func (s spans) String() string {
	var text strings.Builder
	for _, span := range s.recorder.Ended() {
		fmt.Fprintf(&text, "%s %s %s:", span.SpanContext().TraceID(), span.SpanContext().SpanID(), span.Name())
		for _, a := range span.Attributes() {
			fmt.Fprintf(&text, " %s=%v", a.Key, a.Value.AsInterface())
		}
		text.WriteByte('\n')
	}
	return text.String()
}

func attribute(span sdktrace.ReadOnlySpan, key string) string {
	for _, a := range span.Attributes() {
		if string(a.Key) == key {
			return fmt.Sprint(a.Value.AsInterface())
		}
	}
	return ""
}

// linked follows a span's links of a kind.
func (s spans) linked(from sdktrace.ReadOnlySpan, kind string) []sdktrace.ReadOnlySpan {
	var found []sdktrace.ReadOnlySpan
	for _, link := range from.Links() {
		for _, a := range link.Attributes {
			if a.Key == verify.AttrLink && a.Value.AsString() == kind {
				found = append(found, s.of(link.SpanContext)...)
			}
		}
	}
	return found
}

func (s spans) of(c trace.SpanContext) []sdktrace.ReadOnlySpan {
	var found []sdktrace.ReadOnlySpan
	for _, span := range s.recorder.Ended() {
		if span.SpanContext().SpanID() == c.SpanID() && span.SpanContext().TraceID() == c.TraceID() {
			found = append(found, span)
		}
	}
	return found
}

// children returns the names of the spans right below one.
func (s spans) children(of sdktrace.ReadOnlySpan) []string {
	var names []string
	for _, span := range s.recorder.Ended() {
		if span.Parent().SpanID() == of.SpanContext().SpanID() {
			names = append(names, span.Name())
		}
	}
	return names
}

// reaches tells whether links lead from a span to another.
func (s spans) reaches(from, to sdktrace.ReadOnlySpan) bool {
	seen := map[trace.SpanID]bool{}
	next := []sdktrace.ReadOnlySpan{from}
	for len(next) > 0 {
		span := next[0]
		next = next[1:]
		if span.SpanContext().SpanID() == to.SpanContext().SpanID() {
			return true
		}
		if seen[span.SpanContext().SpanID()] {
			continue
		}
		seen[span.SpanContext().SpanID()] = true
		for _, link := range span.Links() {
			next = append(next, s.of(link.SpanContext)...)
		}
	}
	return false
}

// A pull can be followed from its last layer to its index, though each request is
// a trace of its own.
func TestPullIsFollowedByLinks(t *testing.T) {
	for _, name := range []string{hubName, ecrName} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t)
			hub, ecr := m.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{}, verifytest.Format{})
			pushed := map[string]verifytest.Pushed{hubName: hub, ecrName: ecr}[name]
			s := m.trace()
			m.start()
			for range 2 { // cold, and warm
				if a := m.pull(name, "0.1.19"); a.status != http.StatusOK {
					t.Fatalf("%d %s", a.status, a.body)
				}
				index := s.last(manifestSpan, "container.image.tags", "[0.1.19]")
				layers := pushed.Layers[amd64]
				layer := s.last(blobSpan, "oci.manifest.digest", layers[len(layers)-1].String())
				if !s.reaches(layer, s.named(manifestSpan, "container.image.tags", "[0.1.19]")[0]) {
					t.Errorf("no links lead from the last layer to the index:\n%s", s)
				}
				for _, span := range []sdktrace.ReadOnlySpan{index, layer} {
					if attribute(span, "trustmirror.verdict") != "admitted" || attribute(span, "container.image.name") != name ||
						attribute(span, "http.response.status_code") != "200" || span.Parent().IsValid() {
						t.Errorf("span: %s %v, parent %v", span.Name(), span.Attributes(), span.Parent())
					}
				}
				if got := attribute(index, "oci.manifest.digest"); got != pushed.Root.String() {
					t.Errorf("the index is %s, not %s", got, pushed.Root)
				}
			}
			// HEAD comes after GET in this test, so the cold ones are those of GET.
			cold, warm := s.named(manifestSpan, "container.image.tags", "[0.1.19]")[0], s.last(manifestSpan, "container.image.tags", "[0.1.19]")
			if attribute(cold, "trustmirror.cache") != "miss" || attribute(warm, "trustmirror.cache") != "hit" {
				t.Errorf("cold: %v, warm: %v", cold.Attributes(), warm.Attributes())
			}
			if admitters := s.linked(warm, verify.LinkAdmitted); len(admitters) != 1 {
				t.Errorf("what is warm has links to %d spans that admitted it: %v", len(admitters), warm.Links())
			}
			if got := s.children(warm); !slices.Contains(got, "policy") || !slices.Contains(got, "trust.resolve") || !slices.Contains(got, "storage.read") {
				t.Errorf("below the warm request: %q", got)
			}
			resolve := s.last("trust.resolve")
			if attribute(resolve, "trustmirror.source") != "notary" || !strings.Contains(attribute(resolve, "trustmirror.role_versions"), "targets=1") {
				t.Errorf("trust.resolve: %v", resolve.Attributes())
			}
			refresh := s.last("trust.refresh")
			if !slices.Contains(s.children(refresh), "GET metadata") || len(s.linked(refresh, verify.LinkAsked)) != 1 {
				t.Errorf("trust.refresh: %v %v", s.children(refresh), refresh.Links())
			}
			names := map[string][]string{
				hubName: {"verify.index", "verify.layer", "fetch", "GET manifest", "GET blob", "storage.put", "storage.admit"},
				ecrName: {"verify.copy", "verify.layer", "fetch", "GET manifest", "GET blob", "storage.put", "storage.admit", "storage.tag"},
			}[name]
			for _, want := range names {
				if len(s.named(want)) == 0 {
					t.Errorf("no span %s:\n%s", want, s)
				}
			}
		})
	}
}

// A refusal's span has the reason and its trace the ID that client and log are told.
func TestRefusalIsFound(t *testing.T) {
	m := newMirror(t)
	m.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{}, verifytest.Format{})
	s := m.trace()
	var log bytes.Buffer
	m.log = slog.New(slog.NewTextHandler(&log, nil))
	m.start()
	a := m.do(http.MethodGet, m.url+"/v2/"+repo+"/manifests/evil?ns=docker.io")
	span := s.last(manifestSpan, "trustmirror.verdict", "refused")
	if attribute(span, "trustmirror.reason") != "unsigned_tag" || attribute(span, "container.image.tags") != "[evil]" {
		t.Errorf("span: %v", span.Attributes())
	}
	id := span.SpanContext().TraceID().String()
	if !bytes.Contains(a.body, []byte(`"trace_id":"`+id)) || !strings.Contains(log.String(), "trace_id="+id) {
		t.Errorf("trace %s, but the client is told %s and the log %s", id, a.body, &log)
	}
	if got := s.last("trust.resolve", "trustmirror.verdict", "refused"); attribute(got, "trustmirror.reason") != "unsigned_tag" {
		t.Errorf("trust.resolve: %v", got.Attributes())
	}
}

// What many ask for at once is one span, to which the span of each has a link.
func TestSharedWorkIsOneSpan(t *testing.T) {
	const askers = 20
	m := newMirror(t)
	_, ecr := m.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{}, verifytest.Format{})
	s := m.trace()
	m.start()
	layer := ecr.Layers[amd64][0]
	if a := m.do(http.MethodGet, m.url+"/v2/"+repo+"/manifests/"+ecr.Manifests[amd64].String()+"?ns=public.ecr.aws"); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	var wait sync.WaitGroup
	for range askers {
		wait.Go(func() {
			if a := m.do(http.MethodGet, m.url+"/v2/"+repo+"/blobs/"+layer.String()+"?ns=public.ecr.aws"); digest.FromBytes(a.body) != layer {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	wait.Wait()
	work := s.named("verify.layer", "oci.manifest.digest", layer.String())
	asked := s.named(blobSpan, "oci.manifest.digest", layer.String())
	if len(work) != 1 || len(asked) != askers {
		t.Fatalf("%d spans of work for %d askers:\n%s", len(work), len(asked), s)
	}
	if work[0].Parent().IsValid() || len(s.linked(work[0], verify.LinkAsked)) != 1 {
		t.Errorf("the work has the parent %v and links %v", work[0].Parent(), work[0].Links())
	}
	for _, a := range asked {
		to := append(s.linked(a, verify.LinkWork), s.linked(a, verify.LinkAdmitted)...)
		if len(to) != 1 || to[0].SpanContext().SpanID() != work[0].SpanContext().SpanID() {
			t.Errorf("an asker (%s) has links %v", attribute(a, "trustmirror.cache"), a.Links())
		}
	}
}

// Only trusted peers decide which trace their requests belong to.
func TestTrustedPeersAreParents(t *testing.T) {
	const traceID, parent = "0af7651916cd43dd8448eb211c80319c", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for name, test := range map[string]struct {
		trusted string
		header  http.Header
		traced  string // "child", "link" or "root"
	}{
		"trusted":             {"127.0.0.0/8", http.Header{"Traceparent": {parent}}, "child"},
		"not trusted":         {"10.0.0.0/8", http.Header{"Traceparent": {parent}}, "link"},
		"nobody is":           {"", http.Header{"Traceparent": {parent}}, "link"},
		"no parent":           {"127.0.0.0/8", nil, "root"},
		"malformed":           {"127.0.0.0/8", http.Header{"Traceparent": {"00-" + strings.Repeat("f", 9000)}}, "root"},
		"too long":            {"", http.Header{"Traceparent": {parent + strings.Repeat("0", 9000)}}, "root"},
		"zero":                {"127.0.0.0/8", http.Header{"Traceparent": {"00-00000000000000000000000000000000-0000000000000000-01"}}, "root"},
		"claims another peer": {"10.0.0.0/8", http.Header{"Traceparent": {parent}, "X-Forwarded-For": {"10.1.1.1"}, "Forwarded": {"for=10.1.1.1"}}, "link"},
		"carries a lot": {"", http.Header{
			"Traceparent": {parent}, "Tracestate": {"v=" + strings.Repeat("hostile", 30)}, "Baggage": {"k=" + strings.Repeat("hostile", 5000)},
		}, "link"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t)
			s := m.trace()
			if test.trusted != "" {
				m.tracing.TrustedPeers = []netip.Prefix{netip.MustParsePrefix(test.trusted)}
			}
			m.start()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.url+"/v2/", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range test.header {
				req.Header[k] = v
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			span := s.last("GET /v2/")
			traced := "root"
			switch {
			case span.Parent().TraceID().String() == traceID && span.SpanContext().TraceID().String() == traceID:
				traced = "child"
			case len(span.Links()) == 1 && span.Links()[0].SpanContext.TraceID().String() == traceID && span.SpanContext().TraceID().String() != traceID:
				traced = "link"
			case span.Parent().IsValid() || len(span.Links()) > 0:
				traced = "otherwise"
			}
			if traced != test.traced {
				t.Errorf("it is a %s, want a %s: parent %v, links %v", traced, test.traced, span.Parent(), span.Links())
			}
			if text := fmt.Sprint(span.Attributes(), span.Links(), span.SpanContext().TraceState()); strings.Contains(text, "hostile") {
				t.Errorf("what a client wants carried along is kept: %.300s", text)
			}
		})
	}
}

// Spans hold no credentials, and nothing of the query.
func TestSpansHaveNoCredentials(t *testing.T) {
	m := newMirror(t)
	s := m.trace()
	m.start()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.url+"/v2/"+repo+"/manifests/x?ns=docker.io&token=secret1", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("secret2", "secret3")
	req.Header.Set("Cookie", "secret4")
	req.Header.Set("Referer", "https://secret5/")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	s.last(manifestSpan)
	if strings.Contains(s.String(), "secret") {
		t.Errorf("a span has a secret:\n%s", s)
	}
}
