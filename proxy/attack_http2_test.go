package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// http2Conn speaks HTTP/2 frame by frame, as no client library would.
type http2Conn struct {
	net.Conn
	*http2.Framer
	ended chan struct{} // closed when the server has ended the connection
	code  atomic.Uint32 // of its GOAWAY
}

func dialHTTP2(t *testing.T, gate Gate) *http2Conn {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.Config = NewServer("", newHandler(t, gate))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	config := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", server.Listener.Addr().String(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := &http2Conn{Conn: conn, Framer: http2.NewFramer(conn, conn), ended: make(chan struct{})}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.ended)
		for {
			frame, err := c.ReadFrame()
			if err != nil {
				return
			}
			if away, ok := frame.(*http2.GoAwayFrame); ok {
				c.code.Store(uint32(away.ErrCode))
			}
		}
	}()
	return c
}

func (c *http2Conn) wantEnded(t *testing.T, code http2.ErrCode) {
	t.Helper()
	select {
	case <-c.ended:
	case <-time.After(30 * time.Second):
		t.Fatal("the server keeps the connection")
	}
	if got := http2.ErrCode(c.code.Load()); got != code {
		t.Errorf("the connection ended with %v, want %v", got, code)
	}
}

func http2Header(path string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "mirror.example"}, {":path", path}} {
		_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // into memory
	}
	return b.Bytes()
}

// A client that begins requests and takes each back at once (CVE-2023-44487) has no
// more of them going on than one that doesn't, and is cut off.
func TestAttack52_RapidReset(t *testing.T) {
	var running, most atomic.Int32
	release := make(chan struct{})
	gate := &fakeGate{hook: func(context.Context) error { // work that goes on though the asker left
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		return errors.New("too late")
	}}
	c := dialHTTP2(t, gate)
	header := http2Header(manifestPath)
	sent := 0
	for id := uint32(1); sent < 20_000; id += 2 {
		if c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: header, EndStream: true, EndHeaders: true}) != nil ||
			c.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			break
		}
		sent++
	}
	c.wantEnded(t, http2.ErrCodeEnhanceYourCalm)
	close(release)
	if n := most.Load(); n > 250 {
		t.Errorf("%d requests went on at once, of %d that were sent", n, sent)
	}
}

// A header that goes on in frame after frame (CVE-2023-45288) ends the connection,
// soon after it is larger than may be.
func TestAttack53_ContinuationFlood(t *testing.T) {
	gate := &fakeGate{}
	c := dialHTTP2(t, gate)
	if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: http2Header(manifestPath)}); err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for i := range 16 {
		_ = e.WriteField(hpack.HeaderField{Name: "x-more", Value: strings.Repeat(string(rune('a'+i)), 900), Sensitive: true})
	}
	sent := 0
	for sent < 64<<20 {
		if c.WriteContinuation(1, false, block.Bytes()) != nil {
			break
		}
		sent += block.Len()
	}
	c.wantEnded(t, http2.ErrCodeProtocol)
	if sent >= 8<<20 || len(gate.askedFor()) > 0 {
		t.Errorf("the server took %d bytes of a header; the gate was asked for %v", sent, gate.askedFor())
	}
}

// There is no HTTP/2 without TLS, in which requests could get past whoever stands in
// front and reads HTTP/1.1.
func TestAttack54_HTTP2WithoutTLS(t *testing.T) {
	gate := &fakeGate{}
	server := newTestServer(t, gate)
	for name, request := range map[string]string{
		"upgrade": "GET /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
		"preface": http2.ClientPreface + strings.Repeat("\x00", 100),
	} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		first, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.HasPrefix(first, "HTTP/1.1 ") || strings.Contains(first, " 101 ") {
			t.Errorf("%s: %q, %v", name, first, err)
		}
	}
}
