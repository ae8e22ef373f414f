package upstream

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// Spans of requests hold nothing secret: no password, no token, no query of a URL
// that lets everybody in. Servers aren't told of our traces.
func TestSpansKeepSecrets(t *testing.T) {
	const secret = "sEcReT"
	body := "layer"
	ref, path := blobRef(t, body)
	cdn := serve(t, script{"/x": ranged(body)})
	s := serve(t, nil)
	inner := script{
		path:     redirect(cdn.URL + "/x?X-Signature=" + secret + "#" + secret),
		"/token": answer(200, `{"token":"`+secret+`"}`),
	}
	s.Config.Handler = s.recording(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/token" && r.Header.Get("Authorization") != "Bearer "+secret {
			answer(401, "", `WWW-Authenticate: Bearer realm="`+s.URL+`/token?key=`+secret+`",service="here"`)(w, r)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	recorder := tracetest.NewSpanRecorder()
	config := at(s)
	config.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	config.Keychain = passwords{s.host(): {Username: "nicolas", Password: secret}}
	got, err := readBlob(t, client(t, config), ref)
	if err != nil || got != body {
		t.Fatalf("got %q, %v", got, err)
	}
	var names, urls []string
	for _, span := range recorder.Ended() {
		names = append(names, span.Name())
		for _, a := range span.Attributes() {
			if strings.Contains(fmt.Sprint(a.Value.AsInterface()), secret) {
				t.Errorf("span %s has %s=%s", span.Name(), a.Key, a.Value.AsString())
			}
			if a.Key == "url.full" {
				urls = append(urls, a.Value.AsString())
			}
		}
	}
	if want := []string{"GET ping", "GET token", "GET blob", "GET blob"}; !slices.Equal(names, want) {
		t.Errorf("spans are %q, want %q", names, want)
	}
	if want := []string{s.URL + "/v2/", s.URL + "/token", s.URL + path, cdn.URL + "/x"}; !slices.Equal(urls, want) {
		t.Errorf("URLs are %q, want %q", urls, want)
	}
	for _, h := range append(s.headers, cdn.headers...) {
		if h.Get("Traceparent") != "" || h.Get("Baggage") != "" {
			t.Errorf("a server was told of a trace: %v", h)
		}
	}
}

// What retries and pauses are counted by.
func TestEventsTellOfRetriesAndPauses(t *testing.T) {
	s := serve(t, script{manifestPath: answers(answer(503, ""), answer(429, "", "Retry-After: 60"))})
	clock := newClock()
	var (
		mu     sync.Mutex
		events []Event
	)
	config := at(s)
	config.Now = clock.Now
	config.Observe = func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Kind == KindManifest {
			events = append(events, e)
		}
	}
	if err := manifest(t, client(t, config)); err == nil {
		t.Fatal("a limited registry delivered")
	}
	if len(events) != 2 || events[0].Again || !events[0].RestUntil.IsZero() || !events[1].Again ||
		!events[1].RestUntil.Equal(clock.Now().Add(time.Minute)) {
		t.Errorf("events are %+v", events)
	}
}
