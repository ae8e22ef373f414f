package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// defaultWriteTimeout and writeChunk together are the slowest a client may be:
	// 1 MiB a minute, about 17 KiB/s.
	defaultWriteTimeout = time.Minute
	writeChunk          = 1 << 20
)

// responseWriter notes status and size of a response, and gives the client
// timeout for each chunk of it. It keeps io.ReaderFrom, by which net/http sends
// files without copying them.
type responseWriter struct {
	http.ResponseWriter
	control http.ResponseController
	timeout time.Duration

	status int   // 0 until the header is written
	bytes  int64 // of the body, as sent

	sent *atomic.Int64 // bytes, for others to read meanwhile; nil: nobody does
}

func newResponseWriter(w http.ResponseWriter, timeout time.Duration) *responseWriter {
	return &responseWriter{ResponseWriter: w, control: *http.NewResponseController(w), timeout: timeout}
}

// Unwrap is for http.ResponseController.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader notes the status.
func (w *responseWriter) WriteHeader(status int) {
	w.extend()
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write counts.
func (w *responseWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.extend()
	n, err := w.ResponseWriter.Write(p)
	w.count(int64(n))
	return n, err
}

// ReadFrom sends the reader's bytes chunk by chunk.
func (w *responseWriter) ReadFrom(r io.Reader) (total int64, err error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	// io.CopyN hands a limited reader on; net/http sees a file only below one such
	// layer, so the caller's is taken off and kept up to date.
	limited, ok := r.(*io.LimitedReader)
	if !ok {
		limited = &io.LimitedReader{R: r, N: 1<<63 - 1}
	}
	if doc, ok := limited.R.(document); ok && int64(doc.Len()) == limited.N && limited.N <= writeChunk {
		total, err = doc.WriteTo(writeOnly{w})
		limited.N -= total
		return total, err
	}
	var to io.Writer = w.ResponseWriter
	var buffer []byte
	if _, ok := limited.R.(*os.File); !ok { // net/http's ReadFrom would send the header by itself first
		to, buffer = writeOnly{to}, make([]byte, min(limited.N, copyBuffer))
	}
	for limited.N > 0 {
		w.extend()
		chunk := &io.LimitedReader{R: limited.R, N: min(limited.N, writeChunk)}
		n, err := io.CopyBuffer(to, chunk, buffer)
		limited.N -= n
		w.count(n)
		total += n
		if err != nil || chunk.N > 0 { // the end came first
			return total, err
		}
	}
	return total, nil
}

// document is content in memory, as storage.Store.Remembered opens it.
type document interface {
	io.WriterTo
	Len() int // bytes that are left
}

const copyBuffer = 32 << 10 // bytes, for what is neither in memory nor a file

// writeOnly hides ReadFrom.
type writeOnly struct{ io.Writer }

func (w *responseWriter) count(n int64) {
	w.bytes += n
	if w.sent != nil {
		w.sent.Store(w.bytes)
	}
}

// extend gives the client time for the next chunk. Writers without deadlines
// (tests, mostly) do without.
func (w *responseWriter) extend() {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.timeout))
}

// refuseBody makes sure that nothing of a request's body is ever read, not even
// to reuse the connection: it ends with the response.
func (w *responseWriter) refuseBody(r *http.Request) {
	if r.ContentLength == 0 {
		return
	}
	w.Header().Set("Connection", "close")
	_ = w.control.SetReadDeadline(time.Now())
}

// cutShort says how a response ended that broke off after its header.
func cutShort(ctx context.Context, status int, err error) answer {
	a := answer{status: status, outcome: outcomeCut, err: err, abort: true}
	var bug *panicError
	switch {
	case errors.As(err, &bug):
		a.outcome = outcomeInternal
	case errors.Is(err, os.ErrDeadlineExceeded):
		a.outcome = outcomeTooSlow
	case ctx.Err() != nil, errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET):
		a.outcome = outcomeCanceled
	}
	return a
}
