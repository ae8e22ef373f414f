package verify_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// pausedDriver does something before the first record of an object takes effect.
type pausedDriver struct {
	storagedriver.StorageDriver
	folder string
	object digest.Digest
	do     func()
	once   sync.Once
}

func (d *pausedDriver) pause(path string) {
	if strings.HasPrefix(path, d.folder) && strings.Contains(path, d.object.Encoded()) {
		d.once.Do(d.do)
	}
}

func (d *pausedDriver) PutContent(ctx context.Context, path string, content []byte) error {
	d.pause(path)
	return d.StorageDriver.PutContent(ctx, path, content)
}

func (d *pausedDriver) Move(ctx context.Context, from, to string) error {
	d.pause(to)
	return d.StorageDriver.Move(ctx, from, to)
}

// Two mirrors on one storage: one admits a layer while the other admits a copy's
// manifest in which the same layer stands for another diff ID. Whichever is first,
// the manifest is refused (C4), although neither waits for the other.
func TestAttack34_ContradictionBetweenReplicas(t *testing.T) {
	for _, paused := range []string{"/expectations/", "/admissions/"} {
		w := newWorld(t)
		release := verifytest.NewRelease("0.1.19", amd64)
		_, ecr := w.publish("0.1.19", release, verifytest.Format{})
		swapped := release.Push(w.ecr, ecrRepo, verifytest.Format{Level: 1, Change: func(platform string, doc map[string]any) {
			if platform == amd64 {
				slices.Reverse(layers(doc))
			}
		}})
		layer := ref(t, ecrName).WithDigest(ecr.Layers[amd64][0])
		if _, _, err := w.read(ref(t, ecrName).WithDigest(ecr.Manifests[amd64]), true); err != nil {
			t.Fatal(err)
		}
		manifest := ref(t, ecrName).WithDigest(swapped.Manifests[amd64])
		admitLayer := func(open *verify.Gate) error { return ask(t, open.Blob, layer) }
		admitManifest := func(open *verify.Gate) error { return ask(t, open.Manifest, manifest) }
		other := w.gate
		meanwhile, asked := admitLayer, admitManifest
		if paused == "/admissions/" {
			meanwhile, asked = admitManifest, admitLayer
		}
		plain := w.driver
		driver := &pausedDriver{StorageDriver: plain, folder: paused, object: layer.Digest, do: func() { _ = meanwhile(other) }}
		w.store = storage.New(driver)
		w.start()
		_ = asked(w.gate)
		w.advance(5 * time.Second) // which records are remembered for
		for name, gate := range map[string]*verify.Gate{"one": w.gate, "the other": other} {
			if err := admitManifest(gate); verify.ReasonOf(err) != verify.LayerMismatch {
				t.Errorf("paused at %s, %s: %v", paused, name, err)
			}
			if err := admitLayer(gate); err != nil {
				t.Errorf("paused at %s, %s, the layer: %v", paused, name, err)
			}
		}
	}
}

func ask(t *testing.T, open func(context.Context, verify.Ref) (*storage.Content, storage.Admission, error), r verify.Ref) error {
	content, _, err := open(t.Context(), r)
	if err != nil {
		return err
	}
	return content.Close()
}
