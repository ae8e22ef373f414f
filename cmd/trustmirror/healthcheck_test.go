package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/proxy"
)

// askHealth runs healthcheck and returns its status and what it says.
func askHealth(t *testing.T, flags ...string) (status int, says string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status = run(t.Context(), append([]string{"healthcheck"}, flags...), &stdout, &stderr)
	if stdout.Len() > 0 {
		t.Errorf("%q: something on stdout: %s", flags, &stdout)
	}
	return status, stderr.String()
}

// A running mirror is well, by every way to name it, and not once it has ended.
func TestHealthcheckOfAMirror(t *testing.T) {
	l := newLab(t)
	config := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(config, []byte(l.config()), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startServe(t, config)
	_, port, _ := strings.Cut(s.admin, ":")
	for _, address := range []string{s.admin, ":" + port, "0.0.0.0:" + port, "localhost:" + port} {
		// A mistake that a running mirror puts up with doesn't make it unwell.
		file := filepath.Join(t.TempDir(), "changed.yaml")
		if err := os.WriteFile(file, fmt.Appendf(nil, "admin: {address: %q}\nno_such_field: 1\n", address), 0o600); err != nil {
			t.Fatal(err)
		}
		if status, says := askHealth(t, "-c", file); status != statusOK || says != "" {
			t.Errorf("%s: %d %s", address, status, says)
		}
	}
	if status, body := s.get("/v2/nicolas/webdis/manifests/0.1.19"); status != http.StatusOK { // and so it is ready
		t.Fatalf("0.1.19: %d %s", status, body)
	}
	for _, flags := range [][]string{{"--admin", "http://" + s.admin}, {"--admin", "http://" + s.admin + "/", "--ready"}} {
		if status, says := askHealth(t, flags...); status != statusOK || says != "" {
			t.Errorf("%q: %d %s", flags, status, says)
		}
	}
	s.end()
	want := "trustmirror: http://" + s.admin + "/healthz can't be asked (dial tcp " + s.admin +
		": connect: connection refused); start the mirror, or name its admin.address with -c or --admin\n"
	if status, says := askHealth(t, "--admin", "http://"+s.admin); status != statusRefused || says != want {
		t.Errorf("after its end: %d %swant %s", status, says, want)
	}
}

// What lives but isn't ready, answers something else or not at all isn't well.
func TestHealthcheckRefuses(t *testing.T) {
	unready := httptest.NewServer(proxy.NewAdmin(proxy.AdminConfig{Checks: map[string]proxy.Check{
		"storage": func(context.Context) error { return errors.New("the disk is full") },
	}}))
	defer unready.Close()
	elsewhere := httptest.NewServer(http.RedirectHandler(unready.URL+"/healthz", http.StatusFound))
	defer elsewhere.Close()
	ended := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-ended:
		case <-r.Context().Done():
		}
	}))
	defer silent.Close()
	defer close(ended)
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer broken.Close()
	asked := 0
	starting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer starting.Close()
	tests := []struct {
		flags  []string
		status int
		says   string
	}{
		{[]string{"--admin", unready.URL}, statusOK, ""},
		{[]string{"--admin", unready.URL, "--ready"}, statusRefused, "/readyz answered 503 Service Unavailable: {\"ready\":false,\"checks\":{\"storage\":\"the disk is full\"}}\n"},
		{[]string{"--admin", unready.URL, "--ready", "--wait", "1ms"}, statusRefused, "the disk is full"},
		{[]string{"--admin", starting.URL, "--wait", "1h"}, statusOK, ""},
		{[]string{"--admin", elsewhere.URL}, statusRefused, "/healthz answered 302 Found: "},
		{[]string{"--admin", unready.URL + "/none"}, statusRefused, "/none/healthz answered 404 Not Found: "},
		{[]string{"--admin", broken.URL}, statusRefused, "and then broke off: unexpected EOF\n"},
		{[]string{"--admin", silent.URL, "--timeout", "20ms"}, statusRefused, "/healthz gave no answer within 20ms; see the mirror's log, or allow more with --timeout\n"},
	}
	for _, test := range tests {
		status, says := askHealth(t, test.flags...)
		if status != test.status || !strings.Contains(says, test.says) || test.status == statusOK && says != "" {
			t.Errorf("%q: %d %swant %d %s", test.flags, status, says, test.status, test.says)
		}
	}
}
