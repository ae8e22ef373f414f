package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/verify"
)

// However a client writes the name of a registry in its Host, it means that registry:
// an image of the same name in the default one is another image.
func TestAttack48_HostWrittenOtherwise(t *testing.T) {
	gate := &fakeGate{}
	server := newTestServer(t, gate)
	for host, want := range map[string]string{
		"public.ecr.aws":        "public.ecr.aws",
		"PUBLIC.ecr.AWS":        "public.ecr.aws",
		"public.ecr.aws.":       "public.ecr.aws",
		"public.ecr.aws:443":    "public.ecr.aws",
		"Public.ecr.aws.:443":   "public.ecr.aws",
		"public.ecr.aws:":       "public.ecr.aws",
		"Registry-1.docker.io.": "docker.io",
		"127.0.0.1:5000":        "127.0.0.1:5000",
		// Whoever is neither is the mirror itself: the default registry is meant.
		"127.0.0.1:5001":        "docker.io",
		"public.ecr.aws..":      "docker.io",
		"public.ecr.aws.evil":   "docker.io",
		"evil.public.ecr.aws":   "docker.io",
		"public.ecr.aws%00evil": "docker.io",
	} {
		before := len(gate.askedFor())
		got := raw(t, server, "GET", "GET "+manifestPath+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
		asked := gate.askedFor()[before:]
		if got.status == http.StatusBadRequest && len(asked) == 0 && strings.Contains(host, "%") {
			continue // net/http takes no such Host
		}
		if len(asked) != 1 || asked[0].Registry != want {
			t.Errorf("%s: %d, the gate was asked for %v, want %s", host, got.status, asked, want)
		}
	}
}

// What a client chose can neither begin a line of a log nor steer the terminal that
// shows it, in either format.
func TestAttack49_WordsInLogs(t *testing.T) {
	const evil = "x\u009b2J\u202egnp\u2028\u2066y"
	for name, handler := range map[string]func(*logBuffer) slog.Handler{
		"text": func(b *logBuffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"json": func(b *logBuffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		log := &logBuffer{}
		var told []Asked
		h := newHandler(t, &fakeGate{}, func(c *Config) {
			c.Log = slog.New(handler(log))
			c.Decided = func(ctx context.Context, _ verify.Decision) { told = append(told, AskedOf(ctx)) }
		})
		r := httptest.NewRequest(http.MethodGet, "/v2/nicolas/webdis/manifests/x%0a%c2%9b2J%e2%80%ae?ns=evil.example", nil)
		r.Header.Set("User-Agent", evil)
		h.ServeHTTP(httptest.NewRecorder(), r)
		for _, c := range log.String() {
			if c != '\n' && string(c) != verify.Printable(string(c)) {
				t.Errorf("%s: the log has %U: %q", name, c, log.String())
			}
		}
		if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "gnp") {
			t.Errorf("%s: %d lines: %q", name, n, log.String())
		}
		if len(told) != 1 || told[0].UserAgent != verify.Printable(evil) || told[0].Reference != verify.Printable(told[0].Reference) {
			t.Errorf("%s: the decision's asker is %+v", name, told)
		}
	}
}

// A client's address is that of its connection, whatever it says of itself.
func TestAttack50_ForwardedAddress(t *testing.T) {
	log := &logBuffer{}
	var told []string
	h := handlerWith(t, &fakeGate{}, log.config, func(c *Config) {
		c.RateLimit = RateLimit{PerSecond: 1e-6, Burst: 5}
		c.Decided = func(ctx context.Context, _ verify.Decision) { told = append(told, AskedOf(ctx).Client) }
	})
	for i := range 10 {
		address := fmt.Sprintf("198.51.100.%d", i)
		r := httptest.NewRequest(http.MethodGet, manifestPath+"?ns=evil.example", nil)
		r.RemoteAddr = "192.0.2.1:1"
		for _, name := range []string{"X-Forwarded-For", "X-Real-Ip", "True-Client-Ip", "X-Client-Ip", "Cf-Connecting-Ip"} {
			r.Header.Set(name, address)
		}
		r.Header.Set("Forwarded", "for="+address)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if limited := w.Code == http.StatusTooManyRequests; limited != (i >= 5) {
			t.Errorf("request %d: %d", i, w.Code)
		}
	}
	if strings.Contains(log.String(), "198.51.100.") || strings.Count(log.String(), `"client":"192.0.2.1:1"`) != 10 {
		t.Errorf("the log has what the client says: %s", log.String())
	}
	for _, client := range told {
		if client != "192.0.2.1" {
			t.Errorf("the decision's client is %s", client)
		}
	}
}

// Thousands of ranges are one answer: the whole, once.
func TestAttack51_ThousandsOfRanges(t *testing.T) {
	server := newTestServer(t, &fakeGate{})
	for _, ranges := range []string{strings.Repeat("0-,", 8000) + "0-", strings.Repeat("0-0,", 8000) + "-1"} {
		got := get(t, server, http.MethodGet, blobPath, "Range", "bytes="+ranges)
		if got.status != http.StatusOK || got.body != string(testBody) {
			t.Errorf("%d, %d bytes", got.status, len(got.body))
		}
	}
}

// Whoever connects and says nothing, or goes on about itself, is cut off: before TLS,
// within it, and after it.
func TestAttack55_SilentConnections(t *testing.T) {
	const patience = 200 * time.Millisecond
	for name, test := range map[string]struct {
		tls   bool
		begin string
		drip  string
	}{
		"nothing":                {false, "", ""},
		"a header without end":   {false, "GET " + manifestPath + " HTTP/1.1\r\nHost: a\r\n", "X-More: and more\r\n"},
		"no handshake":           {true, "", ""},
		"half a handshake":       {true, "\x16\x03\x01\x02\x00\x01\x00", ""},
		"a handshake that drips": {true, "\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewUnstartedServer(nil)
			server.Config = NewServer("", newHandler(t, &fakeGate{}))
			if server.Config.ReadHeaderTimeout > 10*time.Second {
				t.Errorf("a client has %v", server.Config.ReadHeaderTimeout)
			}
			server.Config.ReadHeaderTimeout = patience
			server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
			if test.tls {
				server.StartTLS()
			} else {
				server.Start()
			}
			defer server.Close()
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprint(conn, test.begin)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				b := make([]byte, 1<<10)
				for {
					if _, err := conn.Read(b); err != nil {
						return
					}
				}
			}()
			tick := time.NewTicker(patience / 20)
			defer tick.Stop()
			deadline := time.After(30 * time.Second)
			for {
				select {
				case <-ended:
					return
				case <-tick.C:
					_, _ = conn.Write([]byte(test.drip))
				case <-deadline:
					t.Fatal("the server keeps the connection")
				}
			}
		})
	}
}

// A web page whose name was made to lead to this machine reads nothing at the admin
// address through a browser here.
func TestAttack56_RebindingOfTheAdminAddress(t *testing.T) {
	asked := 0
	secret := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		fmt.Fprint(w, "secret")
	})
	server := httptest.NewServer(NewAdmin(AdminConfig{Metrics: secret, Status: secret, Expiry: func() any { asked++; return "secret" }}))
	defer server.Close()
	paths := []string{"/", "/metrics", "/readyz", "/healthz", "/api/v1/refusals", "/static/x"}
	for _, path := range paths {
		for _, host := range []string{"evil.example", "evil.example:5001", "127.0.0.1.evil.example", "localhost.evil.example:80", "evil.example.", "localhosts"} {
			got := raw(t, server, "GET", "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\nOrigin: http://evil.example\r\n\r\n")
			if got.status != http.StatusMisdirectedRequest || strings.Contains(got.body, "secret") || got.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s as %q: %d %s", path, host, got.status, got.body)
			}
		}
	}
	if asked > 0 {
		t.Errorf("something was asked for %d times", asked)
	}
	for _, host := range []string{"127.0.0.1:5001", "127.0.0.1", "localhost", "LOCALHOST:5001", "[::1]:5001", "[::1]", "mirror.localhost", ""} {
		if got := raw(t, server, "GET", "GET /healthz HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n"); got.status != http.StatusOK {
			t.Errorf("as %q: %d %s", host, got.status, got.body)
		}
	}
	// Elsewhere it may be called whatever its network calls it.
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "http://trustmirror-admin.monitoring.svc/metrics", nil)
	at := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5001}
	server.Config.Handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, at)))
	if w.Code != http.StatusOK {
		t.Errorf("at a private address by its name there: %d %s", w.Code, w.Body)
	}
}

// A web page can make a browser send anything here, but change nothing.
func TestAttack57_NothingChangesByAPage(t *testing.T) {
	status := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Errorf("%s got through", r.Method) })
	server := httptest.NewServer(NewAdmin(AdminConfig{Metrics: status, Status: status}))
	defer server.Close()
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		for _, path := range []string{"/", "/metrics", "/readyz", "/healthz", "/api/v1/status", "/reload", "/quitquitquit"} {
			got := get(t, server, method, path)
			if got.status != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d %s", method, path, got.status, got.body)
			}
			var document any
			if json.Unmarshal([]byte(got.body), &document) == nil {
				t.Errorf("%s %s: %s", method, path, got.body)
			}
		}
	}
}
