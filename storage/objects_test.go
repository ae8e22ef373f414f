package storage

import (
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestUseAllocatesNothing is what a warm read pays.
func TestUseAllocatesNothing(t *testing.T) {
	x := newObjects(Eviction{})
	d, _ := content(1, 8)
	x.stored(d, 8)
	if n := testing.AllocsPerRun(1000, func() { x.release(x.hold(t.Context(), d)) }); n != 0 {
		t.Errorf("noting a use allocates %v times", n)
	}
}

// BenchmarkUse notes uses among a thousand and a million objects.
func BenchmarkUse(b *testing.B) {
	for _, count := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			x := newObjects(Eviction{})
			var some []digest.Digest
			for i := range count {
				d := digest.NewDigestFromEncoded(digest.SHA256, fmt.Sprintf("%064x", i))
				x.stored(d, 1)
				if i%(count/1000) == 0 {
					some = append(some, d)
				}
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				x.release(x.hold(b.Context(), some[i%1000]))
			}
		})
	}
}
