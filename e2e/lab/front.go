package lab

import (
	"crypto/tls"
	"io"
	"log"
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
	callers  []string // the addresses that connections came from
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

// Start listens again after Stop.
func (f *Front) Start() error {
	listener, err := net.Listen("tcp", f.Address)
	if err != nil {
		return err
	}
	if f.tls != nil {
		listener = tls.NewListener(listener, f.tls)
	}
	server := &http.Server{Handler: f, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0), ConnState: f.noteCaller}
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

// noteCaller is told of each connection before anything is read from it.
func (f *Front) noteCaller(connection net.Conn, state http.ConnState) {
	if state == http.StateNew {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.callers = append(f.callers, connection.RemoteAddr().String())
	}
}

// Connections returns how many connections were made since the last call, also of
// those on which nothing was asked. None is missed: connections are taken in the
// order in which they are made, and the last one is its own.
func (f *Front) Connections() (int, error) {
	last, err := net.Dial("tcp", f.Address)
	if err != nil {
		return 0, err
	}
	defer last.Close()
	for {
		f.mu.Lock()
		before := slices.Index(f.callers, last.LocalAddr().String())
		if before >= 0 {
			f.callers = f.callers[before+1:]
		}
		f.mu.Unlock()
		if before >= 0 {
			return before, nil
		}
		time.Sleep(time.Millisecond)
	}
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
