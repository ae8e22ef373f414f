package upstream

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/trustmirror/trustmirror/verify"
)

// tokenRegistry wants tokens, which it issues itself at /token: t1, t2, …
// Each is good for pulling from the repository it was asked for.
type tokenRegistry struct {
	objects   http.Handler
	realm     string // "": /token on the host that was asked
	expiresIn int    // 0: it doesn't say
	password  string // "": anybody gets tokens

	mu    sync.Mutex
	n     int
	valid map[string]string // token → scope
}

func (r *tokenRegistry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if req.URL.Path == "/token" {
		r.issue(w, req)
		return
	}
	token, _ := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	repository, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/v2/"), "/manifests/")
	if scope, ok := r.valid[token]; ok && scope == "repository:"+repository+":pull" {
		r.objects.ServeHTTP(w, req)
		return
	}
	realm := r.realm
	if realm == "" {
		realm = "http://" + req.Host + "/token"
	}
	// What else it would like doesn't matter.
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s",service="hub",scope="repository:other/secret:pull,push"`, realm))
	w.WriteHeader(http.StatusUnauthorized)
}

func (r *tokenRegistry) issue(w http.ResponseWriter, req *http.Request) {
	if _, password, _ := req.BasicAuth(); r.password != "" && password != r.password {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	r.n++
	token := fmt.Sprintf("t%d", r.n)
	if r.valid == nil {
		r.valid = make(map[string]string)
	}
	r.valid[token] = req.URL.Query().Get("scope")
	fmt.Fprintf(w, `{"token":%q,"expires_in":%d}`, token, r.expiresIn)
}

func (r *tokenRegistry) revoke() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.valid = nil
}

const getToken = "GET /token?scope=repository%3Anicolas%2Fwebdis%3Apull&service=hub"

func TestTokenIsExchangedOnceAndRenewedInTime(t *testing.T) {
	r := &tokenRegistry{objects: script{manifestPath: manifestAnswer}, expiresIn: 300}
	s := serve(t, r)
	clock := newClock()
	config := at(s)
	config.Now = clock.Now
	c := client(t, config)

	must(t, manifest(t, c))
	must(t, manifest(t, c))
	s.wantAsked(t, "GET /v2/", getToken, "GET "+manifestPath+" Bearer t1", "GET "+manifestPath+" Bearer t1")

	clock.advance(290*time.Second - time.Millisecond)
	must(t, manifest(t, c))
	s.wantAsked(t, "GET "+manifestPath+" Bearer t1")
	clock.advance(time.Millisecond)
	must(t, manifest(t, c))
	s.wantAsked(t, getToken, "GET "+manifestPath+" Bearer t2")

	r.revoke() // before its time
	must(t, manifest(t, c))
	s.wantAsked(t, "GET "+manifestPath+" Bearer t2", getToken, "GET "+manifestPath+" Bearer t3")

	// Another repository has a token of its own.
	ref := image(t, "0.1.19")
	ref.Repository = "nicolas/other"
	_, _, err := c.Manifest(t.Context(), ref)
	wantReason(t, err, verify.NotFound, "")
	s.wantAsked(t, strings.Replace(getToken, "webdis", "other", 1), "GET /v2/nicolas/other/manifests/0.1.19 Bearer t4")
}

func TestTokenLifetimes(t *testing.T) {
	for expiresIn, want := range map[int]time.Duration{
		0:          50 * time.Second,
		5:          50 * time.Second,
		-1:         50 * time.Second,
		120:        110 * time.Second,
		1 << 40:    24*time.Hour - 10*time.Second,
		1<<63 - 1:  24*time.Hour - 10*time.Second,
		-(1 << 62): 50 * time.Second,
	} {
		s := serve(t, &tokenRegistry{objects: script{manifestPath: manifestAnswer}, expiresIn: expiresIn})
		clock := newClock()
		config := at(s)
		config.Now = clock.Now
		c := client(t, config)
		must(t, manifest(t, c))
		e, err := c.endpoint(image(t, "x"))
		must(t, err)
		if got := e.auth.issued["nicolas/webdis"].expires.Sub(clock.Now()); got != want {
			t.Errorf("expires_in %d: used for %v, want %v", expiresIn, got, want)
		}
	}
}

func TestManyWhoseTokenWoreOutShareOneExchange(t *testing.T) {
	r := &tokenRegistry{objects: script{manifestPath: manifestAnswer}}
	s := serve(t, r)
	config := at(s)
	config.Limits.PerRegistry = 50
	c := client(t, config)
	for range 3 {
		var wg sync.WaitGroup
		for range 30 {
			wg.Go(func() {
				if err := manifest(t, c); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		r.revoke()
	}
	tokens := 0
	for _, line := range s.take() {
		if line == getToken {
			tokens++
		}
	}
	if tokens != 3 {
		t.Errorf("%d token exchanges, want 3", tokens)
	}
}

func TestCredentialsForTokens(t *testing.T) {
	file := passwordFile(t, "secret")
	basic := " Basic nicolas:"
	s := serve(t, &tokenRegistry{objects: script{manifestPath: manifestAnswer}, password: "secret"})
	for name, test := range map[string]struct {
		registry Registry
		keychain authn.Keychain
		sent     string
		words    string
	}{
		"explicit":       {Registry{URL: s.URL, Credentials: Credentials{"nicolas", file}}, emptyKeychain, basic + "secret", ""},
		"explicit first": {Registry{URL: s.URL, Credentials: Credentials{"nicolas", file}}, passwords{s.host(): {Username: "x", Password: "y"}}, basic + "secret", ""},
		"by address":     {Registry{URL: s.URL}, passwords{s.host(): {Username: "nicolas", Password: "secret"}}, basic + "secret", ""},
		"wrong":          {Registry{URL: s.URL}, passwords{s.host(): {Username: "nicolas", Password: "old"}}, basic + "old", "answers 401 Unauthorized: check the credentials configured for hub.example"},
		"none":           {Registry{URL: s.URL}, emptyKeychain, "", "check the credentials"},
		// What is meant for a registry isn't for what was put in its place.
		"of the name": {Registry{URL: s.URL}, passwords{"hub.example": {Username: "nicolas", Password: "secret"}}, "", "check the credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, Config{Registries: map[string]Registry{"hub.example": test.registry}, Options: Options{Keychain: test.keychain}})
			err := manifest(t, c)
			asked := s.take()
			if len(asked) < 2 || asked[1] != getToken+test.sent {
				t.Errorf("asked %q", asked)
			}
			if test.words == "" {
				must(t, err)
			} else {
				wantReason(t, err, verify.UpstreamUnavailable, test.words)
				if len(asked) != 2 {
					t.Errorf("asked %q", asked)
				}
			}
		})
	}
}

func TestIdentityTokens(t *testing.T) {
	s := serve(t, script{
		"/v2/": func(w http.ResponseWriter, r *http.Request) {
			answer(401, "", `WWW-Authenticate: Bearer realm="http://`+r.Host+`/token",service="hub"`)(w, r)
		},
		"/token": func(w http.ResponseWriter, r *http.Request) {
			if r.FormValue("refresh_token") == "identity" && r.FormValue("scope") == "repository:nicolas/webdis:pull" {
				fmt.Fprint(w, `{"access_token":"at1"}`)
				return
			}
			w.WriteHeader(http.StatusForbidden)
		},
		manifestPath: manifestAnswer,
	})
	config := at(s)
	config.Keychain = passwords{s.host(): {Username: "<token>", IdentityToken: "identity"}}
	must(t, manifest(t, client(t, config)))
	s.wantAsked(t, "GET /v2/", "POST /token", "GET "+manifestPath+" Bearer at1")
}

func TestBasicAuthentication(t *testing.T) {
	file := passwordFile(t, "old")
	want := "old"
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != want {
			answer(401, "", `WWW-Authenticate: Basic realm="here"`)(w, r)
			return
		}
		script{manifestPath: manifestAnswer}.ServeHTTP(w, r)
	}))
	c := client(t, Config{Registries: map[string]Registry{"hub.example": {URL: s.URL, Credentials: Credentials{"nicolas", file}}}})
	must(t, manifest(t, c))
	must(t, manifest(t, c))
	s.wantAsked(t, "GET /v2/", "GET "+manifestPath+" Basic nicolas:old", "GET "+manifestPath+" Basic nicolas:old")

	want = "new"
	wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "answers 401 Unauthorized")
	s.wantAsked(t, "GET "+manifestPath+" Basic nicolas:old") // the same again would be no use
	must(t, os.WriteFile(file, []byte("new"), 0o600))
	must(t, manifest(t, c))
	s.wantAsked(t, "GET "+manifestPath+" Basic nicolas:old", "GET "+manifestPath+" Basic nicolas:new")

	must(t, os.Remove(file))
	want = "newer"
	wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "the password file can't be read")
}

func TestRegistryThatBeginsToWantAuthentication(t *testing.T) {
	r := &tokenRegistry{objects: script{manifestPath: manifestAnswer}}
	open := true
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if open || req.URL.Path == "/v2/" {
			r.objects.ServeHTTP(w, req)
			return
		}
		r.ServeHTTP(w, req)
	}))
	c := client(t, at(s))
	must(t, manifest(t, c))
	s.wantAsked(t, "GET /v2/", "GET "+manifestPath)
	open = false
	must(t, manifest(t, c))
	must(t, manifest(t, c))
	s.wantAsked(t, "GET "+manifestPath, getToken, "GET "+manifestPath+" Bearer t1", "GET "+manifestPath+" Bearer t1")
}

func TestAttack22_401Loops(t *testing.T) {
	challenge := func(w http.ResponseWriter, r *http.Request) {
		answer(401, `{"errors":[{"code":"UNAUTHORIZED"}]}`, `WWW-Authenticate: Bearer realm="http://`+r.Host+`/token",service="hub"`)(w, r)
	}
	n := 0
	s := serve(t, script{"/v2/": challenge, manifestPath: challenge, "/token": func(w http.ResponseWriter, _ *http.Request) {
		n++
		fmt.Fprintf(w, `{"token":"t%d"}`, n)
	}})
	c := client(t, at(s))
	wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "401 Unauthorized (UNAUTHORIZED)")
	s.wantAsked(t, "GET /v2/", getToken, "GET "+manifestPath+" Bearer t1", getToken, "GET "+manifestPath+" Bearer t2")
	wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "401 Unauthorized (UNAUTHORIZED)")
	s.wantAsked(t, "GET "+manifestPath+" Bearer t2", getToken, "GET "+manifestPath+" Bearer t3")
}

func TestChallengesAndTokenServersThatAreOff(t *testing.T) {
	bearer := func(w http.ResponseWriter, r *http.Request) {
		answer(401, "", `WWW-Authenticate: Bearer realm="http://`+r.Host+`/token",service="hub"`)(w, r)
	}
	with := func(header string) http.HandlerFunc { return answer(401, "", "WWW-Authenticate: "+header) }
	for name, test := range map[string]struct {
		ping, token http.HandlerFunc
		reason      verify.Reason
		words       string
		asked       []string
	}{
		"kind we don't know":  {with("Negotiate"), nil, verify.UpstreamUnavailable, "must be Basic or Bearer", []string{"GET /v2/"}},
		"no realm":            {with("Bearer"), nil, verify.UpstreamUnavailable, "names no usable token server", []string{"GET /v2/"}},
		"a realm that's none": {with(`Bearer realm="file:///etc/passwd"`), nil, verify.UpstreamUnavailable, "names no usable token server", []string{"GET /v2/"}},
		"a user in the realm": {with(`Bearer realm="http://u:p@127.0.0.1/token"`), nil, verify.UpstreamUnavailable, "names no usable token server", []string{"GET /v2/"}},
		"no token":            {bearer, answer(200, "{}"), verify.UpstreamUnavailable, "something that isn't a token", []string{"GET /v2/", getToken}},
		"a web page":          {bearer, answer(200, "<html>"), verify.UpstreamUnavailable, "something that isn't a token", []string{"GET /v2/", getToken}},
		"a huge token":        {bearer, answer(200, `{"token":"`+strings.Repeat("a", 1<<17)+`"}`), verify.UpstreamUnavailable, "something that isn't a token", []string{"GET /v2/", getToken}},
		"a token in two lines": {bearer, answer(200, `{"token":"a\r\nX: y"}`), verify.UpstreamUnavailable, "something that isn't a token",
			[]string{"GET /v2/", getToken}},
		"refused":         {bearer, answer(403, ""), verify.UpstreamUnavailable, "answers 403 Forbidden: check the credentials", []string{"GET /v2/", getToken}},
		"not there":       {bearer, answer(404, ""), verify.UpstreamUnavailable, "answers 404 Not Found", []string{"GET /v2/", getToken}},
		"in trouble":      {bearer, answer(500, ""), verify.UpstreamUnavailable, "answers 500", []string{"GET /v2/", getToken, getToken, getToken}},
		"rate limit":      {bearer, answer(429, ""), verify.RateLimited, "hub.example limits", []string{"GET /v2/", getToken}},
		"redirect inside": {bearer, answer(302, "", "Location: http://127.0.0.1:1/"), verify.UpstreamUnavailable, "refusing token-server redirect", []string{"GET /v2/", getToken}},
		"redirect away":   {bearer, answer(302, "", "Location: http://localhost:1/"), verify.UpstreamUnavailable, "redirects elsewhere, which isn't followed", []string{"GET /v2/", getToken}},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, script{"/v2/": test.ping, "/token": test.token, manifestPath: manifestAnswer})
			wantReason(t, manifest(t, client(t, at(s))), test.reason, test.words)
			s.wantAsked(t, test.asked...)
		})
	}
}

func TestCredentialsStayOutOfPlainHTTP(t *testing.T) {
	r := &tokenRegistry{objects: script{manifestPath: manifestAnswer}}
	s := serve(t, r)
	_, port, _ := strings.Cut(s.host(), ":")
	far, near := "http://registry.example.com:"+port, s.URL
	for _, test := range []struct {
		base, realm string
		sent        string
	}{
		{near, near + "/token", " Basic nicolas:secret"},
		{far, far + "/token", ""},
		{far, near + "/token", ""}, // the token would cross the network
		{near, far + "/token", ""}, // the password would
	} {
		r.realm = test.realm
		u, err := url.Parse(test.base)
		must(t, err)
		config := Config{Registries: map[string]Registry{"hub.example": {URL: test.base, TokenRealm: test.realm}},
			Options: Options{Keychain: passwords{u.Host: {Username: "nicolas", Password: "secret"}}}}
		must(t, manifest(t, client(t, config, dialling(s))))
		asked := s.take()
		if len(asked) != 3 || asked[1] != getToken+test.sent {
			t.Errorf("%s with %s: asked %q", test.base, test.realm, asked)
		}
		r.revoke()
	}
}

func TestPasswordsAreNotSentInPlainHTTP(t *testing.T) {
	s := serve(t, answer(401, "", `WWW-Authenticate: Basic realm="here"`))
	config := Config{Registries: map[string]Registry{"hub.example": {URL: "http://registry.example.com"}},
		Options: Options{Keychain: passwords{"registry.example.com": {Username: "nicolas", Password: "secret"}}}}
	wantReason(t, manifest(t, client(t, config, dialling(s))), verify.UpstreamUnavailable, "401 Unauthorized")
	s.wantAsked(t, "GET /v2/", "GET "+manifestPath)
}

func TestA401WithoutAChallengeChangesNothing(t *testing.T) {
	r := &tokenRegistry{objects: script{manifestPath: answers(answer(401, ""), answer(401, ""), manifestAnswer)}}
	s := serve(t, r)
	c := client(t, at(s))
	wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "401 Unauthorized")
	must(t, manifest(t, c))
	s.wantAsked(t, "GET /v2/", getToken, "GET "+manifestPath+" Bearer t1", getToken, "GET "+manifestPath+" Bearer t2", "GET "+manifestPath+" Bearer t2")
}

func TestTokensThatWoreOutAreForgotten(t *testing.T) {
	s := serve(t, &tokenRegistry{objects: script{}})
	clock := newClock()
	config := at(s)
	config.Now = clock.Now
	c := client(t, config)
	for i := range 5 {
		ref := image(t, "0.1.19")
		ref.Repository = fmt.Sprintf("nicolas/webdis%d", i)
		_, _, err := c.Manifest(t.Context(), ref)
		wantReason(t, err, verify.NotFound, "")
		clock.advance(time.Hour)
	}
	e, err := c.endpoint(image(t, "x"))
	must(t, err)
	if got := len(e.auth.issued); got != 1 {
		t.Errorf("%d tokens are kept", got)
	}
}

func TestWhatSomebodyElseRenewedIsTaken(t *testing.T) {
	r := &tokenRegistry{objects: script{manifestPath: manifestAnswer}}
	s := serve(t, r)
	c := client(t, at(s))
	must(t, manifest(t, c))
	s.take()
	e, err := c.endpoint(image(t, "x"))
	must(t, err)
	refused := &http.Response{Header: http.Header{}}
	for range 3 {
		header, err := e.auth.renew(t.Context(), "nicolas/webdis", "Bearer t1", refused)
		if err != nil || header != "Bearer t2" {
			t.Errorf("got %q, %v", header, err)
		}
	}
	s.wantAsked(t, getToken)
}

func TestTokenRedirectsOnTheSameServer(t *testing.T) {
	s := serve(t, nil)
	s.Config.Handler = s.recording(script{
		"/v2/":       answer(401, "", `WWW-Authenticate: Bearer realm="`+s.URL+`/token",service="hub"`),
		"/token":     redirect("/token2"),
		"/token2":    answer(200, `{"token":"t1"}`),
		manifestPath: manifestAnswer,
	})
	must(t, manifest(t, client(t, at(s))))
	s.wantAsked(t, "GET /v2/", getToken, "GET /token2", "GET "+manifestPath+" Bearer t1")
	for _, h := range s.headers {
		if h.Get("Referer") != "" {
			t.Errorf("headers are %v", h)
		}
	}
}
