package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/proxy/loop"
)

// handlerWith makes a handler around a gate that admits everything.
func handlerWith(t *testing.T, gate *fakeGate, change ...func(*Config)) *server {
	t.Helper()
	c := Config{Gate: gate, Registries: testRegistries, DefaultRegistry: "docker.io"}
	for _, f := range change {
		f(&c)
	}
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return h.(*server)
}

func ask(h http.Handler, remote string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "https://registry-1.docker.io"+manifestPath, nil)
	r.RemoteAddr = remote
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestRateLimit(t *testing.T) {
	log := &logBuffer{}
	h := handlerWith(t, &fakeGate{}, log.config, func(c *Config) { c.RateLimit = RateLimit{PerSecond: 0.5, Burst: 3} })
	now := time.Now()
	h.limiter.now = func() time.Time { return now }
	const a, b = "192.0.2.1:1", "192.0.2.2:1"
	for _, step := range []struct {
		after  time.Duration
		remote string
		status int
		retry  string
	}{
		{0, a, 200, ""}, {0, a, 200, ""}, {0, "192.0.2.1:2", 200, ""}, // three at once, from any port
		{0, a, 429, "2"}, {0, "[::ffff:192.0.2.1]:1", 429, "2"}, // and no more, by any writing
		{0, b, 200, ""},            // which is nothing to others
		{time.Second, a, 429, "1"}, // what was refused costs nothing
		{time.Second, a, 200, ""},  // one every two seconds
		{0, a, 429, "2"},
		{time.Hour, a, 200, ""}, {0, a, 200, ""}, {0, a, 200, ""}, {0, a, 429, "2"}, // never more than three saved up
		{0, "[2001:db8::1]:1", 200, ""}, {0, "[2001:db8::2]:1", 200, ""}, {0, "[2001:db8:0:0:ffff::]:1", 200, ""},
		{0, "[2001:db8::3]:1", 429, "2"}, // one /64 network is one client
		{0, "[2001:db8:0:1::3]:1", 200, ""},
		{0, "[fe80::1%eth0]:1", 200, ""},
	} {
		now = now.Add(step.after)
		if got := ask(h, step.remote); got.Code != step.status || got.Header().Get("Retry-After") != step.retry {
			t.Errorf("%s: %d, Retry-After %q, want %+v", step.remote, got.Code, got.Header().Get("Retry-After"), step)
		}
	}
	got := ask(h, a).Body.String()
	for _, want := range []string{`"TOOMANYREQUESTS"`, `"client_rate_limited"`, "0.5 requests a second", "listen.rate_limit", "ask again in 2s"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s isn't in %s", want, got)
		}
	}
	if !strings.Contains(log.String(), "client_rate_limited") {
		t.Error("the log doesn't tell")
	}
}

// A limit is kept before anything that takes time: passwords aren't even looked at.
func TestRateLimitComesFirst(t *testing.T) {
	file := filepath.Join(t.TempDir(), "htpasswd")
	htpasswd(t, file, "fleet")
	h := handlerWith(t, &fakeGate{}, func(c *Config) { c.Htpasswd, c.RateLimit = file, RateLimit{PerSecond: 1e-6, Burst: 1} })
	for i, want := range []int{401, 429, 429} {
		if got := ask(h, "192.0.2.1:1", "Authorization", basic("fleet", fmt.Sprint(i))); got.Code != want {
			t.Errorf("request %d: %d, want %d", i, got.Code, want)
		}
	}
}

// However many clients come, only so many are remembered, and each is served.
func TestRateLimitIsBounded(t *testing.T) {
	l, err := newLimiter(RateLimit{PerSecond: 1, Burst: 1}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxLimited + 100 {
		r := &http.Request{RemoteAddr: fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255)}
		if err := l.allow(r); err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
	}
	if n := l.clients.Len(); n != maxLimited {
		t.Errorf("%d clients are remembered", n)
	}
}

func TestRateLimitMistakes(t *testing.T) {
	for _, limit := range []RateLimit{{PerSecond: 1}, {Burst: 1}, {PerSecond: -1, Burst: 1}, {PerSecond: 1, Burst: -1}} {
		if _, err := New(Config{Gate: &fakeGate{}, DefaultRegistry: "docker.io", RateLimit: limit}); err == nil {
			t.Errorf("%+v is accepted", limit)
		}
	}
}

func TestLoops(t *testing.T) {
	self, other := loop.NewID(), loop.NewID()
	for name, test := range map[string]struct {
		via    string
		status int
		says   string
	}{
		"a client":       {"", 200, ""},
		"another mirror": {other, 200, ""},
		"itself":         {self, 508, "upstreams.REGISTRY.address"},
		"round a corner": {self + ", " + other, 508, `the request for \"registry-1.docker.io\" comes from this very mirror`},
		"too many":       {strings.Repeat(other+", ", loop.MaxHops) + other, 508, "too many mirrors (at most 8)"},
		"malformed":      {"x", 508, "malformed"},
	} {
		gate := &fakeGate{}
		h := handlerWith(t, gate, func(c *Config) { c.Via = self })
		var header []string
		if test.via != "" {
			header = []string{loop.Header, test.via}
		}
		got := ask(h, "192.0.2.1:1", header...)
		if got.Code != test.status || !strings.Contains(got.Body.String(), test.says) || (test.status != 200) != strings.Contains(got.Body.String(), `"loop"`) {
			t.Errorf("%s: %d %s", name, got.Code, got.Body)
		}
		if asked := len(gate.askedFor()); (asked > 0) != (test.status == 200) {
			t.Errorf("%s: the gate was asked %d times", name, asked)
		}
	}
}

func TestWrongPasswordIsSaid(t *testing.T) {
	file := filepath.Join(t.TempDir(), "htpasswd")
	htpasswd(t, file, "fleet")
	log := &logBuffer{}
	h := handlerWith(t, &fakeGate{}, log.config, func(c *Config) { c.Htpasswd = file })
	if got := ask(h, "192.0.2.7:1").Body.String(); !strings.Contains(got, "asks for a user and a password") {
		t.Errorf("without a password: %s", got)
	}
	if got := ask(h, "192.0.2.7:1", "Authorization", basic("fleet", "wrong")).Body.String(); !strings.Contains(got, "the user or the password is wrong") {
		t.Errorf("with a wrong one: %s", got)
	}
	if !strings.Contains(log.String(), "192.0.2.7") || !strings.Contains(log.String(), "the password is wrong") {
		t.Errorf("the log doesn't tell who and why: %s", log.String())
	}
}

// A connection that was made while no certificate was needed, or another one,
// doesn't outlive that.
func TestCertificateOfAnOldConnection(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.StartTLS()
	defer server.Close()
	leaf := server.Certificate() // signed by itself, for servers only
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	for name, test := range map[string]struct {
		cas    *x509.CertPool
		state  *tls.ConnectionState
		status int
		says   string
	}{
		"none is needed":   {nil, nil, 200, ""},
		"plain http":       {pool, nil, 401, "there is none"},
		"without":          {pool, &tls.ConnectionState{}, 401, "there is none"},
		"of another CA":    {x509.NewCertPool(), &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}, 401, "unknown authority"},
		"of another usage": {pool, &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}, 401, "incompatible key usage"},
	} {
		gate := &fakeGate{}
		h := handlerWith(t, gate, func(c *Config) { c.ClientCAs = func() *x509.CertPool { return test.cas } })
		r := httptest.NewRequest(http.MethodGet, manifestPath, nil)
		r.TLS = test.state
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != test.status || !strings.Contains(w.Body.String(), test.says) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		if refused := test.status == 401; refused && (w.Header().Get("Connection") != "close" || len(gate.askedFor()) > 0 || !strings.Contains(w.Body.String(), `"client_certificate"`)) {
			t.Errorf("%s: %v %s, the gate was asked for %v", name, w.Header(), w.Body, gate.askedFor())
		}
	}
}
