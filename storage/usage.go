package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
)

const (
	// usageFor is how long what storage holds is remembered, at least: listing it
	// never takes more than a tenth of the time.
	usageFor     = time.Minute
	usageTimeout = 10 * time.Minute

	// writableFor is how long it is remembered whether storage can be written, so
	// that nobody wears it out by asking.
	writableFor     = 10 * time.Second
	writableTimeout = time.Minute
)

// Usage is what a store holds of content: manifests, configs and layers.
type Usage struct {
	Objects int
	Bytes   int64
	At      time.Time // when it was counted
}

// Usage counts what the store holds by listing it, or returns what it counted
// lately: at most a minute ago, longer where listing takes longer than six
// seconds. Who doesn't wait gets the count before, if there is one. Errors: the
// driver's own, ctx's.
func (s *Store) Usage(ctx context.Context) (Usage, error) {
	usage, err := s.usage.get(ctx, usageTimeout, s.countContent)
	if err != nil && ctx.Err() != nil {
		if last, ok := s.usage.last(); ok {
			return last, nil
		}
	}
	return usage, err
}

func (s *Store) countContent(ctx context.Context) (Usage, time.Duration, error) {
	usage := Usage{At: time.Now()}
	err := s.driver.Walk(ctx, contentFolder, func(info storagedriver.FileInfo) error {
		if !info.IsDir() {
			usage.Objects++
			usage.Bytes += info.Size()
		}
		return ctx.Err()
	})
	keep := max(usageFor, 10*time.Since(usage.At))
	if err = driverError(err); err != nil && !errors.Is(err, ErrNotFound) { // no content yet
		return Usage{}, keep, fmt.Errorf("listing storage: %w", err)
	}
	return usage, keep, nil
}

// Writable tells why the store can't be written, by writing and removing a small
// file, at most every ten seconds. Errors: the driver's own, ctx's.
func (s *Store) Writable(ctx context.Context) error {
	_, err := s.writable.get(ctx, writableTimeout, func(ctx context.Context) (struct{}, time.Duration, error) {
		return struct{}{}, writableFor, s.probe(ctx)
	})
	return err
}
