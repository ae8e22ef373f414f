package proxy

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/distribution/reference"

	"github.com/trustmirror/trustmirror/verify"
)

// FuzzNaming: whatever a request line and a Host make the gate be asked for is a
// name of a configured registry, and every other reader of references reads it alike.
func FuzzNaming(f *testing.F) {
	for _, target := range []string{
		manifestPath, blobPath, tagsPath, "/v2/_catalog", "/v2/", manifestPath + "?ns=public.ecr.aws", manifestPath + "?ns=quay.io&ns=",
		"/v2/public.ecr.aws/nicolas/webdis/manifests/0.1.19", "/v2/127.0.0.1%3A5000/a/manifests/sha256%3A" + testDigest.Encoded(),
		"/v2/..%2f/manifests/x", "/v2/a//b/manifests/%2e%2e", "http://docker.io/v2/a/b/tags/list?n=1&last=x", "/v2/docker.io/a/blobs/sha512:00",
		"/v2/" + strings.Repeat("a", 64) + "/manifests/x", "/v2/localhost/a/manifests/x", "/v2/DOCKER.io/a/manifests/x",
	} {
		f.Add(target, "mirror.example")
		f.Add(target, "registry-1.docker.io:443")
	}
	f.Fuzz(func(t *testing.T, target, host string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.URL, r.RequestURI, r.Host = u, target, host
		gate := &fakeGate{tags: []string{"a", "b"}}
		rec := httptest.NewRecorder()
		newHandler(t, gate).ServeHTTP(rec, r)

		asked := gate.askedFor()
		if len(asked) > 1 {
			t.Fatalf("the gate was asked for %v", asked)
		}
		for _, ref := range asked {
			if !slices.Contains(testRegistries, ref.Registry) {
				t.Fatalf("%s names %q, which isn't configured", ref, ref.Registry)
			}
			named, err := reference.ParseNormalizedNamed(ref.String())
			if err != nil {
				t.Fatalf("%q: %v", ref, err)
			}
			if reference.Domain(named) != ref.Registry || reference.Path(named) != ref.Repository || named.String() != ref.String() {
				t.Fatalf("%q is read as %q of %q", ref, reference.Path(named), reference.Domain(named))
			}
			if again, err := verify.ParseRef(ref.String()); err != nil || again != ref {
				t.Fatalf("%q is parsed as %q: %v", ref, again, err)
			}
		}
		switch rec.Code {
		case 200:
		case 400, 403, 404:
			errorOf(t, response{rec.Code, rec.Header(), rec.Body.String()})
			if len(asked) > 0 {
				t.Fatalf("status %d, but the gate was asked for %v", rec.Code, asked)
			}
		default:
			t.Fatalf("status %d: %s", rec.Code, rec.Body)
		}
	})
}

// FuzzRange: a span lies inside of the content, and the whole is the whole.
func FuzzRange(f *testing.F) {
	for _, ranges := range []string{"bytes=0-", "bytes=-5", "bytes=3-9", "bytes=9-3", "bytes=0-1,3-4", "lines=1-2", "bytes=9223372036854775808-", "bytes=--1"} {
		f.Add(ranges, int64(10))
	}
	f.Fuzz(func(t *testing.T, ranges string, size int64) {
		if size < 0 {
			return
		}
		got, err := requestedSpan(http.Header{"Range": {ranges}}, "", size)
		switch {
		case err != nil:
		case !got.partial:
			if got.start != 0 || got.length != size {
				t.Fatalf("%q of %d: %+v", ranges, size, got)
			}
		case got.start < 0 || got.length <= 0 || got.start > size-got.length:
			t.Fatalf("%q of %d: %+v", ranges, size, got)
		}
	})
}
