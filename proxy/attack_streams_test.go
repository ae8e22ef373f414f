package proxy

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Hundreds of requests in one HTTP/2 connection, each with a large header that stays in
// memory for as long as the request waits: no more of them wait than connections may.
func TestAttack86_RequestsInFewConnections(t *testing.T) {
	const limit, sent = 20, 200
	var running, most atomic.Int32
	release := make(chan struct{})
	gate := &fakeGate{hook: func(context.Context) error {
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		return nil
	}}
	server := httptest.NewUnstartedServer(nil)
	server.Config = NewServer("", newHandler(t, gate, func(c *Config) { c.MaxRequests = limit }))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	ask := func(path string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		r.Header.Set("X-Large", strings.Repeat("x", 32<<10))
		resp, err := server.Client().Do(r)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.ProtoMajor != 2 || resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
			t.Error(err, resp)
		}
		return resp.StatusCode, string(body)
	}
	if status, _ := ask("/v2/"); status != http.StatusOK { // makes the connection that the others share
		t.Fatal(status)
	}
	answers := make(chan int, sent)
	for range sent {
		go func() {
			status, body := ask(manifestPath)
			if status == http.StatusServiceUnavailable && !strings.Contains(body, `"overloaded"`) {
				t.Error(body)
			}
			answers <- status
		}()
	}
	for range sent - limit {
		select {
		case status := <-answers:
			if status != http.StatusServiceUnavailable {
				t.Errorf("answered with %d while others wait", status)
			}
		case <-time.After(30 * time.Second):
			close(release)
			t.Fatalf("%d wait at once", running.Load())
		}
	}
	close(release)
	for range limit {
		if status := <-answers; status != http.StatusOK {
			t.Errorf("one of those that waited: %d", status)
		}
	}
	if n := most.Load(); n != limit {
		t.Errorf("%d at once", n)
	}
	if status, _ := ask(manifestPath); status != http.StatusOK { // there is room again
		t.Errorf("later: %d", status)
	}
}
