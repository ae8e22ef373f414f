package hostile

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// wire is the way to a bucket: it notes what is asked for, and can break.
type wire struct {
	*lab.Bucket // whose URL is the wire's

	mu    sync.Mutex // guards what follows
	asked []asked
	fault func(w http.ResponseWriter, r *http.Request, pass http.Handler) bool // returns whether it answered; nil: all is well
}

// asked is a request to a bucket.
type asked struct {
	what string // "GET", "HEAD", "PUT", "LIST", "FIND", "DELETE", "BEGIN", "PART", "COMPLETE" or "ABORT", and the folder: "GET content"
	host string
	path string
}

func newWire(t *testing.T, l *lab.Lab) *wire {
	t.Helper()
	return wireTo(t, newBucket(t, l))
}

// another is another way to the bucket behind.
func (w *wire) another(t *testing.T) *wire {
	t.Helper()
	return wireTo(t, w.Bucket)
}

func wireTo(t *testing.T, b *lab.Bucket) *wire {
	t.Helper()
	to, err := url.Parse(b.URL)
	check(t, err)
	pass := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // which is signed
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
	behind := *b
	w := &wire{Bucket: &behind}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.asked = append(w.asked, asked{w.what(r), r.Host, r.URL.Path})
		fault := w.fault
		w.mu.Unlock()
		if fault == nil || !fault(rw, r, pass) {
			pass.ServeHTTP(rw, r)
		}
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(server.Close)
	w.URL = server.URL
	return w
}

func (w *wire) what(r *http.Request) string {
	query := r.URL.Query()
	key := strings.TrimPrefix(cmp.Or(query.Get("prefix"), strings.TrimPrefix(r.URL.Path, "/"+w.Name+"/")), "mirrors/one/")
	what := r.Method
	switch {
	case query.Has("list-type") && query.Get("max-keys") == "1": // to find out whether something is there
		what = "FIND"
	case query.Has("list-type"):
		what = "LIST"
	case query.Has("uploads"):
		what = "BEGIN"
	case query.Has("partNumber"):
		what = "PART"
	case r.Method == http.MethodPost && query.Has("uploadId"):
		what = "COMPLETE"
	case r.Method == http.MethodDelete && query.Has("uploadId"):
		what = "ABORT"
	case r.Method == http.MethodPost && query.Has("delete"):
		return "DELETE"
	}
	folder, _, _ := strings.Cut(key, "/")
	return what + " " + folder
}

// set breaks the wire; nil mends it.
func (w *wire) set(fault func(http.ResponseWriter, *http.Request, http.Handler) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = fault
}

// all returns all that was asked for since the last call.
func (w *wire) all() []asked {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.asked
	w.asked = nil
	return all
}

// requests returns what was asked for since the last call, but for the state of trust
// sources, which is looked at all the time, and how much is stored.
func (w *wire) requests() []asked {
	return slices.DeleteFunc(w.all(), func(a asked) bool {
		_, folder, _ := strings.Cut(a.what, " ")
		return a.what == "LIST content" || !slices.Contains([]string{"content", "admissions", "expectations", "tags"}, folder)
	})
}

// unfinished are the files of uploads that were neither completed nor given up.
func (w *wire) unfinished(t *testing.T) (files []string) {
	t.Helper()
	check(t, filepath.WalkDir(filepath.Join(w.Dir, ".sgwtmp", "multipart"), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !entry.IsDir() {
			files = append(files, path)
		}
		return err
	}))
	return files
}

// kinds are the words for requests, in order.
func kinds(requests []asked) (words []string) {
	for _, a := range requests {
		words = append(words, a.what)
	}
	return words
}
