package storage

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"path"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
)

// direct is what a driver of an object store has besides. Each of its operations is a
// request or several that take time and cost money.
type direct interface {
	// Direct tells that what PutContent and Writer write to a path appears there whole,
	// a Writer's at Commit, or not at all; so there is no need for staging.
	Direct() bool
	// Redirects tells that RedirectURL gives clients a URL to read an object from.
	Redirects() bool
}

func (s *Store) direct() bool {
	d, ok := s.driver.(direct)
	return ok && d.Direct()
}

func (s *Store) redirects() bool {
	d, ok := s.driver.(direct)
	return ok && d.Redirects()
}

// deniesWhatIsNot is for a listing that is empty, where that must not be a mistake. Who
// answers anything with 200, as a proxy before a bucket that is away may, seems to list
// nothing; but then it has what can't be there, too.
func (s *Store) deniesWhatIsNot(ctx context.Context, folder string) error {
	if !s.direct() {
		return nil
	}
	_, err := s.driver.GetContent(ctx, path.Join(folder, rand.Text()))
	if err = driverError(err); errors.Is(err, ErrNotFound) {
		return nil
	}
	return cmp.Or(err, errors.New("the bucket seems to be empty, and to have whatever it's asked for: something else answers for it"))
}

// maxBuffered is how large an object may be to be held in memory whole, so that it is
// stored in one request. A part of a larger one takes as much.
const maxBuffered = 8 << 20

// putDirect checks an object before it is in its place, where it appears whole.
func (s *Store) putDirect(ctx context.Context, path string, d digest.Digest, size int64, r io.Reader) error {
	if there, err := s.holds(ctx, path, size); there || err != nil {
		return err
	}
	if size > maxBuffered {
		_, err := s.write(ctx, path, d, size, r, nil)
		return err
	}
	var content bytes.Buffer
	content.Grow(int(max(size, 0)))
	if err := receive(&content, d, size, r); err != nil {
		return err
	}
	return s.driver.PutContent(ctx, path, content.Bytes())
}

// holds tells whether an object has exactly size bytes, in one request, where Stat takes
// two for what isn't there: by reading from its last byte to its end.
func (s *Store) holds(ctx context.Context, path string, size int64) (bool, error) {
	r, err := s.driver.Reader(ctx, path, max(size-1, 0))
	if absent := (storagedriver.PathNotFoundError{}); errors.As(err, &absent) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer r.Close()
	n, err := io.ReadFull(r, make([]byte, 2))
	if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, err
	}
	return int64(n) == min(size, 1), nil
}

// OpenSized is OpenContent for who knows how many bytes there should be. An object
// store isn't asked beforehand whether they are: size is Content.Size then, and a Read
// that finds another number calls damaged and fails with a *MismatchError, in place of
// the bytes that would make the content look whole.
func (s *Store) OpenSized(ctx context.Context, d digest.Digest, size int64, damaged func()) (*Content, error) {
	if s.redirects() {
		return s.openRedirect(ctx, d)
	}
	if !s.direct() {
		return s.OpenContent(ctx, d)
	}
	path, err := digestPath(contentFolder, d)
	if err != nil {
		return nil, err
	}
	r, err := s.driver.Reader(ctx, path, 0)
	if err != nil {
		return nil, driverError(err)
	}
	lazy := &lazyReader{ctx: ctx, driver: s.driver, path: path, size: size, open: r}
	lazy.wrong = func(got int64) error {
		damaged()
		return &MismatchError{Digest: d, WantSize: size, GotSize: got}
	}
	return &Content{ReadSeekCloser: lazy, Digest: d, Size: size}, nil
}

// openRedirect looks only whether an object is there: as a rule nobody reads it here.
func (s *Store) openRedirect(ctx context.Context, d digest.Digest) (*Content, error) {
	path, err := digestPath(contentFolder, d)
	if err != nil {
		return nil, err
	}
	info, err := s.driver.Stat(ctx, path)
	if err != nil {
		return nil, driverError(err)
	}
	if info.IsDir() {
		return nil, ErrNotFound
	}
	return &Content{
		ReadSeekCloser: &lazyReader{ctx: ctx, driver: s.driver, path: path, size: info.Size()}, Digest: d, Size: info.Size(),
		RedirectURL: func(r *http.Request) (string, error) {
			url, err := s.driver.RedirectURL(r, path)
			return url, driverError(err)
		},
	}, nil
}

// openDirect finds out how large an object is once it is known to be there: asking
// first takes two requests for one that isn't.
func (s *Store) openDirect(ctx context.Context, path string, d digest.Digest) (*Content, error) {
	r, err := s.driver.Reader(ctx, path, 0)
	if err != nil {
		return nil, driverError(err)
	}
	info, err := s.driver.Stat(ctx, path)
	if err != nil {
		return nil, errors.Join(driverError(err), r.Close())
	}
	lazy := &lazyReader{ctx: ctx, driver: s.driver, path: path, size: info.Size(), open: r}
	return &Content{ReadSeekCloser: lazy, Digest: d, Size: info.Size()}, nil
}

// openToEnd opens an object for who reads it to its end, and so learns how large it
// is; open does where that costs nothing more.
func (s *Store) openToEnd(ctx context.Context, d digest.Digest, open func(context.Context, digest.Digest) (*Content, error)) (io.ReadCloser, error) {
	if !s.direct() {
		return open(ctx, d)
	}
	path, err := digestPath(contentFolder, d)
	if err != nil {
		return nil, err
	}
	r, err := s.driver.Reader(ctx, path, 0)
	return r, driverError(err)
}
