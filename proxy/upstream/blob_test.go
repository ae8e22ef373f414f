package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/verify"
)

// ranged serves body as a registry does, ranges included.
func ranged(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
	}
}

func part(body, contentRange string) http.HandlerFunc {
	return answer(206, body, "Content-Range: "+contentRange)
}

func TestAttack21_BlobsThatBreakOff(t *testing.T) {
	body := strings.Repeat("0123456789", 100) // 1000 bytes
	ref, path := blobRef(t, body)
	get := "GET " + path
	at990 := cut(body, 990)
	for name, test := range map[string]struct {
		hs    []http.HandlerFunc
		words string // "": all is well
		asked []string
	}{
		"not at all":                    {[]http.HandlerFunc{ranged(body)}, "", []string{get}},
		"at 99 %":                       {[]http.HandlerFunc{at990, ranged(body)}, "", []string{get, get + " bytes=990-"}},
		"before the first byte":         {[]http.HandlerFunc{cut(body, 0), ranged(body)}, "", []string{get, get}},
		"twice":                         {[]http.HandlerFunc{cut(body, 400), cutPart(body, 400, 990), ranged(body)}, "", []string{get, get + " bytes=400-", get + " bytes=990-"}},
		"always":                        {[]http.HandlerFunc{cut(body, 400), cutPart(body, 400, 990), cutPart(body, 990, 990)}, "broke the connection off", []string{get, get + " bytes=400-", get + " bytes=990-"}},
		"resumed with the whole":        {[]http.HandlerFunc{at990, answer(200, body)}, "", []string{get, get + " bytes=990-"}},
		"resumed with the whole, cut":   {[]http.HandlerFunc{at990, at990, at990}, "broke the connection off", []string{get, get + " bytes=990-", get + " bytes=990-"}},
		"another whole":                 {[]http.HandlerFunc{at990, answer(200, body+"more")}, "changes its mind about the size", []string{get, get + " bytes=990-"}},
		"too small a whole":             {[]http.HandlerFunc{at990, answer(200, "short")}, "changes its mind about the size", []string{get, get + " bytes=990-"}},
		"another range":                 {[]http.HandlerFunc{at990, part(body[900:], "bytes 900-999/1000")}, "answers with another part", []string{get, get + " bytes=990-"}},
		"a shorter range":               {[]http.HandlerFunc{at990, part(body[990:995], "bytes 990-994/1000")}, "answers with another part", []string{get, get + " bytes=990-"}},
		"a range of another blob":       {[]http.HandlerFunc{at990, part("0123456789X", "bytes 990-1000/1001")}, "changes its mind about the size", []string{get, get + " bytes=990-"}},
		"more bytes than the range":     {[]http.HandlerFunc{at990, part("0123456789X", "bytes 990-999/1000")}, "answers with another part", []string{get, get + " bytes=990-"}},
		"a 206 without a range":         {[]http.HandlerFunc{at990, answer(206, body[990:])}, "answers with another part", []string{get, get + " bytes=990-"}},
		"multipart ranges":              {[]http.HandlerFunc{at990, answer(206, "--x", "Content-Type: multipart/byteranges; boundary=x")}, "answers with another part", []string{get, get + " bytes=990-"}},
		"a range nobody asked for":      {[]http.HandlerFunc{part(body, "bytes 0-999/1000")}, "answers 206 Partial Content", []string{get}},
		"unsatisfiable":                 {[]http.HandlerFunc{at990, answer(416, "")}, "answers 416", []string{get, get + " bytes=990-"}},
		"an unknown whole":              {[]http.HandlerFunc{at990, part(body[990:], "bytes 990-999/*")}, "", []string{get, get + " bytes=990-"}},
		"encoded":                       {[]http.HandlerFunc{answer(200, body, "Content-Encoding: gzip")}, "another encoding (gzip)", []string{get}},
		"encoded on resuming":           {[]http.HandlerFunc{at990, answer(206, body[990:], "Content-Range: bytes 990-999/1000", "Content-Encoding: br")}, "another encoding (br)", []string{get, get + " bytes=990-"}},
		"a web page":                    {[]http.HandlerFunc{answer(200, "<html>", "Content-Type: text/html")}, "a web page", []string{get}},
		"trouble on resuming":           {[]http.HandlerFunc{at990, answer(503, ""), ranged(body)}, "", []string{get, get + " bytes=990-", get + " bytes=990-"}},
		"too much trouble on resuming":  {[]http.HandlerFunc{at990, answer(503, "")}, "answers 503", []string{get, get + " bytes=990-", get + " bytes=990-"}},
		"a rate limit on resuming":      {[]http.HandlerFunc{at990, answer(429, "")}, "limits how often", []string{get, get + " bytes=990-"}},
		"after the last byte":           {[]http.HandlerFunc{cut(body, 1000)}, "", []string{get}},
		"a length that's far too large": {[]http.HandlerFunc{lying(body, 1<<40)}, "can't be used", []string{get, get + " bytes=1000-", get + " bytes=1000-"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, script{path: answers(test.hs...)})
			s.Config.SetKeepAlivesEnabled(false)
			got, err := readBlob(t, client(t, at(s)), ref)
			if test.words != "" {
				reason := verify.UpstreamUnavailable
				if strings.HasPrefix(test.words, "limits") {
					reason = verify.RateLimited
				}
				wantReason(t, err, reason, test.words)
			} else if err != nil || got != body {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			if !strings.HasPrefix(body, got) {
				t.Error("bytes came that aren't the blob's")
			}
			s.wantAsked(t, append([]string{"GET /v2/"}, test.asked...)...)
		})
	}
}

// cutPart promises the rest of body from first on and stops before last.
func cutPart(body string, first, last int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, len(body)-1, len(body)))
		w.Header().Set("Content-Length", strconv.Itoa(len(body)-first))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = io.WriteString(w, body[first:last])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// lying promises size bytes, sends body's, and has nothing to add when resumed.
func lying(body string, size int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = io.WriteString(w, body)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

func TestBlobWithoutALength(t *testing.T) {
	body := strings.Repeat("layer", 5000)
	ref, path := blobRef(t, body)
	chunked := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, body[:100])
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, body[100:])
	}
	broken := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, body[:100])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	for name, h := range map[string]http.HandlerFunc{"whole": chunked, "broken": answers(broken, ranged(body)), "broken twice": answers(broken, broken, chunked)} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, script{path: h})
			got, err := readBlob(t, client(t, at(s)), ref)
			if err != nil || got != body {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
		})
	}
}

func TestAnswersWhoseLengthIsOpen(t *testing.T) {
	body := strings.Repeat("0123456789", 100)
	ref, path := blobRef(t, body)
	// openPart answers without a Content-Length, which leaves it to end anywhere.
	openPart := func(sent, contentRange string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", contentRange)
			w.WriteHeader(http.StatusPartialContent)
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, sent)
		}
	}
	at100 := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, body[:100])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	for name, test := range map[string]struct {
		hs    []http.HandlerFunc
		words string
	}{
		"too many bytes":                      {[]http.HandlerFunc{at100, openPart(body[100:]+"more", "bytes 100-999/1000")}, ""},
		"too few bytes":                       {[]http.HandlerFunc{at100, openPart(body[100:200], "bytes 100-999/1000"), ranged(body)}, ""},
		"a whole that is less than was there": {[]http.HandlerFunc{at100, answer(200, "short")}, "changes its mind about the size"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, script{path: answers(test.hs...)})
			got, err := readBlob(t, client(t, at(s)), ref)
			if test.words != "" {
				wantReason(t, err, verify.UpstreamUnavailable, test.words)
			} else if err != nil || got != body {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
		})
	}
}

func TestEmptyBlob(t *testing.T) {
	ref, path := blobRef(t, "")
	s := serve(t, script{path: ranged("")})
	got, err := readBlob(t, client(t, at(s)), ref)
	if err != nil || got != "" {
		t.Errorf("got %q, %v", got, err)
	}
	s.wantAsked(t, "GET /v2/", "GET "+path)
}

func TestProgressAllowsMoreBreaks(t *testing.T) {
	body := string(bytes.Repeat([]byte("0123456789abcdef"), 6*progress/16))
	ref, path := blobRef(t, body)
	hops := 0
	s := serve(t, script{path: func(w http.ResponseWriter, r *http.Request) {
		from := hops * progress
		if hops++; from+progress == len(body) {
			ranged(body)(w, r)
		} else if from == 0 {
			cut(body, progress)(w, r)
		} else {
			cutPart(body, from, from+progress)(w, r)
		}
	}})
	got, err := readBlob(t, client(t, at(s)), ref)
	if err != nil || got != body {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	if hops != 6 {
		t.Errorf("took %d answers", hops)
	}
}

func TestProgressOnceIsNotProgressForEver(t *testing.T) {
	body := string(bytes.Repeat([]byte("0123456789abcdef"), 2*progress/16))
	ref, path := blobRef(t, body)
	s := serve(t, script{path: answers(cut(body, progress), cutPart(body, progress, progress))})
	_, err := readBlob(t, client(t, at(s)), ref)
	wantReason(t, err, verify.UpstreamUnavailable, "broke the connection off")
	rest := fmt.Sprintf("GET %s bytes=%d-", path, progress)
	s.wantAsked(t, "GET /v2/", "GET "+path, rest, rest)
}

func TestAttack19_ABlobWithoutEndIsReadInPieces(t *testing.T) {
	ref, path := blobRef(t, "endless")
	s := serve(t, script{path: func(w http.ResponseWriter, _ *http.Request) {
		chunk := make([]byte, 32<<10)
		for {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}})
	r, err := client(t, at(s)).Blob(t.Context(), ref)
	must(t, err)
	n, err := io.CopyN(io.Discard, r, 10<<20)
	if n != 10<<20 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
	must(t, r.Close())
	if _, err := r.Read(make([]byte, 1)); err == nil {
		t.Error("a closed blob can be read")
	}
}

func TestBlobEndsWithItsContext(t *testing.T) {
	body := "layer"
	ref, path := blobRef(t, body)
	s := serve(t, script{path: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, body)
		_ = http.NewResponseController(w).Flush()
		hang(w, r)
	}})
	c := client(t, at(s))
	t.Run("left", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := c.Blob(ctx, ref)
		must(t, err)
		defer r.Close()
		_, err = io.ReadFull(r, make([]byte, len(body)))
		must(t, err)
		cancel()
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("closed while reading", func(t *testing.T) {
		r, err := c.Blob(t.Context(), ref)
		must(t, err)
		_, err = io.ReadFull(r, make([]byte, len(body)))
		must(t, err)
		ended := make(chan error)
		go func() {
			_, err := r.Read(make([]byte, 1))
			ended <- err
		}()
		must(t, r.Close())
		if err := <-ended; err == nil {
			t.Error("the read went well")
		}
	})
	s.wantAsked(t, "GET /v2/", "GET "+path, "GET "+path)
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	body := strings.Repeat("layer", 1000)
	ref, path := blobRef(t, body)
	s := serve(t, script{path: ranged(body), manifestPath: manifestAnswer})
	remotes := make(map[string]bool)
	inner := s.Config.Handler
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		remotes[r.RemoteAddr] = true
		inner.ServeHTTP(w, r)
	})
	c := client(t, at(s))
	for range 5 {
		must(t, manifest(t, c))
		if got, err := readBlob(t, c, ref); err != nil || got != body {
			t.Fatal(err)
		}
		_, err := c.Blob(t.Context(), image(t, "sha256:"+strings.Repeat("0", 64)))
		wantReason(t, err, verify.NotFound, "")
	}
	if len(remotes) != 1 {
		t.Errorf("%d connections", len(remotes))
	}
}

// Each body has a connection of its own, even where the server would take all over one.
func TestHTTP1(t *testing.T) {
	body := strings.Repeat("layer", 100_000)
	ref, path := blobRef(t, body)
	protos := make(chan string, 10)
	h := answers(cut(body, 400_000), ranged(body))
	s := serveTLS(t, script{path: func(w http.ResponseWriter, r *http.Request) {
		protos <- r.Proto
		h(w, r)
	}})
	c := client(t, Config{Registries: map[string]Registry{"hub.example": {URL: s.URL, CAFile: s.caFile(t)}}})
	got, err := readBlob(t, c, ref)
	if err != nil || got != body {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	if p := <-protos; p != "HTTP/1.1" {
		t.Errorf("spoke %s", p)
	}
	asked := s.take()
	if len(asked) != 3 || !strings.Contains(asked[2], " bytes=") {
		t.Errorf("asked %q", asked)
	}
}
