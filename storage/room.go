package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
)

// IsFull tells whether something failed because the disk, or what this user may have
// of it, is full.
func IsFull(err error) bool {
	err = driverError(err)
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// makeRoom evicts until the disk has so many bytes left, if it tells, or until so many
// were evicted as are missing: some file systems tell later what they got back. An
// error says that it can't have. If all of content doesn't take so many, nothing is
// evicted.
func (s *Store) makeRoom(ctx context.Context, need int64) error {
	x := s.objects
	if x == nil || x.plan.Free == nil {
		return nil
	}
	if free, err := x.plan.Free(); err != nil || free >= need {
		return nil // if it doesn't tell, a write does
	}
	x.making.Lock()
	defer x.making.Unlock()
	free, err := x.plan.Free()
	if err != nil || free >= need {
		return nil
	}
	missing := need - free - s.dropQuarantined(ctx)
	if _, bytes := x.total(); bytes < missing {
		return fmt.Errorf("%d bytes are needed, %d are left, and %d are taken by content that could be evicted: %w", need, free, bytes, syscall.ENOSPC)
	}
	done := Evicted{DiskFull: true}
	defer s.tell(&done)
	for done.Err == nil && done.Bytes < missing {
		if free, err := x.plan.Free(); err != nil || free >= need {
			return nil
		}
		o := x.take(0, -1)
		if o == nil {
			return fmt.Errorf("%d bytes are needed, %d are left, and all content is being read: %w", need, free, syscall.ENOSPC)
		}
		s.leave(ctx, o, &done)
	}
	return done.Err
}

// retry does something that needs room on the disk, and does it again after evicting
// a part of content, if there was none.
func (s *Store) retry(ctx context.Context, do func() error) error {
	err := do()
	if !IsFull(err) {
		return err
	}
	if !s.evictPart(ctx) {
		return err
	}
	again := do()
	if absent := (storagedriver.PathNotFoundError{}); errors.As(again, &absent) {
		return err // it had taken effect
	}
	return again
}

// evictPart evicts as much as keeping below a limit would, at least one object, unless
// there is something in quarantine.
func (s *Store) evictPart(ctx context.Context) bool {
	x := s.objects
	x.making.Lock()
	defer x.making.Unlock()
	if s.dropQuarantined(ctx) > 0 {
		return true
	}
	done := Evicted{DiskFull: true}
	defer s.tell(&done)
	_, bytes := x.total()
	for done.Err == nil && (done.Objects == 0 || done.Bytes < bytes/100*(100-evictTo)) {
		o := x.take(0, -1)
		if o == nil {
			break
		}
		s.leave(ctx, o, &done)
	}
	return done.Objects > 0
}

func (s *Store) tell(done *Evicted) {
	if done.Objects > 0 || done.Err != nil {
		s.objects.plan.Told(*done)
	}
}

// roomyDriver is a driver whose writes evict content when the disk is full.
type roomyDriver struct {
	storagedriver.StorageDriver
	store *Store
}

func (d *roomyDriver) PutContent(ctx context.Context, path string, content []byte) error {
	return d.store.retry(ctx, func() error { return d.StorageDriver.PutContent(ctx, path, content) })
}

func (d *roomyDriver) Move(ctx context.Context, source, dest string) error {
	return d.store.retry(ctx, func() error { return d.StorageDriver.Move(ctx, source, dest) })
}

func (d *roomyDriver) Writer(ctx context.Context, path string, appending bool) (storagedriver.FileWriter, error) {
	var w storagedriver.FileWriter
	err := d.store.retry(ctx, func() (err error) {
		w, err = d.StorageDriver.Writer(ctx, path, appending)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &roomyWriter{FileWriter: w, ctx: ctx, store: d.store}, nil
}

// roomyWriter goes on where a full disk stopped it.
type roomyWriter struct {
	storagedriver.FileWriter
	ctx   context.Context
	store *Store
}

func (w *roomyWriter) Write(p []byte) (n int, err error) {
	err = w.store.retry(w.ctx, func() error {
		more, err := w.FileWriter.Write(p[n:])
		if n += more; err == nil && n < len(p) {
			err = io.ErrShortWrite
		}
		return err
	})
	return n, err
}

// Commit isn't done again: what the system had taken and then found no room for is
// lost. But who tries again finds room.
func (w *roomyWriter) Commit(ctx context.Context) error {
	err := w.FileWriter.Commit(ctx)
	if IsFull(err) {
		w.store.evictPart(ctx)
	}
	return err
}
