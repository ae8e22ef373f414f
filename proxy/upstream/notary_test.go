package upstream

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/trustmirror/trustmirror/verify"
)

const (
	gun      = "docker.io/nicolas/webdis"
	rootPath = "/v2/docker.io/nicolas/webdis/_trust/tuf/root.json"
	rootBody = `{"signed":{}}`
)

func notaryAt(t *testing.T, config NotaryConfig) *Notary {
	t.Helper()
	if config.Keychain == nil {
		config.Keychain = emptyKeychain
	}
	n, err := newNotary(config, testHooks())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func TestNotaryFiles(t *testing.T) {
	names := []string{"root", "2.root", "timestamp", "snapshot." + strings.Repeat("a", 64), "targets/releases." + strings.Repeat("b", 64), "targets/nicolas_ff-1"}
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(200, rootBody)(w, r) }))
	n := notaryAt(t, NotaryConfig{URL: s.URL})
	want := []string{"GET /v2/"}
	for _, name := range names {
		b, err := n.Fetch(t.Context(), gun, name, 100)
		must(t, err)
		if string(b) != rootBody {
			t.Errorf("%s is %s", name, b)
		}
		want = append(want, "GET /v2/"+gun+"/_trust/tuf/"+name+".json")
	}
	s.wantAsked(t, want...)
	for _, bad := range [][2]string{
		{gun, ""}, {gun, "../root"}, {gun, "targets/../../x"}, {gun, "targets//x"}, {gun, "/root"}, {gun, "root?x"}, {gun, "root#x"}, {gun, "a%2fb"}, {gun, "a\nb"}, {gun, "."},
		{"", "root"}, {"../x", "root"}, {"docker.io/../x", "root"}, {"docker.io//x", "root"}, {"docker.io/x?", "root"}, {"docker.io/%2e%2e/x", "root"},
	} {
		_, err := n.Fetch(t.Context(), bad[0], bad[1], 100)
		wantReason(t, err, verify.Malformed, "can't be the name of signed metadata")
	}
	s.wantAsked(t)
}

func TestAttack13_NotaryAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		h      http.HandlerFunc
		reason verify.Reason
		words  string
		asked  int
	}{
		"404":           {answer(404, `{"errors":[{"code":"METADATA_NOT_FOUND"}]}`), verify.NotFound, "has no root.json of docker.io/nicolas/webdis", 1},
		"404 web page":  {answer(404, "<html>", "Content-Type: text/html"), verify.TrustUnavailable, "a web page (404 Not Found)", 1},
		"a web page":    {answer(200, "<html>", "Content-Type: text/html"), verify.Malformed, "isn't JSON: check that the address", 1},
		"nothing":       {answer(200, ""), verify.Malformed, "isn't JSON", 1},
		"half a file":   {answer(200, `{"signed":`), verify.Malformed, "isn't JSON", 1},
		"too large":     {answer(200, `"`+strings.Repeat("a", 99)+`"`), verify.Malformed, "larger than the 100 bytes", 1},
		"endless":       {endless, verify.Malformed, "larger than the 100 bytes", 1},
		"just so large": {answer(200, `"`+strings.Repeat("a", 98)+`"`), "", "", 1},
		"500":           {answer(500, ""), verify.TrustUnavailable, "answers 500", 3},
		"401":           {answer(401, ""), verify.TrustUnavailable, "401 Unauthorized", 1},
		"403":           {answer(403, ""), verify.TrustUnavailable, "403 Forbidden", 1},
		"429":           {answer(429, "", "Retry-After: 60"), verify.TrustUnavailable, "left alone for 1m0s", 1},
		"cut":           {cut(rootBody, 4), verify.TrustUnavailable, "broke the connection off", 3},
		"compressed":    {answer(200, rootBody, "Content-Encoding: gzip"), verify.TrustUnavailable, "another encoding", 1},
		"redirect away": {redirect("http://169.254.169.254/"), verify.TrustUnavailable, "link-local", 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, script{rootPath: test.h})
			_, err := notaryAt(t, NotaryConfig{URL: s.URL}).Fetch(t.Context(), gun, "root", 100)
			if test.reason == "" {
				must(t, err)
			} else {
				wantReason(t, err, test.reason, test.words)
			}
			if got := len(s.take()); got != 1+test.asked {
				t.Errorf("%d requests", got)
			}
			var unavailable *verify.UnavailableError
			if name == "429" && (!errors.As(err, &unavailable) || unavailable.RetryAfter != time.Minute) {
				t.Errorf("error is %#v", err)
			}
		})
	}
	_, err := notaryAt(t, NotaryConfig{URL: "http://" + unusedAddress(t)}).Fetch(t.Context(), gun, "root", 100)
	wantReason(t, err, verify.TrustUnavailable, "nothing listens at")
}

func endless(w http.ResponseWriter, _ *http.Request) {
	chunk := []byte(strings.Repeat(" ", 32<<10))
	for {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

func TestNotaryTokens(t *testing.T) {
	n := 0
	s := serveTLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			n++
			answer(200, `{"token":"t`+string(rune('0'+n))+`"}`)(w, r)
		case r.Header.Get("Authorization") == "Bearer t1":
			script{rootPath: answer(200, rootBody)}.ServeHTTP(w, r)
		default:
			answer(401, "", `WWW-Authenticate: Bearer realm="https://`+r.Host+`/token",service="notary"`)(w, r)
		}
	}))
	notary := notaryAt(t, NotaryConfig{URL: s.URL, CAFile: s.caFile(t), Options: Options{
		Keychain: passwords{s.host(): {Username: "nicolas", Password: "secret"}, "index.docker.io": {Username: "hub", Password: "hub"}}}})
	for range 2 {
		_, err := notary.Fetch(t.Context(), gun, "root", 100)
		must(t, err)
	}
	_, err := notary.Fetch(t.Context(), gun, "2.root", 100)
	wantReason(t, err, verify.NotFound, "")
	s.wantAsked(t, "GET /v2/",
		"GET /token?scope=repository%3Adocker.io%2Fnicolas%2Fwebdis%3Apull&service=notary Basic nicolas:secret",
		"GET "+rootPath+" Bearer t1", "GET "+rootPath+" Bearer t1", "GET "+strings.Replace(rootPath, "root", "2.root", 1)+" Bearer t1")
}

func TestNotaryOfDockerHubUsesDockerHubsCredentials(t *testing.T) {
	var asked []string
	keychain := resolving(func(r authn.Resource) { asked = append(asked, r.String()) })
	n := notaryAt(t, NotaryConfig{URL: "https://notary.docker.io", Options: Options{Keychain: keychain}})
	_, err := n.e.auth.config(t.Context(), gun, n.e.base)
	must(t, err)
	if len(asked) != 1 || asked[0] != "index.docker.io/nicolas/webdis" {
		t.Errorf("asked for %q", asked)
	}
}

type resolving func(authn.Resource)

func (f resolving) Resolve(r authn.Resource) (authn.Authenticator, error) {
	f(r)
	return authn.Anonymous, nil
}
