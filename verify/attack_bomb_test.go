package verify

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"
)

// Compressed data that goes on and on and comes to nothing, or to next to nothing,
// is refused after little of it, whatever size was claimed.
func TestAttack37_DataThatComesToNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	// A member of one byte with the largest extra field that gzip has (RFC 1952, section 2.3.1.1).
	padded := gzipped(t, 6, []byte("x"))
	padded[3] |= 4
	padded = concat(padded[:10], []byte{0xff, 0xff}, bytes.Repeat([]byte{'y'}, 0xffff), padded[10:])
	for name, layer := range map[string]struct {
		mediaType string
		unit      []byte
	}{
		"empty gzip members":        {dockerLayerGzip, gzipped(t, 6, nil)},
		"gzip with large headers":   {dockerLayerGzip, padded},
		"empty zstd frames":         {dockerLayerZstd, zstdFrame(0, zstdBlock(true, 0, 0, ""))},
		"zstd frames of one letter": {dockerLayerZstd, zstdFrame(0, zstdBlock(true, 0, 1, "x"))},
	} {
		t.Run(name, func(t *testing.T) {
			r := &repeating{unit: layer.unit}
			d := newDiffIDReader(r, layer.mediaType, 64<<20, digest.FromString("tar"))
			defer d.Close()
			_, err := io.Copy(io.Discard, d)
			wantRefusal(t, err, LayerMismatch)
			if r.n > 2<<20 {
				t.Errorf("refused only after %d bytes", r.n)
			}
		})
	}
	// What is small may be as empty as it likes, and stored data is no such thing.
	for name, tar := range map[string][]byte{"nothing, often": nil, "what doesn't compress": testTar(3 << 20)} {
		blob := gzipped(t, 0, tar, nil, nil)
		if tar == nil {
			blob = bytes.Repeat(blob, 1000)
		}
		if _, err := checkLayer(bytes.NewReader(blob), dockerLayerGzip, len(blob), digest.FromBytes(tar)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A document of the size that is allowed can't take a hundred times that in memory.
func TestAttack38_DocumentOfManyValues(t *testing.T) {
	fill := func(before, unit, after string) []byte {
		return []byte(before + strings.Repeat(unit+",", (MaxDocument-len(before)-len(after)-len(unit))/(len(unit)+1)) + unit + after)
	}
	var names, annotations strings.Builder
	names.WriteString(`{"schemaVersion":2,"layers":[`)
	for i := 0; names.Len() < MaxDocument-100; i++ {
		fmt.Fprintf(&names, `{},`)
	}
	names.WriteString(`{}],"config":{}}`)
	annotations.WriteString(strings.TrimSuffix(goodIndex, "}") + `,"annotations":{"":""`)
	for i := 0; annotations.Len() < MaxDocument-100; i++ {
		fmt.Fprintf(&annotations, `,"%x":""`, i)
	}
	annotations.WriteString("}}")
	for name, raw := range map[string][]byte{
		"entries":     fill(`{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageIndex+`","manifests":[`, "{}", `]}`),
		"layers":      []byte(names.String()),
		"annotations": []byte(annotations.String()),
		"platforms":   fill(strings.Replace(goodIndex, `"os":"linux"`, `"os":"linux","os.features":[`, 1)[:strings.Index(goodIndex, `"os":"linux"`)]+`"os.features":[`, `""`, `]}}]}`),
	} {
		if len(raw) > MaxDocument {
			t.Fatalf("%s: %d bytes", name, len(raw))
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := parseDocument(raw, digest.FromBytes(raw))
		runtime.ReadMemStats(&after)
		if ReasonOf(err) != Malformed || !strings.Contains(err.Error(), "more than 16384 values") {
			t.Errorf("%s: %v", name, err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
			t.Errorf("%s: %d MiB were allocated", name, used>>20)
		}
	}
	config := fill(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[`, `""`, `]}}`)
	if _, err := parseConfig(config, digest.FromBytes(config)); ReasonOf(err) != Malformed {
		t.Errorf("a config: %v", err)
	}
}

// A sentence that a registry had a part in is bounded, and steers no terminal.
func TestAttack39_SentenceOfARegistry(t *testing.T) {
	evil := "\x1b]0;owned\x07\x1b[2J\r\n\u009b31m\u202egpj.exe\u2066\xff" + strings.Repeat("long", 1<<20)
	p := &platform{OS: evil, Architecture: "amd64"}
	for name, said := range map[string]string{
		"refusal":     Refuse(ExtraPlatform, "it is for %s", p).Detail,
		"unavailable": Unavailable(UpstreamUnavailable, "it says %s", evil).Detail,
	} {
		if len(said) > maxSentence+len("…") || !strings.HasPrefix(said, "it ") || said != Printable(said) || strings.ContainsAny(said, "\x1b\r\n\u202e\u009b") {
			t.Errorf("%s: %d bytes: %.80q", name, len(said), said)
		}
	}
}
