package storagetest

import (
	"context"
	"sync"
	"syscall"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
)

// Small is a driver on a disk that has room for so many bytes of what is written
// through it. It is safe for concurrent use.
type Small struct {
	storagedriver.StorageDriver

	mu   sync.Mutex // guards left
	left int64
}

// NewSmall wraps an empty driver.
func NewSmall(driver storagedriver.StorageDriver, bytes int64) *Small {
	return &Small{StorageDriver: driver, left: bytes}
}

// Free tells how many bytes are left.
func (s *Small) Free() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left, nil
}

// Take has somebody else fill the disk, or give bytes back.
func (s *Small) Take(bytes int64) { _ = s.take(bytes, bytes) }

// take takes as many bytes as there are, of those wanted, if these are enough.
func (s *Small) take(enough, wanted int64) (taken int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken = min(wanted, s.left)
	if taken < enough {
		return 0
	}
	s.left -= taken
	return taken
}

func (s *Small) size(ctx context.Context, path string) int64 {
	info, err := s.StorageDriver.Stat(ctx, path)
	if err != nil || info.IsDir() {
		return 0
	}
	return info.Size()
}

func (s *Small) full() error { return storagedriver.Error{DriverName: "small", Detail: syscall.ENOSPC} }

// PutContent fails when the disk is full.
func (s *Small) PutContent(ctx context.Context, path string, content []byte) error {
	more := int64(len(content))
	if s.take(more, more) < more {
		return s.full()
	}
	before := s.size(ctx, path)
	err := s.StorageDriver.PutContent(ctx, path, content)
	s.Take(-before)
	return err
}

// Move gives back what was in the way.
func (s *Small) Move(ctx context.Context, source, dest string) error {
	before := s.size(ctx, dest)
	err := s.StorageDriver.Move(ctx, source, dest)
	if err == nil {
		s.Take(-before)
	}
	return err
}

// Delete gives a file's bytes back.
func (s *Small) Delete(ctx context.Context, path string) error {
	before := s.size(ctx, path)
	err := s.StorageDriver.Delete(ctx, path)
	if err == nil {
		s.Take(-before)
	}
	return err
}

// Writer returns one that fails when the disk is full.
func (s *Small) Writer(ctx context.Context, path string, appending bool) (storagedriver.FileWriter, error) {
	w, err := s.StorageDriver.Writer(ctx, path, appending)
	if err != nil {
		return nil, err
	}
	return &smallWriter{FileWriter: w, disk: s}, nil
}

type smallWriter struct {
	storagedriver.FileWriter
	disk *Small
}

// Write writes what there is room for.
func (w *smallWriter) Write(p []byte) (int, error) {
	room := w.disk.take(0, int64(len(p)))
	n, err := w.FileWriter.Write(p[:room])
	if err == nil && n < len(p) {
		err = w.disk.full()
	}
	return n, err
}

// Cancel gives back what was written.
func (w *smallWriter) Cancel(ctx context.Context) error {
	written := w.Size()
	err := w.FileWriter.Cancel(ctx)
	if err == nil {
		w.disk.Take(-written)
	}
	return err
}
