package notarytest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
)

// Service is a trust service that holds what repositories publish: the current
// files under plain names, all of them under hash names, and roots by version,
// as notary-server 0.7.0 does. It is a notary.Fetcher and an http.Handler.
type Service struct {
	mu       sync.Mutex
	files    map[string]Files // by GUN
	requests []string         // names that were asked for, in order
	fault    func(name string) error
}

// Files are the files of a repository by name: "root", "2.root",
// "snapshot.<SHA-256>", "targets/releases".
type Files map[string][]byte

var (
	_ notary.Fetcher = (*Service)(nil)
	_ http.Handler   = (*Service)(nil)
)

// NewService makes a service that knows no repository. New makes one for each
// repository; Add brings several together.
func NewService() *Service { return &Service{files: make(map[string]Files)} }

func (s *Service) publish(gun, role string, version int64, raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files[gun] == nil {
		s.files[gun] = make(Files)
	}
	sum := sha256.Sum256(raw)
	s.files[gun][role] = raw
	s.files[gun][role+"."+hex.EncodeToString(sum[:])] = raw
	s.files[gun][fmt.Sprintf("%d.%s", version, role)] = raw
}

// Files returns a copy of a repository's files as they are now.
func (s *Service) Files(gun string) Files {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.files[gun])
}

// Serve makes the service hold exactly these files: an older state, files of
// different states, or others altogether. Nil: the repository is not known.
func (s *Service) Serve(gun string, files Files) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[gun] = maps.Clone(files)
}

// Set makes the service hold other bytes under one name.
func (s *Service) Set(gun, name string, raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[gun][name] = raw
}

// Remove makes the service hold nothing under one name.
func (s *Service) Remove(gun, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.files[gun], name)
}

// Fail makes Fetch ask fault first for each name: an error is returned instead
// of the file, and while fault blocks, so does Fetch. Nil: no faults.
func (s *Service) Fail(fault func(name string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// Down makes the service unreachable.
func (s *Service) Down() {
	s.Fail(func(string) error {
		return verify.Unavailable(verify.TrustUnavailable, "connection refused")
	})
}

// Requests returns the names that were asked for since the last call, in order.
func (s *Service) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests := s.requests
	s.requests = nil
	return requests
}

// Fetch implements notary.Fetcher.
func (s *Service) Fetch(ctx context.Context, gun, name string, limit int64) ([]byte, error) {
	raw, ok, fault := s.get(gun, name)
	if fault != nil {
		if err := fault(name); err != nil {
			return nil, err
		}
	}
	switch {
	case ctx.Err() != nil:
		return nil, verify.Unavailable(verify.TrustUnavailable, "%w", ctx.Err())
	case !ok:
		return nil, &verify.NotFoundError{Detail: "no " + name}
	case int64(len(raw)) > limit:
		return nil, verify.Refuse(verify.Malformed, "%s has more than %d bytes", name, limit)
	}
	return slices.Clone(raw), nil
}

func (s *Service) get(gun, name string) (raw []byte, ok bool, fault func(string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, name)
	raw, ok = s.files[gun][name]
	return raw, ok, s.fault
}

// ServeHTTP serves /v2/<gun>/_trust/tuf/<name>.json, and /v2/ for the client that
// asks first whether it needs a token. A fault answers 503.
func (s *Service) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path == "/v2/" {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, "{}")
		return
	}
	gun, name, ok := strings.Cut(strings.TrimPrefix(req.URL.Path, "/v2/"), "/_trust/tuf/")
	name, isJSON := strings.CutSuffix(name, ".json")
	if req.Method != http.MethodGet || !ok || !isJSON {
		http.NotFound(w, req)
		return
	}
	raw, ok, fault := s.get(gun, name)
	switch {
	case fault != nil && fault(name) != nil:
		http.Error(w, "out of order", http.StatusServiceUnavailable)
	case !ok:
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"errors":[{"code":"METADATA_NOT_FOUND","message":"You have requested metadata that does not exist."}]}`)
	default:
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = w.Write(raw) // who left doesn't get it
	}
}
