package hostile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// TestS3BreaksOff has a bucket fail in the midst of a layer: what the client gets is cut
// short, and can't be taken for whole. The next one gets all of it.
func TestS3BreaksOff(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s, w := newSite(t, "breaks"), newWire(t, l)
	big := large(t, 12)
	s.push(t, "big", lab.Published{Hub: big, ECR: big})
	s.publish(t)
	m := newReplica(t, l, w.Bucket, true, s, s.notary)
	check(t, m.Start(t.Context()))
	check(t, m.pull(t.Context(), s.signed(), "big", big))
	layer := big.Images[0].Layers[0]
	path, stored := lab.BlobPath(s.signed(), layer.Digest()), w.file(layer.Digest())
	s.hub.counts()

	half := int64(len(layer.Content) / 2)
	for name, how := range map[string]func(w http.ResponseWriter, r *http.Request){
		"connection": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"silence":    func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		w.set(onContent(layer, http.MethodGet, func(rw http.ResponseWriter, r *http.Request, pass http.Handler) bool {
			whole := httptest.NewRecorder()
			pass.ServeHTTP(whole, r)
			for name, values := range whole.Header() {
				rw.Header()[name] = values
			}
			rw.WriteHeader(whole.Code)
			_, _ = io.CopyN(rw, whole.Body, half)
			_ = http.NewResponseController(rw).Flush()
			how(rw, r)
			return true
		}))
		m.cut(t, name, path, layer)
		w.set(nil)
		m.answers(t, http.MethodGet, path)
	}
	if again := s.hub.counts(); len(again) > 0 {
		t.Errorf("what is stored was asked for again: %v", again)
	}

	// What is in the bucket itself has another size: it is set aside, and fetched anew.
	for name, content := range map[string][]byte{
		"shorter": layer.Content[:half],
		"longer":  append(bytes.Clone(layer.Content), "and more"...),
		"empty":   nil,
	} {
		check(t, os.WriteFile(stored, content, 0o600))
		m.cut(t, name, path, layer)
		if got, err := m.get(t.Context(), path); err != nil || !bytes.Equal(got, layer.Content) {
			t.Errorf("%s: the next client gets %d bytes, %v", name, len(got), err)
		}
		if again := s.hub.counts(); len(again) != 1 {
			t.Errorf("%s: the registry was asked for %v", name, again)
		}
	}
	wholeContent(t, w.Bucket)
}

// TestS3BreaksOffStoring has a bucket fail in the midst of what is being stored: the
// client is told to come back, and nothing is left of it.
func TestS3BreaksOffStoring(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s, w := newSite(t, "storing"), newWire(t, l)
	m := newReplica(t, l, w.Bucket, false, s, s.notary)
	check(t, m.Start(t.Context()))
	m.eventually(t, s.signed(), tag, s.release.Hub)
	fails := func(rw http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		_, _ = io.Copy(io.Discard, r.Body)
		rw.WriteHeader(http.StatusInternalServerError)
		return true
	}
	stalls := func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		return true
	}
	for i, test := range []struct {
		name, part, why string
		fault           func(http.ResponseWriter, *http.Request, http.Handler) bool
	}{
		{"the beginning fails", "uploads", "s3: ", fails},
		{"the second part fails", "partNumber=2", "s3: ", fails},
		{"the second part stalls", "partNumber=2", "no answer in time", stalls},
		{"the end fails", "complete", "s3: ", fails},
	} {
		release := large(t, 12+i)
		name := fmt.Sprint("storing-", i)
		s.push(t, name, lab.Published{Hub: release, ECR: release})
		before := len(m.log(t, 0))
		s.publish(t)
		waitFor(t, "the mirror to know the new tag", func() bool { return strings.Contains(m.log(t, before), "trust refreshed") })
		w.set(func(rw http.ResponseWriter, r *http.Request, pass http.Handler) bool {
			complete := test.part == "complete" && r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
			return (complete || strings.Contains(r.URL.RawQuery, test.part)) && test.fault(rw, r, pass)
		})
		m.noStorage(t, s.signed(), name, release, test.why)
		layer := release.Images[0].Layers[0].Digest()
		if _, err := os.Stat(w.file(layer)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the layer is in the bucket: %v", test.name, err)
		}
		if left := w.unfinished(t); len(left) > 0 {
			t.Errorf("%s: an upload is left: %v", test.name, left)
		}
		w.set(nil)
		m.eventually(t, s.signed(), name, release)
	}
	wholeContent(t, w.Bucket)
	m.bounded(t)
}

// onContent is a fault of requests for one object by a method.
func onContent(blob lab.Blob, method string, fault func(http.ResponseWriter, *http.Request, http.Handler) bool) func(http.ResponseWriter, *http.Request, http.Handler) bool {
	return func(rw http.ResponseWriter, r *http.Request, pass http.Handler) bool {
		return r.Method == method && strings.HasSuffix(r.URL.Path, "/"+blob.Digest().Encoded()) && fault(rw, r, pass)
	}
}

// file is where the gateway has an object.
func (w *wire) file(d digest.Digest) string {
	return filepath.Join(w.Dir, "mirrors/one/content", d.Algorithm().String(), d.Encoded()[:2], d.Encoded())
}

// cut asserts that a layer is announced, and its end doesn't come.
func (m *mirror) cut(t *testing.T, what, path string, layer lab.Blob) {
	t.Helper()
	request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, m.URL+path, nil)
	check(t, err)
	// On a connection of its own, since a client asks again where one that it used before ends.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil { // before the first byte
		return
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err == nil || len(got) >= len(layer.Content) || response.Header.Get("Content-Length") != strconv.Itoa(len(layer.Content)) {
		t.Errorf("%s: the client got %d of %d bytes, %s, %v", what, len(got), len(layer.Content), response.Status, err)
	}
}
