package storage_test

import (
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/storage/storagetest"
)

func TestFilesystem(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storagedriver.StorageDriver {
		return newDriver(t, "filesystem", map[string]any{"rootdirectory": t.TempDir()})
	})
}

func TestInMemory(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storagedriver.StorageDriver { return newDriver(t, "inmemory", nil) })
}

func newDriver(t *testing.T, name string, params map[string]any) storagedriver.StorageDriver {
	t.Helper()
	d, err := storage.NewDriver(t.Context(), name, params)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
