package hostile

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// server is a registry or a trust service that does as it should until it has a
// fault.
type server struct {
	url string

	address string
	mu      sync.Mutex // guards what follows
	files   map[string]file
	asked   map[string]int // how often for each path
	fault   fault
	http    *http.Server // nil: stopped
}

type file struct {
	contentType string
	body        []byte
}

// fault answers in place of the good file, which is empty where there is none. It
// returns whether it did.
type fault func(w http.ResponseWriter, r *http.Request, good file) bool

func newServer(t *testing.T) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	s := &server{address: listener.Addr().String(), files: map[string]file{}, asked: map[string]int{}}
	s.url = "http://" + s.address
	s.serve(listener)
	t.Cleanup(s.stop)
	return s
}

func (s *server) serve(listener net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.http = &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0)}
	go func(h *http.Server) { _ = h.Serve(listener) }(s.http)
}

// stop ends every connection; nothing listens until start.
func (s *server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		_ = s.http.Close()
		s.http = nil
	}
}

func (s *server) start(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", s.address)
	check(t, err)
	s.serve(listener)
}

func (s *server) put(path, contentType string, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = file{contentType, body}
}

// set makes the server lie; nil makes it good.
func (s *server) set(f fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// counts returns how often each path was asked for since the last call.
func (s *server) counts() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = map[string]int{}
	return asked
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked[r.URL.Path]++
	good, found := s.files[r.URL.Path]
	fault := s.fault
	s.mu.Unlock()
	switch {
	case fault != nil && fault(w, r, good):
	case r.URL.Path == "/v2/":
		w.WriteHeader(http.StatusOK)
	case !found:
		w.WriteHeader(http.StatusNotFound)
	default:
		w.Header().Set("Content-Type", good.contentType)
		w.Header().Set("Content-Length", strconv.Itoa(len(good.body)))
		_, _ = w.Write(good.body) // a client that left isn't missed
	}
}

// at limits a fault to paths with a part in them.
func at(part string, f fault) fault {
	return func(w http.ResponseWriter, r *http.Request, good file) bool {
		return strings.Contains(r.URL.Path, part) && f(w, r, good)
	}
}

// answer is a fault that answers always the same.
func answer(status int, body string, headers ...string) fault {
	return func(w http.ResponseWriter, _ *http.Request, _ file) bool {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Add(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return true
	}
}

// bytesOf is a fault that answers with the good file, changed.
func bytesOf(change func([]byte) []byte) fault {
	return func(w http.ResponseWriter, _ *http.Request, good file) bool {
		w.Header().Set("Content-Type", good.contentType)
		_, _ = w.Write(change(append([]byte(nil), good.body...)))
		return true
	}
}

// raw is a fault that writes to the connection as it likes, and then ends it.
func raw(write func(conn net.Conn, good file)) fault {
	return func(w http.ResponseWriter, _ *http.Request, good file) bool {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return false
		}
		defer conn.Close()
		write(conn, good)
		return true
	}
}

// part is a fault that says it sends length bytes more than the file has, and
// sends a part of it.
func part(more int, fraction float64) fault {
	return raw(func(conn net.Conn, good file) {
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", good.contentType, len(good.body)+more)
		_, _ = conn.Write(good.body[:int(float64(len(good.body))*fraction)])
	})
}

// endless is a fault that never stops sending, until the other side has enough.
func endless(header, chunk string) fault {
	many := []byte(strings.Repeat(chunk, max(1, 64<<10/len(chunk))))
	return raw(func(conn net.Conn, good file) {
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\n%s", good.contentType, header)
		for {
			if _, err := conn.Write(many); err != nil {
				return
			}
		}
	})
}

// hang is a fault that doesn't answer until the other side leaves.
func hang(_ http.ResponseWriter, r *http.Request, _ file) bool {
	<-r.Context().Done()
	return true
}

// tripwire is a server that must never be asked anything, nor be connected to.
type tripwire struct {
	port string
	hits chan string
}

func newTripwire(t *testing.T) *tripwire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	check(t, err)
	trip := &tripwire{port: port, hits: make(chan string, 1)}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			select {
			case trip.hits <- conn.RemoteAddr().String():
			default:
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close() })
	return trip
}

func (trip *tripwire) untouched(t *testing.T) {
	t.Helper()
	select {
	case from := <-trip.hits:
		t.Errorf("the server that must never be asked was connected to from %s", from)
	default:
	}
}
