package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/trustmirror/trustmirror/verify"
)

// progress is how many new bytes make a download that broke off count as getting
// on, so that it may break off again as often as at first.
const progress = 1 << 20

var errReadClosed = errors.New("the blob was closed")

// Blob implements verify.Fetcher. A download that breaks off is resumed where it
// stopped (RFC 9110, section 14), at most twice without progress. Reading returns
// *verify.UnavailableError or *verify.NotFoundError when that fails, and an error
// that wraps ctx's once ctx is done. Close may be called while a Read is under
// way and ends it.
func (c *Client) Blob(ctx context.Context, ref verify.Ref) (io.ReadCloser, error) {
	if err := checkRef(ref); err != nil {
		return nil, err
	}
	if ref.Digest == "" {
		return nil, &verify.InvalidError{Part: verify.PartDigest, Value: ref.String(), Err: errors.New("a blob is named by its digest")}
	}
	e, err := c.endpoint(ref)
	if err != nil {
		return nil, err
	}
	r := newBlobReader(ctx, e, call{
		kind: KindBlob, ref: ref, repository: ref.Repository, object: "blob " + ref.String(),
		path: "/v2/" + ref.Repository + "/blobs/" + ref.Digest.String(),
	})
	if err := r.open(); err != nil {
		r.cancel()
		return nil, err
	}
	if r.size >= 2*partSize && r.answer.Header.Get("Accept-Ranges") == "bytes" {
		return newPartsReader(ctx, r, c.parts), nil
	}
	return r, nil
}

func newBlobReader(ctx context.Context, e *endpoint, c call) *blobReader {
	ctx, cancel := context.WithCancel(ctx)
	return &blobReader{e: e, ctx: ctx, cancel: cancel, tries: e.newTries(), size: -1, call: c}
}

// blobReader reads one blob, or a part of one, over as many answers as it takes.
type blobReader struct {
	e      *endpoint
	ctx    context.Context
	cancel context.CancelFunc
	call   call

	mu     sync.Mutex // guards what follows; held while reading
	tries  *tries
	answer *http.Response // nil while broken off
	offset int64          // of the byte that is delivered next
	size   int64          // of the blob; -1: not known. Of a part: the offset behind its last byte
	whole  int64          // of a part: the blob's size; else 0
	skip   int64          // bytes of the answer that were delivered before
	fresh  int64          // bytes delivered since it broke off last
	err    error          // once set, all that Read returns
}

func (r *blobReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.err == nil && len(p) > 0 {
		if r.offset == r.size {
			r.end()
			r.err = io.EOF
			break
		}
		if r.answer == nil {
			if r.err = r.open(); r.err != nil {
				break
			}
		}
		n, err := r.read(p)
		r.offset += int64(n)
		r.fresh += int64(n)
		if err != nil && r.offset != r.size {
			r.brokeOff(err)
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, r.err
}

// read reads from the present answer; its error is that the answer broke off.
func (r *blobReader) read(p []byte) (int, error) {
	body := r.answer.Body
	if r.skip > 0 {
		n, err := io.CopyN(io.Discard, body, r.skip)
		r.skip -= n
		if err != nil {
			return 0, err
		}
	}
	if r.size >= 0 {
		p = p[:min(int64(len(p)), r.size-r.offset)]
	}
	n, err := body.Read(p)
	if err != io.EOF {
		return n, err
	}
	end := r.offset + int64(n)
	if r.size >= 0 && end < r.size {
		return n, io.ErrUnexpectedEOF
	}
	r.size = end
	return n, nil
}

// brokeOff waits until it is time to resume, or decides not to.
func (r *blobReader) brokeOff(err error) {
	host := r.answer.Request.URL.Host
	r.end()
	if r.fresh >= progress {
		r.tries.failed = 0
	}
	r.fresh = 0
	r.err = r.tries.next(r.ctx, r.e.failure(r.ctx, &hostError{host, err}))
}

// end ends the present answer.
func (r *blobReader) end() {
	if r.answer != nil {
		_ = r.answer.Body.Close()
		r.answer = nil
	}
}

// open asks for what hasn't been delivered yet.
func (r *blobReader) open() error {
	c := r.call
	switch {
	case r.whole > 0:
		c.header = http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", r.offset, r.size-1)}}
	case r.offset > 0:
		c.header = http.Header{"Range": {fmt.Sprintf("bytes=%d-", r.offset)}}
	}
	resp, err := r.e.get(r.ctx, c, r.tries)
	if err != nil {
		return err
	}
	if err := r.accept(resp); err != nil {
		_ = resp.Body.Close()
		return err
	}
	r.answer = resp
	return nil
}

// accept makes sure that an answer continues where the last one stopped. One
// that begins anew instead is read to that point.
func (r *blobReader) accept(resp *http.Response) error {
	from, size := int64(0), resp.ContentLength
	if r.whole > 0 && resp.StatusCode != http.StatusPartialContent {
		return verify.Unavailable(r.e.unavailable, "%s answers with all of %s where a part was asked for, though it said that it can send parts", r.e.name, r.call.object)
	}
	if resp.StatusCode == http.StatusPartialContent {
		first, last, total, ok := parseContentRange(resp.Header.Get("Content-Range"))
		end := total // of what was asked for
		if r.whole > 0 {
			ok, end = ok && (total < 0 || total == r.whole), r.size
		}
		if !ok || first != r.offset || end >= 0 && last != end-1 || size >= 0 && size != last-first+1 {
			return verify.Unavailable(r.e.unavailable, "%s answers with another part of %s than the rest from byte %d that was asked for",
				r.e.name, r.call.object, r.offset)
		}
		from, size = first, last+1
	}
	if r.size >= 0 && size >= 0 && size != r.size || size >= 0 && size < r.offset {
		return verify.Unavailable(r.e.unavailable, "%s changes its mind about the size of %s in the middle of it", r.e.name, r.call.object)
	}
	if size >= 0 {
		r.size = size
	}
	r.skip = r.offset - from
	return nil
}

// Close ends the download.
func (r *blobReader) Close() error {
	r.cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end()
	r.err = errReadClosed
	return nil
}

// parseContentRange reads "bytes first-last/total" (RFC 9110, section 14.4);
// total is -1 where the server doesn't know it.
func parseContentRange(s string) (first, last, total int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	span, of, ok2 := strings.Cut(s, "/")
	from, to, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, 0, false
	}
	first, ok = parseCount(from)
	last, ok2 = parseCount(to)
	total, ok3 = -1, true
	if of != "*" {
		total, ok3 = parseCount(of)
	}
	if !ok || !ok2 || !ok3 || last < first || total >= 0 && last >= total {
		return 0, 0, 0, false
	}
	return first, last, total, true
}

// parseCount reads digits, without the sign that strconv would accept. The
// largest number is left out, so that one can be added.
func parseCount(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err == nil && n < 1<<63-1
}
