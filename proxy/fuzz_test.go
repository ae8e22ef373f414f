package proxy

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/trustmirror/trustmirror/verify"
)

// FuzzRequest: whatever a request line and a Host make the gate be asked for is a
// name of a configured registry, and other readers of references read it alike, as
// they read image names; and a part that a Range gets is the one that net/http sends.
func FuzzRequest(f *testing.F) {
	for _, target := range []string{
		manifestPath, blobPath, tagsPath, "/v2/_catalog", "/v2/", manifestPath + "?ns=public.ecr.aws", manifestPath + "?ns=quay.io&ns=",
		"/v2/public.ecr.aws/nicolas/webdis/manifests/0.1.19", "/v2/127.0.0.1%3A5000/a/manifests/sha256%3A" + testDigest.Encoded(),
		"/v2/..%2f/manifests/x", "/v2/a//b/manifests/%2e%2e", "http://docker.io/v2/a/b/tags/list?n=1&last=x", "/v2/docker.io/a/blobs/sha512:00",
		"/v2/" + strings.Repeat("a", 64) + "/manifests/x", "/v2/localhost/a/manifests/x", "/v2/DOCKER.io/a/manifests/x",
	} {
		f.Add(target, "mirror.example", "bytes=0-")
		f.Add(target, "registry-1.docker.io:443", "")
	}
	for _, image := range []string{
		"nicolas/webdis:0.1.19", "redis", "index.docker.io/redis", "registry-1.docker.io/redis@" + testDigest.String(), "PUBLIC.ecr.aws/a/b:x@" + testDigest.String(),
		"localhost/a", "127.0.0.1:5000/a__b/c.d-e:_x", "[::1]:5000/a", testDigest.Encoded(), "a@sha512:" + strings.Repeat("0", 128),
	} {
		f.Add(image, image, "bytes=-5")
	}
	for _, ranges := range []string{"bytes=3-9", "bytes=9-3", "bytes=0-1,3-4", "lines=1-2", "bytes=9223372036854775808-", "bytes=--1", "bytes = 1 - 2 ", "bytes=-0", "bytes=-+3", "bytes=+1-2", "bytes=-\r1"} {
		f.Add(manifestPath, "mirror.example", ranges)
	}
	f.Fuzz(func(t *testing.T, target, host, ranges string) {
		checkImageName(t, target)
		checkImageName(t, host)
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.URL, r.RequestURI, r.Host = u, target, host
		if ranges != "" {
			r.Header.Set("Range", ranges)
		}
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
			if checkImageName(t, ref.String()) != ref {
				t.Fatalf("%q isn't read as itself", ref)
			}
		}
		switch rec.Code {
		case 200, 206, 416:
			if rec.Header().Get("Docker-Content-Digest") != "" || rec.Code != 200 {
				checkRange(t, r, rec)
			}
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

// checkImageName asserts of an image name that is accepted that other readers read
// it alike: distribution's always, and go-containerregistry's where it can.
func checkImageName(t *testing.T, s string) verify.Ref {
	t.Helper()
	ref, err := verify.ParseRef(s)
	if err != nil {
		return verify.Ref{}
	}
	if again, err := verify.ParseRef(ref.String()); err != nil || again != ref {
		t.Fatalf("%q is %q, and that %q: %v", s, ref, again, err)
	}
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		t.Fatalf("%q is accepted, but not by distribution: %v", s, err)
	}
	var tag, digest string
	if tagged, ok := named.(reference.Tagged); ok {
		tag = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		digest = digested.Digest().String()
	}
	if canonicalName(reference.Domain(named), reference.Path(named)) != ref.Name() || tag != ref.Tag || digest != ref.Digest.String() {
		t.Fatalf("%q is %q, distribution reads %q", s, ref, named)
	}
	crane, err := name.ParseReference(s, name.WithDefaultTag(""))
	if err != nil {
		return ref // it takes neither names of one letter nor sha512
	}
	identifier := ref.Tag
	if ref.Digest != "" {
		identifier = ref.Digest.String()
	}
	repository := crane.Context()
	if canonicalName(repository.RegistryStr(), repository.RepositoryStr()) != ref.Name() || crane.Identifier() != identifier {
		t.Fatalf("%q is %q, go-containerregistry reads %q, %q", s, ref, repository, crane.Identifier())
	}
	return ref
}

// canonicalName is a repository's name with the one name of its registry.
func canonicalName(registry, repository string) string {
	registry = verify.CanonicalRegistry(registry)
	if registry == verify.DockerHub && !strings.Contains(repository, "/") {
		repository = "library/" + repository
	}
	return registry + "/" + repository
}

// checkRange asserts that a part is the one that net/http sends, and that a part
// which net/http sends is refused only if there is nothing in it, or where a Range has
// more than digits and what separates them: net/http takes white space and signs. The
// whole may be sent at any time (RFC 9110, 14.2).
func checkRange(t *testing.T, r *http.Request, got *httptest.ResponseRecorder) {
	t.Helper()
	// net/http takes the unit in lower case only, which RFC 9110, 14.1, doesn't.
	if unit, set, _ := strings.Cut(r.Header.Get("Range"), "="); strings.EqualFold(strings.Trim(unit, " \t"), "bytes") {
		r.Header.Set("Range", "bytes="+strings.Trim(set, " \t"))
	}
	want := httptest.NewRecorder()
	http.ServeContent(want, r, "", time.Time{}, bytes.NewReader(testBody))
	switch {
	case got.Code == 200 && got.Body.String() == string(testBody):
	case got.Code == 206 && want.Code == 206 && got.Body.String() == want.Body.String() &&
		got.Header().Get("Content-Range") == want.Header().Get("Content-Range"):
	case got.Code == 416 && (want.Code != 206 || want.Body.Len() == 0 || strings.Trim(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "0123456789-,") != ""):
	default:
		t.Fatalf("Range %q: %d, %q of %q; net/http sends %d, %q of %q", r.Header.Get("Range"),
			got.Code, got.Body, got.Header().Get("Content-Range"), want.Code, want.Body, want.Header().Get("Content-Range"))
	}
}
