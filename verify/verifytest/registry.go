// Package verifytest holds what tests of several packages need: registries in
// memory that log each request and can be made to lie, releases to fill them
// with, and trust sources that say what they are told.
package verifytest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trustmirror/trustmirror/verify"
)

// Document is a manifest or an index as a registry delivers it.
type Document struct {
	MediaType string
	Raw       []byte
}

// Registry is a registry in memory: an http.Handler, and through Fetcher a
// verify.Fetcher without HTTP.
type Registry struct {
	mu        sync.Mutex // guards all below
	documents map[string]Document
	blobs     map[string][]byte
	requests  []string
	intercept func(w http.ResponseWriter, r *http.Request) bool
	down      bool
}

// NewRegistry makes an empty registry.
func NewRegistry() *Registry {
	return &Registry{documents: map[string]Document{}, blobs: map[string][]byte{}}
}

// PutDocument stores a document under its digest and under tags.
func (r *Registry) PutDocument(repository string, d Document, tags ...string) digest.Digest {
	dgst := digest.FromBytes(d.Raw)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ref := range append(tags, dgst.String()) {
		r.documents[repository+"/"+ref] = d
	}
	return dgst
}

// SetDocument stores a document under a reference, right or wrong.
func (r *Registry) SetDocument(repository, ref string, d Document) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.documents[repository+"/"+ref] = d
}

// Document returns what a reference delivers.
func (r *Registry) Document(repository, ref string) Document {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.documents[repository+"/"+ref]
}

// PutBlob stores a blob under its digest.
func (r *Registry) PutBlob(repository string, raw []byte) digest.Digest {
	dgst := digest.FromBytes(raw)
	r.SetBlob(repository, dgst, raw)
	return dgst
}

// SetBlob stores a blob under a digest, right or wrong.
func (r *Registry) SetBlob(repository string, d digest.Digest, raw []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blobs[repository+"/"+d.String()] = raw
}

// Delete removes a document or blob.
func (r *Registry) Delete(repository, ref string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.documents, repository+"/"+ref)
	delete(r.blobs, repository+"/"+ref)
}

// SetDown makes the registry unreachable, or reachable again.
func (r *Registry) SetDown(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
}

// Intercept lets f answer requests over HTTP first; f returns whether it did.
func (r *Registry) Intercept(f func(w http.ResponseWriter, r *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.intercept = f
}

// Requests returns the objects asked for since the last call, in order: "GET
// nicolas/webdis/manifests/0.1.19".
func (r *Registry) Requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.requests
	r.requests = nil
	return all
}

// Counts returns Requests as a count for each.
func (r *Registry) Counts() map[string]int {
	counts := map[string]int{}
	for _, q := range r.Requests() {
		counts[q]++
	}
	return counts
}

func (r *Registry) log(method, object string) (down bool, intercept func(http.ResponseWriter, *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, method+" "+object)
	return r.down, r.intercept
}

// ServeHTTP answers GET and HEAD of documents and blobs, with ranges.
func (r *Registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	object, ok := strings.CutPrefix(q.URL.Path, "/v2/")
	if !ok || object == "" {
		w.WriteHeader(http.StatusOK)
		return
	}
	down, intercept := r.log(q.Method, object)
	if down {
		panic(http.ErrAbortHandler)
	}
	if intercept != nil && intercept(w, q) {
		return
	}
	if repository, ref, ok := strings.Cut(object, "/manifests/"); ok {
		d := r.Document(repository, ref)
		if d.Raw == nil {
			http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", d.MediaType)
		w.Header().Set("Docker-Content-Digest", digest.FromBytes(d.Raw).String())
		http.ServeContent(w, q, "", time.Time{}, bytes.NewReader(d.Raw))
		return
	}
	repository, ref, _ := strings.Cut(object, "/blobs/")
	raw, ok := r.blob(repository, ref)
	if !ok {
		http.Error(w, `{"errors":[{"code":"BLOB_UNKNOWN"}]}`, http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, q, "", time.Time{}, bytes.NewReader(raw))
}

// Blob returns what the registry holds for a digest; nil if nothing.
func (r *Registry) Blob(repository string, d digest.Digest) []byte {
	raw, _ := r.blob(repository, d.String())
	return raw
}

func (r *Registry) blob(repository, ref string) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	raw, ok := r.blobs[repository+"/"+ref]
	return raw, ok
}

// Fetcher fetches from registries in memory, by their names, without HTTP.
type Fetcher map[string]*Registry

// Manifest implements verify.Fetcher.
func (f Fetcher) Manifest(_ context.Context, ref verify.Ref) (ocispec.Descriptor, []byte, error) {
	name := ref.Tag
	if ref.Digest != "" {
		name = ref.Digest.String()
	}
	registry, err := f.ask(ref, ref.Repository+"/manifests/"+name)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	d := registry.Document(ref.Repository, name)
	if d.Raw == nil {
		return ocispec.Descriptor{}, nil, &verify.NotFoundError{Ref: ref, Detail: ref.String() + " is unknown"}
	}
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: digest.FromBytes(d.Raw), Size: int64(len(d.Raw))}, slices.Clone(d.Raw), nil
}

// Blob implements verify.Fetcher.
func (f Fetcher) Blob(_ context.Context, ref verify.Ref) (io.ReadCloser, error) {
	registry, err := f.ask(ref, ref.Repository+"/blobs/"+ref.Digest.String())
	if err != nil {
		return nil, err
	}
	raw, ok := registry.blob(ref.Repository, ref.Digest.String())
	if !ok {
		return nil, &verify.NotFoundError{Ref: ref, Detail: ref.String() + " is unknown"}
	}
	return io.NopCloser(bytes.NewReader(raw)), nil
}

func (f Fetcher) ask(ref verify.Ref, object string) (*Registry, error) {
	registry, ok := f[ref.Registry]
	if !ok {
		return nil, fmt.Errorf("a test asked the undeclared registry %s", ref.Registry)
	}
	if down, _ := registry.log("GET", object); down {
		return nil, verify.Unavailable(verify.UpstreamUnavailable, "%s is down", ref.Registry)
	}
	return registry, nil
}
