package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// upstream is a real registry, reached through a shim, that counts what it is asked. As
// Docker Hub it has everybody, also who has no account, bring a token; distribution's
// proxy asks for /v2/ before each request where there is none to get.
type upstream struct {
	registry *lab.Registry // where images are pushed, without a shim or a token
	shim     *shim
	server   *http.Server
	token    string

	mu    sync.Mutex // guards asked
	asked map[string]int
}

func startUpstream(l *lab.Lab, through link) (*upstream, error) {
	registry, err := l.StartRegistry("upstream")
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &upstream{registry: registry, token: rand.Text(), asked: map[string]int{}}
	u.server = &http.Server{Handler: u, ReadHeaderTimeout: time.Minute}
	go func() { _ = u.server.Serve(listener) }()
	u.shim, err = startShim(listener.Addr().String(), through)
	return u, err
}

// Close ends every connection.
func (u *upstream) Close() {
	u.shim.Close()
	_ = u.server.Close()
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		fmt.Fprintf(w, `{"token": %q, "expires_in": 3600}`, u.token)
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+u.token {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="bench"`, r.Host))
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"bring a token"}]}`, http.StatusUnauthorized)
		return
	}
	request := r.Method + " " + r.URL.Path
	if part := r.Header.Get("Range"); part != "" {
		request += " " + part
	}
	u.mu.Lock()
	u.asked[request]++
	u.mu.Unlock()
	u.registry.ServeHTTP(w, r)
}

// count returns how often the same was asked for at most, and how many requests there
// were in all, since the last call. Different ranges of one blob aren't the same.
func (u *upstream) count() (most, all int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for n := range maps.Values(u.asked) {
		most, all = max(most, n), all+n
	}
	clear(u.asked)
	return most, all
}

// push publishes an image under a tag.
func (u *upstream) push(ctx context.Context, repository, tag string, release lab.Release) error {
	defer u.registry.Requests() // which nobody reads
	return u.registry.Push(ctx, repository, tag, release)
}
