package storagetest

import (
	"context"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
)

// Older is a driver whose files were all written so much earlier.
type Older struct {
	storagedriver.StorageDriver
	By time.Duration
}

// Stat tells another time.
func (o Older) Stat(ctx context.Context, path string) (storagedriver.FileInfo, error) {
	info, err := o.StorageDriver.Stat(ctx, path)
	if err != nil {
		return nil, err
	}
	return o.older(info), nil
}

// Walk tells other times.
func (o Older) Walk(ctx context.Context, path string, f storagedriver.WalkFn, options ...func(*storagedriver.WalkOptions)) error {
	return o.StorageDriver.Walk(ctx, path, func(info storagedriver.FileInfo) error { return f(o.older(info)) }, options...)
}

func (o Older) older(info storagedriver.FileInfo) storagedriver.FileInfo {
	fields := storagedriver.FileInfoFields{Path: info.Path(), ModTime: info.ModTime().Add(-o.By), IsDir: info.IsDir()}
	if !fields.IsDir {
		fields.Size = info.Size()
	}
	return storagedriver.FileInfoInternal{FileInfoFields: fields}
}
