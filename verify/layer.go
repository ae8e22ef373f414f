package verify

import (
	"bufio"
	_ "crypto/sha256" // makes the digest algorithm available
	_ "crypto/sha512"
	"errors"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Bounds on what a layer may decompress to. gzip reaches a ratio of 1,032 and
// zstd more than 30,000; layers of software stay below 20, unless they are small
// or hold large empty files.
const (
	maxLayerOutput  = 32 << 30  // bytes, whatever the ratio
	freeLayerOutput = 256 << 20 // bytes up to which the ratio doesn't matter
	maxLayerRatio   = 200       // output to the input that was read for it
	freeLayerInput  = 1 << 20   // bytes up to which it doesn't matter how little comes of them
	maxLayerWaste   = 2         // input to the output that came of it
)

// The media types of Docker's layers (Image Manifest Version 2, Schema 2, and
// what BuildKit makes of it for zstd).
const (
	dockerLayer     = "application/vnd.docker.image.rootfs.diff.tar"
	dockerLayerGzip = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	dockerLayerZstd = "application/vnd.docker.image.rootfs.diff.tar.zstd"
)

// decompressor writes what r decompresses to. It reads r to its end and fails
// unless all of it is compressed data.
type decompressor func(w io.Writer, r io.Reader) error

// ociLayer returns OCI's name for a layer's media type, or "" for types that
// aren't accepted: foreign and nondistributable layers, and all else.
func ociLayer(mediaType string) string {
	switch mediaType {
	case dockerLayer, ocispec.MediaTypeImageLayer:
		return ocispec.MediaTypeImageLayer
	case dockerLayerGzip, ocispec.MediaTypeImageLayerGzip:
		return ocispec.MediaTypeImageLayerGzip
	case dockerLayerZstd, ocispec.MediaTypeImageLayerZstd:
		return ocispec.MediaTypeImageLayerZstd
	}
	return ""
}

// layerDecompressor returns the decompressor for a layer's media type, or nil for
// types that aren't accepted.
func layerDecompressor(mediaType string) decompressor {
	switch ociLayer(mediaType) {
	case ocispec.MediaTypeImageLayer:
		return copyTar
	case ocispec.MediaTypeImageLayerGzip:
		return gunzip
	case ocispec.MediaTypeImageLayerZstd:
		return unzstd
	}
	return nil
}

// canDecompress says whether a layer of a media type can be held against a diff ID.
func canDecompress(mediaType string) bool { return ociLayer(mediaType) != "" }

// sameLayerType says whether two media types tell clients the same about a layer.
func sameLayerType(a, b string) bool {
	return a == b || canDecompress(a) && ociLayer(a) == ociLayer(b)
}

func copyTar(w io.Writer, r io.Reader) error {
	_, err := io.Copy(w, r)
	return err
}

// gunzip accepts one or more members with nothing between or after them, not
// even padding (RFC 1952, section 2.2), and without extra fields, which no diff ID
// covers: eStargz has the way to its table of contents there.
func gunzip(w io.Writer, r io.Reader) error {
	in := bufio.NewReaderSize(r, 64<<10)
	z, err := gzip.NewReader(in)
	if err == io.EOF { // no member at all
		return io.ErrUnexpectedEOF
	}
	for ; err == nil; err = z.Reset(in) {
		if z.Extra != nil {
			return errors.New("a gzip member has an extra field, in which data can hide that partial pullers read")
		}
		z.Multistream(false)
		if _, err := io.Copy(w, z); err != nil {
			return err
		}
	}
	if err != io.EOF {
		return err
	}
	return nil
}

// diffIDReader is what newDiffIDReader returns. One goroutine at a time may use
// it; the checker runs in a second one and owns what is behind the pipe.
type diffIDReader struct {
	r    io.Reader
	left int64 // bytes that r has still to deliver
	err  error // what the last Read returned, and every later one returns

	pipe    *io.PipeWriter // feeds the checker
	done    chan struct{}  // closed when the checker has ended
	verdict error          // the checker's; written before done is closed
}

// newDiffIDReader returns a reader that passes r's bytes through unchanged while
// they are decompressed and hashed on the side. Where r ends it returns io.EOF
// only if there were size bytes, and they decompress, as mediaType says, to
// exactly want (OCI image specification, "Layer DiffID"). Else it returns a
// *Refusal, as soon as it's clear: MediaType for a type that can't be
// decompressed, SizeMismatch for more or fewer bytes, LayerMismatch for the rest.
// An error of r comes back as it is.
//
// Close stops the check and waits for it, at any time; it doesn't close r.
func newDiffIDReader(r io.Reader, mediaType string, size int64, want digest.Digest) io.ReadCloser {
	d := &diffIDReader{r: r, left: size, done: make(chan struct{})}
	decompress := layerDecompressor(mediaType)
	switch {
	case decompress == nil:
		d.err = Refuse(MediaType, "a layer of type %q can't be decompressed, so its diff ID can't be checked", mediaType)
	case ValidateDigest(want) != nil:
		d.err = Refuse(LayerMismatch, "the config names %q as a layer's diff ID, which isn't a digest", want)
	}
	input, pipe := io.Pipe()
	d.pipe = pipe
	if d.err != nil {
		close(d.done)
		return d
	}
	go func() {
		defer close(d.done)
		d.verdict = checkDiffID(input, decompress, mediaType, want)
		input.CloseWithError(d.verdict)
	}()
	return d
}

func (d *diffIDReader) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.r.Read(p)
	d.left -= int64(n)
	if d.left < 0 {
		return 0, d.stop(Refuse(SizeMismatch, "the layer has more bytes than its descriptor says"))
	}
	if n > 0 { // an empty write would wait for a reader
		if _, failed := d.pipe.Write(p[:n]); failed != nil {
			<-d.done // with a verdict, since only the end of the layer ends it without one
			return 0, d.stop(d.verdict)
		}
	}
	if err == io.EOF {
		err = d.finish()
		if err != io.EOF {
			n = 0
		}
	}
	if err != nil {
		err = d.stop(err)
	}
	return n, err
}

// finish tells the checker that the layer has ended, and returns io.EOF if all of
// it is right.
func (d *diffIDReader) finish() error {
	if d.left > 0 {
		return Refuse(SizeMismatch, "the layer ends %d bytes short of the size that its descriptor says", d.left)
	}
	d.pipe.Close()
	<-d.done
	if d.verdict != nil {
		return d.verdict
	}
	return io.EOF
}

// stop ends the check and makes err what every later Read returns.
func (d *diffIDReader) stop(err error) error {
	d.err = err
	d.pipe.CloseWithError(err)
	<-d.done
	return err
}

var errLayerClosed = errors.New("read of a closed layer")

// Close implements io.Closer.
func (d *diffIDReader) Close() error {
	if d.err == nil {
		_ = d.stop(errLayerClosed)
	}
	return nil
}

// checkDiffID reads a layer to its end and returns nil if it decompresses to
// want, a *Refusal otherwise.
func checkDiffID(r io.Reader, decompress decompressor, mediaType string, want digest.Digest) error {
	input := &boundedReader{r: r}
	output := &boundedHash{hash: want.Algorithm().Hash(), input: input}
	input.output = output
	if err := decompress(output, input); err != nil {
		if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
			return refusal
		}
		return Refuse(LayerMismatch, "the layer doesn't decompress as its media type %s says: %w", mediaType, err)
	}
	if n, err := io.Copy(io.Discard, r); n > 0 || err != nil {
		return Refuse(LayerMismatch, "the layer has bytes after the end of its compressed data")
	}
	if got := digest.NewDigest(want.Algorithm(), output.hash); got != want {
		return Refuse(LayerMismatch, "the layer decompresses to %s, but its place in the signed config belongs to %s", got, want)
	}
	return nil
}

// boundedReader counts what is read through it until that is too much for the
// output: compressed data can go on for ever and come to nothing.
type boundedReader struct {
	r      io.Reader
	n      int64
	output *boundedHash
}

func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.n += int64(n)
	if b.n > freeLayerInput && b.n/maxLayerWaste > b.output.n {
		return 0, Refuse(LayerMismatch, "the layer has more than %d times the bytes that it decompresses to", maxLayerWaste)
	}
	return n, err
}

// boundedHash hashes what is written to it until that is too much for the input.
type boundedHash struct {
	hash  hash.Hash
	n     int64
	input *boundedReader
}

func (b *boundedHash) Write(p []byte) (int, error) {
	b.n += int64(len(p))
	switch {
	case b.n > maxLayerOutput:
		return 0, Refuse(LayerMismatch, "the layer decompresses to more than %d GiB, the most that is accepted", maxLayerOutput>>30)
	case b.n > freeLayerOutput && b.n/maxLayerRatio > b.input.n:
		return 0, Refuse(LayerMismatch, "the layer decompresses to more than %d times its size, as decompression bombs do", maxLayerRatio)
	}
	return b.hash.Write(p)
}
