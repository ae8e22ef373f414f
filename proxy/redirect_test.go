package proxy

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
)

// A layer that the Gate admits and that clients can get elsewhere isn't sent by the
// mirror; all else is, and what the Gate refuses is refused.
func TestRedirect(t *testing.T) {
	to := func(r *http.Request) (string, error) { return "https://s3.example/layer?for=" + r.Method, nil }
	refused := verify.Refuse(verify.NotAdmitted, "it isn't")
	for name, test := range map[string]struct {
		kind   storage.Kind
		url    func(*http.Request) (string, error)
		path   string
		err    error
		status int
		reason string
	}{
		"layer":            {storage.KindLayer, to, "blobs", nil, http.StatusTemporaryRedirect, ""},
		"config":           {storage.KindConfig, to, "blobs", nil, http.StatusOK, ""},
		"manifest":         {storage.KindManifest, to, "manifests", nil, http.StatusOK, ""},
		"nowhere else":     {storage.KindLayer, nil, "blobs", nil, http.StatusOK, ""},
		"refused":          {storage.KindLayer, to, "blobs", refused, http.StatusForbidden, "not_admitted"},
		"can't be signed":  {storage.KindLayer, func(*http.Request) (string, error) { return "", errors.New("no key") }, "blobs", nil, http.StatusServiceUnavailable, "storage_unavailable"},
		"nothing is given": {storage.KindLayer, func(*http.Request) (string, error) { return "", nil }, "blobs", nil, http.StatusServiceUnavailable, "storage_unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			var events []Event
			gate := &fakeGate{kind: test.kind, redirect: test.url, err: test.err}
			server := newTestServer(t, gate, func(c *Config) { c.Observe = func(e Event) { events = append(events, e) } })
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				got := get(t, server, method, "/v2/library/x/"+test.path+"/"+testDigest.String())
				location := got.header.Get("Location")
				switch {
				case got.status != test.status:
					t.Fatalf("%s: status %d, %s", method, got.status, got.body)
				case test.status != http.StatusTemporaryRedirect:
					if location != "" {
						t.Errorf("%s: there is a Location, %s", method, location)
					}
				case location != "https://s3.example/layer?for="+method, got.body != "", got.header.Get("Cache-Control") != "no-store",
					got.header.Get("Docker-Content-Digest") != testDigest.String():
					t.Errorf("%s: %q, %v", method, got.body, got.header)
				}
				if test.reason != "" && method == http.MethodGet && errorOf(t, got).Detail.Reason != test.reason {
					t.Errorf("%s", got.body)
				}
			}
			server.Close() // each request is over
			for _, e := range events {
				if redirected := test.status == http.StatusTemporaryRedirect; (e.Outcome == "redirected") != redirected || redirected && e.Bytes != 0 {
					t.Errorf("outcome %s, %d bytes", e.Outcome, e.Bytes)
				}
			}
			if len(events) != 2 || strings.Contains(events[0].Outcome, "internal") {
				t.Errorf("told %v", events)
			}
		})
	}
}
