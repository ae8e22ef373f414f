package verify

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"
)

// testTar is n bytes that compress about as well as software does.
func testTar(n int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	words := make([][]byte, 500)
	for i := range words {
		words[i] = make([]byte, 2+random.IntN(20))
		for j := range words[i] {
			words[i][j] = byte(random.IntN(256))
		}
	}
	tar := make([]byte, 0, n+22)
	for len(tar) < n {
		tar = append(tar, words[random.IntN(len(words))]...)
	}
	return tar[:n]
}

func gzipped(t testing.TB, level int, members ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, member := range members {
		w, err := gzip.NewWriterLevel(&b, level)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(member); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func zstandard(t testing.TB, content []byte, options ...zstd.EOption) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, append([]zstd.EOption{zstd.WithEncoderConcurrency(1)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func concat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// checkLayer reads a whole layer through a diffIDReader.
func checkLayer(r io.Reader, mediaType string, size int, want digest.Digest) ([]byte, error) {
	d := newDiffIDReader(r, mediaType, int64(size), want)
	defer d.Close()
	return io.ReadAll(d)
}

func wantRefusal(t *testing.T, err error, want Reason) {
	t.Helper()
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Reason != want || refusal.Detail == "" {
		t.Fatalf("error %v, want a refusal for %s", err, want)
	}
}

func TestDiffIDAccepts(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	tar := testTar(150_000)
	noChecksum := []zstd.EOption{zstd.WithEncoderCRC(false)}
	for name, layer := range map[string]struct {
		mediaType string
		blob      []byte
		tar       []byte
	}{
		"OCI tar":              {ocispec.MediaTypeImageLayer, tar, tar},
		"Docker tar":           {dockerLayer, tar, tar},
		"empty tar":            {ocispec.MediaTypeImageLayer, nil, nil},
		"OCI gzip":             {ocispec.MediaTypeImageLayerGzip, gzipped(t, 6, tar), tar},
		"Docker gzip":          {dockerLayerGzip, gzipped(t, 9, tar), tar},
		"gzip, not compressed": {dockerLayerGzip, gzipped(t, 0, tar), tar},
		"gzip of nothing":      {dockerLayerGzip, gzipped(t, 6, nil), nil},
		"gzip of many members": {dockerLayerGzip, gzipped(t, 6, tar[:100], nil, tar[100:100_000], tar[100_000:]), tar},
		"gzip of a zero file":  {dockerLayerGzip, gzipped(t, 6, make([]byte, 1<<20)), make([]byte, 1<<20)},
		"OCI zstd":             {ocispec.MediaTypeImageLayerZstd, zstandard(t, tar), tar},
		"Docker zstd":          {dockerLayerZstd, zstandard(t, tar), tar},
		"zstd of nothing":      {dockerLayerZstd, zstandard(t, nil, zstd.WithZeroFrames(true)), nil},
		"zstd, no checksum":    {dockerLayerZstd, zstandard(t, tar, noChecksum...), tar},
		"zstd, one segment":    {dockerLayerZstd, zstandard(t, tar, zstd.WithSingleSegment(true)), tar},
		"zstd, best":           {dockerLayerZstd, zstandard(t, tar, zstd.WithEncoderLevel(zstd.SpeedBestCompression)), tar},
		"zstd, widest window":  {dockerLayerZstd, zstandard(t, tar, zstd.WithWindowSize(maxZstdWindow)), tar},
		"zstd of two frames":   {dockerLayerZstd, concat(zstandard(t, tar[:1000]), zstandard(t, tar[1000:], noChecksum...)), tar},
		"zstd of a zero file":  {dockerLayerZstd, zstandard(t, make([]byte, 1<<20)), make([]byte, 1<<20)},
	} {
		for chunks, reader := range map[string]func(io.Reader) io.Reader{
			"whole":         func(r io.Reader) io.Reader { return r },
			"halves":        iotest.HalfReader,
			"bytes":         iotest.OneByteReader,
			"end with data": iotest.DataErrReader,
		} {
			got, err := checkLayer(reader(bytes.NewReader(layer.blob)), layer.mediaType, len(layer.blob), digest.FromBytes(layer.tar))
			if err != nil || !bytes.Equal(got, layer.blob) {
				t.Errorf("%s, %s: %d of %d bytes, %v", name, chunks, len(got), len(layer.blob), err)
			}
		}
	}
	if _, err := checkLayer(bytes.NewReader(tar), dockerLayer, len(tar), digest.SHA512.FromBytes(tar)); err != nil {
		t.Errorf("a sha512 diff ID: %v", err)
	}
}

func TestAttack18_LayerRefused(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	tar := testTar(100_000)
	diffID := digest.FromBytes(tar)
	gz, zst := gzipped(t, 6, tar), zstandard(t, tar)
	reserved := bytes.Clone(gz)
	reserved[3] |= 0x80
	checksum := bytes.Clone(gz)
	checksum[len(checksum)-5] ^= 1
	for name, layer := range map[string]struct {
		mediaType string
		blob      []byte
	}{
		"another tar":              {dockerLayer, append(bytes.Clone(tar), 0)},
		"another gzip":             {dockerLayerGzip, gzipped(t, 6, tar[1:])},
		"another zstd":             {dockerLayerZstd, zstandard(t, tar[1:])},
		"not gzip":                 {dockerLayerGzip, tar},
		"not zstd":                 {dockerLayerZstd, tar},
		"zstd that says gzip":      {dockerLayerGzip, zst},
		"gzip that says zstd":      {dockerLayerZstd, gz},
		"gzip that says tar":       {dockerLayer, gz},
		"tar that says gzip":       {dockerLayerGzip, tar},
		"nothing as gzip":          {dockerLayerGzip, nil},
		"nothing as zstd":          {dockerLayerZstd, nil},
		"gzip and a byte":          {dockerLayerGzip, append(bytes.Clone(gz), 'x')},
		"gzip and a zero":          {dockerLayerGzip, append(bytes.Clone(gz), 0)},
		"gzip and padding":         {dockerLayerGzip, append(bytes.Clone(gz), make([]byte, 512)...)},
		"gzip and part of another": {dockerLayerGzip, append(bytes.Clone(gz), gz[:5]...)},
		"gzip and more":            {dockerLayerGzip, concat(gz, gzipped(t, 6, []byte("more")))},
		"gzip with reserved flags": {dockerLayerGzip, reserved},
		"gzip with bad checksum":   {dockerLayerGzip, checksum},
		"zstd and a byte":          {dockerLayerZstd, append(bytes.Clone(zst), 'x')},
		"zstd and padding":         {dockerLayerZstd, append(bytes.Clone(zst), make([]byte, 512)...)},
		"zstd and part of another": {dockerLayerZstd, append(bytes.Clone(zst), zst[:3]...)},
		"zstd and more":            {dockerLayerZstd, concat(zst, zstandard(t, []byte("more")))},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := checkLayer(bytes.NewReader(layer.blob), layer.mediaType, len(layer.blob), diffID)
			wantRefusal(t, err, LayerMismatch)
		})
	}
}

// TestAttack96_ExtraFieldsOfGzip hides in gzip's headers, which no diff ID covers, what
// partial pullers read: where to find a table of contents, and any bytes at all.
func TestAttack96_ExtraFieldsOfGzip(t *testing.T) {
	tar := testTar(1000)
	member := func(content, extra []byte) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		w.Extra = extra
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	footer := []byte("SG\x16\x000000000000000010STARGZ") // of eStargz: the contents are at byte 16
	for name, blob := range map[string][]byte{
		"a footer":        concat(gzipped(t, 6, tar), member(nil, footer)),
		"at the start":    member(tar, bytes.Repeat([]byte("hidden"), 10_000)),
		"in the midst":    concat(member(tar[:500], nil), member(tar[500:600], footer), member(tar[600:], nil)),
		"an empty field":  member(tar, []byte{}),
		"before contents": concat(member(nil, footer), gzipped(t, 6, tar)),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := checkLayer(bytes.NewReader(blob), dockerLayerGzip, len(blob), digest.FromBytes(tar))
			wantRefusal(t, err, LayerMismatch)
		})
	}
}

// No layer that was cut short is accepted, wherever the cut, nor is one of which
// a bit was flipped, unless it still is a layer of the same tar to other decoders
// (some bits mean nothing, such as the time in gzip's header; the blob's own
// digest covers them).
func TestDiffIDRefusesDamage(t *testing.T) {
	tar := testTar(1000)
	diffID := digest.FromBytes(tar)
	for _, layer := range []struct {
		mediaType string
		blob      []byte
		oracle    func([]byte) ([]byte, error)
	}{
		{dockerLayer, tar, func(blob []byte) ([]byte, error) { return blob, nil }},
		{dockerLayerGzip, gzipped(t, 6, tar), stdlibGunzip},
		{dockerLayerZstd, zstandard(t, tar), func(blob []byte) ([]byte, error) { return zstdOracle(t, blob) }},
	} {
		for cut := range layer.blob {
			_, err := checkLayer(bytes.NewReader(layer.blob[:cut]), layer.mediaType, cut, diffID)
			wantRefusal(t, err, LayerMismatch)
		}
		refused := 0
		for i := range layer.blob {
			damaged := bytes.Clone(layer.blob)
			damaged[i] ^= 1 << (i % 8)
			if _, err := checkLayer(bytes.NewReader(damaged), layer.mediaType, len(damaged), diffID); err != nil {
				wantRefusal(t, err, LayerMismatch)
				refused++
				continue
			}
			if plain, err := layer.oracle(damaged); err != nil || !bytes.Equal(plain, tar) {
				t.Errorf("%s: accepted with byte %d flipped, though it's another tar: %v", layer.mediaType, i, err)
			}
		}
		if refused < len(layer.blob)*9/10 {
			t.Errorf("%s: only %d of %d damaged layers refused", layer.mediaType, refused, len(layer.blob))
		}
	}
}

// Something must be compressed, even if it's nothing.
func TestDiffIDRefusesNothing(t *testing.T) {
	for _, mediaType := range []string{dockerLayerGzip, dockerLayerZstd} {
		_, err := checkLayer(bytes.NewReader(nil), mediaType, 0, digest.FromString(""))
		wantRefusal(t, err, LayerMismatch)
	}
}

func TestDiffIDMediaTypes(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, mediaType := range []string{
		"", "application/octet-stream", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
		"application/vnd.docker.image.rootfs.foreign.diff.tar", "application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
		"application/vnd.oci.image.layer.v1.tar+bzip2", "application/vnd.oci.image.layer.v1.tar+gzip ", "APPLICATION/VND.OCI.IMAGE.LAYER.V1.TAR",
		"application/vnd.oci.image.layer.v1.tar+gzip; x=y", "application/vnd.oci.empty.v1+json",
	} {
		unread := iotest.ErrReader(errors.New("the layer was read"))
		_, err := checkLayer(unread, mediaType, 3, digest.FromString("tar"))
		wantRefusal(t, err, MediaType)
		if canDecompress(mediaType) {
			t.Errorf("canDecompress(%q)", mediaType)
		}
	}
	for _, want := range []digest.Digest{"", "sha256:", "sha256:../../x", "md5:d41d8cd98f00b204e9800998ecf8427e", digest.SHA384.FromString("x")} {
		_, err := checkLayer(strings.NewReader("tar"), dockerLayer, 3, want)
		wantRefusal(t, err, LayerMismatch)
	}
}

func TestDiffIDSize(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	tar := testTar(100_000)
	for mediaType, blob := range map[string][]byte{dockerLayer: tar, dockerLayerGzip: gzipped(t, 6, tar), dockerLayerZstd: zstandard(t, tar)} {
		for _, size := range []int{-1, 0, 1, len(blob) - 1, len(blob) + 1, 1 << 40} {
			got, err := checkLayer(bytes.NewReader(blob), mediaType, size, digest.FromBytes(tar))
			wantRefusal(t, err, SizeMismatch)
			if len(got) > max(size, 0) {
				t.Errorf("%d bytes of a layer of %d were passed on", len(got), size)
			}
		}
	}
}

func TestDiffIDReaderErrorComesBack(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	failed := errors.New("the connection broke")
	tar := testTar(100_000)
	blob := gzipped(t, 6, tar)
	for _, sent := range []int{0, 5, len(blob) / 2, len(blob)} {
		r := io.MultiReader(bytes.NewReader(blob[:sent]), iotest.ErrReader(failed))
		got, err := checkLayer(r, dockerLayerGzip, len(blob), digest.FromBytes(tar))
		if !errors.Is(err, failed) || len(got) != sent {
			t.Errorf("after %d bytes: %d bytes, %v", sent, len(got), err)
		}
	}
}

func TestDiffIDErrorsStay(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	d := newDiffIDReader(strings.NewReader("not gzip, and long enough to be sure"), dockerLayerGzip, 36, digest.FromString("x"))
	_, first := io.ReadAll(d)
	wantRefusal(t, first, LayerMismatch)
	for range 3 {
		if n, err := d.Read(make([]byte, 10)); n != 0 || !errors.Is(err, first) {
			t.Errorf("read again: %d, %v", n, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestDiffIDCloseStopsTheCheck(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	tar := testTar(300_000)
	for mediaType, blob := range map[string][]byte{dockerLayer: tar, dockerLayerGzip: gzipped(t, 6, tar), dockerLayerZstd: zstandard(t, tar)} {
		for _, read := range []int64{0, 1, 10, 70_000, int64(len(blob)) - 1, int64(len(blob)), int64(len(blob)) + 1} {
			d := newDiffIDReader(bytes.NewReader(blob), mediaType, int64(len(blob)), digest.FromBytes(tar))
			if _, err := io.CopyN(io.Discard, d, read); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			for range 2 {
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
			}
			select {
			case <-d.(*diffIDReader).done:
			default:
				t.Errorf("%s: the check goes on after Close", mediaType)
			}
			if n, err := d.Read(make([]byte, 1)); n != 0 || err == nil {
				t.Errorf("%s: after Close: %d bytes, %v", mediaType, n, err)
			}
		}
	}
}
