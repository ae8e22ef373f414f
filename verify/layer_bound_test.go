package verify

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math"
	"runtime"
	"testing"

	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"
)

// repeating delivers the same bytes again and again, without end.
type repeating struct {
	unit []byte
	at   int
	n    int64
}

func (r *repeating) Read(p []byte) (int, error) {
	n := copy(p, r.unit[r.at:])
	r.at = (r.at + n) % len(r.unit)
	r.n += int64(n)
	return n, nil
}

// A bomb is refused after little of it was read, in little memory.
func TestAttack19_Bomb(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	zeros := make([]byte, 16<<20)
	var runs [][]byte
	for i := range 100 {
		runs = append(runs, zstdBlock(i == 99, 1, 128<<10, "\x00"))
	}
	for name, bomb := range map[string]struct {
		mediaType string
		unit      []byte
		memory    uint64
	}{
		"gzip":      {dockerLayerGzip, gzipped(t, 9, zeros), 8 << 20},
		"zstd":      {dockerLayerZstd, zstandard(t, zeros), 64 << 20},
		"zstd runs": {dockerLayerZstd, zstdFrame(window8MiB, runs...), 64 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			r := &repeating{unit: bomb.unit}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			d := newDiffIDReader(r, bomb.mediaType, math.MaxInt64, digest.FromString("tar"))
			_, err := io.Copy(io.Discard, d)
			d.Close()
			runtime.ReadMemStats(&after)
			wantRefusal(t, err, LayerMismatch)
			if r.n > 2<<20 {
				t.Errorf("refused only after %d bytes", r.n)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > bomb.memory {
				t.Errorf("allocated %d MiB", used>>20)
			}
		})
	}
}

// A layer that never ends is cut off where its descriptor says.
func TestAttack19_Endless(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	member := gzipped(t, 6, testTar(100_000))
	r := &repeating{unit: member}
	_, err := checkLayer(r, dockerLayerGzip, 10*len(member), digest.FromString("tar"))
	wantRefusal(t, err, SizeMismatch)
}

func TestLayerBounds(t *testing.T) {
	for _, test := range []struct {
		output, input int64
		refused       bool
	}{
		{1, 0, false},
		{freeLayerOutput, 0, false},
		{freeLayerOutput + 1, 0, true},
		{freeLayerOutput + 1, freeLayerOutput/maxLayerRatio + 1, false},
		{1 << 30, 1 << 30 / maxLayerRatio, false},
		{1 << 30, 1<<30/maxLayerRatio - 1, true},
		{maxLayerOutput, maxLayerOutput, false},
		{maxLayerOutput + 1, maxLayerOutput, true},
	} {
		b := &boundedHash{hash: digest.SHA256.Hash(), n: test.output - 1, input: &boundedReader{n: test.input}}
		if n, err := b.Write([]byte{0}); (err != nil) != test.refused || (n == 1) == test.refused {
			t.Errorf("%d bytes from %d: %v", test.output, test.input, err)
		}
	}
}

func stdlibGunzip(blob []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(blob))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

// BenchmarkDiffID measures bytes of tar in a second and memory for a layer.
func BenchmarkDiffID(b *testing.B) {
	for _, size := range []int{1 << 20, 64 << 20} {
		tar := testTar(size)
		diffID := digest.FromBytes(tar)
		for name, layer := range map[string]struct {
			mediaType string
			blob      []byte
		}{
			"tar":  {dockerLayer, tar},
			"gzip": {dockerLayerGzip, gzipped(b, 6, tar)},
			"zstd": {dockerLayerZstd, zstandard(b, tar)},
		} {
			b.Run(fmt.Sprintf("%s/%dMiB", name, size>>20), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					d := newDiffIDReader(bytes.NewReader(layer.blob), layer.mediaType, int64(len(layer.blob)), diffID)
					if _, err := io.Copy(io.Discard, d); err != nil {
						b.Fatal(err)
					}
					d.Close()
				}
			})
		}
	}
}
