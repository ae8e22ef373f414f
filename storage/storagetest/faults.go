package storagetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

const faultContent = "a layer"

// faultSequence stores an object and admits it by two edges, as a pull does.
func faultSequence(t *testing.T, s *storage.Store) error {
	d := digest.FromString(faultContent)
	if err := s.Put(t.Context(), d, int64(len(faultContent)), strings.NewReader(faultContent)); err != nil {
		return err
	}
	return s.Admit(t.Context(), faultEdges()...)
}

func faultEdges() []storage.Admission {
	edges := []storage.Admission{admission(faultContent, "signed", "manifest"), admission(faultContent, "other", "manifest")}
	edges[1].At = edges[1].At.Add(1)
	return edges
}

// testFaults fails each operation of the sequence in turn, before and after it
// took effect, once and for good.
func testFaults(t *testing.T, newDriver func(t *testing.T) storagedriver.StorageDriver) {
	clean := newDriver(t)
	counter := NewFaulty(clean)
	if err := faultSequence(t, storage.New(counter)); err != nil {
		t.Fatal(err)
	}
	complete := files(t, clean, "/")
	if counter.Operations() < 6 {
		t.Fatalf("only %d operations counted", counter.Operations())
	}
	for at := 1; at <= counter.Operations(); at++ {
		for _, fault := range []Fault{
			{At: at},
			{At: at, After: true},
			{At: at, Stay: true},
			{At: at, After: true, Stay: true},
			// As drivers wrap a system's error.
			{At: at, Err: storagedriver.Error{DriverName: "faulty", Detail: fmt.Errorf("write: %w", syscall.ENOSPC)}},
		} {
			t.Run(fmt.Sprintf("%d,after=%t,stay=%t", at, fault.After, fault.Stay), func(t *testing.T) {
				driver := newDriver(t)
				testFault(t, driver, fault, complete)
			})
		}
	}
}

func testFault(t *testing.T, driver storagedriver.StorageDriver, fault Fault, complete []string) {
	faulty := NewFaulty(driver)
	faulty.Set(fault)
	err := faultSequence(t, storage.New(faulty))
	want := ErrInjected
	if fault.Err != nil {
		want = syscall.ENOSPC
	}
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}

	s := storage.New(driver)
	content, err := read(t.Context(), s, digest.FromString(faultContent))
	stored := err == nil
	if stored && content != faultContent || !stored && !errors.Is(err, storage.ErrNotFound) {
		t.Fatalf("partial content visible: %q, %v", content, err)
	}
	edges := faultEdges()
	admitted, err := s.Admissions(t.Context(), edges[0].Repository, edges[0].Digest)
	if err != nil || !slices.Equal(admitted, edges[:len(admitted)]) {
		t.Fatalf("admissions %v, %v", admitted, err)
	}
	if len(admitted) > 0 && !stored {
		t.Fatal("admitted, but not stored")
	}

	if err := faultSequence(t, s); err != nil {
		t.Fatalf("a retry fails: %v", err)
	}
	wantContent(t, s, edges[0].Digest, faultContent)
	wantAdmissions(t, s, edges...)
	// A process that lives on leaves nothing behind.
	if left := files(t, driver, "/"); !fault.Stay && !slices.Equal(left, complete) {
		t.Errorf("files %v, want %v", left, complete)
	}
}
