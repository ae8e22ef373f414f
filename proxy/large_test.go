package proxy_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// BenchmarkLargeLayer has 50 clients pull a layer of 1 GiB of a copy at once, cold:
// it is fetched, held against its diff ID and stored while they wait, and then
// sent to each. peak-heap-MiB is what counts: nothing is held in memory whole.
func BenchmarkLargeLayer(b *testing.B) {
	const clients, size = 50, 1 << 30
	block := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	hash := sha256.New()
	for range size / len(block) {
		hash.Write(block)
	}
	layer := digest.NewDigest(digest.SHA256, hash)

	release := verifytest.NewRelease("large", amd64)
	config, err := json.Marshal(map[string]any{
		"os": "linux", "architecture": "amd64", "rootfs": map[string]any{"type": "layers", "diff_ids": []digest.Digest{layer}},
	})
	if err != nil {
		b.Fatal(err)
	}
	release.Platforms[0].Config = config
	describe := func(mediaType string, d digest.Digest, size int64) verifytest.Format {
		return verifytest.Format{Layers: "tar", Change: func(platform string, doc map[string]any) {
			if platform != "" {
				doc["layers"] = []any{map[string]any{"mediaType": mediaType, "digest": d, "size": size}}
			}
		}}
	}
	// Signed with another layer, so that the copy's rests on its diff ID.
	signed := describe("application/vnd.docker.image.rootfs.diff.tar.gzip", digest.FromString("compressed"), size/4)
	b.SetBytes(clients * size)
	b.ReportAllocs()
	for b.Loop() {
		m := newMirror(b)
		store, err := storage.Open(b.Context(), "filesystem", map[string]any{"rootdirectory": b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		m.store = store
		m.ecr.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, layer.String()) {
				return false
			}
			w.Header().Set("Content-Length", strconv.Itoa(size))
			for range size / len(block) {
				if _, err := w.Write(block); err != nil {
					break
				}
			}
			return true
		})
		m.publish("1", release, signed, describe("application/vnd.docker.image.rootfs.diff.tar", layer, size))
		m.start()
		if a := m.get(ecrName, "manifests", "1"); a.status != http.StatusOK {
			b.Fatalf("%d %s", a.status, a.body)
		}
		b.ReportMetric(float64(peakHeap(func() { m.pullAtOnce(clients, layer, size) }))/(1<<20), "peak-heap-MiB")
	}
}

// pullAtOnce has many clients pull one blob of the copy.
func (m *mirror) pullAtOnce(clients int, blob digest.Digest, size int64) {
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, m.url+"/v2/"+repo+"/blobs/"+blob.String()+"?ns=public.ecr.aws", http.NoBody)
			if err != nil {
				m.t.Error(err)
				return
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				m.t.Error(err)
				return
			}
			defer res.Body.Close()
			if n, err := io.Copy(io.Discard, res.Body); err != nil || n != size || res.StatusCode != http.StatusOK {
				m.t.Errorf("status %d, %d bytes, %v", res.StatusCode, n, err)
			}
		})
	}
	wg.Wait()
}

// peakHeap returns the most bytes that were in use on the heap while f ran.
func peakHeap(f func()) uint64 {
	runtime.GC()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	var peak uint64
	for ticker := time.NewTicker(20 * time.Millisecond); ; {
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		peak = max(peak, stats.HeapInuse)
		select {
		case <-done:
			ticker.Stop()
			return peak
		case <-ticker.C:
		}
	}
}
