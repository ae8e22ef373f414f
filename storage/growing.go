package storage

import (
	"context"
	"io"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
)

// Growing is an object that is being stored. What is read of it isn't verified:
// whoever reads it must not give away its end before Put has returned without an
// error.
type Growing struct {
	Digest digest.Digest
	Size   int64 // bytes that it is to have

	mu      sync.Mutex // guards what follows
	changed sync.Cond
	file    *os.File // of the staging file
	users   int      // of file, which the last one closes
	written int64
	err     error // why nothing more is written: io.EOF when all is stored
}

func newGrowing(file *os.File, d digest.Digest, size int64) *Growing {
	g := &Growing{Digest: d, Size: size, file: file, users: 1}
	g.changed.L = &g.mu
	return g
}

// wrote notes that bytes can be read.
func (g *Growing) wrote(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.written += int64(n)
	g.changed.Broadcast()
}

// end says that nothing more is written, and why if not all was.
func (g *Growing) end(err error) {
	if err == nil {
		err = io.EOF
	}
	g.mu.Lock()
	g.err = err
	g.changed.Broadcast()
	g.mu.Unlock()
	g.Release()
}

// Hold keeps what was written readable until Release; false when it is too late.
func (g *Growing) Hold() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.users == 0 {
		return false
	}
	g.users++
	return true
}

// Release undoes Hold.
func (g *Growing) Release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.users--; g.users == 0 {
		_ = g.file.Close() // it was only read
	}
}

// ReadAt waits for bytes at offset and reads what is there of them, at least one.
// Errors: what ended the writing before, io.EOF behind the end of a stored object,
// ctx's.
func (g *Growing) ReadAt(ctx context.Context, p []byte, offset int64) (int, error) {
	stop := context.AfterFunc(ctx, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.changed.Broadcast()
	})
	defer stop()
	g.mu.Lock()
	for offset >= g.written && g.err == nil && ctx.Err() == nil {
		g.changed.Wait()
	}
	there, err := g.written-offset, g.err
	g.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case err != nil && err != io.EOF:
		return 0, err
	case there <= 0:
		return 0, io.EOF
	}
	n, err := g.file.ReadAt(p[:min(int64(len(p)), there)], offset)
	if err == io.EOF && n > 0 {
		err = nil
	}
	return n, err
}

// growingWriter tells of what is written.
type growingWriter struct {
	io.Writer
	growing *Growing
}

func (w growingWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.growing.wrote(n)
	return n, err
}
