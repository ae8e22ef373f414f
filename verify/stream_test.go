package verify_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// gated is a blob that arrives as far as a test lets it.
type gated struct {
	io.ReadCloser
	limit chan int // how many bytes more may arrive; closed: all
	left  int
	all   bool
}

func (r *gated) Read(p []byte) (int, error) {
	for r.left == 0 && !r.all {
		n, ok := <-r.limit
		r.left, r.all = n, !ok
	}
	if !r.all {
		p = p[:min(len(p), r.left)]
	}
	n, err := r.ReadCloser.Read(p)
	r.left -= n
	return n, err
}

// gatedFetcher holds up blobs by digest.
type gatedFetcher struct {
	verify.Fetcher
	mu    sync.Mutex
	gates map[digest.Digest]chan int
}

func (f *gatedFetcher) Blob(ctx context.Context, ref verify.Ref) (io.ReadCloser, error) {
	body, err := f.Fetcher.Blob(ctx, ref)
	f.mu.Lock()
	defer f.mu.Unlock()
	if limit, ok := f.gates[ref.Digest]; ok && err == nil {
		return &gated{ReadCloser: body, limit: limit}, nil
	}
	return body, err
}

// streamingWorld has an image with a layer of 3 MB, which arrives as far as the
// test lets it, and a mirror that sends layers while they arrive.
func streamingWorld(t *testing.T) (w *world, hub, ecr verifytest.Pushed, layer digest.Digest, arrive chan int) {
	w = newWorld(t)
	driver, err := storage.NewDriver(t.Context(), "filesystem", map[string]any{"rootdirectory": t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	w.driver, w.store, w.streaming = driver, storage.New(driver), true
	release := verifytest.NewRelease("0.1.19", amd64)
	noise := make([]byte, 3<<20)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	release.Platforms[0].SetLayer(0, verifytest.Tar("noise", string(noise)))
	hub, ecr = w.publish("0.1.19", release, verifytest.Format{})
	layer, arrive = hub.Layers[amd64][0], make(chan int)
	w.wrap = func(f verify.Fetcher) verify.Fetcher {
		return &gatedFetcher{Fetcher: f, gates: map[digest.Digest]chan int{layer: arrive}}
	}
	w.start()
	if _, _, err := w.read(ref(t, hubName).WithDigest(hub.Manifests[amd64]), true); err != nil {
		t.Fatal(err)
	}
	return w, hub, ecr, layer, arrive
}

// Readers get what has arrived, each at its own pace, and the end once all is
// verified; then the blob is served as any other.
func TestStreaming(t *testing.T) {
	w, _, _, layer, arrive := streamingWorld(t)
	r := ref(t, hubName).WithDigest(layer)
	go func() { arrive <- 2 << 20 }()
	first, admission, err := w.gate.Blob(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, _, err := w.gate.Blob(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	head := make([]byte, 1<<20)
	if _, err := io.ReadFull(first, head); err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.OpenContent(t.Context(), layer); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("it is stored already: %v", err)
	}
	close(arrive)
	rest, err := io.ReadAll(first)
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Concat(head, rest); digest.FromBytes(got) != layer || int64(len(got)) != admission.Size {
		t.Errorf("%d bytes that aren't the layer's", len(got))
	}
	if all, err := io.ReadAll(second); err != nil || digest.FromBytes(all) != layer {
		t.Errorf("the second reader got %d bytes, %v", len(all), err)
	}
	if _, err := first.Seek(-10, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	if end, err := io.ReadAll(first); err != nil || !bytes.Equal(end, rest[len(rest)-10:]) {
		t.Errorf("the end again: %q, %v", end, err)
	}
	if _, _, err := w.read(r, false); err != nil {
		t.Error(err)
	}
	if n := w.hub.Counts()["GET "+hubRepo+"/blobs/"+layer.String()]; n != 1 {
		t.Errorf("fetched %d times", n)
	}
}

// Nobody can complete what isn't verified (S3): of a layer whose last byte is
// wrong the last 64 KiB never leave, it isn't admitted, and the log says why.
func TestAttack66_StreamedLayerWithAWrongEnd(t *testing.T) {
	w, hub, _, layer, arrive := streamingWorld(t)
	raw := w.hub.Blob(hubRepo, layer)
	evil := bytes.Clone(raw)
	evil[len(evil)-1] ^= 1
	w.hub.SetBlob(hubRepo, layer, evil)
	w.ecr.Delete(ecrRepo, layer.String())
	r := ref(t, hubName).WithDigest(layer)
	close(arrive)
	content, _, err := w.gate.Blob(t.Context(), r)
	if err == nil {
		var got []byte
		got, err = io.ReadAll(content)
		content.Close()
		if len(got) > len(raw)-64<<10 {
			t.Errorf("%d of %d bytes left", len(got), len(raw))
		}
	}
	if verify.ReasonOf(err) != verify.DigestMismatch {
		t.Errorf("error is %v", err)
	}
	w.mu.Lock()
	if !slices.ContainsFunc(w.decisions, func(d verify.Decision) bool {
		return d.Ref.Digest == layer && d.Refusal != nil && d.Refusal.Reason == verify.DigestMismatch
	}) {
		t.Error("no decision says that it was refused")
	}
	w.mu.Unlock()
	if records, err := w.store.Admissions(t.Context(), hubName, layer); err != nil || len(records) > 0 {
		t.Errorf("admitted: %+v, %v", records, err)
	}
	if _, _, err := w.read(ref(t, hubName).WithDigest(hub.Configs[amd64]), false); err != nil {
		t.Error(err)
	}
}

// The last 64 KiB stay behind although they have arrived, until nothing is missing.
func TestAttack66_EndOfAStreamedLayer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, _, layer, arrive := streamingWorld(t)
		size := len(w.hub.Blob(hubRepo, layer))
		go func() { arrive <- size - 1 }()
		content, _, err := w.gate.Blob(t.Context(), ref(t, hubName).WithDigest(layer))
		if err != nil {
			t.Fatal(err)
		}
		defer content.Close()
		got := make(chan int)
		var left atomic.Int64
		go func() {
			n, err := io.Copy(counter{&left}, content)
			if err != nil || n != int64(size) {
				t.Errorf("%d of %d bytes, %v", n, size, err)
			}
			close(got)
		}()
		synctest.Wait()
		if n := left.Load(); n != int64(size)-64<<10 {
			t.Errorf("%d of %d bytes left before the last one came", n, size)
		}
		close(arrive)
		<-got
	})
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// TestAttack95_StreamedFromAnother has the Hub deliver a layer with a wrong byte while
// a copy has the right one: nobody gets all of what the Hub delivers (S3, C5).
func TestAttack95_StreamedFromAnother(t *testing.T) {
	for name, at := range map[string]int{"at the beginning": 5, "at the end": -5} {
		t.Run(name, func(t *testing.T) {
			w, _, _, layer, arrive := streamingWorld(t)
			raw := w.hub.Blob(hubRepo, layer)
			w.ecr.SetBlob(ecrRepo, layer, raw)
			evil := bytes.Clone(raw)
			evil[(at+len(evil))%len(evil)] ^= 1
			w.hub.SetBlob(hubRepo, layer, evil)
			close(arrive)
			r := ref(t, hubName).WithDigest(layer)
			got, _, err := w.read(r, false)
			if err == nil && digest.FromBytes(got) != layer {
				t.Error("other bytes came to a good end")
			}
			if _, err := w.store.OpenContent(t.Context(), layer); err != nil {
				t.Errorf("what the copy has isn't stored: %v", err)
			}
			if _, _, err := w.read(r, false); err != nil {
				t.Errorf("once more: %v", err)
			}
		})
	}
}

// A layer that rests on its diff ID isn't sent before all of it is verified.
func TestAttack67_StreamedLayerOfACopy(t *testing.T) {
	w, _, ecr, _, arrive := streamingWorld(t)
	close(arrive)
	layer := ecr.Layers[amd64][0]
	limit := make(chan int)
	w.wrap = func(f verify.Fetcher) verify.Fetcher {
		return &gatedFetcher{Fetcher: f, gates: map[digest.Digest]chan int{layer: limit}}
	}
	w.start()
	if _, _, err := w.read(ref(t, ecrName+":0.1.19"), true); err != nil {
		t.Fatal(err)
	}
	opened := make(chan error)
	go func() {
		content, _, err := w.gate.Blob(t.Context(), ref(t, ecrName).WithDigest(layer))
		if err == nil {
			err = content.Close()
		}
		opened <- err
	}()
	limit <- 2 << 20
	limit <- 1 // the two megabytes were read
	select {
	case err := <-opened:
		t.Errorf("it was opened before all had arrived: %v", err)
	default:
	}
	close(limit)
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

// A layer that grows for the signed name isn't sent under a copy's, where it has to
// have a diff ID or a size that it hasn't (S3).
func TestAttack110_StreamedUnderAnotherName(t *testing.T) {
	for name, test := range map[string]struct {
		change func(manifest map[string]any)
		want   verify.Reason
	}{
		"in another layer's place": {func(m map[string]any) { slices.Reverse(layers(m)) }, verify.LayerMismatch},
		"by another size": {func(m map[string]any) {
			layers(m)[0].(map[string]any)["size"] = member(layers(m)[0], "size").(float64) + 1
		}, verify.SizeMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, hub, _, layer, arrive := streamingWorld(t)
				manifest := w.asPublished(hub.Manifests[amd64])
				test.change(manifest)
				lie := pushDocument(w.ecr, ecrRepo, manifest)
				if _, _, err := w.read(ref(t, ecrName).WithDigest(lie), true); err != nil {
					t.Fatal(err)
				}
				go func() { arrive <- 2 << 20 }()
				signed, _, err := w.gate.Blob(t.Context(), ref(t, hubName).WithDigest(layer))
				if err != nil {
					t.Fatal(err)
				}
				defer signed.Close()
				opened := make(chan error, 1)
				go func() {
					content, _, err := w.gate.Blob(t.Context(), ref(t, ecrName).WithDigest(layer))
					if err == nil {
						content.Close()
					}
					opened <- err
				}()
				synctest.Wait()
				if len(opened) > 0 {
					t.Error("it was answered before all had arrived")
				}
				close(arrive)
				if err := <-opened; verify.ReasonOf(err) != test.want {
					t.Errorf("error is %v, want %s", err, test.want)
				}
				if _, err := io.Copy(io.Discard, signed); err != nil {
					t.Errorf("the signed name: %v", err)
				}
			})
		})
	}
}

// Unless a rule says otherwise, nothing is sent before all has arrived (S3).
func TestAttack66_NotUnlessStreaming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, _, layer, arrive := streamingWorld(t)
		w.streaming = false
		w.start()
		opened := make(chan error, 1)
		go func() {
			content, _, err := w.gate.Blob(t.Context(), ref(t, hubName).WithDigest(layer))
			if err == nil {
				err = content.Close()
			}
			opened <- err
		}()
		arrive <- 2 << 20
		synctest.Wait()
		if len(opened) > 0 {
			t.Error("it was opened before all had arrived")
		}
		close(arrive)
		if err := <-opened; err != nil {
			t.Error(err)
		}
	})
}

// Who leaves ends nothing but its own waiting (S4).
func TestStreamingReaderLeaves(t *testing.T) {
	w, _, _, layer, arrive := streamingWorld(t)
	r := ref(t, hubName).WithDigest(layer)
	go func() { arrive <- 1 << 20 }()
	ctx, cancel := context.WithCancel(t.Context())
	content, _, err := w.gate.Blob(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, content, 100); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.Copy(io.Discard, content); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	content.Close()
	close(arrive)
	if _, _, err := w.read(r, false); err != nil {
		t.Error(err)
	}
	if n := w.hub.Counts()["GET "+hubRepo+"/blobs/"+layer.String()]; n != 1 {
		t.Errorf("fetched %d times", n)
	}
}
