package main

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/trustmirror/trustmirror/proxy"
	"github.com/trustmirror/trustmirror/proxy/upstream"
	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
)

// metrics counts what happens (here) and tells how things are (metrics_state.go),
// at /metrics and wherever OTEL_METRICS_EXPORTER says. docs/metrics.md lists them.
// A nil *metrics counts nothing.
//
// No label has a value that a client chooses: images are the rules of the
// configuration, everything else is our own words.
type metrics struct {
	registry *prometheus.Registry
	provider *sdkmetric.MeterProvider
	meter    metric.Meter
	failed   error // of making instruments

	requests, failures, served           *counter
	admissions, refusals                 *counter
	opened, shared, quarantines          *counter
	evictions, evictedBytes              *counter
	asked, askedAgain, received, refresh *counter
	duration, upstreamDuration           *histogram

	mu    sync.Mutex           // guards what follows
	rests map[string]time.Time // by registry that was asked: until when it is left alone; zero if it never was
}

// Bounds of histograms, in seconds: warm answers take a millisecond, large layers
// minutes.
func durations() metric.HistogramOption {
	return metric.WithExplicitBucketBoundaries(0.001, 0.005, 0.025, 0.1, 0.25, 1, 2.5, 10, 30, 120, 600)
}

func newMetrics(options ...sdkmetric.Option) (*metrics, error) {
	m := &metrics{registry: prometheus.NewRegistry(), rests: make(map[string]time.Time)}
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(m.registry),
		otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
	if err != nil {
		return nil, err
	}
	m.provider = sdkmetric.NewMeterProvider(append(options, sdkmetric.WithReader(exporter))...)
	m.meter = m.provider.Meter(scope)
	m.requests = m.counter("requests", "", "Requests of clients that are over.", "route", "status", "outcome")
	m.failures = m.counter("request.failures", "", "Requests that were not served, by reason: refusals, and what could not be decided.", "route", "reason")
	m.served = m.counter("served", "By", "Bytes of bodies that were sent to clients.", "route")
	m.duration = m.histogram("request.duration", "How long requests of clients took, from the first byte to the last.", "route", "outcome")
	m.admissions = m.counter("admissions", "", "Objects that were admitted, by the image's rule and by what proved them.", "image", "proof")
	m.refusals = m.counter("refusals", "", "Refusals, by the image's rule; an empty image is none that a rule covers.", "image", "reason")
	m.opened = m.counter("cache.requests", "", "Manifests and blobs that were opened, for clients or to keep images warm, by how they were come by.", "kind", "result")
	m.shared = m.counter("fetches.shared", "", "Times that somebody waited for fetching and verifying that another had begun.")
	m.quarantines = m.counter("quarantines", "", "Stored objects that were found damaged and set aside.")
	m.evictions = m.counter("cache.evictions", "", "Stored objects that were evicted, by why: storage.max_size, or a full disk.", "cause")
	m.evictedBytes = m.counter("cache.evicted", "By", "Bytes of stored objects that were evicted, by why.", "cause")
	m.asked = m.counter("upstream.requests", "", "Requests to registries and trust services; status 0 is no answer.", "registry", "kind", "status")
	m.askedAgain = m.counter("upstream.retries", "", "Requests to registries and trust services that were sent because one before had failed.", "registry", "kind")
	m.received = m.counter("upstream.received", "By", "Bytes of bodies that came from registries and trust services.", "registry", "kind")
	m.upstreamDuration = m.histogram("upstream.request.duration", "How long requests to registries and trust services took, bodies included.", "registry", "kind")
	m.refresh = m.counter("trust.refreshes", "", "Times that trust services were asked for news, by the image's rule.", "image", "result")
	m.shared.add(0) // so that a first one shows as a rise
	m.quarantines.add(0)
	for _, cause := range []string{causeLimit, causeDisk} {
		m.evictions.add(0, cause)
		m.evictedBytes.add(0, cause)
	}
	for _, route := range []string{"manifest", "blob"} {
		m.failures.add(0, route, string(verify.StorageUnavailable))
	}
	build := newBuildVersion()
	m.gauge("build.info", "", "What is running; always 1.", func(_ context.Context, o observer) {
		o(1, attribute.String("version", build.Version), attribute.String("commit", build.Commit), attribute.String("go", build.Go))
	})
	return m, errors.Join(m.failed,
		m.registry.Register(collectors.NewGoCollector()),
		m.registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})))
}

// handler answers /metrics.
func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// request counts what proxy.Config.Observe is told.
func (m *metrics) request(e proxy.Event) {
	if m == nil {
		return
	}
	m.requests.add(1, e.Route, statusLabel(e.Status), e.Outcome)
	m.served.add(e.Bytes, e.Route)
	m.duration.record(e.Duration, e.Route, e.Outcome)
	if e.Reason != "" {
		m.failures.add(1, e.Route, string(e.Reason))
	}
}

// happened counts what verify.GateConfig.Observe is told.
func (m *metrics) happened(e verify.Event) {
	if m == nil {
		return
	}
	switch e.Kind {
	case verify.Opened:
		kind := "blob"
		if e.Document {
			kind = "manifest"
		}
		m.opened.add(1, kind, string(e.Cache))
	case verify.Shared:
		m.shared.add(1)
	case verify.Quarantined:
		m.quarantines.add(1)
	}
}

// Why something was evicted.
const (
	causeLimit = "max_size"
	causeDisk  = "disk_full"
)

// evicted counts what storage.Eviction.Told is told.
func (m *metrics) evicted(e storage.Evicted) {
	if m == nil || e.TooLarge != "" {
		return
	}
	cause := causeLimit
	if e.DiskFull {
		cause = causeDisk
	}
	m.evictions.add(int64(e.Objects), cause)
	m.evictedBytes.add(e.Bytes, cause)
}

// decided counts a decision under the rule of a policy that covers it.
func (m *metrics) decided(p *verify.Policy, d verify.Decision) {
	if m == nil {
		return
	}
	if d.Refusal != nil {
		m.refusals.add(1, p.Rule(d.Ref), string(d.Refusal.Reason))
		return
	}
	m.admissions.add(1, p.Rule(d.Ref), string(d.Admission.Proof))
}

// covers begins to count the refusals of images, so that a first one shows as a rise.
func (m *metrics) covers(images []Image) {
	if m == nil {
		return
	}
	for _, image := range images {
		for _, reason := range []verify.Reason{
			verify.UnsignedTag, verify.Malformed, verify.SignatureInvalid, verify.KeyNotPinned, verify.Rollback, verify.MetadataExpired,
			verify.RolesDisagree, verify.DigestMismatch, verify.SizeMismatch, verify.AmbiguousDoc, verify.MediaType, verify.BadDescriptor,
			verify.PlatformMismatch, verify.ConfigMismatch, verify.ExtraPlatform, verify.LayerMismatch, verify.Annotation,
			verify.NotAdmitted, verify.Superseded,
		} {
			m.refusals.add(0, image.Signed, string(reason))
		}
	}
}

// upstream counts what upstream.Options.Observe is told.
func (m *metrics) upstream(e upstream.Event) {
	if m == nil {
		return
	}
	e.Registry, _ = strings.CutPrefix(e.Registry, "trust service ") // the kind says as much
	kind := string(e.Kind)
	again := int64(0)
	if e.Again {
		again = 1
	}
	m.asked.add(1, e.Registry, kind, statusLabel(e.Status))
	m.askedAgain.add(again, e.Registry, kind)
	m.received.add(e.Bytes, e.Registry, kind)
	m.upstreamDuration.record(e.Duration, e.Registry, kind)
	m.mu.Lock()
	defer m.mu.Unlock()
	if last := m.rests[e.Registry]; !e.RestUntil.Before(last) {
		m.rests[e.Registry] = e.RestUntil
	}
}

// refreshed counts what notary.Config.OnRefresh is told of an image's rule.
func (m *metrics) refreshed(rule string, r notary.Refreshed) {
	if m == nil {
		return
	}
	result := "unchanged"
	switch {
	case r.Err != nil:
		result = "failed"
	case r.Changed:
		result = "changed"
	}
	for _, known := range []string{"changed", "unchanged", "failed"} {
		m.refresh.add(0, rule, known) // so that a first failure shows as a rise
	}
	m.refresh.add(1, rule, result)
}

// statusLabel is a status as a label, without making a string for each request.
func statusLabel(code int) string {
	if code == http.StatusOK {
		return "200"
	}
	return strconv.Itoa(code)
}
