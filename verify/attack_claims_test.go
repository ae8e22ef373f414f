package verify_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// TestAttack88_SignedAgain has a copy name a signed layer of another release in its
// manifest, and waits until nothing holds that manifest to have the layer served for
// its own tag. Then the manifest's digest is signed for the tag once more (C4).
func TestAttack88_SignedAgain(t *testing.T) {
	w := newWorld(t)
	old := verifytest.NewRelease("0.1.18", amd64)
	hub18, _ := w.publish("0.1.18", old, verifytest.Format{})
	old.Push(w.ecr, ecrRepo, verifytest.Format{Tags: []string{"0.1.18"}}) // as signed (C1)
	release := verifytest.NewRelease("0.1.19", amd64)
	hub19 := release.Push(w.hub, hubRepo, verifytest.Format{})
	w.source.Sign("latest", hub19.Root, hub19.Size, w.clock())
	layer := hub18.Layers[amd64][1]
	ecr := release.Push(w.ecr, ecrRepo, verifytest.Format{Tags: []string{"latest"}, Change: func(platform string, doc map[string]any) {
		if platform == amd64 {
			layers(doc)[1] = layers(w.asPublished(hub18.Manifests[amd64]))[1]
		}
	}})
	for _, r := range []verify.Ref{ref(t, ecrName+":latest"), ref(t, ecrName).WithDigest(ecr.Manifests[amd64])} {
		if _, _, err := w.read(r, true); err != nil {
			t.Fatal(err)
		}
	}

	hub20 := verifytest.NewRelease("0.1.20", amd64).Push(w.hub, hubRepo, verifytest.Format{})
	w.source.Sign("latest", hub20.Root, hub20.Size, w.clock())
	w.advance(2 * time.Hour)
	if all := w.mustPull(ecrName + ":0.1.18"); all[layer] == nil {
		t.Fatal("the layer isn't that of 0.1.18")
	}
	w.source.Sign("latest", hub19.Root, hub19.Size, w.clock())
	w.refused(ecrName+":latest", verify.LayerMismatch)
	w.mustPull(ecrName + ":0.1.18")
}

// TestAttack89_ConfigOfAnotherForALayer has a copy name another tag's config as a
// layer, before that config is served as what it is (C4).
func TestAttack89_ConfigOfAnotherForALayer(t *testing.T) {
	w := newWorld(t)
	other := verifytest.NewRelease("0.1.18", amd64)
	w.publish("0.1.18", other, verifytest.Format{})
	config := other.Platforms[0].Config
	_, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), change(amd64, func(doc map[string]any) {
		layer := layers(doc)[1].(map[string]any)
		layer["mediaType"] = "application/vnd.oci.image.layer.v1.tar"
		layer["digest"], layer["size"] = w.ecr.PutBlob(ecrRepo, config).String(), len(config)
	}))
	for _, r := range []verify.Ref{ref(t, ecrName+":0.1.19"), ref(t, ecrName).WithDigest(ecr.Manifests[amd64])} {
		if _, _, err := w.read(r, true); err != nil {
			t.Fatal(err)
		}
	}
	w.mustPull(ecrName + ":0.1.18")
	w.refused(ecrName+":0.1.19", verify.LayerMismatch)
	w.mustPull(ecrName + ":0.1.18")
}

// TestAttack92_LayerOfAnotherSize has a copy name a signed layer of another release in
// its manifest, with a size that isn't the layer's, so that its diff ID can't be
// looked at: it isn't served for that manifest when it is served for its own (C4).
func TestAttack92_LayerOfAnotherSize(t *testing.T) {
	for name, layerFirst := range map[string]bool{"by its own name": false, "by the other": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			old := verifytest.NewRelease("0.1.18", amd64)
			hub18, _ := w.publish("0.1.18", old, verifytest.Format{})
			old.Push(w.ecr, ecrRepo, verifytest.Format{Tags: []string{"0.1.18"}})
			release := verifytest.NewRelease("0.1.19", amd64)
			w.publish("0.1.19", release, change(amd64, func(doc map[string]any) {
				layer := layers(w.asPublished(hub18.Manifests[amd64]))[1].(map[string]any)
				layer["size"] = member(layer, "size").(float64) + 1
				layers(doc)[1] = layer
			}))
			names := []string{ecrName + "@" + hub18.Manifests[amd64].String(), ecrName + ":0.1.19"}
			for _, name := range names {
				if _, _, err := w.read(ref(t, name), true); err != nil {
					t.Fatal(err)
				}
			}
			if layerFirst {
				if _, _, err := w.read(ref(t, ecrName).WithDigest(hub18.Layers[amd64][1]), false); err != nil {
					t.Fatal(err)
				}
			} else {
				w.mustPull(ecrName + ":0.1.18")
			}
			w.refused(ecrName+":0.1.19", verify.LayerMismatch)
			w.mustPull(ecrName + ":0.1.18")
		})
	}
}

// heldDriver has a document's admission wait to be written until somebody looked for
// it, who sees that there is none and then waits until the test goes on.
type heldDriver struct {
	storagedriver.StorageDriver
	document string // its digest's hex form

	writing, looked, goOn chan struct{}
	write, look           atomic.Bool // whether that was done
}

func (d *heldDriver) PutContent(ctx context.Context, path string, content []byte) error {
	if strings.HasPrefix(path, "/admissions/") && strings.Contains(path, d.document) && d.write.CompareAndSwap(false, true) {
		close(d.writing)
		bounded(d.looked)
	}
	return d.StorageDriver.PutContent(ctx, path, content)
}

func (d *heldDriver) List(ctx context.Context, path string) ([]string, error) {
	list, err := d.StorageDriver.List(ctx, path)
	select {
	case <-d.writing:
		if strings.HasPrefix(path, "/admissions/") && strings.Contains(path, d.document) && d.look.CompareAndSwap(false, true) {
			close(d.looked)
			bounded(d.goOn)
		}
	default:
	}
	return list, err
}

// bounded waits for what comes at once where all is well.
func bounded(c <-chan struct{}) {
	select {
	case <-c:
	case <-time.After(10 * time.Second):
	}
}

// TestAttack94_MarkedBeforeItIsAdmitted has a layer turn out to be another one at the
// moment at which the manifest that claims it is being recorded: what is said of that
// manifest isn't lost (C4).
func TestAttack94_MarkedBeforeItIsAdmitted(t *testing.T) {
	for name, wrong := range map[string]float64{"of its size": 0, "of another size": 1} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			old := verifytest.NewRelease("0.1.18", amd64)
			hub18, _ := w.publish("0.1.18", old, verifytest.Format{})
			old.Push(w.ecr, ecrRepo, verifytest.Format{Tags: []string{"0.1.18"}})
			_, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), change(amd64, func(doc map[string]any) {
				layer := layers(w.asPublished(hub18.Manifests[amd64]))[1].(map[string]any)
				layer["size"] = member(layer, "size").(float64) + wrong
				layers(doc)[1] = layer
			}))
			manifest := ref(t, ecrName).WithDigest(ecr.Manifests[amd64])
			layer := ref(t, ecrName).WithDigest(hub18.Layers[amd64][1])
			driver := &heldDriver{
				StorageDriver: w.driver, document: manifest.Digest.Encoded(),
				writing: make(chan struct{}), looked: make(chan struct{}), goOn: make(chan struct{}),
			}
			w.driver = driver
			w.forget()
			if _, _, err := w.read(ref(t, ecrName).WithDigest(hub18.Manifests[amd64]), true); err != nil {
				t.Fatal(err)
			}
			var recorded, pulled sync.WaitGroup
			recorded.Go(func() {
				if _, _, err := w.read(manifest, true); err != nil && verify.ReasonOf(err) != verify.LayerMismatch {
					t.Error(err)
				}
			})
			<-driver.writing
			pulled.Go(func() {
				if _, _, err := w.read(layer, false); err != nil {
					t.Error(err)
				}
				if driver.look.CompareAndSwap(false, true) {
					close(driver.looked)
				}
			})
			<-driver.looked
			recorded.Wait()
			close(driver.goOn)
			pulled.Wait()
			w.advance(seenWithin)
			w.refused(ecrName+"@"+manifest.Digest.String(), verify.LayerMismatch)
			w.mustPull(ecrName + ":0.1.18")
		})
	}
}
