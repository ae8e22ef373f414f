package verify_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// TestAttack93_ManifestsOfManyMegabytes has a copy list a manifest of some megabytes,
// most of them blanks, for each platform that is signed: they aren't all fetched into
// memory to be compared.
func TestAttack93_ManifestsOfManyMegabytes(t *testing.T) {
	w := newWorld(t)
	var platforms []string
	for i := range 8 {
		platforms = append(platforms, fmt.Sprintf("linux/arm/v%d", i))
	}
	hub, _ := w.publish("0.1.19", verifytest.NewRelease("0.1.19", platforms...), verifytest.Format{})
	index := w.asPublished(hub.Root)
	var list []any
	for i, p := range platforms {
		doc := w.hub.Document(hubRepo, hub.Manifests[p].String())
		doc.Raw = append(bytes.Clone(doc.Raw), bytes.Repeat([]byte{' '}, 1<<20)...)
		d := w.ecr.PutDocument(ecrRepo, doc)
		list = append(list, describe(w.ecr, ecrRepo, d, member(entries(index)[i], "platform")))
	}
	index["manifests"] = list
	root := pushDocument(w.ecr, ecrRepo, index, "0.1.19")
	w.ecr.Requests()
	w.refused(ecrName+":0.1.19", verify.BadDescriptor)
	w.refused(ecrName+"@"+root.String(), verify.BadDescriptor)
	if n := len(w.ecr.Requests()); n > 4 {
		t.Errorf("the copy was asked %d times", n)
	}
}

// TestAttack90_SizesOfTwoTags has who may sign one tag sign a digest that another tag
// has, with a length that is wrong: that harms the one tag only.
func TestAttack90_SizesOfTwoTags(t *testing.T) {
	for _, lie := range []string{"aaa", "zzz"} {
		w := newWorld(t)
		hub, ecr := w.publish("latest", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
		w.source.Sign(lie, hub.Root, hub.Size+1, w.clock())
		if _, _, err := w.read(ref(t, ecrName).WithDigest(ecr.Layers[amd64][1]), false); err != nil {
			t.Errorf("%s: a copy's layer by digest: %v", lie, err)
		}
		if _, _, err := w.read(ref(t, hubName).WithDigest(hub.Layers[amd64][1]), false); err != nil {
			t.Errorf("%s: a layer by digest: %v", lie, err)
		}
		if _, err := w.pull(hubName + ":latest"); err != nil {
			t.Errorf("%s: %v", lie, err)
		}
		if _, err := w.pull(ecrName + "@" + ecr.Root.String()); err != nil {
			t.Errorf("%s: %v", lie, err)
		}
	}
}

// TestAttack91_RefusedBeforeItWasNamed has a client ask for the blobs of a copy's
// document before anybody pulled that: who pulls it then isn't told what that client was.
func TestAttack91_RefusedBeforeItWasNamed(t *testing.T) {
	w := newWorld(t)
	_, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{OCI: true})
	w.ecr.Delete(ecrRepo, "0.1.19") // known by digest only
	for _, d := range ecr.Blobs(amd64) {
		if d == ecr.Configs[amd64] {
			continue // which is signed itself
		}
		if _, _, err := w.read(ref(t, ecrName).WithDigest(d), false); verify.ReasonOf(err) != verify.NotAdmitted {
			t.Fatalf("%s: %v", d, err)
		}
	}
	w.mustPull(ecrName + "@" + ecr.Root.String())
}
