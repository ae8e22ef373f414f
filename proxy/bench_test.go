package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/proxy"
	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// nowhere is a ResponseWriter that keeps the header only.
type nowhere http.Header

func (n nowhere) Header() http.Header         { return http.Header(n) }
func (n nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (n nowhere) WriteHeader(int)             {}

const warmPath = "/v2/" + repo + "/manifests/0.1.19?ns="

// newWarmMirror makes a mirror on a folder, of a signed tag that is verified and
// stored in both repositories.
func newWarmMirror(b *testing.B, log *slog.Logger) *mirror {
	m := newMirror(b)
	store, err := storage.Open(b.Context(), "filesystem", map[string]any{"rootdirectory": b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	m.store = store
	m.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64, arm64), verifytest.Format{}, verifytest.Format{})
	m.log = log
	m.start()
	for _, name := range []string{hubName, ecrName} {
		if a := m.get(name, "manifests", "0.1.19"); a.status != http.StatusOK {
			b.Fatalf("%d %s", a.status, a.body)
		}
	}
	return m
}

// BenchmarkWarmManifest answers for a signed tag that is verified and stored, which
// is what a fleet asks most, in both repositories. Telemetry is off: it must not cost
// an allocation.
func BenchmarkWarmManifest(b *testing.B) {
	for _, registry := range []string{"docker.io", "public.ecr.aws"} {
		b.Run(registry, func(b *testing.B) {
			m := newWarmMirror(b, nil)
			r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, warmPath+registry, http.NoBody)
			w := nowhere{}
			b.ReportAllocs()
			for b.Loop() {
				clear(w)
				m.handler.ServeHTTP(w, r)
			}
		})
	}
}

// BenchmarkWarmServer is BenchmarkWarmManifest with all that is around the handler:
// the server as cmd makes it, 16 connections that are kept, and an access log.
func BenchmarkWarmServer(b *testing.B) {
	m := newWarmMirror(b, slog.New(slog.NewJSONHandler(io.Discard, nil)))
	server := httptest.NewUnstartedServer(nil)
	server.Config = proxy.NewServer("", m.handler)
	server.Start()
	b.Cleanup(server.Close)
	request := fmt.Appendf(nil, "GET %sdocker.io HTTP/1.1\r\nHost: mirror.example\r\n\r\n", warmPath)
	b.ReportAllocs()
	b.SetParallelism(8) // for each of two processors
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		r := bufio.NewReader(conn)
		for pb.Next() {
			if _, err := conn.Write(request); err != nil {
				b.Error(err)
				return
			}
			if err := skipResponse(r); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// skipResponse reads a response of 200 that has a Content-Length, without making
// anything of it.
func skipResponse(r *bufio.Reader) error {
	length := 0
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
			return fmt.Errorf("the response is %q", line)
		}
		if len(line) == len("\r\n") {
			_, err := r.Discard(length)
			return err
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(strings.TrimSpace(string(value))); err != nil {
				return err
			}
		}
	}
}
