package proxy_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// nowhere is a ResponseWriter that keeps the header only.
type nowhere http.Header

func (n nowhere) Header() http.Header         { return http.Header(n) }
func (n nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (n nowhere) WriteHeader(int)             {}

// BenchmarkWarmManifest answers for a signed tag that is verified and stored, which
// is what a fleet asks most. Telemetry is off: it must not cost an allocation.
func BenchmarkWarmManifest(b *testing.B) {
	m := newMirror(b)
	m.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{}, verifytest.Format{})
	m.start()
	if a := m.get(hubName, "manifests", "0.1.19"); a.status != http.StatusOK {
		b.Fatalf("%d %s", a.status, a.body)
	}
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/v2/"+repo+"/manifests/0.1.19?ns=docker.io", http.NoBody)
	w := nowhere{}
	b.ReportAllocs()
	for b.Loop() {
		clear(w)
		m.handler.ServeHTTP(w, r)
	}
}
