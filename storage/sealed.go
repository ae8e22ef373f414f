package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// errUnreadable says that a record isn't what was written there.
var errUnreadable = errors.New("record is corrupt")

// maxSmall is how many bytes a driver's GetContent reads into memory at most, beyond
// which a file is damaged. Records have less than a KiB, trust state up to 16 MiB.
const maxSmall = 32 << 20

// readSmall reads a small file whole, which had size bytes as far as is known, unless
// it has more than limit, and closes it.
func readSmall(path string, size, limit int64, r io.ReadCloser) (raw []byte, err error) {
	defer r.Close()
	if size <= limit {
		if raw, err = io.ReadAll(io.LimitReader(r, limit+1)); err != nil {
			return nil, err
		}
	}
	if max(size, int64(len(raw))) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes: %w", path, limit, errUnreadable)
	}
	return raw, nil
}

// putRecord writes a small file that carries a checksum over its path and body.
func (s *Store) putRecord(ctx context.Context, path string, body []byte) error {
	_, began, _ := s.memory.edges.get(path)
	if err := s.driver.PutContent(ctx, path, seal(path, body)); err != nil {
		return driverError(err)
	}
	s.remember(path, body, began)
	return nil
}

// remember keeps a record that never changes, as edges don't, and that takes a request
// to read. Whether it is still there is asked each time.
func (s *Store) remember(path string, body []byte, began moment) {
	if s.direct() && (strings.HasPrefix(path, admissionFolder+"/") || strings.HasPrefix(path, expectationFolder+"/")) {
		s.memory.edges.put(path, body, len(path)+len(body), began)
	}
}

// getRecord reads what putRecord wrote. Errors: ErrNotFound, errUnreadable, the driver's own.
func (s *Store) getRecord(ctx context.Context, path string) ([]byte, error) {
	body, began, ok := s.memory.edges.get(path)
	if ok {
		return body, nil
	}
	sealed, err := s.driver.GetContent(ctx, path)
	if err != nil {
		return nil, driverError(err)
	}
	body, _, _ = bytes.Cut(sealed, []byte{'\n'})
	if !bytes.Equal(sealed, seal(path, body)) {
		return nil, fmt.Errorf("%s: %w", path, errUnreadable)
	}
	s.remember(path, body, began)
	return body, nil
}

// seal is body, which holds no line break, and below it the digest of path and
// body. It detects accidents: who can write to the store can seal, too.
func seal(path string, body []byte) []byte {
	sum := digest.FromBytes(slices.Concat([]byte(path), []byte{'\n'}, body))
	return fmt.Appendf(nil, "%s\n%s\n", body, sum)
}
