package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/trustmirror/trustmirror/verify"
)

// sendfileConn notes what net/http hands to the connection's own ReadFrom: a file
// in one layer of io.LimitedReader is sent by the kernel.
type sendfileConn struct {
	*net.TCPConn
	seen func(io.Reader)
}

func (c *sendfileConn) ReadFrom(r io.Reader) (int64, error) {
	c.seen(r)
	return c.TCPConn.ReadFrom(r)
}

type sendfileListener struct {
	net.Listener
	seen func(io.Reader)
}

func (l sendfileListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &sendfileConn{conn.(*net.TCPConn), l.seen}, nil
}

func TestFilesAreSentByTheKernel(t *testing.T) {
	t.Run("untraced", func(t *testing.T) { testFilesAreSentByTheKernel(t) })
	t.Run("traced", func(t *testing.T) {
		testFilesAreSentByTheKernel(t, func(c *Config) { c.Tracing.Provider = sdktrace.NewTracerProvider() })
	})
}

func testFilesAreSentByTheKernel(t *testing.T, change ...func(*Config)) {
	const size = 2*writeChunk + 12345
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, []byte(strings.Repeat("0123456789abcdef", size/16+1)[:size]), 0o600); err != nil {
		t.Fatal(err)
	}
	gate := &fakeGate{size: size, open: func() io.ReadSeekCloser {
		f, err := os.Open(path)
		if err != nil {
			t.Error(err)
		}
		return f
	}}
	var (
		mu    sync.Mutex
		files int   // guarded by mu
		other []any // guarded by mu
	)
	server := httptest.NewUnstartedServer(newHandler(t, gate, change...))
	server.Listener = sendfileListener{server.Listener, func(r io.Reader) {
		mu.Lock()
		defer mu.Unlock()
		if limited, ok := r.(*io.LimitedReader); ok {
			if _, ok := limited.R.(*os.File); ok {
				files++
				return
			}
		}
		other = append(other, r)
	}}
	server.Start()
	t.Cleanup(server.Close)

	for ranges, want := range map[string]int{"": size, "bytes=1000-": size - 1000} {
		got := get(t, server, "GET", blobPath, "Range", ranges)
		if len(got.body) != want || got.body[:6] != "012345" && got.body[:6] != "89abcd" {
			t.Errorf("Range %q: %d bytes, begins with %.6s", ranges, len(got.body), got.body)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if files < 2*3 || len(other) > 0 {
		t.Errorf("%d chunks were sent from a file, want 6; others: %T", files, other)
	}
}

// countingConn counts what is written to a connection.
type countingConn struct {
	net.Conn
	writes *atomic.Int32
}

func (c countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

type countingListener struct {
	net.Listener
	writes *atomic.Int32
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return countingConn{conn, l.writes}, err
}

// ReadFrom makes the connection one that net/http sends from without a copy.
func (c countingConn) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c}, r)
}

// inMemory is content as a store opens it that remembers it.
type inMemory struct{ *strings.Reader }

func (inMemory) Close() error { return nil }

// A document leaves in one piece with its header, which takes half the work.
func TestDocumentsAreSentInOnePiece(t *testing.T) {
	body := strings.Repeat("x", 2000) // more than net/http looks at to tell the type
	for name, open := range map[string]func() io.ReadSeekCloser{
		"in memory": func() io.ReadSeekCloser { return inMemory{strings.NewReader(body)} },
		"just read": func() io.ReadSeekCloser { return nopCloser{strings.NewReader(body)} },
	} {
		for _, provider := range []trace.TracerProvider{nil, sdktrace.NewTracerProvider()} {
			t.Run(fmt.Sprintf("%s, traced: %v", name, provider != nil), func(t *testing.T) {
				var writes atomic.Int32
				log := &logBuffer{}
				gate := &fakeGate{size: int64(len(body)), open: open}
				server := httptest.NewUnstartedServer(newHandler(t, gate, log.config, func(c *Config) { c.Tracing.Provider = provider }))
				server.Listener = countingListener{server.Listener, &writes}
				server.Start()
				t.Cleanup(server.Close)
				if got := get(t, server, "GET", manifestPath); got.body != body || writes.Load() != 1 {
					t.Errorf("%d bytes in %d pieces", len(got.body), writes.Load())
				}
				if line := log.lines(t, 1)[0]; line["bytes"] != 2000.0 {
					t.Errorf("the log says %v", line)
				}
				if got := get(t, server, "GET", manifestPath, "Range", "bytes=1990-"); got.body != body[1990:] || got.status != 206 {
					t.Errorf("a range: %d, %q", got.status, got.body)
				}
			})
		}
	}
}

func TestResponseWriterUnwraps(t *testing.T) {
	rec := httptest.NewRecorder()
	if err := http.NewResponseController(newResponseWriter(rec, time.Minute)).Flush(); err != nil || !rec.Flushed {
		t.Errorf("Flush: %v, flushed: %v", err, rec.Flushed)
	}
}

// ReadFrom sends all there is, also where nothing limits it and the writer below
// has no ReadFrom.
func TestReadFromCounts(t *testing.T) {
	for _, limit := range []int64{0, 1, writeChunk, writeChunk + 1} {
		rec := httptest.NewRecorder()
		w := newResponseWriter(rec, time.Minute)
		var source io.Reader = strings.NewReader(strings.Repeat("x", 3*writeChunk))
		want := int64(3 * writeChunk)
		if limit > 0 {
			source, want = io.LimitReader(source, limit), limit
		}
		n, err := w.ReadFrom(source)
		if n != want || err != nil || w.bytes != want || int64(rec.Body.Len()) != want || w.status != 200 {
			t.Errorf("limit %d: %d bytes, %v; counted %d, sent %d, status %d", limit, n, err, w.bytes, rec.Body.Len(), w.status)
		}
	}
}

// endless is content that takes no memory.
type endless struct{}

func (endless) Read(p []byte) (int, error)     { return len(p), nil }
func (endless) Seek(int64, int) (int64, error) { return 0, nil }
func (endless) Close() error                   { return nil }

// TestAttack29_StalledReader: a client that asks for a layer and doesn't read it
// is cut off; one that reads goes on.
func TestAttack29_StalledReader(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			log := &logBuffer{}
			gate := &fakeGate{size: 1 << 40, open: func() io.ReadSeekCloser { return endless{} }}
			handler := newHandler(t, gate, log.config, func(c *Config) { c.WriteTimeout = 100 * time.Millisecond })
			server := httptest.NewUnstartedServer(nil)
			server.Config = NewServer("", handler)
			if scheme == "https" {
				server.EnableHTTP2 = true
				server.StartTLS()
			} else {
				server.Start()
			}
			t.Cleanup(server.Close)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+blobPath, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := server.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			// Nothing reads the body until the server has given up.
			line := log.lines(t, 1)[0]
			if line["outcome"] != "too_slow" && scheme == "http" || line["outcome"] == "served" {
				t.Errorf("the log says %v", line)
			}
			if _, err := io.Copy(io.Discard, res.Body); err == nil {
				t.Error("the client takes the response for whole")
			}
		})
	}
}

// TestAttack21_StoredContentIsShort: what ends early breaks off, and the client sees it.
func TestAttack21_StoredContentIsShort(t *testing.T) {
	log := &logBuffer{}
	const stored = 1 << 20
	gate := &fakeGate{size: stored + 1, open: func() io.ReadSeekCloser {
		return nopCloser{strings.NewReader(strings.Repeat("x", stored))}
	}}
	server := newTestServer(t, gate, log.config)
	res, err := http.Get(server.URL + blobPath)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("the client takes %d bytes for the whole", len(body))
	}
	line := log.lines(t, 1)[0]
	if line["outcome"] != "cut" || line["level"] != "ERROR" || line["status"] != 200.0 ||
		!strings.Contains(fmt.Sprint(line["error"]), "is stored with less than its") {
		t.Errorf("the log says %v", line)
	}
}

type panicReader struct{ endless }

func (panicReader) Read([]byte) (int, error) { panic("a bug") }

func TestPanicAfterTheHeader(t *testing.T) {
	log := &logBuffer{}
	server := newTestServer(t, &fakeGate{open: func() io.ReadSeekCloser { return panicReader{} }}, log.config)
	res, err := http.Get(server.URL + blobPath)
	if err == nil {
		defer res.Body.Close()
		if body, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("the client takes %q for the whole", body)
		}
	}
	if line := log.lines(t, 1)[0]; line["outcome"] != "internal" || line["stack"] == nil {
		t.Errorf("the log says %v", line)
	}
}

// TestAttack29_ClientLeaves: before there is a response, its question is given up
// and nothing is sent.
func TestAttack29_ClientLeaves(t *testing.T) {
	log := &logBuffer{}
	asked := make(chan struct{})
	gate := &fakeGate{hook: func(ctx context.Context) error {
		close(asked)
		<-ctx.Done()
		return verify.Unavailable(verify.UpstreamUnavailable, "gave up: %w", ctx.Err())
	}}
	server := newTestServer(t, gate, log.config)
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+blobPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-asked
		leave()
	}()
	if res, err := http.DefaultTransport.RoundTrip(req); err == nil {
		res.Body.Close()
		t.Fatalf("status %d", res.StatusCode)
	}
	line := log.lines(t, 1)[0]
	if line["outcome"] != "canceled" || line["status"] != 499.0 || line["level"] != "INFO" || line["bytes"] != 0.0 {
		t.Errorf("the log says %v", line)
	}
}

// A request that the server itself cancels while its client still waits must not
// end as a success without content.
func TestCanceledRequestIsNotAnEmptySuccess(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	gate := &fakeGate{hook: func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}}
	server := httptest.NewUnstartedServer(newHandler(t, gate))
	server.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	server.Start()
	t.Cleanup(server.Close)
	req, err := http.NewRequest(http.MethodHead, server.URL+manifestPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := http.DefaultTransport.RoundTrip(req); err == nil {
		t.Errorf("status %d %v", res.StatusCode, res.Header)
		res.Body.Close()
	}
}

func TestCutShort(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		ctx  context.Context
		err  error
		want outcome
	}{
		{t.Context(), fmt.Errorf("write: %w", os.ErrDeadlineExceeded), outcomeTooSlow},
		{gone, os.ErrDeadlineExceeded, outcomeTooSlow},
		{gone, errors.New("http2: stream closed"), outcomeCanceled},
		{t.Context(), &net.OpError{Op: "write", Err: os.NewSyscallError("write", os.ErrClosed)}, outcomeCut},
		{t.Context(), io.ErrUnexpectedEOF, outcomeCut},
		{gone, &panicError{value: 1}, outcomeInternal},
	} {
		if got := cutShort(test.ctx, 200, test.err); got.outcome != test.want || !got.abort {
			t.Errorf("%v: %s, want %s", test.err, got.outcome, test.want)
		}
	}
}
