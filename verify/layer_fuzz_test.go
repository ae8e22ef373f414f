package verify

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"io"
	"runtime"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// FuzzLayer asserts that a layer which is accepted decompresses to the same for
// plain decompressors, the standard library's among them; that one put together
// by a plan is accepted exactly if nothing but members or frames is in it; that
// nothing can be hidden behind it; that it doesn't matter how it arrives; and that
// no more memory is taken than the window that is allowed.
func FuzzLayer(f *testing.F) {
	tar := testTar(500)
	for _, plan := range []string{"\x00\x20", "\x01\x10\x12\x30\x03\x01", "\x00\x20\x06\x05", "\x00\x20\x07\x02", "\x05\x40\x08\x40", "\x09\x40", "\x06\x03\x00\x20", "\x0b\x78", "\x0b\x80", "\x2c\x20", "\x00\x05\x0c\x00", "\x00\x05\x0b\xff"} {
		for kind := range uint8(3) {
			f.Add(kind, tar, []byte(plan))
		}
	}
	f.Add(uint8(0), gzipped(f, 0, tar[:100], nil, tar[100:]), []byte(nil))
	f.Add(uint8(0), gzipped(f, 9, tar)[:40], []byte(nil))
	f.Add(uint8(1), zstandard(f, tar), []byte(nil))
	f.Add(uint8(1), zstdFrame(window8MiB, zstdBlock(false, 1, 5, "x"), zstdBlock(true, 0, 3, "tar")), []byte(nil))
	f.Fuzz(func(t *testing.T, kind uint8, raw, plan []byte) {
		if len(raw) > 600 || len(plan) > 20 { // runs make 40 KB of each byte
			return
		}
		mediaType := []string{dockerLayerGzip, dockerLayerZstd, dockerLayer}[kind%3]
		l := plannedLayer{blob: raw}
		if len(plan) > 0 {
			l = planLayer(t, mediaType, raw, plan)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got := digest.SHA256.Digester()
		err := layerDecompressor(mediaType)(got.Hash(), bytes.NewReader(l.blob))
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > maxLayerMemory(mediaType, l.blob) {
			t.Fatalf("%x takes %d bytes of memory", l.blob, used)
		}
		if len(plan) > 0 && (err == nil) != l.sound {
			t.Fatalf("a layer that is sound: %t, by plan %x: %v", l.sound, plan, err)
		}
		if len(plan) > 0 && err == nil && got.Digest() != digest.FromBytes(l.tar) {
			t.Fatalf("plan %x of %d bytes decompresses to something else", plan, len(l.tar))
		}
		_, whole := checkLayer(bytes.NewReader(l.blob), mediaType, len(l.blob), got.Digest())
		_, slowly := checkLayer(oneByte{bytes.NewReader(l.blob)}, mediaType, len(l.blob), got.Digest())
		if (whole == nil) != (err == nil) || (slowly == nil) != (err == nil) {
			t.Fatalf("decompressing says %v, checking %v, byte by byte %v", err, whole, slowly)
		}
		if err == nil {
			checkAccepted(t, mediaType, l.blob, got.Digest())
		}
	})
}

// maxLayerMemory is how much may be allocated in all while a layer is decompressed:
// a window for each frame, and what the decoder needs besides.
func maxLayerMemory(mediaType string, blob []byte) uint64 {
	if ociLayer(mediaType) != ociLayer(dockerLayerZstd) {
		return 1 << 20
	}
	frames := uint64(1 + bytes.Count(blob, []byte{0x28, 0xb5, 0x2f, 0xfd}))
	return frames * (maxZstdWindow + 8<<20)
}

// checkAccepted holds an accepted layer against other decompressors.
func checkAccepted(t *testing.T, mediaType string, blob []byte, is digest.Digest) {
	t.Helper()
	if _, err := checkLayer(bytes.NewReader(blob), mediaType, len(blob), digest.FromString("another tar")); ReasonOf(err) != LayerMismatch {
		t.Fatalf("a layer passes for another: %v", err)
	}
	oracles := map[string]func() ([]byte, error){"the bytes themselves": func() ([]byte, error) { return blob, nil }}
	switch mediaType {
	case dockerLayerGzip:
		oracles = map[string]func() ([]byte, error){"compress/gzip": func() ([]byte, error) { return stdlibGunzip(blob) }}
	case dockerLayerZstd:
		oracles = map[string]func() ([]byte, error){
			"zstd in memory": func() ([]byte, error) { return zstdOracle(t, blob) },
			"debug/elf":      func() ([]byte, error) { return stdlibUnzstd(t, blob) },
		}
	}
	for name, oracle := range oracles {
		if want, err := oracle(); err != nil || digest.FromBytes(want) != is {
			t.Fatalf("accepted as %s; %s makes of %x %d bytes, %v", is, name, blob, len(want), err)
		}
	}
	if mediaType == dockerLayer {
		return
	}
	for _, behind := range [][]byte{{0}, skippable(0, ""), skippable(9, "hidden"), blob[:len(blob)-1]} {
		if err := layerDecompressor(mediaType)(io.Discard, bytes.NewReader(concat(blob, behind))); err == nil {
			t.Fatalf("accepted with %x behind it", behind)
		}
	}
}

// plannedLayer is a layer that was put together, and what it should decompress to.
type plannedLayer struct {
	blob, tar []byte
	sound     bool // it has members or frames, and nothing else
}

// planLayer puts a layer together: each two bytes of a plan say what comes next, and
// how much of the tar goes into it.
func planLayer(t *testing.T, mediaType string, tar, plan []byte) plannedLayer {
	t.Helper()
	l := plannedLayer{sound: true}
	if mediaType == dockerLayer {
		return plannedLayer{blob: tar, tar: tar, sound: true}
	}
	for ; len(plan) >= 2 && len(tar) > 0; plan = plan[2:] {
		what, part := plan[0], tar[:min(len(tar), 1+int(plan[1]))]
		tar = tar[len(part):]
		packed, check := pack(t, mediaType, part, int(what>>4))
		switch what % 16 {
		case 6, 7: // what decoders skip
			l.sound = false
			packed = skippable(what>>4, string(part))
			if mediaType == dockerLayerGzip {
				packed = make([]byte, len(part))
			}
		case 8: // can't begin a member or a frame
			l.sound = false
			packed = append([]byte{0}, part...)
		case 9:
			l.sound = false
			packed[check] ^= 1
		case 11: // one byte of the plan is a window, too
			if mediaType == dockerLayerZstd {
				packed = zstdFrame(plan[1], zstdBlock(true, 0, len(part), string(part)))
				base := 1 << (10 + plan[1]>>3)
				l.sound = l.sound && base+base/8*int(plan[1]&7) <= maxZstdWindow
			}
		case 12: // a gzip member with an extra field of the tar's bytes
			if mediaType == dockerLayerGzip {
				packed = slices.Insert(packed, 10, append([]byte{byte(len(part)), byte(len(part) >> 8)}, part...)...)
				packed[3] |= 4
				l.sound = false
			}
		case 10: // the last of it is missing
			l.blob, l.sound = append(l.blob, packed[:len(packed)-1]...), false
			return l
		}
		l.blob, l.tar = append(l.blob, packed...), append(l.tar, part...)
	}
	l.sound = l.sound && len(l.blob) > 0
	return l
}

// pack compresses a part in one of several ways, and tells where the checksum
// begins.
func pack(t *testing.T, mediaType string, part []byte, way int) (packed []byte, check int) {
	t.Helper()
	if mediaType == dockerLayerZstd {
		packed = zstandard(t, part, zstd.WithEncoderCRC(true), zstd.WithSingleSegment(way&1 != 0), zstd.WithWindowSize(zstd.MinWindowSize<<(way%8)))
		return packed, len(packed) - 4
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, way%10)
	if err != nil {
		t.Fatal(err)
	}
	if way&2 != 0 {
		w.Name, w.Comment = "layer.tar", "comment"
	}
	if _, err := w.Write(part); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), b.Len() - 8
}

// stdlibUnzstd decompresses with the standard library, which does so only for a
// section of an ELF file.
func stdlibUnzstd(t *testing.T, blob []byte) ([]byte, error) {
	t.Helper()
	const start = 64 + 3*64 // after the file's header and those of three sections
	var b bytes.Buffer
	for _, part := range []any{
		elf.Header64{
			Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
			Type:  uint16(elf.ET_REL), Version: uint32(elf.EV_CURRENT), Shoff: 64, Shentsize: 64, Shnum: 3, Shstrndx: 1,
		},
		elf.Section64{},
		elf.Section64{Type: uint32(elf.SHT_STRTAB), Off: 8, Size: 1}, // a byte that is 0
		elf.Section64{Type: uint32(elf.SHT_PROGBITS), Flags: uint64(elf.SHF_COMPRESSED), Off: start, Size: uint64(24 + len(blob))},
		elf.Chdr64{Type: uint32(elf.COMPRESS_ZSTD), Addralign: 1},
		blob,
	} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	file, err := elf.NewFile(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	return io.ReadAll(file.Sections[2].Open())
}
