package verify_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// deaf is a fetcher that fails the test when it is asked.
type deaf struct{ t *testing.T }

func (d deaf) Manifest(_ context.Context, ref verify.Ref) (ocispec.Descriptor, []byte, error) {
	d.t.Errorf("a registry was asked for %s", ref)
	return ocispec.Descriptor{}, nil, errors.New("asked")
}

func (d deaf) Blob(_ context.Context, ref verify.Ref) (io.ReadCloser, error) {
	d.t.Errorf("a registry was asked for %s", ref)
	return nil, errors.New("asked")
}

// deafen restarts the gate, which may ask no registry any more.
func (w *world) deafen() {
	w.wrap = func(verify.Fetcher) verify.Fetcher { return deaf{w.t} }
	w.start()
}

func (w *world) chain(tag string) *verify.Chain {
	w.t.Helper()
	c, err := w.gate.Chain(w.t.Context(), ref(w.t, hubName), tag)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(c.Sides) != 2 || !c.Sides[0].Signed || c.Sides[1].Signed || c.Sides[0].Name != hubName || c.Sides[1].Name != ecrName {
		w.t.Fatalf("repositories: %+v", c.Sides)
	}
	return c
}

// states counts the links of a side by state and proof.
func states(side verify.Side) map[[2]string]int {
	counts := map[[2]string]int{}
	side.Root.Each(func(l *verify.Link) { counts[[2]string{string(l.State), string(l.Proof)}]++ })
	return counts
}

func sameCounts(t *testing.T, what string, got, want map[[2]string]int) {
	t.Helper()
	for k := range got {
		if got[k] != want[k] {
			t.Errorf("%s: %v, want %v", what, got, want)
			return
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestChainOfWhatWasPulled(t *testing.T) {
	w := newWorld(t)
	hub, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64, arm64), verifytest.Format{OCI: true})
	w.mustPull(hubName + ":0.1.19")
	w.mustPull(ecrName + ":0.1.19")
	w.deafen()
	c := w.chain("0.1.19")
	if c.Digest != hub.Root || c.Sides[0].Root.Digest != hub.Root || c.Sides[1].Root.Digest != ecr.Root {
		t.Errorf("the roots are %s and %s, signed is %s", c.Sides[0].Root.Digest, c.Sides[1].Root.Digest, c.Digest)
	}
	sameCounts(t, "signed", states(c.Sides[0]), map[[2]string]int{{"verified", "signed"}: 1, {"verified", "listed"}: 2 * 4})
	sameCounts(t, "copy", states(c.Sides[1]), map[[2]string]int{{"verified", "same_config"}: 3, {"verified", "listed"}: 2, {"verified", "diff_id"}: 4})
	for _, side := range c.Sides {
		for i, platform := range []string{amd64, arm64} {
			m := side.Root.Children[i]
			if m.Kind != storage.KindManifest || m.Platform != platform || m.Size == 0 || m.At == nil || len(m.Children) != 3 {
				t.Errorf("%s: manifest %+v, want one for %s", side.Name, m, platform)
			}
			if config := m.Children[0]; config.Digest != hub.Configs[platform] || config.Shared == side.Signed {
				t.Errorf("%s: config %+v", side.Name, config)
			}
			if layer := m.Children[1]; layer.Kind != storage.KindLayer || layer.DiffID == "" || layer.Shared {
				t.Errorf("%s: layer %+v", side.Name, layer)
			}
		}
	}
}

// What nobody pulled under a name is waiting there, with what storage knows of it.
func TestChainOfWhatNobodyPulled(t *testing.T) {
	w := newWorld(t)
	hub, _ := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	w.deafen()
	c := w.chain("0.1.19")
	sameCounts(t, "signed", states(c.Sides[0]), map[[2]string]int{{"waiting", "signed"}: 1})
	sameCounts(t, "copy", states(c.Sides[1]), map[[2]string]int{{"waiting", ""}: 1})

	w.wrap = nil
	w.start()
	if _, _, err := w.read(ref(t, hubName+":0.1.19"), true); err != nil {
		t.Fatal(err)
	}
	w.deafen()
	root := w.chain("0.1.19").Sides[0].Root
	if root.State != verify.StateVerified || root.Digest != hub.Root || len(root.Children) != 1 {
		t.Fatalf("root: %+v", root)
	}
	if m := root.Children[0]; m.State != verify.StateWaiting || m.Proof != storage.ProofListed || m.Digest != hub.Manifests[amd64] || m.At != nil {
		t.Errorf("manifest: %+v", m)
	}
}

func TestChainOfWhatWasRefused(t *testing.T) {
	const tag = "0.1.19"
	w := newWorld(t)
	w.publish(tag, verifytest.NewRelease(tag, amd64), verifytest.Format{})
	verifytest.NewRelease("evil", amd64).Push(w.ecr, ecrRepo, verifytest.Format{Tags: []string{tag}})
	w.refused(ecrName+":"+tag, verify.ConfigMismatch)
	root := w.chain(tag).Sides[1].Root
	if root.State != verify.StateRefused || root.Reason != verify.ConfigMismatch || root.Detail == "" || root.At == nil {
		t.Errorf("root: %+v", root)
	}
	w.source.Sign("other", digest.FromString("other"), 5, w.clock()) // another set: nobody has asked for that
	if root := w.chain(tag).Sides[1].Root; root.State != verify.StateWaiting {
		t.Errorf("root after other targets were signed: %+v", root)
	}
}

// A layer that isn't what its config says is told after a restart too.
func TestChainOfABrokenLayer(t *testing.T) {
	const tag = "0.1.19"
	w := newWorld(t)
	_, ecr := w.publish(tag, verifytest.NewRelease(tag, amd64), verifytest.Format{ChangeLayer: func(_ string, i int, packed []byte) []byte {
		if i == 0 {
			return packed
		}
		return pack(verifytest.Tar("usr/local/bin/webdis", "evil"))
	}})
	w.refused(ecrName+":"+tag, verify.LayerMismatch)
	w.deafen()
	root := w.chain(tag).Sides[1].Root
	refused := 0
	root.Each(func(l *verify.Link) {
		isLayer := l.Digest == ecr.Layers[amd64][1]
		if l.State == verify.StateRefused {
			refused++
			if l.Reason != verify.LayerMismatch || l.Detail == "" {
				t.Errorf("refused: %+v", l)
			}
		} else if isLayer {
			t.Errorf("the layer: %+v", l)
		}
	})
	if refused != 3 { // index, manifest, layer
		t.Errorf("%d links are refused, want 3", refused)
	}
}

func TestChainIsBounded(t *testing.T) {
	w := newWorld(t)
	release := verifytest.NewRelease("wide", amd64)
	var digests []digest.Digest
	hub := release.Push(w.hub, hubRepo, verifytest.Format{Tags: []string{"wide"}, Change: func(p string, doc map[string]any) {
		for range 3000 {
			if p != "" {
				doc["layers"] = append(layers(doc), layers(doc)[0])
			}
		}
	}})
	w.source.Sign("wide", hub.Root, hub.Size, w.clock())
	r := ref(t, hubName+":wide")
	for _, d := range []digest.Digest{"", hub.Manifests[amd64]} {
		r.Digest = d
		if _, _, err := w.read(r, true); err != nil {
			t.Fatal(err)
		}
	}
	w.deafen()
	omitted := 0
	w.chain("wide").Sides[0].Root.Each(func(l *verify.Link) {
		digests = append(digests, l.Digest)
		omitted += l.Omitted
	})
	if len(digests) > 1000 || len(digests)+omitted != 1+1+1+3002 {
		t.Errorf("%d links, %d omitted", len(digests), omitted)
	}
	roots, err := w.gate.Roots(t.Context(), ref(t, hubName), "wide")
	if err != nil || len(roots.Sides[0].Root.Children) != 0 || roots.Sides[0].Root.State != verify.StateVerified {
		t.Errorf("roots: %+v, %v", roots, err)
	}
}

func TestChainErrors(t *testing.T) {
	w := newWorld(t)
	w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	w.deafen()
	for name, want := range map[string]verify.Reason{hubName + ":0.0.0": verify.UnsignedTag, "docker.io/evil/webdis:0.1.19": verify.NoPolicy} {
		r := ref(t, name)
		if _, err := w.gate.Chain(t.Context(), r, r.Tag); verify.ReasonOf(err) != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	w.source.Fail(verify.Refuse(verify.MetadataExpired, "the timestamp expired"))
	if _, err := w.gate.Chain(t.Context(), ref(t, hubName), "0.1.19"); verify.ReasonOf(err) != verify.MetadataExpired {
		t.Errorf("a source that fails: %v", err)
	}
}
