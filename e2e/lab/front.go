package lab

import (
	"crypto/tls"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Front is an HTTP server of the lab: it notes every request, can lie in place
// of the handler behind it, and can be stopped and started again.
type Front struct {
	URL     string // "http://127.0.0.1:5000"
	Address string // "127.0.0.1:5000"

	handler http.Handler
	tls     *tls.Config // nil: plain http

	mu       sync.Mutex // guards what follows
	requests []string
	lies     map[string]Lie
	server   *http.Server // nil: stopped
}

// Lie is what a Front answers instead of the truth.
type Lie struct {
	ContentType string
	Body        []byte
}

// front serves handler on address, under the host name that its URL gets.
func (l *Lab) front(address, host string, conf *tls.Config, handler http.Handler) (*Front, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	f := &Front{Address: address, handler: handler, tls: conf, lies: map[string]Lie{}}
	f.URL = "http://" + net.JoinHostPort(host, port)
	if conf != nil {
		f.URL = "https://" + net.JoinHostPort(host, port)
	}
	if err := f.Start(); err != nil {
		return nil, err
	}
	l.onClose(f.Stop)
	return f, nil
}

// StartOrigin serves what an address leads to that clients know as a registry's
// own, such as "127.0.0.2:443" for "registry-1.docker.io": each host name with
// its registry. A client that doesn't fail closed ends up here, and finds
// everything, so that it is noticed.
func (l *Lab) StartOrigin(address string, registries map[string]*Registry) (*Front, error) {
	conf, err := l.CA.serverTLS(slices.Sorted(maps.Keys(registries))...)
	if err != nil {
		return nil, err
	}
	return l.front(address, "origin", conf, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if registry, ok := registries[r.Host]; ok {
			registry.ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
	}))
}

// Start listens again after Stop.
func (f *Front) Start() error {
	listener, err := net.Listen("tcp", f.Address)
	if err != nil {
		return err
	}
	if f.tls != nil {
		listener = tls.NewListener(listener, f.tls)
	}
	server := &http.Server{Handler: f, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	f.mu.Lock()
	f.server = server
	f.mu.Unlock()
	go func() { _ = server.Serve(listener) }()
	return nil
}

// Stop ends every connection; nobody answers until Start.
func (f *Front) Stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.server != nil {
		_ = f.server.Close()
		f.server = nil
	}
}

// Requests returns what was asked since the last call, as "GET /v2/…".
func (f *Front) Requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	requests := f.requests
	f.requests = nil
	return requests
}

// Lie answers path with something else from now on.
func (f *Front) Lie(path string, lie Lie) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lies[path] = lie
}

// TellTruth ends all lies.
func (f *Front) TellTruth() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.lies)
}

func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path)
	lie, lying := f.lies[r.URL.Path]
	f.mu.Unlock()
	if !lying || !slices.Contains([]string{http.MethodGet, http.MethodHead}, r.Method) {
		f.handler.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Content-Type", lie.ContentType)
	_, _ = w.Write(lie.Body) // a client that left isn't missed
}
