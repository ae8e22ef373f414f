package verify

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxZstdWindow bounds the memory that decompressing a layer takes, and with it
// what a frame may ask for. Image builders use up to 8 MiB; 32 MiB is what
// zstd's highest level short of --ultra -21 asks for.
const maxZstdWindow = 32 << 20

// unzstd accepts one or more frames with nothing between or after them: no
// skippable frames, in which data could hide that the diff ID doesn't cover
// (RFC 8878, section 3.1). The decoder itself refuses dictionaries.
func unzstd(w io.Writer, r io.Reader) error {
	frames := &zstdFrames{r: r}
	// One at a time decodes in this goroutine and keeps one block in memory.
	z, err := zstd.NewReader(bufio.NewReaderSize(frames, 64<<10), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxZstdWindow))
	if err != nil {
		return err
	}
	defer z.Close()
	_, err = io.Copy(w, z)
	// The decoder takes some errors of its input for the end of it.
	if frames.err != nil && frames.err != io.EOF {
		return frames.err
	}
	if err == nil && frames.err == nil {
		return errors.New("zstd decoding stopped before the end of the layer")
	}
	return err
}

// The things that a zstdFrames expects next.
type zstdPart int

const (
	zstdFrameHeader zstdPart = iota
	zstdBlockHeader
	zstdBlockBody
	zstdChecksum
)

// zstdFrames passes zstd data on to a decoder and follows the outer structure of
// its frames meanwhile, without decoding anything. It fails where something
// other than a plain frame begins, and unless the data ends with a frame.
type zstdFrames struct {
	r   io.Reader
	err error // what ended it; io.EOF where all is well

	part     zstdPart
	header   []byte // what has come of a frame's or block's header
	skip     int64  // bytes left of a block's body or checksum
	last     bool   // the block is its frame's last
	checksum bool   // a checksum follows the frame's last block
	frames   int    // complete ones
}

func (z *zstdFrames) Read(p []byte) (int, error) {
	if z.err != nil {
		return 0, z.err
	}
	n, err := z.r.Read(p)
	if invalid := z.follow(p[:n]); invalid != nil {
		z.err = invalid
		return 0, z.err
	}
	if err == io.EOF && (z.part != zstdFrameHeader || len(z.header) > 0 || z.frames == 0) {
		err = io.ErrUnexpectedEOF
	}
	z.err = err
	return n, err
}

// follow takes note of the next bytes.
func (z *zstdFrames) follow(p []byte) error {
	for len(p) > 0 {
		if z.part == zstdBlockBody || z.part == zstdChecksum {
			n := min(int64(len(p)), z.skip)
			p = p[n:]
			z.skip -= n
			z.skipped()
			continue
		}
		z.header = append(z.header, p[0])
		p = p[1:]
		parse := z.frameHeader
		if z.part == zstdBlockHeader {
			parse = z.blockHeader
		}
		if err := parse(); err != nil {
			return err
		}
	}
	return nil
}

// skipped goes on to the next part when a body or checksum is over.
func (z *zstdFrames) skipped() {
	switch {
	case z.skip > 0:
	case z.part == zstdBlockBody && !z.last:
		z.part = zstdBlockHeader
	case z.part == zstdBlockBody && z.checksum:
		z.part, z.skip = zstdChecksum, 4
	default:
		z.part = zstdFrameHeader
		z.frames++
	}
}

// frameHeader parses the frame header when all of it has come (RFC 8878,
// section 3.1.1.1).
func (z *zstdFrames) frameHeader() error {
	var h zstd.Header
	err := h.Decode(z.header)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil // more to come; a header has at most zstd.HeaderMaxSize bytes
	case err != nil:
		return fmt.Errorf("zstd frame %d: %w", z.frames+1, err)
	case h.Skippable:
		return fmt.Errorf("zstd frame %d is a skippable one, whose content no diff ID covers", z.frames+1)
	}
	z.part, z.header, z.checksum = zstdBlockHeader, z.header[:0], h.HasCheckSum
	return nil
}

// blockHeader parses a block's header when all of it has come (RFC 8878, section
// 3.1.1.2): three bytes, little endian, of which the lowest bit marks the last
// block and the next two are the type.
func (z *zstdFrames) blockHeader() error {
	if len(z.header) < 3 {
		return nil
	}
	bits := int64(z.header[0]) | int64(z.header[1])<<8 | int64(z.header[2])<<16
	z.header = z.header[:0]
	z.part, z.last, z.skip = zstdBlockBody, bits&1 != 0, bits>>3
	switch bits >> 1 & 3 {
	case 1: // run-length encoded: one byte, however long the run
		z.skip = 1
	case 3:
		return fmt.Errorf("zstd frame %d has a block of the reserved type", z.frames+1)
	}
	z.skipped() // the body may be empty
	return nil
}
