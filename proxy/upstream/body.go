package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

var (
	errStalled = errors.New("nothing arrived for too long")
	errTooSlow = errors.New("it arrived too slowly")
	errClosed  = errors.New("closed")
)

// body is the body of an answer, ended when it stalls or drips. Only time spent
// waiting for the server counts, not that of a slow reader. Close may be called
// while a Read is under way and ends it.
type body struct {
	cancel  context.CancelCauseFunc // ends the request
	ctx     context.Context         // of the request
	stall   *time.Timer             // runs while waiting for bytes
	limits  Timeouts
	onClose func(n int64, err error) // called once

	mu     sync.Mutex // guards what follows; held while reading
	rc     io.ReadCloser
	n      int64         // bytes read
	waited time.Duration // in this window
	got    int64         // bytes in this window
	err    error         // what ended it, other than io.EOF
	closed bool
}

func newBody(ctx context.Context, rc io.ReadCloser, cancel context.CancelCauseFunc, limits Timeouts) *body {
	b := &body{ctx: ctx, rc: rc, cancel: cancel, limits: limits}
	b.stall = time.AfterFunc(limits.Stall, func() { cancel(errStalled) })
	b.stall.Stop()
	return b
}

// Read returns errStalled, errTooSlow or what the connection broke with.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	started := time.Now()
	b.stall.Reset(b.limits.Stall)
	n, err := b.rc.Read(p)
	b.stall.Stop()
	b.n += int64(n)
	b.got += int64(n)
	b.waited += time.Since(started)
	if err == nil {
		err = b.pace()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		if cause := context.Cause(b.ctx); cause != nil {
			err = cause // rather than "context canceled"
		}
		b.err = err
	}
	return n, err
}

// pace ends a body that brought too little over a whole window.
func (b *body) pace() error {
	if b.waited < b.limits.Window {
		return nil
	}
	enough := float64(b.got) >= float64(b.limits.MinRate)*b.waited.Seconds()
	b.waited, b.got = 0, 0
	if enough {
		return nil
	}
	return errTooSlow
}

func (b *body) Close() error {
	b.cancel(errClosed)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	err := b.rc.Close()
	if b.onClose != nil {
		b.onClose(b.n, b.err)
	}
	return err
}

// discard ends an answer whose body doesn't matter. A short one is read, so that
// the connection can be used again.
func discard(resp *http.Response) {
	if 0 <= resp.ContentLength && resp.ContentLength <= maxErrorBody {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxErrorBody))
	}
	_ = resp.Body.Close()
}
