package hostile

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// TestS3Redirect has a mirror send clients to the bucket for layers, by a name that only
// clients use: no byte of a layer goes through the mirror, and nothing is sent there that
// it wouldn't serve.
func TestS3Redirect(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s, other, w := newSite(t, "redirect"), newSite(t, "not-configured"), newWire(t, l)
	public := w.another(t)
	m := newReplica(t, l, w.Bucket, true, s, s.notary, "redirect: true", fmt.Sprintf("redirectendpoint: %q", public.URL))
	check(t, m.Start(t.Context()))

	image := s.release.Hub.Images[0]
	layer := image.Layers[1]
	path := lab.BlobPath(s.signed(), layer.Digest())
	m.direct(t, http.MethodGet, path, http.StatusTemporaryRedirect) // cold: it is verified first
	if stored := wholeContent(t, w.Bucket); stored == 0 {
		t.Error("the client was sent to a bucket that has nothing")
	}
	w.requests()
	m.direct(t, http.MethodGet, path, http.StatusTemporaryRedirect)
	if asked := kinds(w.requests()); len(asked) > 2 || !slices.Contains(asked, "HEAD content") {
		t.Errorf("a warm redirect takes %v", asked)
	}
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		to, err := url.Parse(m.direct(t, method, path, http.StatusTemporaryRedirect).header.Get("Location"))
		check(t, err)
		if to.Scheme+"://"+to.Host != public.URL || to.Path != "/"+w.Name+"/mirrors/one"+strings.TrimPrefix(w.file(layer.Digest()), filepath.Join(w.Dir, "mirrors/one")) {
			t.Errorf("%s is sent to %s", method, to.Redacted())
		}
		if got := to.Query().Get("X-Amz-Expires"); got != "1200" {
			t.Errorf("%s: the URL is valid for %s seconds", method, got)
		}
		m.follows(t, method, to, layer.Content, http.StatusOK)
		m.follows(t, method, to, layer.Content[5:], http.StatusPartialContent, "Range", "bytes=5-")
		for name, change := range map[string]func(*url.URL){
			"another key":   func(u *url.URL) { u.Path += "0" },
			"a longer time": func(u *url.URL) { u.RawQuery = strings.Replace(u.RawQuery, "Expires=1200", "Expires=604800", 1) },
			"no signature":  func(u *url.URL) { u.RawQuery, _, _ = strings.Cut(u.RawQuery, "&X-Amz-Signature") },
			"nothing":       func(u *url.URL) { u.RawQuery = "" },
		} {
			forged := *to
			change(&forged)
			if got := request(t, method, forged.String()).status; forged == *to || got != http.StatusForbidden && got != http.StatusBadRequest {
				t.Errorf("%s with %s: %d", method, name, got)
			}
		}
	}

	// Documents and configs come from the mirror, and so does every refusal.
	for _, served := range []string{
		lab.ManifestPath(s.signed(), tag), lab.ManifestPath(s.signed(), image.Manifest.Digest().String()), lab.BlobPath(s.signed(), image.Config.Digest()),
	} {
		m.direct(t, http.MethodGet, served, http.StatusOK)
	}
	foreign := other.release.Hub.Images[0].Layers[1]
	for _, refused := range []string{
		lab.BlobPath(s.signed(), digest.FromString("nothing")), lab.BlobPath(other.signed(), layer.Digest()), lab.BlobPath(s.signed(), foreign.Digest()),
		lab.BlobPath(s.signed(), image.Manifest.Digest()), lab.BlobPath(other.signed(), foreign.Digest()),
	} {
		if got := m.direct(t, http.MethodGet, refused, http.StatusForbidden).header.Get("Location"); got != "" {
			t.Errorf("%s is refused, and there is a way to it", refused)
		}
	}
	// A real client goes there.
	m.skopeo(t, s.signed(), "0.1.19")
	check(t, m.pull(t.Context(), s.copied(), tag, s.release.ECR))
	layers := map[string]bool{}
	for _, r := range []lab.Release{s.release.Hub, s.release.ECR} {
		for _, image := range r.Images {
			for _, layer := range image.Layers {
				layers[layer.Digest().String()] = true
			}
		}
	}
	log, redirected := m.log(t, 0), 0
	for line := range strings.Lines(log) {
		is := func(part string) bool { return strings.Contains(line, part) }
		asksLayer := slices.ContainsFunc(slices.Collect(maps.Keys(layers)), func(d string) bool { return is(" reference=" + d + " ") })
		switch {
		case !is("msg=request ") || !asksLayer || is(" outcome=refused "):
		case is(" status=307 bytes=0 ") && is(" outcome=redirected "):
			redirected++
		default:
			t.Errorf("a layer came from the mirror: %s", line)
		}
	}
	if redirected < 5 {
		t.Errorf("only %d redirects are in the log", redirected)
	}
	for _, secret := range []string{"X-Amz-Signature", "X-Amz-Credential"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %s, which opens the bucket", secret)
		}
	}
	if metrics := request(t, http.MethodGet, m.AdminURL+"/metrics").body; !strings.Contains(string(metrics), `trustmirror_requests_total{outcome="redirected",route="blob",status="307"}`) {
		t.Error("no redirects are counted")
	}
	if len(public.all()) == 0 {
		t.Error("nobody came to the bucket by its public name")
	}
}

// direct asks a mirror without going where it sends.
func (r replica) direct(t *testing.T, method, path string, want int) reply {
	t.Helper()
	got := request(t, method, r.URL+path)
	if got.status != want {
		t.Errorf("%s %s: %d, not %d", method, path, got.status, want)
	}
	return got
}

// follows goes where a mirror sends.
func (r replica) follows(t *testing.T, method string, to *url.URL, want []byte, status int, headers ...string) {
	t.Helper()
	if method == http.MethodHead {
		want = nil
	}
	if got := request(t, method, to.String(), headers...); got.status != status || !bytes.Equal(got.body, want) {
		t.Errorf("%s: %d, %d bytes", method, got.status, len(got.body))
	}
}

// request asks without following redirects.
func request(t *testing.T, method, to string, headers ...string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, to, nil)
	check(t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(r)
	check(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	check(t, err)
	return reply{response.StatusCode, response.Header, body}
}

// skopeo pulls all platforms of an image, and checks each digest.
func (m *mirror) skopeo(t *testing.T, name, tag string) {
	t.Helper()
	_, err := lab.Run(t.Context(), nil, "skopeo", "--insecure-policy", "copy", "--all", "--quiet", "--src-tls-verify=false",
		"docker://"+m.Address+"/"+name+":"+tag, "dir:"+t.TempDir())
	check(t, err)
}
