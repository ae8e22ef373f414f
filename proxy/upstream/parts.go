package upstream

import (
	"context"
	"errors"
	"io"
	"sync"
)

const (
	// partSize is how many bytes of a large blob are asked for at once.
	partSize = 8 << 20
	// maxConnections is how many connections one blob may come over.
	maxConnections = 4
	// maxParts bounds the parts, of all blobs, that are in memory at once.
	maxParts = 8
)

// partBuffers are what parts are received in.
type partBuffers struct {
	taken chan struct{}
	pool  sync.Pool // of *[]byte, each of partSize
}

func newPartBuffers() *partBuffers {
	return &partBuffers{
		taken: make(chan struct{}, maxParts),
		pool:  sync.Pool{New: func() any { b := make([]byte, partSize); return &b }},
	}
}

// take returns nil when there are none left.
func (b *partBuffers) take() *[]byte {
	select {
	case b.taken <- struct{}{}:
		return b.pool.Get().(*[]byte) //nolint:errcheck,forcetypeassert // nothing else is in there
	default:
		return nil
	}
}

func (b *partBuffers) giveBack(buffer *[]byte) {
	b.pool.Put(buffer)
	<-b.taken
}

// partsReader reads a large blob in order, while parts further on arrive over
// connections of their own (RFC 9110, section 14). What can't be had that way is
// read as any other blob: parts are only ever asked for where nobody has to wait.
type partsReader struct {
	ctx     context.Context
	cancel  context.CancelFunc
	e       *endpoint
	call    call
	size    int64
	buffers *partBuffers

	mu     sync.Mutex  // guards what follows; held while reading
	offset int64       // of the byte that is delivered next
	plain  *blobReader // reads from offset to where the first part begins; nil: not needed at present
	parts  []*blobPart // one after the other
	alone  bool        // a part failed: none are asked for any more
	err    error       // once set, all that Read returns
}

// newPartsReader goes on with a blob whose first answer has come.
func newPartsReader(ctx context.Context, first *blobReader, buffers *partBuffers) *partsReader {
	ctx, cancel := context.WithCancel(ctx)
	return &partsReader{ctx: ctx, cancel: cancel, e: first.e, call: first.call, size: first.size, buffers: buffers, plain: first}
}

func (r *partsReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.err == nil && len(p) > 0 {
		if r.offset == r.size {
			r.endPlain()
			r.err = io.EOF
			break
		}
		r.askAhead()
		var n int
		if len(r.parts) > 0 && r.parts[0].start <= r.offset {
			n = r.readPart(p)
		} else {
			n, r.err = r.readPlain(p)
		}
		r.offset += int64(n)
		if n > 0 {
			return n, nil
		}
	}
	return 0, r.err
}

// askAhead asks for parts as long as there are connections and buffers for them.
func (r *partsReader) askAhead() {
	for !r.alone {
		connections, start := len(r.parts), r.offset
		if r.plain != nil {
			connections++
			start = (r.offset/partSize + 1) * partSize
		}
		if n := len(r.parts); n > 0 {
			start = r.parts[n-1].end
		}
		if connections >= maxConnections || start >= r.size {
			return
		}
		buffer := r.buffers.take()
		if buffer == nil {
			return
		}
		c := r.call
		c.atOnce = true
		from := newBlobReader(r.ctx, r.e, c)
		from.offset, from.size, from.whole = start, min(start+partSize, r.size), r.size
		r.parts = append(r.parts, receive(from, buffer))
	}
}

// readPart reads from the first part. One that fails is left to readPlain.
func (r *partsReader) readPart(p []byte) int {
	r.endPlain()
	part := r.parts[0]
	n, err := part.read(p)
	if r.offset+int64(n) == part.end || err != nil {
		if err != nil && !errors.Is(err, errBusy) {
			r.alone = true
		}
		r.parts = r.parts[1:]
		part.giveUp(r.buffers)
	}
	return n
}

// readPlain reads up to where the first part begins.
func (r *partsReader) readPlain(p []byte) (int, error) {
	if r.plain == nil {
		r.plain = newBlobReader(r.ctx, r.e, r.call)
		r.plain.offset, r.plain.size = r.offset, r.size
	}
	if len(r.parts) > 0 {
		p = p[:min(int64(len(p)), r.parts[0].start-r.offset)]
	}
	return r.plain.Read(p)
}

func (r *partsReader) endPlain() {
	if r.plain != nil {
		_ = r.plain.Close()
		r.plain = nil
	}
}

// Close ends the download.
func (r *partsReader) Close() error {
	r.cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endPlain()
	for _, part := range r.parts {
		part.giveUp(r.buffers)
	}
	r.parts = nil
	r.err = errReadClosed
	return nil
}

// blobPart is a part of a blob that is being received.
type blobPart struct {
	start, end int64
	from       *blobReader
	buffer     *[]byte
	done       chan struct{} // closed when nothing more is received

	mu       sync.Mutex // guards what follows
	more     sync.Cond  // tells of changes
	received int
	err      error // why nothing more comes, before the end

	delivered int // by read
}

// receive begins to receive a part.
func receive(from *blobReader, buffer *[]byte) *blobPart {
	p := &blobPart{start: from.offset, end: from.size, from: from, buffer: buffer, done: make(chan struct{})}
	p.more.L = &p.mu
	go func() {
		defer close(p.done)
		for p.fill() {
		}
		_ = p.from.Close() // somebody may wait for its place
	}()
	return p
}

// fill receives some more; false when there is no more to come.
func (p *blobPart) fill() bool {
	room := (*p.buffer)[p.received:int(p.end-p.start)]
	n, err := p.from.Read(room)
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.more.Broadcast()
	p.received += n
	if n == len(room) {
		return false
	}
	p.err = err
	return err == nil
}

// read waits for bytes that weren't delivered yet.
func (p *blobPart) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.delivered == p.received && p.err == nil {
		p.more.Wait()
	}
	n := copy(b, (*p.buffer)[p.delivered:p.received])
	p.delivered += n
	if n > 0 {
		return n, nil
	}
	return 0, p.err
}

// giveUp ends a part, finished or not.
func (p *blobPart) giveUp(buffers *partBuffers) {
	_ = p.from.Close()
	<-p.done
	buffers.giveBack(p.buffer)
}
