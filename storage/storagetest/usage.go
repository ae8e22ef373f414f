package storagetest

import (
	"context"
	"errors"
	"strings"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"

	"github.com/trustmirror/trustmirror/storage"
)

// testUsage counts content, and only that.
func testUsage(t *testing.T, driver storagedriver.StorageDriver) {
	wantUsage := func(s *storage.Store, objects int, bytes int64) {
		t.Helper()
		usage, err := s.Usage(t.Context())
		if err != nil || usage.Objects != objects || usage.Bytes != bytes || usage.At.IsZero() {
			t.Fatalf("usage %+v, error %v; want %d objects with %d bytes", usage, err, objects, bytes)
		}
	}
	s := storage.New(driver)
	wantUsage(s, 0, 0)
	put(t, s, "a manifest")
	put(t, s, strings.Repeat("layer ", 1000))
	put(t, s, "a manifest")
	if err := s.Admit(t.Context(), admission("a manifest", "signed", "")); err != nil {
		t.Fatal(err)
	}
	wantUsage(s, 0, 0) // of a moment ago
	wantUsage(storage.New(driver), 2, 6010)

	ended, end := context.WithCancel(t.Context())
	end()
	if usage, err := s.Usage(ended); err != nil || usage.Objects != 0 {
		t.Errorf("usage %+v, error %v; want what is remembered, whether or not the asker waits", usage, err)
	}
}

// testWritable finds storage that can't be written, and asks it seldom.
func testWritable(t *testing.T, driver storagedriver.StorageDriver) {
	faulty := NewFaulty(driver)
	s := storage.New(faulty)
	for range 100 {
		if err := s.Writable(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := faulty.Operations(); n != 2 {
		t.Errorf("%d operations for a hundred questions, want one write and one removal", n)
	}
	if left := files(t, driver, "/"); len(left) > 0 {
		t.Errorf("files %v are left", left)
	}

	full := errors.New("no space left")
	faulty.Set(Fault{At: 1, Err: full})
	s = storage.New(faulty)
	for range 2 {
		if err := s.Writable(t.Context()); !errors.Is(err, full) {
			t.Errorf("error %v, want %v", err, full)
		}
	}
}
