package warm_test

import (
	"context"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
	"github.com/trustmirror/trustmirror/verify/warm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	repo    = "nicolas/webdis"
	hubName = "docker.io/nicolas/webdis"
	ecrName = "public.ecr.aws/nicolas/webdis"
	amd64   = "linux/amd64"
	arm64   = "linux/arm64/v8"
)

// world is a signed repository and a copy, with a Gate to them.
type world struct {
	t        *testing.T
	hub, ecr *verifytest.Registry
	source   *verifytest.Source
	store    *storage.Store
	gate     *verify.Gate
	mirror   warm.Mirror

	mu      sync.Mutex       // guards what follows
	failing error            // what asking for a document comes to; nil: a document
	block   func(verify.Ref) // is called before a blob is fetched; nil: nothing is
	atOnce  int              // blobs that are being fetched
}

func newWorld(t *testing.T) *world {
	t.Helper()
	driver, err := storage.NewDriver(t.Context(), "inmemory", nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, hub: verifytest.NewRegistry(), ecr: verifytest.NewRegistry(), source: &verifytest.Source{}, store: storage.New(driver)}
	policy, err := verify.NewPolicy([]verify.ImageRule{{
		Signed: hubName, Copies: []string{ecrName}, Grace: time.Hour,
		Source: func(verify.Ref) (verify.Source, error) { return w.source, nil },
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.gate, err = verify.NewGate(verify.GateConfig{
		Policy: policy, Store: w.store,
		Fetcher: &fetcher{verifytest.Fetcher{"docker.io": w.hub, "public.ecr.aws": w.ecr}, w},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.gate.Close)
	w.mirror = warm.Through(w.gate, w.store, nil)
	return w
}

// fetcher can be made to fail, and notes how many blobs are fetched at once.
type fetcher struct {
	verifytest.Fetcher
	w *world
}

func (f *fetcher) Manifest(ctx context.Context, ref verify.Ref) (ocispec.Descriptor, []byte, error) {
	f.w.mu.Lock()
	err := f.w.failing
	f.w.mu.Unlock()
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	return f.Fetcher.Manifest(ctx, ref)
}

func (f *fetcher) Blob(ctx context.Context, ref verify.Ref) (io.ReadCloser, error) {
	f.w.mu.Lock()
	f.w.atOnce++
	block := f.w.block
	f.w.mu.Unlock()
	defer func() {
		f.w.mu.Lock()
		defer f.w.mu.Unlock()
		f.w.atOnce--
	}()
	if block != nil {
		block(ref)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return f.Fetcher.Blob(ctx, ref)
}

// publish pushes and signs a release: on the Hub, and as another document on ECR.
func (w *world) publish(tag string, onECR verifytest.Format) (hub, ecr verifytest.Pushed) {
	release := verifytest.NewRelease(tag, amd64, arm64)
	hub = release.Push(w.hub, repo, verifytest.Format{Tags: []string{tag}})
	onECR.Tags, onECR.Level = []string{tag}, 1
	ecr = release.Push(w.ecr, repo, onECR)
	w.source.Sign(tag, hub.Root, hub.Size, time.Now())
	return hub, ecr
}

// fetched tells whether anybody was asked for anything since the last call.
func (w *world) fetched() bool {
	return len(w.hub.Requests())+len(w.ecr.Requests()) > 0
}

func ref(t *testing.T, s string) verify.Ref {
	t.Helper()
	r, err := verify.ParseRef(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// reasons are those of the objects that failed, sorted.
func reasons(image *warm.Image) (all []string) {
	for _, o := range image.Failed() {
		all = append(all, string(o.Kind)+" "+string(verify.ReasonOf(o.Err)))
	}
	slices.Sort(all)
	return all
}
