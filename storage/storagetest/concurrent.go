package storagetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

// testConcurrentPut lets honest and lying writers store one object at the same
// time: readers see all of it or nothing.
func testConcurrentPut(t *testing.T, driver storagedriver.StorageDriver) {
	const content = "0123456789abcdef"
	big := strings.Repeat(content, 20_000)
	d := digest.FromString(big)
	size := int64(len(big))

	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		readers.Go(func() {
			for {
				got, err := read(t.Context(), storage.New(driver), d)
				if err == nil && got != big || err != nil && !errors.Is(err, storage.ErrNotFound) {
					t.Errorf("a reader sees %d of %d bytes: %v", len(got), len(big), err)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for i := range 12 {
		writers.Go(func() {
			s := storage.New(driver)
			body, want := big, error(nil)
			if i%3 == 0 {
				body, want = strings.Replace(big, "f", "F", 1), new(storage.MismatchError)
			}
			err := s.Put(t.Context(), d, size, strings.NewReader(body))
			// A liar isn't heard when the object is there already.
			if err != nil && (want == nil || !errors.As(err, new(*storage.MismatchError))) {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	wantContent(t, storage.New(driver), d, big)
	if left := files(t, driver, "/"); len(left) != 1 {
		t.Errorf("files left: %v", left)
	}
}

// testConcurrentRecords lets several stores write admissions, the same ones and
// different ones, and trust state.
func testConcurrentRecords(t *testing.T, driver storagedriver.StorageDriver) {
	const writers, edges = 4, 8
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			s := storage.New(driver)
			for i := range edges {
				if err := s.Admit(t.Context(), admission("layer", fmt.Sprint(i), "")); err != nil {
					t.Error(err)
				}
				if _, err := s.Admissions(t.Context(), "public.ecr.aws/nicolas/webdis", digest.FromString("layer")); err != nil {
					t.Error(err)
				}
				value := strings.Repeat(fmt.Sprint(i), 1000)
				if err := s.Trust().Put(t.Context(), "gun", "timestamp", []byte(value)); err != nil {
					t.Error(err)
				}
				raw, err := s.Trust().Get(t.Context(), "gun", "timestamp")
				if err != nil || len(raw) != 1000 || strings.Trim(string(raw), string(raw[:1])) != "" {
					t.Errorf("trust state is torn: %.20q…, %v", raw, err)
				}
			}
		})
	}
	wg.Wait()
	got, err := storage.New(driver).Admissions(t.Context(), "public.ecr.aws/nicolas/webdis", digest.FromString("layer"))
	if err != nil || len(got) != edges {
		t.Errorf("%d admissions, %v; want %d", len(got), err, edges)
	}
}
