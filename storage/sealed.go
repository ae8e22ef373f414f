package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
)

// errUnreadable says that a record isn't what was written there.
var errUnreadable = errors.New("record is corrupt")

// putRecord writes a small file that carries a checksum over its path and body.
func (s *Store) putRecord(ctx context.Context, path string, body []byte) error {
	return driverError(s.driver.PutContent(ctx, path, seal(path, body)))
}

// getRecord reads what putRecord wrote. Errors: ErrNotFound, errUnreadable, the
// driver's own.
func (s *Store) getRecord(ctx context.Context, path string) ([]byte, error) {
	sealed, err := s.driver.GetContent(ctx, path)
	if err != nil {
		return nil, driverError(err)
	}
	body, _, _ := bytes.Cut(sealed, []byte{'\n'})
	if !bytes.Equal(sealed, seal(path, body)) {
		return nil, fmt.Errorf("%s: %w", path, errUnreadable)
	}
	return body, nil
}

// seal is body, which holds no line break, and below it the digest of path and
// body. It detects accidents: who can write to the store can seal, too.
func seal(path string, body []byte) []byte {
	sum := digest.FromBytes(slices.Concat([]byte(path), []byte{'\n'}, body))
	return fmt.Appendf(nil, "%s\n%s\n", body, sum)
}
