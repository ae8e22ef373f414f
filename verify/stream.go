package verify

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

const (
	// minStreamed is how large a blob is that is worth sending while it arrives.
	minStreamed = 1 << 20
	// heldBack is how many bytes of it nobody gets before all of it is verified.
	heldBack = 64 << 10
)

// streams are the blobs that can be sent while they arrive.
type streams struct {
	mu      sync.Mutex // guards what follows
	live    map[string]*storage.Growing
	changed chan struct{} // closed when there is another one
}

// begin returns what is to be told when a blob that is fetched for an image begins
// to grow.
func (s *streams) begin(image *Image, d digest.Digest) func(*storage.Growing) {
	return func(growing *storage.Growing) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.live == nil {
			s.live = make(map[string]*storage.Growing)
		}
		s.live[image.Signed.WithDigest(d).String()] = growing
		if s.changed != nil {
			close(s.changed)
			s.changed = nil
		}
	}
}

// end forgets a blob that is stored, or can't be had.
func (s *streams) end(image *Image, d digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, image.Signed.WithDigest(d).String())
}

// find waits for a blob to grow; nil when done ends first.
func (s *streams) find(done <-chan struct{}, image *Image, d digest.Digest) *storage.Growing {
	for {
		s.mu.Lock()
		growing := s.live[image.Signed.WithDigest(d).String()]
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		if growing != nil && growing.Hold() {
			return growing
		}
		select {
		case <-changed:
		case <-done:
			return nil
		}
	}
}

// stream opens a blob that is still to arrive, if it may be sent before all of it
// is verified: its digest is what counts, and no diff ID (S3). It returns nothing
// if that isn't so, or there is nothing to wait for.
func (g *Gate) stream(ctx context.Context, image *Image, ref Ref) (*storage.Content, storage.Admission, error) {
	var none storage.Admission
	set, err := g.targets(ctx, image)
	if err != nil {
		return nil, none, err
	}
	if _, err := g.admitted(ctx, image, set, ref, false); err == nil || !undecided(err) {
		return nil, none, nil // it is told in the ordinary way
	}
	expected, err := g.expected(ctx, image, set, ref, false)
	if err != nil || len(expected) == 0 {
		return nil, none, err
	}
	first := expected[0]
	if first.Size < minStreamed || slices.ContainsFunc(expected, func(e storage.Admission) bool {
		return e.Proof == storage.ProofDiffID || e.Size != first.Size
	}) {
		return nil, none, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{gate: g, ctx: ctx, cancel: cancel, ref: ref, size: first.Size, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		_, _, s.verdict = g.admission(ctx, image, ref, false)
	}()
	if s.growing = g.streams.find(s.done, image, ref.Digest); s.growing == nil {
		cancel()
		<-s.done
		return nil, none, nil // the verdict is there, and remembered
	}
	if s.growing.Size != first.Size {
		return nil, none, s.Close()
	}
	g.observe(Event{Kind: Opened, Cache: CacheMiss})
	g.trace.noteCache(ctx, CacheMiss)
	return &storage.Content{ReadSeekCloser: s, Digest: ref.Digest, Size: first.Size}, first, nil
}

// stream is a blob that is read while it arrives.
type stream struct {
	gate    *Gate
	ctx     context.Context // of who asked
	cancel  context.CancelFunc
	ref     Ref
	size    int64
	growing *storage.Growing

	done    chan struct{} // closed when the verdict is there
	verdict error         // nil: the blob is admitted

	offset int64
	err    error // once set, all that Read returns
}

// Read waits for bytes. It ends with the refusal, if the blob is refused, and
// before the last bytes in any other case than that it is admitted.
func (s *stream) Read(p []byte) (int, error) {
	if s.err != nil || len(p) == 0 {
		return 0, s.err
	}
	n, err := s.read(p)
	s.offset += int64(n)
	if err != nil && err != io.EOF {
		s.err = s.gate.conclude(s.ctx, s.ref, err)
		return n, s.err
	}
	return n, err
}

func (s *stream) read(p []byte) (int, error) {
	if s.offset >= s.size {
		return 0, io.EOF
	}
	early := s.size - heldBack // what may be sent before the verdict
	if s.offset < early {
		p = p[:min(int64(len(p)), early-s.offset)]
	} else if err := s.wait(); err != nil {
		return 0, err
	}
	n, err := s.growing.ReadAt(s.ctx, p, s.offset)
	if n > 0 || err == nil {
		return n, nil
	}
	if refused := s.wait(); refused != nil {
		return 0, refused // says more
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return 0, err // another repository had what this one didn't
}

// wait waits for the verdict.
func (s *stream) wait() error {
	select {
	case <-s.done:
		return s.verdict
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// Seek implements io.Seeker.
func (s *stream) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.offset
	case io.SeekEnd:
		offset += s.size
	}
	if offset < 0 {
		return 0, errors.New("seek to a negative offset")
	}
	s.offset = offset
	return offset, nil
}

// Close ends the waiting; the blob arrives nevertheless.
func (s *stream) Close() error {
	s.cancel()
	<-s.done
	s.growing.Release()
	return nil
}
