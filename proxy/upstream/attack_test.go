package upstream

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/verify"
)

// Whoever answers for a public registry's name in DNS can lead a connection inside,
// where TLS fails; that makes the registry no inner one, to which inner addresses are
// open, though an answer of the real one is under way.
func TestAttack61_NameThatLeadsInsideForAMoment(t *testing.T) {
	inside := serve(t, script{"/secret": answer(200, "secret")})
	lie, lied := make(chan struct{}), make(chan struct{})
	public := newServer(script{
		manifestPath: func(w http.ResponseWriter, r *http.Request) {
			close(lie)
			<-lied
			redirect(strings.Replace(inside.URL, "http:", "https:", 1)+"/secret")(w, r)
		},
	})
	public.StartTLS()
	t.Cleanup(public.Close)
	var toInside atomic.Bool
	config := Config{Registries: map[string]Registry{"hub.example": {URL: public.URL, CAFile: public.caFile(t)}}}
	c := client(t, config, pretend(map[*server]reach{public: publicReach, inside: privateReach}), func(h *hooks) {
		h.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == public.host() && toInside.Load() {
				addr = inside.host()
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
	})
	e, err := c.endpoint(image(t, "0.1.19"))
	must(t, err)
	answered := make(chan error, 1)
	go func() { answered <- manifest(t, c) }()
	<-lie
	toInside.Store(true)
	if _, _, err := c.Manifest(t.Context(), image(t, "other")); verify.ReasonOf(err) != verify.UpstreamUnavailable {
		t.Errorf("a registry that leads inside: %v", err)
	}
	if got := reach(e.reach.Load()); got != publicReach {
		t.Errorf("the registry is taken for one at %s", got)
	}
	close(lied)
	<-answered
	inside.wantAsked(t)
}

// Names that clients make up under a pattern are each authenticated for, and not all
// remembered.
func TestAttack62_TokensForManyRepositories(t *testing.T) {
	s := serve(t, &tokenRegistry{objects: script{}, expiresIn: 86400})
	c := client(t, at(s))
	e, err := c.endpoint(image(t, "0.1.19"))
	must(t, err)
	for i := range maxIssued + 50 {
		if _, err := e.auth.header(t.Context(), fmt.Sprint("org/made-up-", i)); err != nil {
			t.Fatal(err)
		}
	}
	e.auth.mu.Lock()
	defer e.auth.mu.Unlock()
	if n := len(e.auth.issued); n > maxIssued {
		t.Errorf("%d authorizations are remembered", n)
	}
}

// Token servers and error pages without end are read to a bound.
func TestAttack63_AnswersWithoutEndAboutSomethingElse(t *testing.T) {
	var sent atomic.Int64
	endless := func(status int, begin, unit string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, begin)
			chunk := strings.Repeat(unit, 64<<10/len(unit))
			for {
				n, err := io.WriteString(w, chunk)
				sent.Add(int64(n))
				if err != nil {
					return
				}
			}
		}
	}
	for name, s := range map[string]script{
		"a token":      {"/token": endless(200, `{"token":"`, "t")},
		"a refusal":    {"/token": endless(401, `{"details":"`, "t")},
		"an error":     {manifestPath: endless(403, `{"errors":[{"code":"DENIED","message":"`, "no")},
		"server error": {manifestPath: endless(500, `{"errors":[`, "{},")},
		"a redirect": {manifestPath: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", r.URL.Path)
			endless(307, "", "x")(w, r)
		}},
		"a ping": {"/v2/": endless(200, "", "x"), manifestPath: answer(404, "")},
	} {
		t.Run(name, func(t *testing.T) {
			sent.Store(0)
			if s["/token"] != nil {
				s["/v2/"] = func(w http.ResponseWriter, r *http.Request) {
					answer(401, "", `WWW-Authenticate: Bearer realm="http://`+r.Host+`/token"`)(w, r)
				}
			}
			c := client(t, at(serve(t, s)))
			if err := manifest(t, c); err == nil {
				t.Error("it is taken for an answer")
			}
			c.Close()
			if n := sent.Load(); n > 128<<20 { // what lies in sockets, for a few tries
				t.Errorf("%d MiB were read", n>>20)
			}
		})
	}
}

// However long a token server says that a token lasts: it is used for a day at most.
func TestAttack79_TokensThatLastForCenturies(t *testing.T) {
	for _, expiresIn := range []int{-9223372037, -(1<<63 - 1), -(1 << 63), -27670116111, 1<<63 - 1, 9223372037, 18446744074} {
		s := serve(t, &tokenRegistry{objects: script{manifestPath: manifestAnswer}, expiresIn: expiresIn})
		clock := newClock()
		config := at(s)
		config.Now = clock.Now
		c := client(t, config)
		must(t, manifest(t, c))
		clock.advance(maxToken)
		s.take()
		must(t, manifest(t, c))
		s.wantAsked(t, getToken, "GET "+manifestPath+" Bearer t2")
		clock.advance(minToken - tokenMargin - time.Second)
		must(t, manifest(t, c))
		s.wantAsked(t, "GET "+manifestPath+" Bearer t2")
	}
}

// A token that no request can carry isn't remembered for as long as it is said to
// last: when its server is itself again, so is the registry.
func TestAttack80_TokenThatCantBeSent(t *testing.T) {
	for _, token := range []string{"a\r\nX: y", "a\nb", "a\u0000b", "\x7f", "\u007f"} {
		t.Run(fmt.Sprintf("%q", token), func(t *testing.T) {
			bearer := func(w http.ResponseWriter, r *http.Request) {
				answer(401, "", `WWW-Authenticate: Bearer realm="http://`+r.Host+`/token",service="hub"`)(w, r)
			}
			s := serve(t, script{
				"/v2/": bearer, manifestPath: manifestAnswer,
				"/token": answers(answer(200, fmt.Sprintf(`{"token":%s,"expires_in":86400}`, quoted(token))), answer(200, `{"token":"good"}`)),
			})
			c := client(t, at(s))
			wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "isn't a token")
			must(t, manifest(t, c))
		})
	}
}

// quoted is a JSON string.
func quoted(s string) string {
	return `"` + strings.NewReplacer("\r", `\r`, "\n", `\n`, "\x00", `\u0000`).Replace(s) + `"`
}

// Downloads are bounded unless somebody says otherwise (TestBodiesOpenAreLimited).
func TestDefaultLimits(t *testing.T) {
	o, err := (Options{}).withDefaults()
	must(t, err)
	if o.Limits != (Limits{PerRegistry: 16, Total: 64}) {
		t.Errorf("%+v", o.Limits)
	}
	if o.Timeouts != (Timeouts{Dial: 10 * time.Second, Header: 30 * time.Second, Stall: 30 * time.Second, Window: 30 * time.Second, MinRate: 4096}) {
		t.Errorf("%+v", o.Timeouts)
	}
}
