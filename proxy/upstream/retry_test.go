package upstream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/trustmirror/trustmirror/verify"
)

func TestAttack22_StatusesBecomeErrors(t *testing.T) {
	json := func(status int, code string) http.HandlerFunc {
		return answer(status, `{"errors":[{"code":"`+code+`","message":"because\u001b[31m"}]}`, "Content-Type: application/json")
	}
	for name, test := range map[string]struct {
		h      http.HandlerFunc
		reason verify.Reason
		words  string
		asked  int
	}{
		"404":                    {answer(404, ""), verify.NotFound, "hub.example has no manifest hub.example/nicolas/webdis:0.1.19", 1},
		"404 with a code":        {json(404, "MANIFEST_UNKNOWN"), verify.NotFound, "has no manifest", 1},
		"400 for unknown":        {json(400, "NAME_UNKNOWN"), verify.NotFound, "has no manifest", 1},
		"400":                    {json(400, "MANIFEST_INVALID"), verify.UpstreamUnavailable, `answers 400 Bad Request (MANIFEST_INVALID "because[31m")`, 1},
		"400 with a silly code":  {json(400, "x' OR 1"), verify.UpstreamUnavailable, "answers 400 Bad Request for", 1},
		"400 that isn't JSON":    {answer(400, "{"), verify.UpstreamUnavailable, "answers 400 Bad Request for", 1},
		"401 without challenge":  {json(401, "UNAUTHORIZED"), verify.UpstreamUnavailable, "there is no such repository, or the credentials for hub.example", 1},
		"403":                    {json(403, "DENIED"), verify.UpstreamUnavailable, `403 Forbidden (DENIED "because[31m") for manifest`, 1},
		"403 web page":           {answer(403, "<html>", "Content-Type: text/html"), verify.UpstreamUnavailable, "a web page (403 Forbidden)", 1},
		"410":                    {answer(410, ""), verify.UpstreamUnavailable, "410 Gone", 1},
		"408":                    {answer(408, ""), verify.UpstreamUnavailable, "answers 408 Request Timeout", 3},
		"500":                    {answer(500, ""), verify.UpstreamUnavailable, "answers 500 Internal Server Error", 3},
		"503 with a web page":    {answer(503, "<html>", "Content-Type: text/html"), verify.UpstreamUnavailable, "answers 503 Service Unavailable", 3},
		"500, then well":         {answers(answer(500, ""), manifestAnswer), "", "", 2},
		"408 and 502, then well": {answers(answer(408, ""), answer(502, ""), manifestAnswer), "", "", 3},
		"500, then 404":          {answers(answer(500, ""), answer(404, "")), verify.NotFound, "has no manifest", 2},
		"broken, then well":      {answers(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, manifestAnswer), "", "", 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, script{manifestPath: test.h})
			// A connection per request: over a used one net/http tries again by itself.
			s.Config.SetKeepAlivesEnabled(false)
			err := manifest(t, client(t, at(s)))
			if test.reason != "" {
				wantReason(t, err, test.reason, test.words)
			} else if err != nil {
				t.Error(err)
			}
			want := append([]string{"GET /v2/"}, slices.Repeat([]string{"GET " + manifestPath}, test.asked)...)
			s.wantAsked(t, want...)
		})
	}
}

func TestRetryAfterOfA503IsPassedOn(t *testing.T) {
	s := serve(t, script{manifestPath: answer(503, "", "Retry-After: 7")})
	var unavailable *verify.UnavailableError
	if err := manifest(t, client(t, at(s))); !errors.As(err, &unavailable) || unavailable.RetryAfter != 7*time.Second {
		t.Errorf("error is %#v", err)
	}
}

func TestAttack22_RateLimit(t *testing.T) {
	now := newClock()
	for name, test := range map[string]struct {
		header []string
		pause  time.Duration
	}{
		"seconds":            {[]string{"Retry-After: 90"}, 90 * time.Second},
		"a date":             {[]string{"Retry-After: " + now.Now().Add(2*time.Minute).Format(http.TimeFormat)}, 2 * time.Minute},
		"a date in the past": {[]string{"Retry-After: " + now.Now().Add(-time.Hour).Format(http.TimeFormat)}, time.Second},
		"at once":            {[]string{"Retry-After: 0"}, time.Second},
		"a year":             {[]string{"Retry-After: 31536000"}, 5 * time.Minute},
		"nothing":            {nil, 30 * time.Second},
		"nonsense":           {[]string{"Retry-After: soon"}, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			clock := newClock()
			s := serve(t, script{
				manifestPath: answers(answer(429, "", test.header...), manifestAnswer),
			})
			config := at(s)
			config.Now = clock.Now
			c := client(t, config)
			wantPause := func(want time.Duration) {
				t.Helper()
				var unavailable *verify.UnavailableError
				err := manifest(t, c)
				wantReason(t, err, verify.RateLimited, "limits how often it is asked")
				if errors.As(err, &unavailable) && unavailable.RetryAfter != want {
					t.Errorf("RetryAfter is %v, want %v", unavailable.RetryAfter, want)
				}
			}
			wantPause(test.pause)
			s.wantAsked(t, "GET /v2/", "GET "+manifestPath)
			clock.advance(test.pause - time.Millisecond)
			wantPause(time.Millisecond)
			_, err := c.Blob(t.Context(), image(t, digest.FromString("x").String()))
			wantReason(t, err, verify.RateLimited, "")
			s.wantAsked(t) // left alone
			clock.advance(time.Millisecond)
			must(t, manifest(t, c))
			s.wantAsked(t, "GET "+manifestPath)
		})
	}
}

func TestRateLimitOfOneRegistryIsNotAnothers(t *testing.T) {
	limited := serve(t, script{manifestPath: answer(429, "")})
	other := serve(t, script{manifestPath: manifestAnswer})
	c := client(t, Config{Registries: map[string]Registry{"hub.example": {URL: limited.URL}, "copy.example": {URL: other.URL}}})
	wantReason(t, manifest(t, c), verify.RateLimited, "hub.example limits")
	ref := image(t, "0.1.19")
	ref.Registry = "copy.example"
	_, _, err := c.Manifest(t.Context(), ref)
	must(t, err)
}

func TestALaterShorterPauseDoesNotEndALongerOne(t *testing.T) {
	clock := newClock()
	config := at(serve(t, script{}))
	config.Now = clock.Now
	e, err := client(t, config).endpoint(image(t, "x"))
	must(t, err)
	for _, after := range []struct{ says, rests string }{{"90", "1m30s"}, {"1", "1s"}} {
		until, err := e.rest(after.says)
		wantReason(t, err, verify.RateLimited, after.rests)
		if left := until.Sub(e.opts.Now()); left <= 89*time.Second || left > 90*time.Second {
			t.Errorf("left alone for %v", left)
		}
	}
	clock.advance(89 * time.Second)
	wantReason(t, e.resting(), verify.RateLimited, "1s")
	clock.advance(time.Second)
	must(t, e.resting())
}

func TestConnectionsThatFail(t *testing.T) {
	unknown := func(network, addr string) error {
		return &net.DNSError{Err: "no such host", Name: "hub.example", IsNotFound: true}
	}
	flaky := func(network, addr string) error {
		return &net.DNSError{Err: "server misbehaving", Name: "hub.example", IsTemporary: true}
	}
	for name, test := range map[string]struct {
		dial  func(network, addr string) error
		words string
		dials int
	}{
		"no such name":  {unknown, "hub.example can't be used: registry.hub.example isn't found in DNS", 1},
		"DNS is broken": {flaky, "DNS doesn't answer for registry.hub.example", 3},
	} {
		t.Run(name, func(t *testing.T) {
			dials := 0
			c := client(t, Config{Registries: map[string]Registry{"hub.example": {URL: "https://registry.hub.example"}}}, func(h *hooks) {
				h.dial = func(_ context.Context, network, addr string) (net.Conn, error) {
					dials++
					return nil, test.dial(network, addr)
				}
			})
			wantReason(t, manifest(t, c), verify.UpstreamUnavailable, test.words)
			if dials != test.dials {
				t.Errorf("dialled %d times, want %d", dials, test.dials)
			}
		})
	}
	c := client(t, Config{Registries: map[string]Registry{"hub.example": {URL: "http://" + unusedAddress(t)}}})
	wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "nothing listens at 127.0.0.1:")
}

func TestTLSThatFails(t *testing.T) {
	plain := serve(t, script{manifestPath: manifestAnswer})
	c := client(t, Config{Registries: map[string]Registry{"hub.example": {URL: "https://" + plain.host()}}})
	wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "doesn't speak TLS: if that is right, write http://")

	secure := serveTLS(t, script{manifestPath: manifestAnswer})
	_, port, err := net.SplitHostPort(secure.host())
	must(t, err)
	c = client(t, Config{Registries: map[string]Registry{"hub.example": {URL: "https://localhost:" + port, CAFile: secure.caFile(t)}}})
	wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "the TLS certificate of localhost:"+port+" is for another host")

	// Plain HTTP to a TLS server is a 400 of net/http's.
	c = client(t, Config{Registries: map[string]Registry{"hub.example": {URL: "http://" + secure.host()}}})
	wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "answers 400 Bad Request")
	secure.wantAsked(t)
}

func TestLeavingEndsTheWait(t *testing.T) {
	arrived := make(chan struct{})
	s := serve(t, script{manifestPath: func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		hang(w, r)
	}})
	c := client(t, at(s))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	_, _, err := c.Manifest(ctx, image(t, "0.1.19"))
	if !errors.Is(err, context.Canceled) || verify.ReasonOf(err) != "" {
		t.Errorf("error is %v", err)
	}
	s.wantAsked(t, "GET /v2/", "GET "+manifestPath)
}

func TestBodiesOpenAreLimited(t *testing.T) {
	body := "layer"
	ref, path := blobRef(t, body)
	for name, limits := range map[string]Limits{"at one registry": {PerRegistry: 2, Total: 9}, "in all": {PerRegistry: 3, Total: 1}} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, script{path: answer(200, body)})
			config := at(s)
			config.Limits = limits
			c := client(t, config)
			first, err := c.Blob(t.Context(), ref)
			must(t, err)
			second, err := c.Blob(t.Context(), ref)
			must(t, err)
			defer second.Close()
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				defer cancel()
				if _, err := c.Blob(ctx, ref); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the third is %v", err)
				}
			}
			must(t, first.Close())
			must(t, first.Close())
			third, err := c.Blob(t.Context(), ref)
			must(t, err)
			defer third.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			if _, err := c.Blob(ctx, ref); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("closing twice made room for two: %v", err)
			}
			s.wantAsked(t, "GET /v2/", "GET "+path, "GET "+path, "GET "+path)
		})
	}
}

func TestGivingUpOnOneLimitFreesTheOther(t *testing.T) {
	body := "layer"
	ref, path := blobRef(t, body)
	s := serve(t, script{path: answer(200, body)})
	copied := ref
	copied.Registry = "copy.example"
	c := client(t, Config{
		Registries: map[string]Registry{"hub.example": {URL: s.URL}, "copy.example": {URL: s.URL}},
		Options:    Options{Limits: Limits{PerRegistry: 2, Total: 1}},
	})
	for _, own := range []verify.Ref{ref, copied} { // which each registry has besides
		r, err := c.Blob(t.Context(), own)
		must(t, err)
		defer r.Close()
	}
	first, err := c.Blob(t.Context(), ref)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.Blob(ctx, copied); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	must(t, first.Close())
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	second, err := c.Blob(ctx, copied)
	must(t, err)
	must(t, second.Close())
}

func TestFailuresMakeRoom(t *testing.T) {
	s := serve(t, script{manifestPath: answers(answer(403, ""), answer(500, ""), answer(500, ""), answer(500, ""),
		answer(200, "<html>", "Content-Type: text/html"), cut(manifestBody, 1), cut(manifestBody, 1), cut(manifestBody, 1), manifestAnswer)})
	config := at(s)
	config.Limits = Limits{PerRegistry: 1, Total: 1}
	c := client(t, config)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for range 4 {
		if _, _, err := c.Manifest(ctx, image(t, "0.1.19")); verify.ReasonOf(err) != verify.UpstreamUnavailable {
			t.Fatal(err)
		}
	}
	_, _, err := c.Manifest(ctx, image(t, "0.1.19"))
	must(t, err)
}
