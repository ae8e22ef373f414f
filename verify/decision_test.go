package verify_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// chains are the chains of trust of all admissions in one repository, each as
// "layer diff_id < manifest same_config < index same_config".
func (w *world) chains(t *testing.T, repository string) map[string]int {
	t.Helper()
	chains := map[string]int{}
	for _, d := range w.decisions {
		if d.Admission == nil || d.Ref.Name() != repository {
			continue
		}
		edges, signers := d.Chain(t.Context())
		if d.Image != hubName || len(signers) != 1 {
			t.Errorf("%s of image %q is signed by %q", d.Ref, d.Image, signers)
		}
		if edges[0] != *d.Admission || edges[len(edges)-1].Parent != "" {
			t.Errorf("chain of %s: %+v", d.Ref, edges)
		}
		var parts []string
		for i, e := range edges {
			parts = append(parts, fmt.Sprint(e.Kind, " ", e.Proof))
			if e.Signed != d.Admission.Signed || i > 0 && e.Digest != edges[i-1].Parent {
				t.Errorf("chain of %s: %+v", d.Ref, edges)
			}
		}
		chains[strings.Join(parts, " < ")]++
	}
	return chains
}

func wantChains(t *testing.T, got map[string]int, want ...string) {
	t.Helper()
	for _, chain := range want {
		if got[chain] == 0 {
			t.Errorf("nothing was admitted by %q: %v", chain, got)
		}
	}
	if len(got) != len(want) {
		t.Errorf("chains %v, want %q", got, want)
	}
}

// A decision tells the whole chain of trust, in each repository.
func TestDecisionChain(t *testing.T) {
	w := newWorld(t)
	w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64, arm64), verifytest.Format{})
	w.mustPull(hubName + ":0.1.19")
	wantChains(t, w.chains(t, hubName),
		"index signed", "manifest listed < index signed",
		"config listed < manifest listed < index signed", "layer listed < manifest listed < index signed")
	w.mustPull(ecrName + ":0.1.19")
	wantChains(t, w.chains(t, ecrName),
		"index same_config", "manifest same_config < index same_config",
		"config listed < manifest same_config < index same_config", "layer diff_id < manifest same_config < index same_config")
}

// Who pulls a blob by its digest alone gets its whole chain, too, though nobody
// asked for the documents above it.
func TestDecisionChainOfABlobAlone(t *testing.T) {
	w := newWorld(t)
	hub, _ := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	if _, _, err := w.read(ref(t, hubName).WithDigest(hub.Layers[amd64][0]), false); err != nil {
		t.Fatal(err)
	}
	wantChains(t, w.chains(t, hubName), "layer listed < manifest listed < index signed")
}

// An admission is told with the context of who asked, though the work is shared,
// and a refusal names the image.
func TestDecisionAsker(t *testing.T) {
	w := newWorld(t)
	w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	ctx := context.WithValue(t.Context(), askerKey{}, "me")
	content, _, err := w.gate.Manifest(ctx, ref(t, hubName+":0.1.19"))
	if err != nil {
		t.Fatal(err)
	}
	content.Close()
	for _, name := range []string{ecrName + ":latest", "docker.io/nicolas/other:1"} {
		if _, _, err := w.gate.Manifest(ctx, ref(t, name)); !errors.As(err, new(*verify.Refusal)) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	var images []string
	for i, d := range w.decisions {
		images = append(images, d.Image)
		if w.askers[i] != "me" {
			t.Errorf("%s was asked for by %v", d.Ref, w.askers[i])
		}
		if edges, _ := d.Chain(t.Context()); d.Refusal != nil && edges != nil {
			t.Errorf("a refusal has the chain %v", edges)
		}
	}
	if strings.Join(images, " ") != hubName+" "+hubName+" " || w.decisions[0].Admission.Kind != storage.KindIndex {
		t.Errorf("decisions for %q", images)
	}
}
