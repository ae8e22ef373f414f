package storage

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// maxQuarantine is how many corrupt objects are kept for inspection, unless the disk is
// full.
const maxQuarantine = 16

// Quarantine moves an object out of the way, so that it can be stored anew, and
// keeps the latest few for inspection. An object that isn't there needs nothing.
func (s *Store) Quarantine(ctx context.Context, d digest.Digest) error {
	source, err := digestPath(contentFolder, d)
	if err != nil {
		return err
	}
	// Names of one length sort by time.
	name := fmt.Sprintf("%020d-%s", time.Now().UnixNano(), digestName(d))
	defer s.memory.documents.forget(d)
	err = driverError(s.driver.Move(ctx, source, path.Join(quarantineFolder, name)))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("quarantining %s: %w", d, err)
	}
	s.objects.forget(d)
	kept, err := s.list(ctx, quarantineFolder)
	if err != nil {
		return fmt.Errorf("quarantining %s: %w", d, err)
	}
	slices.Sort(kept)
	for _, oldest := range kept[:max(0, len(kept)-maxQuarantine)] {
		if err := driverError(s.driver.Delete(ctx, oldest)); err != nil && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("quarantining %s: %w", d, err)
		}
	}
	return nil
}

// dropQuarantined removes what is kept for inspection, as far as it can, and returns
// how many bytes that had.
func (s *Store) dropQuarantined(ctx context.Context) (bytes int64) {
	kept, err := s.list(ctx, quarantineFolder)
	if err != nil {
		return 0
	}
	for _, path := range kept {
		info, err := s.plain.Stat(ctx, path)
		if err == nil && s.plain.Delete(ctx, path) == nil {
			bytes += info.Size()
		}
	}
	return bytes
}
