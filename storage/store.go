package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
)

// Store keeps content, admissions and trust state on a storage driver. It holds
// nothing of them itself, but for what it was told to Remember, and is safe for
// concurrent use, by several processes too.
type Store struct {
	driver storagedriver.StorageDriver
	memory memory

	objects *objects                    // nil: nothing is evicted
	plain   storagedriver.StorageDriver // with objects: driver as it was, which evicts nothing

	usage    memo[Usage]
	contents memo[Contents]
	writable memo[struct{}]
}

// New makes a store on a driver. The package comment's promise about power loss
// holds for drivers made by NewDriver.
func New(driver storagedriver.StorageDriver) *Store { return &Store{driver: driver} }

// staleAfter is how long nobody must have written to a staging file before it
// counts as left behind. A download that stands still is given up long before.
const staleAfter = time.Hour

// Sweep removes what processes that died left in staging. It never touches a
// file that was written to within the last hour, by the driver's clock against
// this machine's, so other processes may be at work meanwhile.
func (s *Store) Sweep(ctx context.Context) error {
	files, err := s.list(ctx, stagingFolder)
	if err != nil {
		return fmt.Errorf("sweeping storage: %w", err)
	}
	var errs []error
	for _, file := range files {
		info, err := s.driver.Stat(ctx, file)
		if err == nil && time.Since(info.ModTime()) > staleAfter {
			err = s.driver.Delete(ctx, file)
		}
		// Another process may have finished or swept it meanwhile.
		if err := driverError(err); err != nil && !errors.Is(err, ErrNotFound) {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("sweeping storage: %w", errors.Join(errs...))
	}
	return nil
}

// list returns the paths in a folder, but for those that aren't the store's; none when
// it is absent.
func (s *Store) list(ctx context.Context, folder string) ([]string, error) {
	files, err := s.driver.List(ctx, folder)
	if err = driverError(err); errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return slices.DeleteFunc(files, func(path string) bool { return !isOurs(path) }), err
}

// isOurs tells whether drivers accept a path: what isn't, as lost+found, somebody else
// put there, and an operation on it would fail.
func isOurs(path string) bool { return storagedriver.PathRegexp.MatchString(path) }

// discard removes a staging file when its write has failed, also when it failed
// because ctx ended. What can't be removed is left to Sweep.
func (s *Store) discard(ctx context.Context, staging string) {
	_ = s.driver.Delete(context.WithoutCancel(ctx), staging)
}

func stagingPath() string { return path.Join(stagingFolder, rand.Text()) }
