package notary

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
)

// Archives are written block by block by this file alone, not by a library: the
// bytes of an archive are pinned, so they must stay the same for ever. They are
// read by writing them again and comparing, so nothing here parses what others
// may have made, but for one number. The form is that of GNU tar, which every
// tar reads.

const (
	tarBlock   = 512
	tarNameMax = 100 // a longer name goes into an entry of its own, before the file
	tarLong    = "././@LongLink"

	tarSizeAt, tarSizeLen = 124, 12
)

// tarLatest is the latest time that a tar header can say.
const tarLatest = 1<<33 - 1

// tarBuilder writes a tar file. All that differs between files is in its fields
// and add's arguments: owner, mode and times are the same for all.
type tarBuilder struct {
	modified time.Time
	b        bytes.Buffer
}

func (t *tarBuilder) add(name string, content []byte) {
	if len(name) > tarNameMax {
		long := append([]byte(name), 0)
		t.header(tarLong, int64(len(long)), 'L', 0)
		t.body(long)
		name = name[:tarNameMax]
	}
	t.header(name, int64(len(content)), '0', min(max(t.modified.Unix(), 0), tarLatest))
	t.body(content)
}

func (t *tarBuilder) header(name string, size int64, kind byte, modified int64) {
	var h [tarBlock]byte
	copy(h[0:100], name)
	copy(h[100:], "0000644\x00"+"0000000\x00"+"0000000\x00") // mode, owner, group
	copy(h[tarSizeAt:], fmt.Sprintf("%011o\x00", size))
	copy(h[136:], fmt.Sprintf("%011o\x00", modified))
	copy(h[148:], "        ") // the checksum counts as spaces in itself
	h[156] = kind
	copy(h[257:], "ustar  \x00")
	copy(h[329:], "0000000\x00"+"0000000\x00") // device, for what is none
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	t.b.Write(h[:])
}

func (t *tarBuilder) body(content []byte) {
	t.b.Write(content)
	t.b.Write(make([]byte, tarPadded(int64(len(content)))-int64(len(content))))
}

// end writes the two empty blocks that end a tar file, and returns it.
func (t *tarBuilder) end() []byte {
	t.b.Write(make([]byte, 2*tarBlock))
	return t.b.Bytes()
}

// tarPadded is how many bytes a file's content takes.
func tarPadded(size int64) int64 { return (size + tarBlock - 1) / tarBlock * tarBlock }

// tarHeaderSize is how many bytes come before a file's content.
func tarHeaderSize(name string) int64 {
	if len(name) > tarNameMax {
		return tarBlock + tarPadded(int64(len(name)+1)) + tarBlock
	}
	return tarBlock
}

// tarSize reads the size of the first file.
func tarSize(raw []byte) (size int64, ok bool) {
	if len(raw) < tarBlock || raw[tarSizeAt+tarSizeLen-1] != 0 {
		return 0, false
	}
	size, err := strconv.ParseInt(string(raw[tarSizeAt:tarSizeAt+tarSizeLen-1]), 8, 64)
	return size, err == nil && size >= 0
}
