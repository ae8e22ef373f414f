package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
)

// Content is a stored object, open for reading. Close it.
type Content struct {
	// The *os.File itself on the filesystem driver, so that serving it can use
	// sendfile. Elsewhere a reader that fetches what is read, from where Seek
	// leads to; it lives no longer than the context it was opened with.
	io.ReadSeekCloser

	Digest digest.Digest
	Size   int64 // bytes stored, which may differ from what an admission says if storage is corrupt

	// RedirectURL makes a URL from which who asks by GET or HEAD can read the content
	// for RedirectFor. nil: clients aren't sent elsewhere.
	RedirectURL func(*http.Request) (string, error)

	objects *objects
	held    *object // isn't evicted until Close
}

// Close lets the object be evicted.
func (c *Content) Close() error {
	err := c.ReadSeekCloser.Close()
	c.objects.release(c.held)
	c.held = nil
	return err
}

// OpenContent opens an object. Its bytes were hashed when they were stored and
// aren't hashed again. Errors: ErrNotFound, the driver's own.
func (s *Store) OpenContent(ctx context.Context, d digest.Digest) (*Content, error) {
	held := s.objects.hold(ctx, d)
	c, err := s.open(ctx, d)
	if err != nil {
		s.objects.release(held)
		if errors.Is(err, ErrNotFound) { // another process removed it
			s.objects.forget(d)
		}
		return nil, err
	}
	c.objects, c.held = s.objects, s.objects.opened(held, d, c.Size)
	return c, nil
}

// open opens an object without noting that it's used.
func (s *Store) open(ctx context.Context, d digest.Digest) (*Content, error) {
	path, err := digestPath(contentFolder, d)
	if err != nil {
		return nil, err
	}
	if s.direct() {
		return s.openDirect(ctx, path, d)
	}
	info, err := s.driver.Stat(ctx, path)
	if err != nil {
		return nil, driverError(err)
	}
	if info.IsDir() {
		return nil, fmt.Errorf("stored %s is a folder: %w", d, ErrNotFound)
	}
	r, err := s.driver.Reader(ctx, path, 0)
	if err != nil {
		return nil, driverError(err)
	}
	if f, ok := r.(*os.File); ok {
		return &Content{ReadSeekCloser: f, Digest: d, Size: info.Size()}, nil
	}
	lazy := &lazyReader{ctx: ctx, driver: s.driver, path: path, size: info.Size(), open: r}
	return &Content{ReadSeekCloser: lazy, Digest: d, Size: info.Size()}, nil
}

// ReadDocument reads a manifest, an index or a config whole and hashes it again.
// Errors: ErrNotFound; *CorruptError when it doesn't hash to its digest, in which
// case it has been quarantined and may be stored anew; another error when it is
// sound but has more than max bytes, and the driver's own.
func (s *Store) ReadDocument(ctx context.Context, d digest.Digest, max int64) ([]byte, error) {
	_, began, _ := s.memory.documents.get(d)
	c, err := s.openToEnd(ctx, d, s.OpenContent)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	digester := d.Algorithm().Digester()
	r := io.TeeReader(c, digester.Hash())
	raw, err := io.ReadAll(io.LimitReader(r, max))
	if err != nil {
		return nil, fmt.Errorf("reading stored %s: %w", d, err)
	}
	rest, err := io.Copy(io.Discard, r)
	if err != nil {
		return nil, fmt.Errorf("reading stored %s: %w", d, err)
	}
	if got := digester.Digest(); got != d {
		return nil, &CorruptError{Digest: d, Got: got, Err: s.Quarantine(ctx, d)}
	}
	if rest > 0 {
		return nil, fmt.Errorf("stored document %s has %d bytes, more than the %d that a document may have", d, int64(len(raw))+rest, max)
	}
	if len(raw) <= maxRemembered {
		s.memory.documents.put(d, bytes.Clone(raw), len(raw), began)
	}
	return raw, nil
}

// Put stores an object that r delivers, if it is exactly size bytes that hash to
// d; until then it is visible to nobody, and when anything fails nothing remains.
// r is read to its end: what r returns instead of io.EOF fails the write, however
// right the bytes are. When the object is there already, r isn't read.
//
// Errors: *MismatchError, at once when r delivers too much; r's own error,
// wrapped; the driver's own.
func (s *Store) Put(ctx context.Context, d digest.Digest, size int64, r io.Reader) error {
	return s.PutGrowing(ctx, d, size, r, nil)
}

// PutGrowing is Put for an object that is read while it's stored: began gets it as
// soon as there is a file, if the driver has files.
func (s *Store) PutGrowing(ctx context.Context, d digest.Digest, size int64, r io.Reader, began func(*Growing)) error {
	path, err := digestPath(contentFolder, d)
	if err != nil {
		return err
	}
	if s.direct() {
		if err := s.putDirect(ctx, path, d, size, r); err != nil {
			return fmt.Errorf("storing %s: %w", d, driverError(err))
		}
		return nil
	}
	held := s.objects.hold(ctx, d)
	defer s.objects.release(held)
	info, err := s.driver.Stat(ctx, path)
	if err == nil && !info.IsDir() && info.Size() == size {
		if held == nil {
			s.objects.stored(d, size)
		}
		return nil
	}
	if err = driverError(err); err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("storing %s: %w", d, err)
	}
	staging := stagingPath()
	var growing *Growing
	if err = s.makeRoom(ctx, size); err == nil {
		growing, err = s.write(ctx, staging, d, size, r, began)
	}
	if err == nil {
		err = s.driver.Move(ctx, staging, path)
	}
	if growing != nil {
		growing.end(err)
	}
	if err != nil {
		s.discard(ctx, staging)
		return fmt.Errorf("storing %s: %w", d, driverError(err))
	}
	s.objects.stored(d, size)
	return nil
}

// write writes a whole, checked object to a path. What grew there is to be ended by
// the caller.
func (s *Store) write(ctx context.Context, path string, d digest.Digest, size int64, r io.Reader, began func(*Growing)) (growing *Growing, err error) {
	w, err := s.driver.Writer(ctx, path, false)
	if err != nil {
		return nil, err
	}
	var to io.Writer = w
	if began != nil {
		if growing = s.watch(ctx, path, d, size); growing != nil {
			to = growingWriter{w, growing}
			began(growing)
		}
	}
	if err = receive(to, d, size, r); err == nil {
		err = w.Commit(ctx)
	}
	if err != nil {
		_ = w.Cancel(context.WithoutCancel(ctx))
		_ = w.Close() // some drivers give buffers back only here
		return growing, err
	}
	return growing, w.Close()
}

// watch opens a file that is being written for reading; nil if that isn't possible.
func (s *Store) watch(ctx context.Context, path string, d digest.Digest, size int64) *Growing {
	r, err := s.driver.Reader(ctx, path, 0)
	if err != nil {
		return nil
	}
	if file, ok := r.(*os.File); ok {
		return newGrowing(file, d, size)
	}
	_ = r.Close()
	return nil
}

// receive copies r to w and checks that it is what d and size promise.
func receive(w io.Writer, d digest.Digest, size int64, r io.Reader) error {
	digester := d.Algorithm().Digester()
	// One byte more than size shows too much, and none is how r gets to say
	// whether it ended well.
	n, err := io.Copy(io.MultiWriter(digester.Hash(), w), io.LimitReader(r, size+1))
	if err != nil {
		return err
	}
	if n != size {
		return &MismatchError{Digest: d, WantSize: size, GotSize: n}
	}
	if got := digester.Digest(); got != d {
		return &MismatchError{Digest: d, WantSize: size, GotSize: n, Got: got}
	}
	return nil
}

// lazyReader reads an object through a driver whose readers can't seek.
type lazyReader struct {
	ctx    context.Context
	driver storagedriver.StorageDriver
	path   string
	size   int64
	offset int64         // where the next Read begins
	open   io.ReadCloser // stands at offset; nil after Seek, until the next Read
	// wrong is called when the object turns out to have another size; nil: it is known.
	wrong func(got int64) error
}

func (r *lazyReader) Read(p []byte) (int, error) {
	if r.offset >= r.size {
		return 0, io.EOF
	}
	if r.open == nil {
		open, err := r.driver.Reader(r.ctx, r.path, r.offset)
		if err != nil {
			return 0, driverError(err)
		}
		r.open = open
	}
	n, err := r.open.Read(p[:min(int64(len(p)), r.size-r.offset)])
	if r.wrong != nil {
		if err := r.checkEnd(int64(n), err == io.EOF); err != nil {
			return 0, driverError(err)
		}
	}
	r.offset += int64(n)
	if err == io.EOF && r.offset < r.size {
		err = io.ErrUnexpectedEOF
	}
	return n, driverError(err)
}

// checkEnd holds where the object ends, if what was read just now tells, against size.
func (r *lazyReader) checkEnd(n int64, ended bool) error {
	end := r.offset + n
	switch {
	case end < r.size && ended:
		return r.wrong(end)
	case end < r.size || ended:
		return nil
	}
	switch _, err := io.ReadFull(r.open, make([]byte, 1)); err {
	case nil:
		return r.wrong(end + 1)
	case io.EOF:
		return nil
	default:
		return err
	}
}

func (r *lazyReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += r.offset
	case io.SeekEnd:
		offset += r.size
	default:
		return 0, fmt.Errorf("seek: unknown whence %d", whence)
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek: negative offset %d", offset)
	}
	if offset != r.offset {
		if err := r.Close(); err != nil {
			return 0, err
		}
	}
	r.offset = offset
	return offset, nil
}

func (r *lazyReader) Close() error {
	if r.open == nil {
		return nil
	}
	err := r.open.Close()
	r.open = nil
	return err
}
