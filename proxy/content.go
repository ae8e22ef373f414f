package proxy

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/trustmirror/trustmirror/storage"
)

// span is a part of some content.
type span struct {
	start, length int64
	partial       bool // answer 206 with a Content-Range
}

// writeContent sends content whole or the range that the client asks for; for
// HEAD all but the body. It is never re-encoded. Errors before the first byte of
// the response leave the response unwritten. The pull is told how far it is.
func (x *exchange) writeContent(content *storage.Content, mediaType string, pull *Pull) error {
	etag := `"` + content.Digest.String() + `"`
	h := x.w.Header()
	if matches(x.r.Header.Values("If-None-Match"), etag) {
		setContentHeaders(h, content, etag)
		x.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	part, err := requestedSpan(x.r.Header, etag, content.Size)
	if err != nil {
		return err
	}
	if part.start > 0 {
		if _, err := content.Seek(part.start, io.SeekStart); err != nil {
			return fmt.Errorf("seek in %s: %w", content.Digest, err)
		}
	}
	setContentHeaders(h, content, etag)
	values := []string{mediaType, strconv.FormatInt(part.length, 10)}
	h["Content-Type"], h["Content-Length"] = values[:1:1], values[1:]
	status := http.StatusOK
	if part.partial {
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.start, part.start+part.length-1, content.Size))
		status = http.StatusPartialContent
	}
	x.w.WriteHeader(status)
	if x.r.Method == http.MethodHead {
		return nil
	}
	pull.size.Store(part.length)
	x.w.sent = &pull.sent
	// The inner reader, because a file is sent without being copied.
	_, err = io.CopyN(x.w, content.ReadSeekCloser, part.length)
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s is stored with less than its %d bytes: %w", content.Digest, content.Size, io.ErrUnexpectedEOF)
	}
	return err
}

func setContentHeaders(h http.Header, content *storage.Content, etag string) {
	// A cache may keep the bytes but has to ask each time whether they may still
	// be served ("no-cache"): an admission can end.
	values := [...]string{content.Digest.String(), etag, "bytes", "no-cache"} // one allocation
	h["Docker-Content-Digest"], h["Etag"], h["Accept-Ranges"], h["Cache-Control"] = values[:1:1], values[1:2:2], values[2:3:3], values[3:]
}

// matches tells whether an If-None-Match header names the entity tag (RFC 9110,
// 13.1.2, weak comparison).
func matches(values []string, etag string) bool {
	for _, value := range values {
		for candidate := range strings.SplitSeq(value, ",") {
			candidate = strings.TrimPrefix(strings.Trim(candidate, " \t"), "W/")
			if candidate == "*" || candidate == etag {
				return true
			}
		}
	}
	return false
}

// requestedSpan reads the Range header (RFC 9110, 14.2). Several ranges, another
// unit than bytes, an If-Range that names other content: the whole is sent, as
// the specification allows. The error is 416 for a malformed range or one that
// lies outside.
func requestedSpan(h http.Header, etag string, size int64) (span, error) {
	whole := span{length: size}
	values := h.Values("Range")
	if len(values) != 1 || size == 0 {
		return whole, nil
	}
	if condition := h.Get("If-Range"); condition != "" && condition != etag {
		return whole, nil
	}
	unit, set, _ := strings.Cut(values[0], "=")
	if !strings.EqualFold(strings.Trim(unit, " \t"), "bytes") || strings.Contains(set, ",") {
		return whole, nil
	}
	first, last, found := strings.Cut(strings.Trim(set, " \t"), "-")
	if !found {
		return span{}, errRange(size)
	}
	if first == "" { // the last so many bytes
		n, ok := position(last)
		if !ok || n == 0 {
			return span{}, errRange(size)
		}
		n = min(n, size)
		return span{start: size - n, length: n, partial: true}, nil
	}
	start, ok := position(first)
	if !ok || start >= size {
		return span{}, errRange(size)
	}
	end := size - 1
	if last != "" {
		n, ok := position(last)
		if !ok || n < start {
			return span{}, errRange(size)
		}
		end = min(n, end)
	}
	return span{start: start, length: end - start + 1, partial: true}, nil
}

// position reads a number of digits only; one that is too large lies behind
// every content.
func position(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	if errors.Is(err, strconv.ErrRange) {
		return math.MaxInt64, true
	}
	return int64(n), err == nil
}
