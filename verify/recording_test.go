package verify_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// lockedDriver notes records that are written while nobody holds a mutex.
type lockedDriver struct {
	storagedriver.StorageDriver
	held *sync.Mutex

	mu           sync.Mutex // guards what follows
	under, about int        // records written while it was held, and while it wasn't
}

func (d *lockedDriver) note(path string) {
	if !strings.HasPrefix(path, "/admissions/") && !strings.HasPrefix(path, "/expectations/") {
		return
	}
	free := d.held.TryLock()
	if free {
		d.held.Unlock()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if free {
		d.about++
	} else {
		d.under++
	}
}

func (d *lockedDriver) PutContent(ctx context.Context, path string, content []byte) error {
	d.note(path)
	return d.StorageDriver.PutContent(ctx, path, content)
}

func (d *lockedDriver) Move(ctx context.Context, from, to string) error {
	d.note(to)
	return d.StorageDriver.Move(ctx, from, to)
}

// Gates that work on one store at a time, as while a configuration gives way to
// another, compare and write records under the one mutex that they are given, so
// that neither overlooks what the other is about to admit (C4).
func TestGatesOfOneStoreRecordUnderOneMutex(t *testing.T) {
	w := newWorld(t)
	_, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	recording := &sync.Mutex{}
	driver := &lockedDriver{StorageDriver: w.driver, held: recording}
	for _, path := range []verify.Ref{ref(t, ecrName+":0.1.19"), ref(t, ecrName).WithDigest(ecr.Layers[amd64][0])} {
		policy, err := verify.NewPolicy([]verify.ImageRule{{
			Signed: hubName, Copies: []string{ecrName},
			Source: func(verify.Ref) (verify.Source, error) { return w.source, nil },
		}})
		if err != nil {
			t.Fatal(err)
		}
		gate, err := verify.NewGate(verify.GateConfig{
			Policy: policy, Store: storage.New(driver), Recording: recording, Clock: w.clock,
			Fetcher: verifytest.Fetcher{"docker.io": w.hub, "public.ecr.aws": w.ecr},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(gate.Close)
		open := gate.Manifest
		if path.Digest != "" {
			open = gate.Blob
		}
		before := driver.under
		content, _, err := open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		content.Close()
		if driver.under == before {
			t.Errorf("%s: nothing was recorded", path)
		}
	}
	if driver.about > 0 {
		t.Errorf("%d records were written while the mutex was free", driver.about)
	}
}
