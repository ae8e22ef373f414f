package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
)

func TestAdmin(t *testing.T) {
	well := func(context.Context) error { return nil }
	ill := func(context.Context) error { return errors.New("the disk is full") }
	bounded := func(ctx context.Context) error {
		if _, ok := ctx.Deadline(); !ok {
			return errors.New("there is no deadline")
		}
		return nil
	}
	tests := []struct {
		checks map[string]Check
		path   string
		status int
		want   readiness
	}{
		{nil, "/readyz", 200, readiness{Ready: true, Checks: map[string]string{}}},
		{map[string]Check{"storage": well, "trust": bounded}, "/readyz", 200,
			readiness{Ready: true, Checks: map[string]string{"storage": "ok", "trust": "ok"}}},
		{map[string]Check{"storage": ill, "trust": well}, "/readyz", 503,
			readiness{Checks: map[string]string{"storage": "the disk is full", "trust": "ok"}}},
		{map[string]Check{"storage": ill}, "/healthz", 200, readiness{}},
	}
	for _, test := range tests {
		rec := httptest.NewRecorder()
		NewAdmin(AdminConfig{Checks: test.checks}).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, test.path, nil))
		if rec.Code != test.status || rec.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %v", test.path, rec.Code, rec.Header())
		}
		var got readiness
		if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v, %s", test.path, err, rec.Body)
		}
	}
}

func TestAdminTellsExpiryAndMetrics(t *testing.T) {
	for ready, status := range map[bool]int{true: 200, false: 503} {
		admin := NewAdmin(AdminConfig{
			Checks: map[string]Check{"storage": func(context.Context) error {
				if ready {
					return nil
				}
				return errors.New("the disk is full")
			}},
			Expiry:  func() any { return []string{"tomorrow"} },
			Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }),
		})
		rec := httptest.NewRecorder()
		admin.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
		var got struct{ Expiry []string }
		if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil || rec.Code != status || len(got.Expiry) != 1 {
			t.Errorf("ready %t: %d %s", ready, rec.Code, rec.Body)
		}
		rec = httptest.NewRecorder()
		admin.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
		if rec.Code != http.StatusTeapot {
			t.Errorf("/metrics: %d", rec.Code)
		}
	}
}

func TestAdminHasTheStatusPage(t *testing.T) {
	admin := NewAdmin(AdminConfig{Status: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })})
	for path, want := range map[string]int{"/": http.StatusTeapot, "/refusals": http.StatusTeapot, "/healthz": 200, "/readyz": 200} {
		rec := httptest.NewRecorder()
		admin.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if rec.Code != want {
			t.Errorf("%s: %d, want %d", path, rec.Code, want)
		}
	}
}

func TestAdminHasNothingElse(t *testing.T) {
	admin := NewAdmin(AdminConfig{})
	for request, status := range map[[2]string]int{
		{"GET", "/"}: 404, {"GET", "/v2/"}: 404, {"GET", "/metrics"}: 404, {"POST", "/healthz"}: 405, {"DELETE", "/readyz"}: 405, {"HEAD", "/healthz"}: 200,
	} {
		rec := httptest.NewRecorder()
		admin.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), request[0], request[1], nil))
		if rec.Code != status {
			t.Errorf("%v: %d, want %d", request, rec.Code, status)
		}
	}
}
