package proxy_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"
	"go.opentelemetry.io/otel/trace"

	"github.com/trustmirror/trustmirror/proxy"
	"github.com/trustmirror/trustmirror/proxy/upstream"
	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

const (
	repo    = "nicolas/webdis"
	hubName = "docker.io/" + repo
	ecrName = "public.ecr.aws/" + repo
	amd64   = "linux/amd64"
	arm64   = "linux/arm64/v8"
)

// mirror is all of trustmirror but the configuration file: a server before two
// registries and a trust service, all over HTTP.
type mirror struct {
	t         testing.TB
	hub, ecr  *verifytest.Registry
	repo      *notarytest.Repository
	pins      *notary.Pins // nil: those of the repository
	roleOrder []string
	clock     notarytest.Clock
	store     *storage.Store
	tracing   proxy.Tracing
	log       *slog.Logger
	audit     *audit // nil: in benchmarks
	handler   http.Handler
	answering sync.WaitGroup // requests, until their handlers have returned
	url       string

	mu        sync.Mutex // guards decisions
	decisions []verify.Decision
}

func newMirror(t testing.TB) *mirror {
	t.Helper()
	store, err := storage.Open(t.Context(), "inmemory", nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &mirror{
		t: t, hub: verifytest.NewRegistry(), ecr: verifytest.NewRegistry(),
		repo: notarytest.New(t, hubName), store: store,
	}
	if t, ok := t.(*testing.T); ok {
		m.audit = newAudit(t)
		m.tracing = m.audit.tracing()
	}
	return m
}

// decided is told each decision.
func (m *mirror) decided(ctx context.Context, d verify.Decision) {
	if m.audit != nil {
		m.audit.decided(ctx, d)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.decisions = append(m.decisions, d)
}

// start starts the mirror on what is stored. Its pins are the keys that the
// repository has when it is started first.
func (m *mirror) start() {
	m.t.Helper()
	serve := func(h http.Handler) string {
		s := httptest.NewServer(h)
		m.t.Cleanup(s.Close)
		return s.URL
	}
	if m.pins == nil {
		pins := m.repo.Pins()
		m.pins = &pins
	}
	var tracer trace.Tracer
	if m.tracing.Provider != nil {
		tracer = m.tracing.Provider.Tracer("")
	}
	options := upstream.Options{Keychain: authn.NewMultiKeychain(), Now: m.clock.Now, TracerProvider: m.tracing.Provider}
	service, err := upstream.NewNotary(upstream.NotaryConfig{URL: serve(m.repo.Service()), Options: options})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(service.Close)
	client, err := upstream.New(upstream.Config{Options: options, Registries: map[string]upstream.Registry{
		"docker.io": {URL: serve(m.hub)}, "public.ecr.aws": {URL: serve(m.ecr)},
	}})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(client.Close)
	source, err := notary.New(notary.Config{
		GUN: hubName, Pins: *m.pins, RoleOrder: m.roleOrder, Fetcher: service, Store: m.store.Trust(), Clock: m.clock.Now, Tracer: tracer,
	})
	if err != nil {
		m.t.Fatal(err)
	}
	policy, err := verify.NewPolicy([]verify.ImageRule{{
		Signed: hubName, Copies: []string{ecrName}, Grace: time.Hour,
		Source: func(verify.Ref) (verify.Source, error) { return source, nil },
	}})
	if err != nil {
		m.t.Fatal(err)
	}
	gate, err := verify.NewGate(verify.GateConfig{
		Policy: policy, Fetcher: client, Store: m.store, Clock: m.clock.Now, Tracer: tracer,
		Decided: m.decided,
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(gate.Close)
	m.handler, err = proxy.New(proxy.Config{
		Gate: gate, Registries: policy.Registries(), DefaultRegistry: "docker.io", Tracing: m.tracing, Log: m.log,
		Decided: m.decided,
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.url = serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.answering.Add(1)
		defer m.answering.Done()
		m.handler.ServeHTTP(w, r)
	}))
}

// publish pushes a release to both registries and signs it on the Hub.
func (m *mirror) publish(tag string, release *verifytest.Release, onHub, onECR verifytest.Format) (hub, ecr verifytest.Pushed) {
	m.t.Helper()
	hub = release.Push(m.hub, repo, onHub)
	onECR.Tags = append(onECR.Tags, tag)
	if onECR.Level == 0 {
		onECR.Level = 1
	}
	ecr = release.Push(m.ecr, repo, onECR)
	m.repo.Sign(tag, hub.Root, hub.Size)
	m.repo.Publish("targets")
	return hub, ecr
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

// get asks the mirror as containerd does, and checks that HEAD agrees.
func (m *mirror) get(name, kind, reference string) answer {
	m.t.Helper()
	registry, path, _ := strings.Cut(name, "/")
	url := m.url + "/v2/" + path + "/" + kind + "/" + reference + "?ns=" + registry
	got, head := m.do(http.MethodGet, url), m.do(http.MethodHead, url)
	for _, h := range []string{"Content-Type", "Content-Length", "Docker-Content-Digest", "Etag"} {
		if got.header.Get(h) != head.header.Get(h) {
			m.t.Errorf("%s: HEAD answers %s: %q, GET %q", url, h, head.header.Get(h), got.header.Get(h))
		}
	}
	if got.status != head.status || len(head.body) > 0 {
		m.t.Errorf("%s: HEAD answers %d and %d bytes, GET %d", url, head.status, len(head.body), got.status)
	}
	return got
}

// do sends a request, with header lines "Name: value". Its answer is audited.
func (m *mirror) do(method, url string, header ...string) answer {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), method, url, http.NoBody)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Add(name, value)
	}
	var id string
	if m.audit != nil && req.Header.Get("Traceparent") == "" {
		id = m.audit.trace(req)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	a := answer{res.StatusCode, res.Header, body}
	if id != "" {
		m.audit.check(req, id, a)
	}
	return a
}

// pull pulls a document by tag or digest and all that it leads to. It returns the
// first answer that isn't 200, or the document.
func (m *mirror) pull(name, reference string) answer {
	m.t.Helper()
	top := m.get(name, "manifests", reference)
	if top.status != http.StatusOK {
		return top
	}
	type link struct{ Digest digest.Digest }
	var doc struct {
		Manifests, Layers []link
		Config            *link
	}
	if err := json.Unmarshal(top.body, &doc); err != nil {
		m.t.Fatal(err)
	}
	if got := digest.FromBytes(top.body).String(); got != top.header.Get("Docker-Content-Digest") {
		m.t.Errorf("%s@%s hashes to %s", name, reference, got)
	}
	for _, d := range doc.Manifests {
		if a := m.pull(name, d.Digest.String()); a.status != http.StatusOK {
			return a
		}
	}
	if doc.Config != nil {
		doc.Layers = append(doc.Layers, *doc.Config)
	}
	for _, d := range doc.Layers {
		a := m.get(name, "blobs", d.Digest.String())
		if a.status != http.StatusOK {
			return a
		}
		if got := digest.FromBytes(a.body); got != d.Digest {
			m.t.Errorf("blob %s of %s hashes to %s", d.Digest, name, got)
		}
	}
	return top
}

// errorOf reads an OCI error document.
func errorOf(t testing.TB, a answer) (code, message string, reason verify.Reason, ref string) {
	t.Helper()
	var doc struct {
		Errors []struct {
			Code, Message string
			Detail        struct {
				Reason verify.Reason
				Ref    string
			}
		}
	}
	if err := json.Unmarshal(a.body, &doc); err != nil || len(doc.Errors) != 1 {
		t.Fatalf("not an OCI error document: %s", a.body)
	}
	e := doc.Errors[0]
	return e.Code, e.Message, e.Detail.Reason, e.Detail.Ref
}

// TestPullBothNames pulls both names, cold and warm, and with everything stopped.
func TestPullBothNames(t *testing.T) {
	m := newMirror(t)
	m.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64, arm64), verifytest.Format{}, verifytest.Format{OCI: true})
	m.start()
	for _, name := range []string{hubName, ecrName} {
		if a := m.pull(name, "0.1.19"); a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", name, a.status, a.body)
		}
	}
	for registry, counts := range map[string]map[string]int{"the Hub": m.hub.Counts(), "ECR": m.ecr.Counts()} {
		for object, n := range counts {
			if n != 1 {
				t.Errorf("asked %s %d times: %s", registry, n, object)
			}
		}
	}
	m.repo.Service().Requests()
	m.hub.SetDown(true)
	m.ecr.SetDown(true)
	m.repo.Service().Down()
	for _, name := range []string{hubName, ecrName} {
		if a := m.pull(name, "0.1.19"); a.status != http.StatusOK {
			t.Fatalf("warm, %s: %d %s", name, a.status, a.body)
		}
	}
	m.start() // and after a restart
	for _, name := range []string{hubName, ecrName} {
		if a := m.pull(name, "0.1.19"); a.status != http.StatusOK {
			t.Fatalf("restarted, %s: %d %s", name, a.status, a.body)
		}
	}
	if asked := append(append(m.hub.Requests(), m.ecr.Requests()...), m.repo.Service().Requests()...); len(asked) > 0 {
		t.Errorf("warm pulls asked %q", asked)
	}
}

// TestPullConcurrently has 200 clients pull one cold image over HTTP.
func TestPullConcurrently(t *testing.T) {
	m := newMirror(t)
	m.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64, arm64), verifytest.Format{}, verifytest.Format{})
	m.start()
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if a := m.pull(ecrName, "0.1.19"); a.status != http.StatusOK {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	for registry, counts := range map[string]map[string]int{"the Hub": m.hub.Counts(), "ECR": m.ecr.Counts()} {
		for object, n := range counts {
			if n != 1 {
				t.Errorf("asked %s %d times: %s", registry, n, object)
			}
		}
	}
}
