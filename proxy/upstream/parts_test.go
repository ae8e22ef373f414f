package upstream

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/trustmirror/trustmirror/verify"
)

// largeBody is worth several parts, the last of them short.
var largeBody = sync.OnceValue(func() string {
	b := make([]byte, 5*partSize+12345)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
})

// rangeHandler answers requests for parts with part and all others with the blob.
func rangeHandler(part http.HandlerFunc) http.HandlerFunc {
	whole := ranged(largeBody())
	return func(w http.ResponseWriter, r *http.Request) {
		if asked := r.Header.Get("Range"); asked != "" && !strings.HasSuffix(asked, "-") {
			part(w, r)
			return
		}
		whole(w, r)
	}
}

// wholePart tells whether a part is asked for from its beginning.
func wholePart(r *http.Request) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-")
	n, err := strconv.ParseInt(first, 10, 64)
	return err == nil && n%partSize == 0
}

func TestParts(t *testing.T) {
	ref, path := blobRef(t, largeBody())
	var mu sync.Mutex
	open, most := 0, 0
	s := serve(t, script{path: func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		open++
		most = max(most, open)
		mu.Unlock()
		defer func() {
			mu.Lock()
			open--
			mu.Unlock()
		}()
		ranged(largeBody())(w, r)
	}})
	c := client(t, at(s))
	got, err := readBlob(t, c, ref)
	if err != nil || got != largeBody() {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	if asked := s.take(); len(asked) != 7 || asked[1] != "GET "+path { // after the one for how to log in
		t.Errorf("asked %q, want the blob and five parts", asked)
	}
	if most < 2 || most > maxConnections+1 { // the server may notice late that the first one ended
		t.Errorf("%d connections at once", most)
	}
	nothingLeft(t, c)
}

// nothingLeft checks that buffers and slots were given back.
func nothingLeft(t *testing.T, c *Client) {
	t.Helper()
	e := c.endpoints["hub.example"]
	if n, slots := len(c.parts.taken), len(c.total)+len(e.first)+len(e.open); n != 0 || slots != 0 {
		t.Errorf("%d buffers and %d slots are still taken", n, slots)
	}
}

// Whatever happens to parts, a blob arrives whole or not at all, and a registry
// that can't send parts after all is asked in the ordinary way.
func TestAttack21_PartsThatGoWrong(t *testing.T) {
	ref, _ := blobRef(t, largeBody())
	for name, part := range map[string]http.HandlerFunc{
		"the whole instead":     ranged(largeBody()),
		"other bytes' range":    answer(206, "x", "Content-Range: bytes 0-0/1"),
		"a range too short":     answer(206, "x", "Content-Range: bytes "+strconv.Itoa(partSize)+"-"+strconv.Itoa(partSize)+"/"+strconv.Itoa(len(largeBody()))),
		"no range":              answer(206, largeBody()[:partSize]),
		"not found":             answer(404, ""),
		"out of order":          answer(500, ""),
		"forbidden":             answer(403, ""),
		"a rate limit, at last": nil,
		"cut": func(w http.ResponseWriter, r *http.Request) {
			if !wholePart(r) {
				ranged(largeBody())(w, r)
				return
			}
			w.Header().Set("Content-Length", strconv.Itoa(partSize))
			first, last, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-")
			from, _ := strconv.Atoi(first)
			to, _ := strconv.Atoi(last)
			w.Header().Set("Content-Length", strconv.Itoa(to-from+1))
			w.Header().Set("Content-Range", "bytes "+first+"-"+last+"/"+strconv.Itoa(len(largeBody())))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, largeBody()[from:from+1000])
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			if part == nil {
				part = answer(429, "", "Retry-After: 1")
			}
			s := serve(t, script{"/v2/nicolas/webdis/blobs/" + ref.Digest.String(): rangeHandler(part)})
			c := client(t, at(s))
			got, err := readBlob(t, c, ref)
			if name == "a rate limit, at last" {
				wantReason(t, err, verify.RateLimited, "")
			} else if err != nil || got != largeBody() {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			if !strings.HasPrefix(largeBody(), got) {
				t.Error("bytes came that aren't the blob's")
			}
			nothingLeft(t, c)
		})
	}
}

func TestPartsOnlyWhereNobodyWaits(t *testing.T) {
	ref, path := blobRef(t, largeBody())
	s := serve(t, script{path: ranged(largeBody())})
	config := at(s)
	config.Limits.PerRegistry = 1
	c := client(t, config)
	got, err := readBlob(t, c, ref)
	if err != nil || got != largeBody() {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	nothingLeft(t, c)
}

func TestPartsWithoutBuffers(t *testing.T) {
	ref, path := blobRef(t, largeBody())
	s := serve(t, script{path: ranged(largeBody())})
	c := client(t, at(s))
	var held []*[]byte
	for b := c.parts.take(); b != nil; b = c.parts.take() {
		held = append(held, b)
	}
	got, err := readBlob(t, c, ref)
	if asked := s.take(); err != nil || got != largeBody() || len(asked) != 2 {
		t.Errorf("got %d bytes, %v, asked %q", len(got), err, asked)
	}
	for _, b := range held {
		c.parts.giveBack(b)
	}
}

func TestPartsEndWithTheirReader(t *testing.T) {
	ref, path := blobRef(t, largeBody())
	for _, read := range []int64{0, 100, partSize + 1, 3 * partSize} {
		s := serve(t, script{path: ranged(largeBody())})
		c := client(t, at(s))
		r, err := c.Blob(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, r, read); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, errReadClosed) {
			t.Errorf("after %d bytes and Close: %v", read, err)
		}
		nothingLeft(t, c)
	}
}

func TestPartsEndWithTheContext(t *testing.T) {
	ref, path := blobRef(t, largeBody())
	s := serve(t, script{path: rangeHandler(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })})
	c := client(t, at(s))
	ctx, cancel := context.WithCancel(t.Context())
	r, err := c.Blob(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.CopyN(io.Discard, r, partSize); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	nothingLeft(t, c)
}
