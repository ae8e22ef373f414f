package storage

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
)

// Stock is what a store holds besides records.
type Stock struct {
	Objects     map[digest.Digest]int64 // content: bytes by digest
	Quarantined Heap                    // corrupt objects that were set aside
	Unfinished  Heap                    // writes under way, and what processes that died left of theirs
}

// Heap is a number of files.
type Heap struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

func (h *Heap) add(bytes int64) {
	h.Files++
	h.Bytes += bytes
}

// Stock lists what the store holds. Errors: the driver's, ctx's.
func (s *Store) Stock(ctx context.Context) (*Stock, error) {
	stock := &Stock{Objects: make(map[digest.Digest]int64)}
	err := errors.Join(
		s.walkContent(ctx, func(d digest.Digest, info storagedriver.FileInfo) error {
			stock.Objects[d] = info.Size()
			return nil
		}),
		s.walk(ctx, quarantineFolder, func(info storagedriver.FileInfo) error {
			stock.Quarantined.add(info.Size())
			return nil
		}),
		s.walk(ctx, stagingFolder, func(info storagedriver.FileInfo) error {
			stock.Unfinished.add(info.Size())
			return nil
		}),
	)
	if err != nil {
		return nil, err
	}
	return stock, nil
}

// EachRecord calls f with each admission that can be read, and then with each
// expectation. Errors: f's, the driver's, ctx's.
func (s *Store) EachRecord(ctx context.Context, f func(a Admission, expected bool) error) error {
	for _, root := range []string{admissionFolder, expectationFolder} {
		err := s.walk(ctx, root, func(info storagedriver.FileInfo) error {
			a, err := s.edge(ctx, root, info.Path())
			if errors.Is(err, ErrNotFound) || errors.Is(err, errUnreadable) { // it proves nothing
				return nil
			}
			if err != nil {
				return err
			}
			return f(a, root == expectationFolder)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// collectAfter is how long ago an object has to have been stored before Collect
// removes it. Whoever stores an object records within an hour why.
const collectAfter = 24 * time.Hour

// Collected is what Collect removes.
type Collected struct {
	Unneeded, Quarantined, Unfinished Heap
}

// Collect removes what Sweep does, what is quarantined, and the content that
// nobody needs, unless it was stored within the last day: what is being stored may
// not be recorded yet. Processes may work with the store meanwhile: an object that
// one comes to need at the very moment when it is removed has to be stored again.
// With dryRun it only counts. Errors: the driver's, ctx's; what was removed until
// then comes back, too.
func (s *Store) Collect(ctx context.Context, needed func(digest.Digest) bool, dryRun bool) (Collected, error) {
	var c Collected
	remove := func(heap *Heap, info storagedriver.FileInfo) error {
		if !dryRun {
			err := driverError(s.driver.Delete(ctx, info.Path()))
			if errors.Is(err, ErrNotFound) { // somebody else did
				return nil
			}
			if err != nil {
				return err
			}
		}
		heap.add(info.Size())
		return nil
	}
	err := errors.Join(
		s.walkContent(ctx, func(d digest.Digest, info storagedriver.FileInfo) error {
			if needed(d) || time.Since(info.ModTime()) < collectAfter {
				return nil
			}
			return remove(&c.Unneeded, info)
		}),
		s.walk(ctx, quarantineFolder, func(info storagedriver.FileInfo) error { return remove(&c.Quarantined, info) }),
		s.walk(ctx, stagingFolder, func(info storagedriver.FileInfo) error {
			if time.Since(info.ModTime()) <= staleAfter {
				return nil
			}
			return remove(&c.Unfinished, info)
		}),
	)
	return c, err
}

// walkContent calls f with each object.
func (s *Store) walkContent(ctx context.Context, f func(digest.Digest, storagedriver.FileInfo) error) error {
	return s.walk(ctx, contentFolder, func(info storagedriver.FileInfo) error {
		algorithm := path.Base(path.Dir(path.Dir(info.Path())))
		d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), path.Base(info.Path()))
		if at, err := digestPath(contentFolder, d); err != nil || at != info.Path() { // somebody else put it there
			return nil //nolint:nilerr // it is none of ours
		}
		return f(d, info)
	})
}

// walk calls f with each file below a folder; none when it is absent.
func (s *Store) walk(ctx context.Context, folder string, f func(storagedriver.FileInfo) error) error {
	err := s.driver.Walk(ctx, folder, func(info storagedriver.FileInfo) error {
		if err := ctx.Err(); err != nil || info.IsDir() || !isOurs(info.Path()) {
			return err
		}
		return f(info)
	})
	// Only of the folder itself: anything else means that not all was seen.
	if absent := (storagedriver.PathNotFoundError{}); errors.As(err, &absent) && absent.Path == folder {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing storage: %w", driverError(err))
	}
	return nil
}
