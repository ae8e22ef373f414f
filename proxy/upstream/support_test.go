package upstream

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"
	"github.com/trustmirror/trustmirror/verify"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is an upstream that records what it is asked.
type server struct {
	*httptest.Server
	mu      sync.Mutex
	asked   []string
	headers []http.Header
}

func serve(t *testing.T, h http.Handler) *server {
	s := newServer(h)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// serveTLS speaks HTTP/1.1 and HTTP/2, with a certificate that only s.caFile vouches for.
func serveTLS(t *testing.T, h http.Handler) *server {
	s := newServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func newServer(h http.Handler) *server {
	s := &server{}
	s.Server = httptest.NewUnstartedServer(s.recording(h))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	return s
}

func (s *server) recording(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		line := r.Method + " " + r.URL.RequestURI()
		if v := r.Header.Get("Range"); v != "" {
			line += " " + v
		}
		if v := r.Header.Get("Authorization"); v != "" {
			if user, password, ok := r.BasicAuth(); ok {
				v = "Basic " + user + ":" + password
			}
			line += " " + v
		}
		s.mu.Lock()
		s.asked = append(s.asked, line)
		s.headers = append(s.headers, r.Header.Clone())
		s.mu.Unlock()
		h.ServeHTTP(w, r)
	})
}

// take returns what was asked since it was last called.
func (s *server) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

func (s *server) wantAsked(t *testing.T, want ...string) {
	t.Helper()
	if got := s.take(); !slices.Equal(got, want) {
		t.Errorf("the server was asked\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func (s *server) host() string { return s.Listener.Addr().String() }

// caFile holds the certificate of a TLS server.
func (s *server) caFile(t *testing.T) string {
	file := filepath.Join(t.TempDir(), "ca.crt")
	pem := "-----BEGIN CERTIFICATE-----\n" + base64.StdEncoding.EncodeToString(s.Certificate().Raw) + "\n-----END CERTIFICATE-----\n"
	if err := os.WriteFile(file, []byte(pem), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// script answers paths with handlers, /v2/ with 200, and what it doesn't know
// with 404 as a registry would.
type script map[string]http.HandlerFunc

func (s script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h, ok := s[r.URL.Path]; ok {
		h(w, r)
		return
	}
	if r.URL.Path == "/v2/" {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	fmt.Fprint(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`)
}

// answers is a handler that answers with each of hs in turn, then with the last.
func answers(hs ...http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		h := hs[0]
		if len(hs) > 1 {
			hs = hs[1:]
		}
		mu.Unlock()
		h(w, r)
	}
}

// answer is a handler with a status, header lines and a body.
func answer(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, h := range header {
			name, value, _ := strings.Cut(h, ": ")
			w.Header().Add(name, value)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// cut is a handler that promises all of body and sends n bytes.
func cut(body string, n int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = io.WriteString(w, body[:n])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// hang is a handler that answers nothing more until the client leaves.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	manifestBody = `{"schemaVersion":2}`
	manifestPath = "/v2/nicolas/webdis/manifests/0.1.19"
)

var manifestAnswer = answer(200, manifestBody, "Content-Type: "+manifestType)

// emptyKeychain is the keychain of somebody who never logged in.
var emptyKeychain = authn.NewMultiKeychain()

// passwords is a keychain by resource name; it remembers who was asked for.
type passwords map[string]authn.AuthConfig

func (p passwords) Resolve(r authn.Resource) (authn.Authenticator, error) {
	for _, key := range []string{r.String(), r.RegistryStr()} {
		if c, ok := p[key]; ok {
			return authn.FromConfig(c), nil
		}
	}
	return authn.Anonymous, nil
}

// client is a Client with a pause of a millisecond and no proxy.
func client(t *testing.T, config Config, change ...func(*hooks)) *Client {
	t.Helper()
	if config.Keychain == nil {
		config.Keychain = emptyKeychain
	}
	h := testHooks()
	for _, c := range change {
		c(&h)
	}
	c, err := newClient(config, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func testHooks() hooks {
	return hooks{backoff: time.Millisecond, proxy: func(*http.Request) (*url.URL, error) { return nil, nil }}
}

// at is the configuration of one registry called hub.example.
func at(s *server) Config {
	return Config{Registries: map[string]Registry{"hub.example": {URL: s.URL}}}
}

// pretend classifies the addresses of servers, all of which are loopback really.
func pretend(addresses map[*server]reach) func(*hooks) {
	return func(h *hooks) {
		h.classify = func(a netip.AddrPort) reach {
			for s, r := range addresses {
				if s.host() == a.String() {
					return r
				}
			}
			return reachOf(a.Addr())
		}
	}
}

func image(t *testing.T, reference string) verify.Ref {
	t.Helper()
	ref, err := verify.NewRef("hub.example", "nicolas/webdis", reference)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// blobRef names a blob by its content.
func blobRef(t *testing.T, content string) (ref verify.Ref, path string) {
	ref = image(t, digest.FromString(content).String())
	return ref, "/v2/nicolas/webdis/blobs/" + ref.Digest.String()
}

// readBlob opens and reads a blob.
func readBlob(t *testing.T, c *Client, ref verify.Ref) (string, error) {
	t.Helper()
	r, err := c.Blob(t.Context(), ref)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

// wantReason checks an error's type through its reason, and its message.
func wantReason(t *testing.T, err error, reason verify.Reason, words string) {
	t.Helper()
	if verify.ReasonOf(err) != reason || !strings.Contains(fmt.Sprint(err), words) {
		t.Errorf("error is %v, want reason %s with %q", err, reason, words)
	}
	var transient *transientError
	if errors.As(err, &transient) {
		t.Errorf("a transientError got out: %v", err)
	}
}

// unusedAddress is one that nothing listens at.
func unusedAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// passwordFile holds a password.
func passwordFile(t *testing.T, password string) string {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// clock is a clock that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// manifest asks for nicolas/webdis:0.1.19.
func manifest(t *testing.T, c *Client) error {
	t.Helper()
	_, _, err := c.Manifest(t.Context(), image(t, "0.1.19"))
	return err
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
