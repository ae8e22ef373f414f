package upstream

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trustmirror/trustmirror/verify"
)

// pipes is a listener whose connections are in memory, so that time in a
// synctest bubble passes only when all wait.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { close(p.closed); return nil }

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p.conns <- server
	return client, nil
}

// slowly runs a test against a server with the default timeouts, in a bubble.
func slowly(t *testing.T, h http.Handler, test func(t *testing.T, c *Client)) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = s.Serve(p)
		}()
		hooks := testHooks()
		hooks.dial = p.dial
		hooks.backoff = 0
		c, err := newClient(Config{
			Registries: map[string]Registry{"hub.example": {URL: "http://hub.example"}},
			Options:    Options{Keychain: emptyKeychain},
		}, hooks)
		must(t, err)
		test(t, c)
		c.Close()
		must(t, s.Close())
		<-served
		synctest.Wait()
	})
}

// wantElapsed checks how long something took, give or take what the pauses
// between tries vary by.
func wantElapsed(t *testing.T, started time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(started); got < want || got > want+2*time.Second {
		t.Errorf("took %v, want %v", got, want)
	}
}

func TestAttack21_BlobsThatStall(t *testing.T) {
	body := strings.Repeat("0123456789", 100)
	ref, path := blobRef(t, body)
	stalling := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, body[:990])
		_ = http.NewResponseController(w).Flush()
		hang(w, r)
	}
	slowly(t, script{path: answers(stalling, ranged(body))}, func(t *testing.T, c *Client) {
		started := time.Now()
		got, err := readBlob(t, c, ref)
		if err != nil || got != body {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		wantElapsed(t, started, 30*time.Second)
	})
	stallingAgain := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", "bytes 990-999/1000")
		w.WriteHeader(http.StatusPartialContent)
		_ = http.NewResponseController(w).Flush()
		hang(w, r)
	}
	slowly(t, script{path: answers(stalling, stallingAgain)}, func(t *testing.T, c *Client) {
		started := time.Now()
		_, err := readBlob(t, c, ref)
		wantReason(t, err, verify.UpstreamUnavailable, "hub.example stopped sending in the middle of an answer")
		wantElapsed(t, started, 90*time.Second)
	})
}

func TestAttack13_BodiesThatDrip(t *testing.T) {
	var sent atomic.Int64
	drip := func(every time.Duration, chunk string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for {
				n, err := io.WriteString(w, chunk)
				if err != nil {
					return
				}
				sent.Add(int64(n))
				_ = http.NewResponseController(w).Flush()
				select {
				case <-tick.C:
				case <-r.Context().Done():
					return
				}
			}
		}
	}
	ref, path := blobRef(t, "x")
	slowly(t, script{path: drip(time.Second, "x"), manifestPath: drip(time.Second, "x")}, func(t *testing.T, c *Client) {
		started := time.Now()
		_, err := readBlob(t, c, ref)
		wantReason(t, err, verify.UpstreamUnavailable, "hub.example sends too slowly")
		wantElapsed(t, started, 90*time.Second)
		started = time.Now()
		wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "sends too slowly")
		wantElapsed(t, started, 90*time.Second)
	})
	sent.Store(0)
	// Slow is not too slow.
	slowly(t, script{path: drip(10*time.Second, strings.Repeat("x", 41<<10))}, func(t *testing.T, c *Client) {
		r, err := c.Blob(t.Context(), ref)
		must(t, err)
		defer r.Close()
		if n, err := io.CopyN(io.Discard, r, 1<<20); err != nil {
			t.Errorf("read %d bytes: %v", n, err)
		}
	})
}

func TestASlowReaderIsNotTheServersFault(t *testing.T) {
	body := strings.Repeat("x", 1<<20) // more than fits into buffers
	ref, path := blobRef(t, body)
	asked := 0
	slowly(t, script{path: func(w http.ResponseWriter, r *http.Request) {
		asked++
		ranged(body)(w, r)
	}}, func(t *testing.T, c *Client) {
		r, err := c.Blob(t.Context(), ref)
		must(t, err)
		defer r.Close()
		for range len(body) / progress * 16 {
			if _, err := io.ReadFull(r, make([]byte, progress/16)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		if _, err := r.Read(make([]byte, 1)); err != io.EOF {
			t.Error(err)
		}
	})
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

func TestAttack13_AnswersThatDoNotBegin(t *testing.T) {
	asked := 0
	slowly(t, script{manifestPath: func(w http.ResponseWriter, r *http.Request) {
		asked++
		hang(w, r)
	}}, func(t *testing.T, c *Client) {
		started := time.Now()
		wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "hub.example doesn't answer in time")
		wantElapsed(t, started, 30*time.Second)
	})
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

func TestHangAfterTheHeadersOfADocument(t *testing.T) {
	slowly(t, script{manifestPath: func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		hang(w, r)
	}}, func(t *testing.T, c *Client) {
		started := time.Now()
		wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "stopped sending")
		wantElapsed(t, started, 90*time.Second)
	})
}

func TestPausesBetweenTries(t *testing.T) {
	var at []time.Time
	slowly(t, script{manifestPath: func(w http.ResponseWriter, _ *http.Request) {
		at = append(at, time.Now())
		w.WriteHeader(http.StatusBadGateway)
	}}, func(t *testing.T, c *Client) {
		wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "502 Bad Gateway")
	})
	if len(at) != maxTries {
		t.Fatalf("%d tries", len(at))
	}
	for i, around := range []time.Duration{firstBackoff, 4 * firstBackoff} {
		if got := at[i+1].Sub(at[i]); got < around/2 || got > around*3/2 {
			t.Errorf("pause %d is %v", i, got)
		}
	}
}

func TestLeavingEndsAPause(t *testing.T) {
	slowly(t, script{manifestPath: answer(503, "")}, func(t *testing.T, c *Client) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		started := time.Now()
		_, _, err := c.Manifest(ctx, image(t, "0.1.19"))
		if verify.ReasonOf(err) != "" || ctx.Err() == nil || time.Since(started) != 10*time.Millisecond {
			t.Errorf("error is %v after %v", err, time.Since(started))
		}
	})
}

func TestCloseEndsAuthentication(t *testing.T) {
	var arrived chan struct{}
	slowly(t, script{"/v2/": func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		hang(w, r)
	}}, func(t *testing.T, c *Client) {
		started := time.Now()
		arrived = make(chan struct{})
		go func() {
			<-arrived
			c.Close()
		}()
		wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "shutting down")
		wantElapsed(t, started, 0)
	})
}

func TestAuthenticationTakesAMinuteAtMost(t *testing.T) {
	// Each try is within its limits, but all together take too long.
	slowly(t, script{"/v2/": func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(25 * time.Second)
		w.WriteHeader(http.StatusBadGateway)
	}}, func(t *testing.T, c *Client) {
		started := time.Now()
		wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "authenticating to hub.example took longer than 1m0s")
		wantElapsed(t, started, time.Minute)
		time.Sleep(time.Minute) // until the server has noticed
	})
}
