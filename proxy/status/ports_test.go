package status

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/trustmirror/trustmirror/proxy"
	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
)

// noGate fails the test when it is asked.
type noGate struct{ t *testing.T }

func (g noGate) Manifest(_ context.Context, ref verify.Ref) (*storage.Content, storage.Admission, error) {
	g.t.Errorf("the gate was asked for %s", ref)
	return nil, storage.Admission{}, errors.New("asked")
}

func (g noGate) Blob(ctx context.Context, ref verify.Ref) (*storage.Content, storage.Admission, error) {
	return g.Manifest(ctx, ref)
}

func (g noGate) Tags(_ context.Context, ref verify.Ref) ([]string, error) {
	g.t.Errorf("the gate was asked for the tags of %s", ref)
	return nil, errors.New("asked")
}

func (g noGate) Repositories() []string { return nil }

// Where clients pull there is no admin page: each path that is answered at the
// admin address is not found there, whatever host and registry a client names.
func TestNoAdminPageIsOnThePullPort(t *testing.T) {
	pull, err := proxy.New(proxy.Config{Gate: noGate{t}, Registries: []string{"docker.io"}, DefaultRegistry: "docker.io"})
	if err != nil {
		t.Fatal(err)
	}
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	admin := proxy.NewAdmin(proxy.AdminConfig{Metrics: ok, Status: newSample().handler(t)})
	paths := append([]string{"/healthz", "/readyz", "/metrics", "/static/style.css", "/static/icon.svg"}, pagePaths...)
	for _, path := range append(paths, apiPaths...) {
		for _, query := range []string{"", "?ns=docker.io"} {
			for _, host := range []string{"127.0.0.1:5001", "docker.io"} {
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path+query, nil)
				r.Host = host
				rec := httptest.NewRecorder()
				admin.ServeHTTP(rec, r)
				if rec.Code != http.StatusOK {
					t.Errorf("the admin address answers %s with %d, so this test says nothing", path, rec.Code)
				}
				rec = httptest.NewRecorder()
				pull.ServeHTTP(rec, r)
				if rec.Code != http.StatusNotFound {
					t.Errorf("the pull port answers %s for %s with %d: %s", path+query, host, rec.Code, rec.Body)
				}
			}
		}
	}
}
