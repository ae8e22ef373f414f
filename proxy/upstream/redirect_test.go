package upstream

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/verify"
)

func redirect(to string) http.HandlerFunc { return answer(307, "", "Location: "+to) }

func TestRedirectsLoseCredentials(t *testing.T) {
	body := "layer"
	ref, path := blobRef(t, body)
	cdn := serve(t, script{"/x": ranged(body)})
	s := serve(t, nil)
	inner := script{path: redirect(cdn.URL + "/x?sig=1"), manifestPath: redirect("/elsewhere"), "/elsewhere": manifestAnswer}
	s.Config.Handler = s.recording(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			answer(401, "", `WWW-Authenticate: Basic realm="here"`)(w, r)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	config := at(s)
	config.Keychain = passwords{s.host(): {Username: "nicolas", Password: "secret"}}
	c := client(t, config)
	got, err := readBlob(t, c, ref)
	if err != nil || got != body {
		t.Errorf("got %q, %v", got, err)
	}
	auth := " Basic nicolas:secret"
	s.wantAsked(t, "GET /v2/", "GET "+path+auth)
	cdn.wantAsked(t, "GET /x?sig=1")
	for _, h := range cdn.headers {
		if h.Get("Referer") != "" || h.Get("Cookie") != "" {
			t.Errorf("headers are %v", h)
		}
	}

	// On the registry itself they are kept.
	must(t, manifest(t, c))
	s.wantAsked(t, "GET "+manifestPath+auth, "GET /elsewhere"+auth)

	// Not once it was left.
	cdn.Config.Handler = cdn.recording(redirect(s.URL + "/elsewhere"))
	_, err = readBlob(t, c, ref)
	wantReason(t, err, verify.UpstreamUnavailable, "401 Unauthorized")
	if asked := s.take(); len(asked) < 2 || asked[1] != "GET /elsewhere" {
		t.Errorf("asked %q", asked)
	}
}

func TestRedirectTargetsCannotAskForAuthentication(t *testing.T) {
	cdn := serve(t, nil)
	cdn.Config.Handler = cdn.recording(answer(401, "", `WWW-Authenticate: Bearer realm="`+cdn.URL+`/token",service="cdn"`))
	s := serve(t, script{manifestPath: redirect(cdn.URL + "/x")})
	wantReason(t, manifest(t, client(t, at(s))), verify.UpstreamUnavailable, "hub.example redirects to "+cdn.host()+", which answers 401 Unauthorized")
	s.wantAsked(t, "GET /v2/", "GET "+manifestPath)
	cdn.wantAsked(t, "GET /x")
}

func TestResumingStartsAtTheRegistryAgain(t *testing.T) {
	body := strings.Repeat("layer", 100)
	ref, path := blobRef(t, body)
	cdn := serve(t, script{"/1": cut(body, 100), "/2": ranged(body)})
	s := serve(t, script{path: answers(redirect(cdn.URL+"/1"), redirect(cdn.URL+"/2"))})
	got, err := readBlob(t, client(t, at(s)), ref)
	if err != nil || got != body {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	s.wantAsked(t, "GET /v2/", "GET "+path, "GET "+path+" bytes=100-")
	cdn.wantAsked(t, "GET /1", "GET /2 bytes=100-")
}

func TestRedirectsAreCounted(t *testing.T) {
	for n, words := range map[int]string{5: "", 6: "redirects more than 5 times"} {
		s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var i int
			if r.URL.Path == "/v2/" {
				return
			}
			_, _ = fmt.Sscanf(r.URL.Path, "/hop/%d", &i)
			if i == n {
				manifestAnswer(w, r)
				return
			}
			redirect(fmt.Sprintf("/hop/%d", i+1))(w, r)
		}))
		err := manifest(t, client(t, at(s)))
		if words == "" {
			must(t, err)
		} else {
			wantReason(t, err, verify.UpstreamUnavailable, words)
		}
		if got := len(s.take()); got != 1+1+min(n, 5) {
			t.Errorf("%d redirects: %d requests", n, got)
		}
	}
}

func TestRedirectsThatAreNotFollowed(t *testing.T) {
	inside := serve(t, script{"/x": manifestAnswer})
	private, loopback, metadata := serve(t, script{}), serve(t, script{}), serve(t, script{})
	for name, test := range map[string]struct {
		base     reach
		location string
		words    string
	}{
		"loopback to loopback": {loopbackReach, inside.URL + "/x", ""},
		"private to private":   {privateReach, private.URL, "no manifest"},
		"private to loopback":  {privateReach, loopback.URL, "a loopback address, which is not followed from a private address"},
		"public to loopback":   {publicReach, loopback.URL, "a loopback address, which is not followed from a public address"},
		"public to private":    {publicReach, private.URL, "a private address"},
		"by name":              {publicReach, strings.Replace(loopback.URL, "127.0.0.1", "localhost", 1), "a loopback address"},
		"loopback to metadata": {loopbackReach, metadata.URL, "a link-local or reserved address"},
		"metadata to itself":   {forbiddenReach, metadata.URL, "a link-local or reserved address"},
		"public to metadata":   {publicReach, "http://169.254.169.254/latest/meta-data/", "a link-local or reserved address"},
		"another scheme":       {loopbackReach, "file:///etc/passwd", "isn't an HTTP address"},
		"no host":              {loopbackReach, "http:///x", "isn't an HTTP address"},
		"nowhere":              {loopbackReach, "", "redirects to nowhere"},
		"nonsense":             {loopbackReach, "http://a b/", "redirects to nowhere"},
		"with a password":      {loopbackReach, "http://u:p@" + inside.host() + "/x", "a user name in it"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, script{manifestPath: redirect(test.location)})
			c := client(t, at(s), pretend(map[*server]reach{s: test.base, inside: loopbackReach, private: privateReach, loopback: loopbackReach, metadata: forbiddenReach}))
			err := manifest(t, c)
			switch test.words {
			case "":
				must(t, err)
			case "no manifest":
				wantReason(t, err, verify.NotFound, test.words)
				private.wantAsked(t, "GET /")
			default:
				wantReason(t, err, verify.UpstreamUnavailable, test.words)
			}
			s.wantAsked(t, "GET /v2/", "GET "+manifestPath)
		})
	}
	for _, s := range []*server{private, loopback, metadata} {
		s.wantAsked(t)
	}

	plain := serve(t, script{"/x": manifestAnswer})
	down := serveTLS(t, script{manifestPath: redirect(plain.URL + "/x")})
	c := client(t, Config{Registries: map[string]Registry{"hub.example": {URL: down.URL, CAFile: down.caFile(t)}}})
	wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "redirects from https to plain http")
	plain.wantAsked(t)
}

func TestRedirectsThroughAProxy(t *testing.T) {
	// A proxy is where the operator put it; what it may be asked for is judged by
	// address where there is one.
	proxy := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Host == "hub.example.com" && r.URL.Path == manifestPath {
			redirect(r.URL.Query().Get("to"))(w, r)
			return
		}
		manifestAnswer(w, r)
	}))
	through := func(h *hooks) {
		h.proxy = func(*http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }
	}
	for to, words := range map[string]string{
		"http://cdn.example.com/x":   "",
		"http://93.184.216.34/x":     "",
		"http://10.0.0.1/x":          "a private address",
		"http://127.0.0.1/x":         "a loopback address",
		"http://[::ffff:10.0.0.1]/x": "a private address",
		"http://2130706433/x":        "an address in disguise",
		"http://0x7f.1/x":            "an address in disguise",
		"http://127.1./x":            "an address in disguise",
	} {
		c := client(t, Config{Registries: map[string]Registry{"hub.example": {URL: "http://hub.example.com"}}}, through)
		e, err := c.endpoint(image(t, "x"))
		must(t, err)
		target, err := e.redirectTarget(e.base, to)
		must(t, err)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target.String(), nil)
		must(t, err)
		resp, err := e.exchange(req, call{kind: KindBlob})
		if words == "" {
			must(t, err)
			discard(resp)
		} else if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: error is %v, want %q", to, err, words)
		}
	}
	if got := len(proxy.take()); got != 2 {
		t.Errorf("the proxy was asked %d times", got)
	}
}

func TestReach(t *testing.T) {
	for address, want := range map[string]reach{
		"8.8.8.8": publicReach, "2600::1": publicReach, "64:ff9b::808:808": publicReach,
		"10.1.2.3": privateReach, "172.31.0.1": privateReach, "192.168.0.1": privateReach, "fd00::1": privateReach,
		"100.100.100.200": privateReach, "64:ff9b::a01:203": privateReach, "2002:a01:203::1": privateReach, "::ffff:10.0.0.1": privateReach,
		"127.0.0.1": loopbackReach, "127.8.8.8": loopbackReach, "::1": loopbackReach, "::ffff:127.0.0.1": loopbackReach, "64:ff9b::7f00:1": loopbackReach,
		"169.254.169.254": forbiddenReach, "fe80::1": forbiddenReach, "fe80::1%eth0": forbiddenReach, "0.0.0.0": forbiddenReach, "::": forbiddenReach,
		"0.1.2.3": forbiddenReach, "224.0.0.1": forbiddenReach, "ff02::1": forbiddenReach, "255.255.255.255": forbiddenReach, "240.0.0.1": forbiddenReach,
	} {
		if got := reachOf(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s is %v, want %v", address, got, want)
		}
	}
	if reachOf(netip.Addr{}) != forbiddenReach {
		t.Error("no address is an address")
	}
}
