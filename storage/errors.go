package storage

import (
	"errors"
	"fmt"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
)

// ErrNotFound says that the store doesn't hold what was asked for.
var ErrNotFound = errors.New("not in storage")

// MismatchError says that what arrived isn't what its digest and size promise.
type MismatchError struct {
	Digest   digest.Digest // what was promised
	WantSize int64         // bytes promised
	GotSize  int64         // bytes that arrived; WantSize+1 stands for any larger number
	Got      digest.Digest // what arrived; empty when the size was wrong already
}

func (e *MismatchError) Error() string {
	switch {
	case e.GotSize > e.WantSize:
		return fmt.Sprintf("%s has more than its %d bytes", e.Digest, e.WantSize)
	case e.GotSize < e.WantSize:
		return fmt.Sprintf("%s has only %d of its %d bytes", e.Digest, e.GotSize, e.WantSize)
	}
	return fmt.Sprintf("%s arrived as %s", e.Digest, e.Got)
}

// CorruptError says that a stored object no longer hashes to its digest. It has
// been quarantined, unless Err says why it couldn't be.
type CorruptError struct {
	Digest digest.Digest
	Got    digest.Digest
	Err    error // may be nil
}

func (e *CorruptError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("stored %s is corrupt (it hashes to %s) and could not be quarantined: %v", e.Digest, e.Got, e.Err)
	}
	return fmt.Sprintf("stored %s was corrupt (it hashes to %s) and has been quarantined", e.Digest, e.Got)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// driverError makes a driver's error one that errors.Is and errors.As see
// through: an absent path is ErrNotFound, and the wrappers in which drivers
// hide system errors (ENOSPC, EROFS, …) are opened.
func driverError(err error) error {
	if err == nil { // most often, and what follows allocates
		return nil
	}
	var (
		absent  storagedriver.PathNotFoundError
		wrapped storagedriver.Error
		several storagedriver.Errors
	)
	switch {
	case errors.As(err, &absent):
		return fmt.Errorf("%s: %w", absent.Path, ErrNotFound)
	case errors.As(err, &wrapped):
		return fmt.Errorf("%s: %w", wrapped.DriverName, driverError(wrapped.Detail))
	case errors.As(err, &several):
		return fmt.Errorf("%s: %w", several.DriverName, errors.Join(several.Errs...))
	}
	return err
}
