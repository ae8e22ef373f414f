package upstream

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/verify"
)

// dialling leads every connection to one server, whatever it is called.
func dialling(s *server) func(*hooks) {
	return func(h *hooks) {
		h.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.host())
		}
	}
}

func TestAttack23_Realms(t *testing.T) {
	const refused = "isn't asked"
	for _, test := range []struct {
		base, named, realm string
		words              string // "": it may be asked
	}{
		{"https://hub.example.com", "", "https://hub.example.com/token", ""},
		{"https://hub.example.com", "", "https://HUB.example.com/token", ""},
		{"https://hub.example.com", "", "https://hub.example.com:8443/token", ""},
		{"https://hub.example.com", "", "https://auth.example.com/token?x=y", ""},
		{"https://hub.example.com", "", "https://example.com/token", ""},
		{"https://registry-1.docker.io", "", "https://auth.docker.io/token", ""},
		{"https://public.ecr.aws", "", "https://public.ecr.aws/token/", ""},
		{"http://127.0.0.1:5000", "", "http://127.0.0.1:5001/token", ""},
		{"http://hub.example.com", "", "https://auth.example.com/token", ""},
		{"https://[::1]:5000", "", "https://[::1]:5001/token", ""},
		{"https://registry:5000", "", "https://registry:5001/token", ""},

		{"https://hub.example.com", "", "https://evil.example.net/token", "neither its own host nor on its domain"},
		{"https://hub.example.com", "", "http://hub.example.com/token", "plain http"},
		{"https://hub.example.com", "", "http://auth.example.com/token", "plain http"},
		{"https://hub.example.com", "", "https://example.com.evil.net/token", refused},
		{"https://hub.example.com", "", "https://evilexample.com/token", refused},
		{"https://hub.example.com", "", "https://hub.example.com@evil.net/token", "no usable token server"},
		{"https://hub.example.com", "", "https://hub.example.com#/token", "no usable token server"},
		{"https://hub.example.com", "", "https://169.254.169.254/latest/", refused},
		{"https://hub.example.com", "", "https://127.0.0.1/token", refused},
		{"https://hub.example.com", "", "//hub.example.com/token", "no usable token server"},
		{"https://hub.example.com", "", "/token", "no usable token server"},
		{"https://hub.example.com", "", "", "no usable token server"},
		{"https://hub.example.com", "", "gopher://hub.example.com/", "no usable token server"},
		// A public suffix isn't a domain of anybody's.
		{"https://a.co.uk", "", "https://b.co.uk/token", refused},
		{"https://a.github.io", "", "https://b.github.io/token", refused},
		{"https://a.s3.amazonaws.com", "", "https://b.s3.amazonaws.com/token", refused},
		{"https://co.uk", "", "https://a.co.uk/token", refused},
		// Nor are addresses and names that the list doesn't know.
		{"http://10.0.0.1", "", "http://11.0.0.1/token", refused},
		{"http://127.0.0.1:5000", "", "http://127.0.0.2:5000/token", refused},
		{"https://registry", "", "https://auth/token", refused},
		{"https://registry.team-a.svc.cluster.local", "", "https://auth.team-b.svc.cluster.local/token", refused},
		{"https://hub.example.com.", "", "https://auth.example.com./token", refused},

		{"https://hub.example.com", "https://login.example.net/token", "https://login.example.net/token", ""},
		{"https://hub.example.com", "https://login.example.net/token", "https://LOGIN.example.net:443/token", ""},
		{"https://hub.example.com", "https://login.example.net/token?tenant=1", "https://login.example.net/token?tenant=1", ""},
		{"https://hub.example.com", "https://login.example.net/token", "https://login.example.net/other", refused},
		{"https://hub.example.com", "https://login.example.net/token", "https://login.example.net/token?tenant=1", refused},
		{"https://hub.example.com", "https://login.example.net/token", "https://login.example.net:8443/token", refused},
		{"https://hub.example.com", "https://login.example.net/token", "http://login.example.net/token", "plain http"},
		{"https://hub.example.com", "https://login.example.net/token", "https://hub.example.com/token", ""},
	} {
		base, err := parseBase(test.base)
		must(t, err)
		e := &endpoint{name: "hub.example", base: base}
		if test.named != "" {
			e.tokenRealm, err = parseTokenRealm(test.named, base)
			must(t, err)
		}
		_, err = e.checkRealm(test.realm)
		if test.words == "" && err != nil {
			t.Errorf("%s at %s: %v", test.realm, test.base, err)
		}
		if test.words != "" && (err == nil || !strings.Contains(err.Error(), test.words)) {
			t.Errorf("%s at %s: error is %v, want %q", test.realm, test.base, err, test.words)
		}
	}
}

func TestAttack23_ARealmElsewhereIsNotAsked(t *testing.T) {
	elsewhere := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for name, realm := range map[string]string{
		"another host":  strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1) + "/token",
		"another https": "https://" + strings.Replace(elsewhere.host(), "127.0.0.1", "localhost", 1) + "/token",
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, &tokenRegistry{objects: script{manifestPath: manifestAnswer}, realm: realm})
			config := at(s)
			config.Keychain = passwords{s.host(): {Username: "nicolas", Password: "secret"}}
			wantReason(t, manifest(t, client(t, config)), verify.UpstreamUnavailable, "configure it as its token realm")
			s.wantAsked(t, "GET /v2/")
			elsewhere.wantAsked(t)
		})
	}
}

// Whoever stood in for the registry, once, has no say any more when it is back.
func TestAttack23_ARealmElsewhereIsForgotten(t *testing.T) {
	for name, challenge := range map[string]string{
		"realm elsewhere":       `Bearer realm="http://localhost:1/token"`,
		"no token at the realm": `Bearer realm="http://%s/nothing"`,
		"another kind":          "Negotiate",
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, script{
				"/v2/": answers(func(w http.ResponseWriter, r *http.Request) {
					answer(401, "", "WWW-Authenticate: "+strings.ReplaceAll(challenge, "%s", r.Host))(w, r)
				}, answer(200, "")),
				manifestPath: manifestAnswer,
			})
			c := client(t, at(s))
			wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "")
			must(t, manifest(t, c))
		})
	}
}

func TestAttack23_ARealmOfItsOwnOnAPrivateAddress(t *testing.T) {
	// Its name is on the registry's domain, but leads inside.
	inside := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s := serve(t, &tokenRegistry{objects: script{manifestPath: manifestAnswer}, realm: inside.URL + "/token"})
	c := client(t, at(s), pretend(map[*server]reach{s: publicReach, inside: privateReach}))
	wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "hub.example sends us to 127.0.0.1, a private address, which is not followed from a public address")
	s.wantAsked(t, "GET /v2/")
	inside.wantAsked(t)
}

func TestARealmThatTheOperatorNamed(t *testing.T) {
	// Anywhere, private addresses included.
	r := &tokenRegistry{objects: script{manifestPath: manifestAnswer}}
	inside := serve(t, r)
	s := serve(t, r)
	r.realm = strings.Replace(inside.URL, "127.0.0.1", "localhost", 1) + "/token"
	config := Config{Registries: map[string]Registry{"hub.example": {URL: s.URL, TokenRealm: r.realm}}}
	config.Keychain = passwords{s.host(): {Username: "nicolas", Password: "secret"}}
	r.password = "secret"
	must(t, manifest(t, client(t, config, pretend(map[*server]reach{s: publicReach, inside: forbiddenReach}))))
	s.wantAsked(t, "GET /v2/", "GET "+manifestPath+" Bearer t1")
	inside.wantAsked(t, getToken+" Basic nicolas:secret")
}

func TestAnInnerRealmDoesNotOpenTheNetwork(t *testing.T) {
	inside := serve(t, &tokenRegistry{})
	other := serve(t, script{})
	s := serve(t, nil)
	r := &tokenRegistry{objects: script{manifestPath: redirect(other.URL)}, realm: inside.URL + "/token"}
	s.Config.Handler = s.recording(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.valid = map[string]string{"t1": "repository:nicolas/webdis:pull"}
		r.ServeHTTP(w, req)
	}))
	config := Config{Registries: map[string]Registry{"hub.example": {URL: s.URL, TokenRealm: r.realm}}}
	c := client(t, config, pretend(map[*server]reach{s: publicReach, inside: privateReach}))
	// The operator's word is good for the realm's own address, and no other inside.
	wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "a loopback address, which is not followed from a public address")
	inside.wantAsked(t, getToken)
	other.wantAsked(t)
}

func TestDockerHubsRealmIsBuiltIn(t *testing.T) {
	c := client(t, Config{})
	e, err := c.endpoint(verify.Ref{Registry: verify.DockerHub})
	must(t, err)
	if _, err := e.checkRealm("https://auth.docker.io/token"); err != nil {
		t.Error(err)
	}
	c = client(t, Config{Registries: map[string]Registry{"docker.io": {URL: "https://hub.example.com"}}})
	e, err = c.endpoint(verify.Ref{Registry: verify.DockerHub})
	must(t, err)
	if _, err := e.checkRealm("https://auth.docker.io/token"); err != nil {
		t.Error(err)
	}
	n, err := newNotary(NotaryConfig{URL: "https://notary.docker.io"}, testHooks())
	must(t, err)
	defer n.Close()
	if _, err := n.e.checkRealm("https://auth.docker.io/token"); err != nil {
		t.Error(err)
	}
}

func TestWhoseCredentials(t *testing.T) {
	for _, test := range []struct{ registry, base, want string }{
		{"docker.io", "https://registry-1.docker.io", "docker.io"},
		{"docker.io", "https://notary.docker.io", "docker.io"},
		{"docker.io", "https://mirror.example.com", "mirror.example.com"},
		{"docker.io", "http://127.0.0.1:5001", "127.0.0.1:5001"},
		{"hub.example.com", "https://hub.example.com:4443", "hub.example.com"},
		{"hub.example.com:5000", "https://notary.example.com", "hub.example.com:5000"},
		{"a.github.io", "https://b.github.io", "b.github.io"},
		{"127.0.0.1:5000", "http://127.0.0.1:5000", "127.0.0.1:5000"},
		{"%zz", "https://hub.example.com", "hub.example.com"},
	} {
		base, err := url.Parse(test.base)
		must(t, err)
		if got, _ := account(test.registry, "nicolas/webdis", base); got != test.want {
			t.Errorf("%s at %s: %s, want %s", test.registry, test.base, got, test.want)
		}
	}
}
