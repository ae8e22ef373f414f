package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// collector takes what is sent over OTLP, without understanding it: names and
// values of attributes are in it as they are.
type collector struct {
	*httptest.Server
	mu       sync.Mutex
	received map[string]*bytes.Buffer // by path
}

func newCollector(t *testing.T) *collector {
	c := &collector{received: make(map[string]*bytes.Buffer)}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.received[r.URL.Path] == nil {
			c.received[r.URL.Path] = &bytes.Buffer{}
		}
		c.received[r.URL.Path].Write(body)
	}))
	t.Cleanup(c.Close)
	return c
}

// got is what was sent to a path.
func (c *collector) got(path string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.received[path]; b != nil {
		return b.String()
	}
	return ""
}

// Traces and metrics are sent where the standard variables say, the last of them
// when the mirror ends.
func TestTelemetryIsSent(t *testing.T) {
	c := newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL)
	t.Setenv("OTEL_METRICS_EXPORTER", "otlp")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=the-lab")
	s := startServe(t, newLab(t).write(t))
	if status, body := s.get("/v2/nicolas/webdis/manifests/0.1.19"); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	status, body := s.get("/v2/nicolas/webdis/manifests/latest")
	if status != 403 || !bytes.Contains(body, []byte(`"trace_id":"`)) {
		t.Errorf("a refusal: %d %s", status, body)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.address+"/v2/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", strings.Repeat("u", 20*maxAttribute))
	resp, err := testClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if line := s.line("request", "reason", "unsigned_tag"); line["trace_id"] == nil {
		t.Errorf("the access log has no trace: %v", line)
	}
	if status := s.end(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	for path, words := range map[string][]string{
		"/v1/traces": {
			"GET /v2/{name}/manifests/{reference}", "policy", "trust.resolve", "trust.refresh", "verify.index", "fetch", "storage.put",
			"GET manifest", "GET metadata", "unsigned_tag", "docker.io/nicolas/webdis", "trustmirror", "the-lab",
		},
		"/v1/metrics": {"trustmirror.requests", "trustmirror.refusals", "trustmirror.trust.expiry", "unsigned_tag", "the-lab"},
	} {
		got := c.got(path)
		for _, word := range words {
			if !strings.Contains(got, word) {
				t.Errorf("%s has %d bytes, but no %q", path, len(got), word)
			}
		}
	}
	if got := c.got("/v1/traces"); !strings.Contains(got, strings.Repeat("u", maxAttribute)) || strings.Contains(got, strings.Repeat("u", maxAttribute+1)) {
		t.Errorf("a client's words are not cut to %d bytes", maxAttribute)
	}
}

// Nothing is sent where nobody asks for it.
func TestTelemetryIsOff(t *testing.T) {
	c := newCollector(t)
	for name, variables := range map[string][]string{
		"not asked for":     {},
		"switched off":      {"OTEL_EXPORTER_OTLP_ENDPOINT", c.URL, "OTEL_METRICS_EXPORTER", "otlp", "OTEL_SDK_DISABLED", "true"},
		"exporter none":     {"OTEL_EXPORTER_OTLP_ENDPOINT", c.URL, "OTEL_TRACES_EXPORTER", "none"},
		"metrics not asked": {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", c.URL},
	} {
		t.Run(name, func(t *testing.T) {
			for i := 0; i < len(variables); i += 2 {
				t.Setenv(variables[i], variables[i+1])
			}
			telemetry, err := newTelemetry(t.Context(), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer telemetry.close(slog.New(slog.DiscardHandler))
			if telemetry.tracer() != nil || telemetry.tracers() != nil {
				t.Error("requests are traced")
			}
		})
	}
	if c.received["/v1/traces"] != nil || c.received["/v1/metrics"] != nil {
		t.Error("something was sent")
	}
	var none *telemetry
	if none.tracer() != nil || none.tracers() != nil || none.counted() != nil {
		t.Error("commands other than serve trace or count")
	}
}

// A collector that is gone, or that never answers, breaks no pull, and the log says
// so once.
func TestTelemetryThatCannotBeSent(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	gone := newCollector(t)
	gone.Close()
	for name, endpoint := range map[string]string{"gone": gone.URL, "silent": "http://" + silent.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
			t.Setenv("OTEL_METRICS_EXPORTER", "otlp")
			t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "100")
			t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
			t.Setenv("OTEL_BSP_EXPORT_TIMEOUT", "100")
			t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "10")
			t.Setenv("OTEL_METRIC_EXPORT_TIMEOUT", "100")
			s := startServe(t, newLab(t).write(t))
			for range 50 {
				if status, body := s.get("/v2/nicolas/webdis/manifests/0.1.19"); status != 200 {
					t.Fatalf("%d %s", status, body)
				}
			}
			s.line("telemetry can't be sent; pulls go on without")
			for range 50 {
				if status, body := s.get("/v2/nicolas/webdis/manifests/0.1.19"); status != 200 {
					t.Fatalf("%d %s", status, body)
				}
			}
			if status := s.end(); status != 0 {
				t.Errorf("exit status %d", status)
			}
			said := 0
			for _, line := range s.lines {
				if text, _ := line["msg"].(string); strings.Contains(text, "telemetry") || strings.Contains(text, "traces export") {
					said++
				}
			}
			if said > 2 { // once, and once more for what was left at the end
				t.Errorf("the log has %d lines about it: %v", said, s.lines)
			}
		})
	}
}

func TestTelemetryErrorsAreSaidNowAndThen(t *testing.T) {
	var log bytes.Buffer
	h := &telemetryErrors{log: slog.New(slog.NewTextHandler(&log, nil))}
	for range 1000 {
		h.Handle(errors.New("nobody there"))
	}
	if got := strings.Count(log.String(), "\n"); got != 1 {
		t.Errorf("1000 errors are %d lines", got)
	}
	h.said = h.said.Add(-telemetryErrorsEvery)
	h.Handle(errors.New("nobody there"))
	if !strings.Contains(log.String(), "more_since_last=999") {
		t.Errorf("it isn't said how many more there were: %s", &log)
	}
}
