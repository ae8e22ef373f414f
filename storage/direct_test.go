package storage_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

// directDriver stands for an object store's.
type directDriver struct{ storagedriver.StorageDriver }

func (directDriver) Direct() bool    { return true }
func (directDriver) Redirects() bool { return false }

// What an object store gets is checked before, and what it gives has the size that it
// should (S5).
func TestDirect(t *testing.T) {
	memory, err := storage.NewDriver(t.Context(), "inmemory", nil)
	if err != nil {
		t.Fatal(err)
	}
	s, d := storage.New(directDriver{memory}), digest.FromString("right")
	for _, wrong := range []string{"wrong", "righ", "right!"} {
		if err := s.Put(t.Context(), d, 5, strings.NewReader(wrong)); !errors.As(err, new(*storage.MismatchError)) {
			t.Errorf("%q: error is %v", wrong, err)
		}
		if _, err := s.OpenContent(t.Context(), d); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%q: it was stored: %v", wrong, err)
		}
	}
	if err := s.Put(t.Context(), d, 5, strings.NewReader("right")); err != nil {
		t.Fatal(err)
	}
	for size, whole := range map[int64]bool{4: false, 5: true, 6: false} {
		damaged := false
		content, err := s.OpenSized(t.Context(), d, size, func() { damaged = true })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(content); (err == nil) != whole || damaged == whole {
			t.Errorf("%d bytes: error is %v, damaged is %v", size, err, damaged)
		}
		content.Close()
	}
}
