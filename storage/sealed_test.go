package storage

import (
	"context"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
)

// asked is a driver like a bucket's, that counts what is read.
type asked struct {
	storagedriver.StorageDriver
	reads int
}

func (*asked) Direct() bool    { return true }
func (*asked) Redirects() bool { return false }

func (d *asked) GetContent(ctx context.Context, path string) ([]byte, error) {
	d.reads++
	return d.StorageDriver.GetContent(ctx, path)
}

// An edge is read from a bucket once; whether it is there is asked each time.
func TestEdgesOfABucketAreReadOnce(t *testing.T) {
	inMemory, err := NewDriver(t.Context(), "inmemory", nil)
	if err != nil {
		t.Fatal(err)
	}
	bucket := &asked{StorageDriver: inMemory}
	a := attackEdge()
	if err := New(bucket).Admit(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	s := New(bucket)
	s.Remember(time.Now)
	bucket.reads = 0
	admissions := func(want int) {
		t.Helper()
		if found, err := s.Admissions(t.Context(), a.Repository, a.Digest); err != nil || len(found) != want || bucket.reads != 1 {
			t.Errorf("%v, %v; read %d times", found, err, bucket.reads)
		}
	}
	admissions(1)
	admissions(1)
	path, err := a.path(admissionFolder)
	if err != nil {
		t.Fatal(err)
	}
	if err := bucket.Delete(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	admissions(0)
	if err := s.Admit(t.Context(), a); err != nil { // reads whether it's there
		t.Fatal(err)
	}
	bucket.reads = 1
	admissions(1)
}
