package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
)

const testType = "application/vnd.oci.image.manifest.v1+json"

var (
	testRegistries = []string{"docker.io", "public.ecr.aws", "127.0.0.1:5000"}
	testBody       = []byte(`{"schemaVersion":2,"what":"the manifest"}`)
	testDigest     = digest.FromBytes(testBody)
)

// fakeGate admits everything, and remembers what it was asked for.
type fakeGate struct {
	open         func() io.ReadSeekCloser // nil: testBody
	digest       digest.Digest            // "": as asked for, or testDigest
	size         int64                    // 0: of testBody
	err          error                    // refuses everything
	hook         func(context.Context) error
	tags         []string
	repositories []string
	kind         storage.Kind
	redirect     func(*http.Request) (string, error)

	mu    sync.Mutex
	asked []verify.Ref // guarded by mu
}

func (g *fakeGate) Manifest(ctx context.Context, ref verify.Ref) (*storage.Content, storage.Admission, error) {
	return g.content(ctx, ref)
}

func (g *fakeGate) Blob(ctx context.Context, ref verify.Ref) (*storage.Content, storage.Admission, error) {
	return g.content(ctx, ref)
}

func (g *fakeGate) Tags(ctx context.Context, ref verify.Ref) ([]string, error) {
	return g.tags, g.ask(ctx, ref)
}

func (g *fakeGate) Repositories() []string { return g.repositories }

func (g *fakeGate) ask(ctx context.Context, ref verify.Ref) error {
	g.mu.Lock()
	g.asked = append(g.asked, ref)
	g.mu.Unlock()
	if g.hook != nil {
		return g.hook(ctx)
	}
	return g.err
}

func (g *fakeGate) content(ctx context.Context, ref verify.Ref) (*storage.Content, storage.Admission, error) {
	if err := g.ask(ctx, ref); err != nil {
		return nil, storage.Admission{}, err
	}
	c := &storage.Content{Digest: testDigest, Size: int64(len(testBody)), RedirectURL: g.redirect}
	if ref.Digest != "" {
		c.Digest = ref.Digest
	}
	if g.digest != "" {
		c.Digest = g.digest
	}
	if g.size != 0 {
		c.Size = g.size
	}
	c.ReadSeekCloser = nopCloser{bytes.NewReader(testBody)}
	if g.open != nil {
		c.ReadSeekCloser = g.open()
	}
	return c, storage.Admission{Repository: ref.Name(), Digest: c.Digest, Kind: g.kind, MediaType: testType, Size: c.Size}, nil
}

func (g *fakeGate) askedFor() []verify.Ref {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]verify.Ref(nil), g.asked...)
}

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

// newHandler makes the handler of a mirror of testRegistries.
func newHandler(t testing.TB, gate Gate, change ...func(*Config)) http.Handler {
	t.Helper()
	c := Config{Gate: gate, Registries: testRegistries, DefaultRegistry: "docker.io"}
	for _, f := range change {
		f(&c)
	}
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// newTestServer starts a mirror as cmd does.
func newTestServer(t testing.TB, gate Gate, change ...func(*Config)) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.Config = NewServer("", newHandler(t, gate, change...))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// response is a response that was read whole.
type response struct {
	status int
	header http.Header
	body   string
}

// get sends a request without following redirects or asking for compression.
func get(t testing.TB, server *httptest.Server, method, path string, header ...string) response {
	t.Helper()
	req, err := http.NewRequest(method, server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Add(header[i], header[i+1])
	}
	res, err := server.Client().Transport.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: read the body: %v", method, path, err)
	}
	res.Header.Del("Date")
	return response{res.StatusCode, res.Header, string(body)}
}

// getAndHead sends both and fails where HEAD doesn't answer as GET.
func getAndHead(t testing.TB, server *httptest.Server, path string, header ...string) response {
	t.Helper()
	got := get(t, server, http.MethodGet, path, header...)
	head := get(t, server, http.MethodHead, path, header...)
	if head.body != "" {
		t.Errorf("HEAD %s has a body: %q", path, head.body)
	}
	if head.status != got.status {
		t.Errorf("HEAD %s: status %d, GET has %d", path, head.status, got.status)
	}
	if !reflect.DeepEqual(head.header, got.header) {
		t.Errorf("HEAD %s has the header\n%v\nGET has\n%v", path, head.header, got.header)
	}
	return got
}

// ociError is an error document.
type ociError struct {
	Code    string
	Message string
	Detail  struct {
		Reason  string
		Ref     string
		TraceID string `json:"trace_id"`
	}
}

// errorOf reads the one error of an error document.
func errorOf(t testing.TB, r response) ociError {
	t.Helper()
	var document struct{ Errors []ociError }
	if err := json.Unmarshal([]byte(r.body), &document); err != nil || len(document.Errors) != 1 {
		t.Fatalf("not an error document with one error (%v): status %d, %q", err, r.status, r.body)
	}
	if got := r.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("the error's Content-Type is %q", got)
	}
	return document.Errors[0]
}
