package verify_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

const (
	hubRepo = "nicolas/webdis"
	hubName = "docker.io/nicolas/webdis"
	ecrRepo = "nicolas/webdis"
	ecrName = "public.ecr.aws/nicolas/webdis"
	amd64   = "linux/amd64"
	arm64   = "linux/arm64/v8"
)

// world is a signed repository, a copy and a gate between them and the test.
type world struct {
	t        *testing.T
	hub, ecr *verifytest.Registry
	source   *verifytest.Source
	driver   storagedriver.StorageDriver
	store    *storage.Store
	gate     *verify.Gate
	wrap     func(verify.Fetcher) verify.Fetcher // nil: registries are asked as they are

	ahead, streaming bool // what gates are made with

	mu        sync.Mutex // guards all below
	now       time.Time
	decisions []verify.Decision
	askers    []any // of the decisions: what their contexts have for askerKey
	events    []verify.Event
}

// askerKey marks contexts in which the gate is asked.
type askerKey struct{}

func newWorld(t *testing.T) *world {
	t.Helper()
	driver, err := storage.NewDriver(t.Context(), "inmemory", nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, hub: verifytest.NewRegistry(), ecr: verifytest.NewRegistry(), source: &verifytest.Source{},
		driver: driver, store: storage.New(driver), now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC),
	}
	w.store.Remember(w.clock)
	w.start()
	return w
}

// start makes a gate on what is stored, as after a restart.
func (w *world) start() {
	w.t.Helper()
	policy, err := verify.NewPolicy([]verify.ImageRule{{
		Signed: hubName, Copies: []string{ecrName}, Grace: time.Hour, Streaming: w.streaming,
		Source: func(verify.Ref) (verify.Source, error) { return w.source, nil },
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	var fetcher verify.Fetcher = verifytest.Fetcher{"docker.io": w.hub, "public.ecr.aws": w.ecr}
	if w.wrap != nil {
		fetcher = w.wrap(fetcher)
	}
	w.gate, err = verify.NewGate(verify.GateConfig{
		Policy: policy, Store: w.store, Clock: w.clock, Fetcher: fetcher, FetchAhead: w.ahead,
		Decided: func(ctx context.Context, d verify.Decision) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.decisions = append(w.decisions, d)
			w.askers = append(w.askers, ctx.Value(askerKey{}))
		},
		Observe: func(e verify.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.gate.Close)
}

// forget makes a gate whose storage has to be read, as after a restart.
func (w *world) forget() {
	w.t.Helper()
	w.store = storage.New(w.driver)
	w.store.Remember(w.clock)
	w.start()
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// publish pushes and signs a release as its author does: on the Hub, and with
// other bytes but the same configs on ECR.
func (w *world) publish(tag string, release *verifytest.Release, onECR verifytest.Format) (hub, ecr verifytest.Pushed) {
	hub = release.Push(w.hub, hubRepo, verifytest.Format{Tags: []string{tag}})
	onECR.Tags = append(onECR.Tags, tag)
	if onECR.Level == 0 {
		onECR.Level = 1
	}
	ecr = release.Push(w.ecr, ecrRepo, onECR)
	w.source.Sign(tag, hub.Root, hub.Size, w.clock())
	return hub, ecr
}

func ref(t *testing.T, s string) verify.Ref {
	t.Helper()
	r, err := verify.ParseRef(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// read reads one object through the gate, and checks that it is what the
// admission says.
func (w *world) read(r verify.Ref, document bool) ([]byte, storage.Admission, error) {
	open := w.gate.Blob
	if document {
		open = w.gate.Manifest
	}
	content, admission, err := open(w.t.Context(), r)
	if err != nil {
		return nil, admission, err
	}
	defer content.Close()
	raw, err := io.ReadAll(content)
	if err != nil {
		return nil, admission, fmt.Errorf("%s: reading: %w", r, err) // the connection is cut
	}
	if got := digest.FromBytes(raw); got != admission.Digest || got != content.Digest || int64(len(raw)) != content.Size || admission.Size != content.Size {
		w.t.Errorf("%s: %d bytes with digest %s, admitted as %+v, opened as %s, %d", r, len(raw), got, admission, content.Digest, content.Size)
	}
	return raw, admission, nil
}

// pull does what a client does: the document, every manifest that it lists, and
// every config and layer. It returns all bytes by digest.
func (w *world) pull(name string) (map[digest.Digest][]byte, error) {
	w.t.Helper()
	r := ref(w.t, name)
	raw, admission, err := w.read(r, true)
	if err != nil {
		return nil, err
	}
	all := map[digest.Digest][]byte{admission.Digest: raw}
	type link struct{ Digest digest.Digest }
	var doc struct {
		Manifests, Layers []link
		Config            link
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, err
	}
	for _, m := range doc.Manifests {
		below, err := w.pull(r.WithDigest(m.Digest).String())
		if err != nil {
			return nil, err
		}
		maps.Copy(all, below)
	}
	if len(doc.Manifests) > 0 {
		return all, nil
	}
	for _, b := range append([]link{doc.Config}, doc.Layers...) {
		if all[b.Digest], _, err = w.read(r.WithDigest(b.Digest), false); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (w *world) mustPull(name string) map[digest.Digest][]byte {
	w.t.Helper()
	all, err := w.pull(name)
	if err != nil {
		w.t.Fatalf("pull %s: %v", name, err)
	}
	return all
}

// refused checks that nothing of name can be had, for a reason, and that the
// decision log has it.
func (w *world) refused(name string, reason verify.Reason) *verify.Refusal {
	w.t.Helper()
	w.mu.Lock()
	w.decisions = nil
	w.mu.Unlock()
	_, err := w.pull(name)
	var refusal *verify.Refusal
	if !errors.As(err, &refusal) || refusal.Reason != reason {
		w.t.Fatalf("pull %s: %v; want a refusal with reason %s", name, err, reason)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.ContainsFunc(w.decisions, func(d verify.Decision) bool { return d.Refusal != nil && d.Refusal.Reason == reason }) {
		w.t.Errorf("pull %s: no decision says that it was refused", name)
	}
	return refusal
}

func requests(method, repo string, what ...any) []string {
	var list []string
	for _, x := range what {
		switch x := x.(type) {
		case string:
			list = append(list, method+" "+repo+"/"+x)
		case []digest.Digest:
			for _, d := range x {
				list = append(list, method+" "+repo+"/blobs/"+d.String())
			}
		case digest.Digest:
			list = append(list, method+" "+repo+"/manifests/"+x.String())
		}
	}
	slices.Sort(list)
	return list
}

func sorted(list []string) []string { slices.Sort(list); return list }
