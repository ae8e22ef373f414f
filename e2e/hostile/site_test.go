package hostile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

const (
	repository = "nicolas/webdis"
	tag        = "0.1.19"
)

// site is one signed repository with a copy, and the servers that have them.
type site struct {
	hubName, copyName string // "cut.hub.test"
	hub, copy, notary *server
	signer            *signer
	release           lab.Published
}

// newSite publishes a small release. Sites with different names share nothing.
func newSite(t *testing.T, name string) *site {
	t.Helper()
	s := &site{hubName: name + ".hub.test", copyName: name + ".copy.test", hub: newServer(t), copy: newServer(t), notary: newServer(t)}
	s.signer = newSigner(t, s.signed())
	s.release = release(t, name)
	s.push(t, tag, s.release)
	s.publish(t)
	return s
}

func (s *site) signed() string { return s.hubName + "/" + repository }
func (s *site) copied() string { return s.copyName + "/" + repository }

func release(t *testing.T, name string) lab.Published {
	t.Helper()
	builds, err := lab.Builds(tag, name)
	check(t, err)
	published, err := lab.PackageMulti(builds)
	check(t, err)
	return published
}

// push puts a release on both registries and signs it.
func (s *site) push(t *testing.T, tag string, r lab.Published) {
	t.Helper()
	put(s.hub, tag, r.Hub)
	put(s.copy, tag, r.ECR)
	s.signer.sign(tag, r.Hub.Top())
}

func (s *site) publish(t *testing.T) {
	t.Helper()
	for path, raw := range s.signer.publish(t) {
		s.notary.put(path, "application/json", raw)
	}
}

func put(to *server, tag string, r lab.Release) {
	to.put(lab.ManifestPath(repository, tag), r.Top().MediaType, r.Top().Content)
	to.put(lab.ManifestPath(repository, r.Top().Digest().String()), r.Top().MediaType, r.Top().Content)
	for _, image := range r.Images {
		to.put(lab.ManifestPath(repository, image.Manifest.Digest().String()), image.Manifest.MediaType, image.Manifest.Content)
		for _, blob := range append(slices.Clone(image.Layers), image.Config) {
			to.put(lab.BlobPath(repository, blob.Digest()), "application/octet-stream", blob.Content)
		}
	}
}

// mirror is trustmirror as a process, in front of sites.
type mirror struct {
	*lab.Mirror
	client *http.Client
}

// newMirror writes the configuration for sites; Start starts it.
func newMirror(t *testing.T, l *lab.Lab, sites ...*site) *mirror {
	t.Helper()
	return newMirrorOf(t, l, program, sites...)
}

// newMirrorOf is newMirror for another build of trustmirror.
func newMirrorOf(t *testing.T, l *lab.Lab, program string, sites ...*site) *mirror {
	t.Helper()
	config := lab.MirrorConfig{Upstreams: map[string]string{}}
	for _, s := range sites {
		config.Upstreams[s.hubName], config.Upstreams[s.copyName] = s.hub.url, s.copy.url
		config.Rules = append(config.Rules, lab.Rule{Signed: s.signed(), Copies: []string{s.copied()}, Notary: s.notary.url, Pins: s.signer.pins()})
	}
	m, err := l.NewMirror(program, config)
	check(t, err)
	transport := &http.Transport{MaxIdleConnsPerHost: 32}
	t.Cleanup(transport.CloseIdleConnections)
	return &mirror{Mirror: m, client: &http.Client{Transport: transport, Timeout: 2 * time.Minute}}
}

func startMirror(t *testing.T, sites ...*site) *mirror {
	t.Helper()
	m := newMirror(t, newLab(t), sites...)
	check(t, m.Start(t.Context()))
	return m
}

// refusal is an OCI error that a client got.
type refusal struct {
	status     int
	code       string
	reason     string
	ref        string
	message    string
	retryAfter string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("%d %s (%s): %s", r.status, r.code, r.reason, r.message)
}

// get asks for one object. Any answer but 200 has to be an OCI error document and
// nothing else, of which the decision log knows, and is returned as a *refusal.
func (m *mirror) get(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.URL+path, nil)
	if err != nil {
		return nil, err
	}
	asker := newAsker()
	request.Header.Set("User-Agent", asker)
	response, err := m.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode == http.StatusOK {
		return body, err
	}
	return nil, m.audited(asker, readRefusal(reply{response.StatusCode, response.Header, body}))
}

func readRefusal(r reply) error {
	var document struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Detail  struct {
				Reason  string `json:"reason"`
				Ref     string `json:"ref"`
				TraceID string `json:"trace_id"`
			} `json:"detail"`
		} `json:"errors"`
	}
	d := json.NewDecoder(bytes.NewReader(r.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&document); err != nil || len(document.Errors) != 1 || d.More() {
		return fmt.Errorf("%d isn't an OCI error and nothing else: %q", r.status, r.body)
	}
	said := document.Errors[0]
	if served := r.header.Get("Docker-Content-Digest") + r.header.Get("ETag"); served != "" {
		return fmt.Errorf("an error has the header %v", r.header)
	}
	return &refusal{r.status, said.Code, said.Detail.Reason, said.Detail.Ref, said.Message, r.header.Get("Retry-After")}
}

// errOtherBytes is the worst that can happen.
var errOtherBytes = errors.New("the client got other bytes than were published")

// pull fetches an image whole, "cut.hub.test/nicolas/webdis", by tag, all platforms,
// and checks that every byte is the release's.
func (m *mirror) pull(ctx context.Context, name, tag string, want lab.Release) error {
	top, err := m.get(ctx, lab.ManifestPath(name, tag))
	if err != nil {
		return err
	}
	if !bytes.Equal(top, want.Top().Content) {
		return fmt.Errorf("%s:%s: %w", name, tag, errOtherBytes)
	}
	objects := map[string]lab.Blob{}
	for _, image := range want.Images {
		objects[lab.ManifestPath(name, image.Manifest.Digest().String())] = image.Manifest
		for _, blob := range append(slices.Clone(image.Layers), image.Config) {
			objects[lab.BlobPath(name, blob.Digest())] = blob
		}
	}
	paths := slices.Collect(maps.Keys(objects))
	slices.SortFunc(paths, func(a, b string) int { return strings.Compare(b, a) }) // manifests, then blobs
	for _, path := range paths {
		got, err := m.get(ctx, path)
		if err != nil {
			return err
		}
		if digest.FromBytes(got) != objects[path].Digest() {
			return fmt.Errorf("%s: %w", path, errOtherBytes)
		}
	}
	return nil
}

// eventually pulls until that works, for as long as what went wrong may be
// remembered (30 seconds), twice if the first question comes too early, and some more.
func (m *mirror) eventually(t *testing.T, name, tag string, want lab.Release) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := m.pull(ctx, name, tag, want)
		var refused *refusal
		switch {
		case err == nil:
			return
		case errors.As(err, &refused):
			last = err
		case ctx.Err() == nil:
			t.Fatalf("pulling %s: %v", name, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("all is well again, and still %s isn't served: %v", name, last)
		}
	}
}

// log is what the process has logged so far, from a byte on.
func (m *mirror) log(t *testing.T, from int) string {
	t.Helper()
	log, err := os.ReadFile(m.Process.LogFile)
	check(t, err)
	return string(log[from:])
}

// peak is the most memory that the process ever held, in bytes (proc(5), VmHWM).
func (m *mirror) peak(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.Process.PID()))
	check(t, err)
	var kB int64
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kB); err == nil {
			return kB << 10
		}
	}
	t.Fatal("the kernel doesn't say how much memory a process held")
	return 0
}

// maxPeak is how much memory trustmirror may hold, whatever is done to it.
const maxPeak = 200 << 20

func (m *mirror) bounded(t *testing.T) {
	t.Helper()
	peak := m.peak(t)
	t.Logf("peak memory: %d MiB", peak>>20)
	if peak > maxPeak && !raced {
		t.Errorf("the process held %d MiB; at most %d are expected", peak>>20, int64(maxPeak)>>20)
	}
}
