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
		{nil, "/readyz", 200, readiness{true, map[string]string{}}},
		{map[string]Check{"storage": well, "trust": bounded}, "/readyz", 200,
			readiness{true, map[string]string{"storage": "ok", "trust": "ok"}}},
		{map[string]Check{"storage": ill, "trust": well}, "/readyz", 503,
			readiness{false, map[string]string{"storage": "the disk is full", "trust": "ok"}}},
		{map[string]Check{"storage": ill}, "/healthz", 200, readiness{}},
	}
	for _, test := range tests {
		rec := httptest.NewRecorder()
		NewAdmin(test.checks).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, test.path, nil))
		if rec.Code != test.status || rec.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %v", test.path, rec.Code, rec.Header())
		}
		var got readiness
		if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v, %s", test.path, err, rec.Body)
		}
	}
}

func TestAdminHasNothingElse(t *testing.T) {
	admin := NewAdmin(nil)
	for request, status := range map[[2]string]int{
		{"GET", "/"}: 404, {"GET", "/v2/"}: 404, {"POST", "/healthz"}: 405, {"DELETE", "/readyz"}: 405, {"HEAD", "/healthz"}: 200,
	} {
		rec := httptest.NewRecorder()
		admin.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), request[0], request[1], nil))
		if rec.Code != status {
			t.Errorf("%v: %d, want %d", request, rec.Code, status)
		}
	}
}
