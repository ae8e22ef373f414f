package verify

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"
)

// skippable makes a skippable frame (RFC 8878, section 3.1.2).
func skippable(id byte, content string) []byte {
	frame := []byte{0x50 | id, 0x2a, 0x4d, 0x18}
	frame = binary.LittleEndian.AppendUint32(frame, uint32(len(content)))
	return append(frame, content...)
}

// zstdFrame makes a frame with a window descriptor and the given blocks, without
// a checksum.
func zstdFrame(window byte, blocks ...[]byte) []byte {
	return append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, window}, bytes.Join(blocks, nil)...)
}

// zstdBlock makes a block of a type: 0 raw, 1 run-length encoded, 3 reserved.
func zstdBlock(last bool, kind, size int, body string) []byte {
	bits := kind<<1 | size<<3
	if last {
		bits |= 1
	}
	return append([]byte{byte(bits), byte(bits >> 8), byte(bits >> 16)}, body...)
}

const window8MiB = 13 << 3

// zstdOracle decodes in memory, which is another way through the library, and
// skips skippable frames.
func zstdOracle(t testing.TB, blob []byte) ([]byte, error) {
	t.Helper()
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	return z.DecodeAll(blob, nil)
}

func TestZstdFrames(t *testing.T) {
	for name, layer := range map[string]struct {
		blob []byte
		tar  string
	}{
		"raw":             {zstdFrame(window8MiB, zstdBlock(true, 0, 3, "tar")), "tar"},
		"raw and empty":   {zstdFrame(window8MiB, zstdBlock(false, 0, 0, ""), zstdBlock(false, 0, 3, "tar"), zstdBlock(true, 0, 0, "")), "tar"},
		"run":             {zstdFrame(window8MiB, zstdBlock(true, 1, 5, "x")), "xxxxx"},
		"smallest window": {zstdFrame(0, zstdBlock(true, 0, 3, "tar")), "tar"},
		"one segment":     {concat([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 3}, zstdBlock(true, 0, 3, "tar")), "tar"},
	} {
		if _, err := checkLayer(bytes.NewReader(layer.blob), dockerLayerZstd, len(layer.blob), digest.FromString(layer.tar)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every one of these decodes to the right tar, or would with enough memory, in a
// decoder that isn't strict.
func TestAttack18_ZstdRefused(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	raw := zstdBlock(true, 0, 3, "tar")
	frame := zstdFrame(window8MiB, raw)
	for name, blob := range map[string][]byte{
		"skippable frame first":          concat(skippable(0, "hidden"), frame),
		"skippable frame last":           concat(frame, skippable(15, "hidden")),
		"empty skippable frame":          concat(frame, skippable(7, "")),
		"skippable frame between":        concat(zstdFrame(window8MiB, zstdBlock(true, 0, 1, "t")), skippable(1, "x"), zstdFrame(window8MiB, zstdBlock(true, 0, 2, "ar"))),
		"nothing in a skippable frame":   skippable(0, ""),
		"skippable frame only":           skippable(0, "tar"),
		"unfinished skippable frame":     concat(frame, skippable(0, "hidden")[:9]),
		"start of a frame":               concat(frame, []byte{0x28}),
		"frame without blocks":           concat(frame, zstdFrame(window8MiB)),
		"frame without a last block":     zstdFrame(window8MiB, zstdBlock(false, 0, 3, "tar")),
		"reserved block":                 zstdFrame(window8MiB, zstdBlock(false, 0, 3, "tar"), zstdBlock(true, 3, 1, "x")),
		"reserved bit":                   concat([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x08, window8MiB}, raw),
		"missing checksum":               concat([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x04, window8MiB}, raw),
		"half a checksum":                concat([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x04, window8MiB}, raw, []byte{1, 2}),
		"wrong checksum":                 concat([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x04, window8MiB}, raw, []byte{1, 2, 3, 4}),
		"dictionary":                     concat([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x01, window8MiB, 7}, raw),
		"window over 32 MiB":             zstdFrame(15<<3|1, raw),
		"widest window there is":         zstdFrame(31<<3|7, raw),
		"one segment of over 32 MiB":     concat([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0, 1, 0, 0, 2}, raw),
		"content size that isn't":        concat([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 4}, raw),
		"block over the window":          zstdFrame(0, zstdBlock(true, 1, 2000, "x")),
		"block over 128 KiB":             zstdFrame(window8MiB, zstdBlock(true, 1, 200<<10, "x")),
		"window over 32 MiB, last frame": concat(frame, zstdFrame(16<<3, zstdBlock(true, 0, 0, ""))),
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{bytes.NewReader(blob), oneByte{bytes.NewReader(blob)}} {
				_, err := checkLayer(r, dockerLayerZstd, len(blob), digest.FromString("tar"))
				wantRefusal(t, err, LayerMismatch)
			}
		})
	}
}

type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }
