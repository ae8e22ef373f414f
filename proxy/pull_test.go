package proxy

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/trustmirror/trustmirror/verify"
)

// seen collects pulls and decisions.
type seen struct {
	mu        sync.Mutex // guards what follows
	pulls     []*Pull
	ended     map[*Pull]int
	decisions []verify.Decision
	asked     []Asked
}

func (s *seen) Begin(p *Pull) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pulls = append(s.pulls, p)
}

func (s *seen) End(p *Pull) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended[p]++
}

func (s *seen) decided(ctx context.Context, d verify.Decision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.decisions = append(s.decisions, d)
	s.asked = append(s.asked, AskedOf(ctx))
}

func (s *seen) config(c *Config) { c.Pulls, c.Decided = s, s.decided }

func newSeen() *seen { return &seen{ended: make(map[*Pull]int)} }

// askFrom sends one request from an address.
func askFrom(t *testing.T, h http.Handler, method, path, userAgent string) int {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody)
	r.RemoteAddr = "[2001:db8::1]:40000"
	r.Header.Set("User-Agent", userAgent)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// A refusal for which the Gate isn't asked is told, with the request; others are
// the Gate's to tell, and mistakes aren't refusals.
func TestTellsRefusalsOfItsOwn(t *testing.T) {
	for _, tc := range []struct {
		path string
		err  error
		told bool
	}{
		{"/v2/nicolas/webdis/manifests/1?ns=quay.example", nil, true},
		{"/v2/nicolas/webdis/blobs/" + testDigest.String() + "?ns=quay.example", nil, true},
		{"/v2/nicolas/webdis/tags/list?ns=quay.example", nil, true},
		{"/v2/nicolas/webdis/manifests/1", verify.Refuse(verify.UnsignedTag, "nobody signed it"), false},
		{"/v2/nicolas/webdis/manifests/1", nil, false},
		{"/v2/nicolas/webdis/manifests/-", nil, false},
		{"/v2/nicolas/webdis/manifests/1?ns=a&ns=b", nil, false},
	} {
		s := newSeen()
		askFrom(t, newHandler(t, &fakeGate{err: tc.err}, s.config), http.MethodGet, tc.path, strings.Repeat("x", 1000))
		if len(s.decisions) != map[bool]int{true: 1}[tc.told] {
			t.Errorf("%s: told of %v", tc.path, s.decisions)
			continue
		}
		if !tc.told {
			continue
		}
		d, a := s.decisions[0], s.asked[0]
		if d.Refusal.Reason != verify.NoPolicy || d.Ref != (verify.Ref{}) || d.At.IsZero() ||
			a.Name != "nicolas/webdis" || a.Client != "2001:db8::1" || len(a.UserAgent) > maxLogged+len("…") || a.Kind == "" || a.At.IsZero() {
			t.Errorf("%s: told of %+v by %+v", tc.path, d, a)
		}
	}
}

// Each pull begins and ends once, however it ends, and says how far it is.
func TestTellsPulls(t *testing.T) {
	s := newSeen()
	var during []int64
	gate := &fakeGate{
		hook: func(ctx context.Context) error {
			during = append(during, s.pulls[len(s.pulls)-1].Size())
			if a := AskedOf(ctx); a.Client != "2001:db8::1" || a.UserAgent != "containerd" {
				t.Errorf("the gate was asked by %+v", a)
			}
			return nil
		},
		open: func() io.ReadSeekCloser { return nopCloser{bytes.NewReader(testBody)} },
	}
	h := newHandler(t, gate, s.config)
	blob := "/v2/nicolas/webdis/blobs/" + testDigest.String()
	for _, request := range []struct{ method, path string }{
		{http.MethodGet, "/v2/nicolas/webdis/manifests/1"}, {http.MethodGet, blob}, {http.MethodHead, blob},
		{http.MethodGet, "/v2/nicolas/webdis/tags/list"}, {http.MethodGet, "/v2/"},
	} {
		gate.size = int64(len(testBody))
		if code := askFrom(t, h, request.method, request.path, "containerd"); code != http.StatusOK {
			t.Errorf("%s %s: %d", request.method, request.path, code)
		}
	}
	gate.hook = func(context.Context) error { panic("a bug") }
	askFrom(t, h, http.MethodGet, blob, "containerd")
	for i, want := range []struct {
		kind string
		sent int
	}{{"manifest", len(testBody)}, {"blob", len(testBody)}, {"blob", 0}, {"blob", 0}} {
		if i >= len(s.pulls) {
			t.Fatalf("%d pulls", len(s.pulls))
		}
		p := s.pulls[i]
		if p.Kind != want.kind || p.Sent() != int64(want.sent) || p.Size() != int64(want.sent) || s.ended[p] != 1 || p.Ref.Name() != "docker.io/nicolas/webdis" {
			t.Errorf("pull %d: %s %s, %d of %d bytes, ended %d times", i, p.Kind, p.Ref, p.Sent(), p.Size(), s.ended[p])
		}
	}
	if len(s.pulls) != 4 || len(during) != 4 || during[0] != 0 || during[1] != 0 {
		t.Errorf("%d pulls, sizes while they were fetched: %v", len(s.pulls), during)
	}
}

// What a pull costs on the way of every request.
func TestAskedAllocatesOnce(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/nicolas/webdis/manifests/1", http.NoBody)
	r.RemoteAddr = "192.0.2.1:40000"
	r.Header.Set("User-Agent", "containerd")
	x := &exchange{r: r, meaning: meaning{route: routeManifest, name: "nicolas/webdis", reference: "1"}}
	var kept *pullContext
	if n := testing.AllocsPerRun(100, func() { kept = x.asked() }); n != 1 || kept.pull.Client != "192.0.2.1" {
		t.Errorf("%v allocations, %+v", n, kept.pull.Asked)
	}
}
