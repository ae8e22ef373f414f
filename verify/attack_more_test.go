package verify_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// How many bytes a copy's layer may be said to have goes by what is signed: nobody
// downloads 32 GiB for an image of a few KiB.
func TestAttack40_ClaimedSizeGoesByTheSigned(t *testing.T) {
	for size, want := range map[int64]verify.Reason{256 << 20: "", 256<<20 + 1: verify.BadDescriptor, 1 << 34: verify.BadDescriptor} {
		w := newWorld(t)
		release := verifytest.NewRelease("0.1.19", amd64)
		w.publish("0.1.19", release, verifytest.Format{})
		lie := change(amd64, func(doc map[string]any) { layers(doc)[1].(map[string]any)["size"] = size })
		lie.Tags, lie.Level = []string{"0.1.19"}, 1
		layer := release.Push(w.ecr, ecrRepo, lie).Layers[amd64][1].String()
		w.ecr.Requests()
		if _, _, err := w.read(ref(t, ecrName+":0.1.19"), true); verify.ReasonOf(err) != want {
			t.Errorf("%d bytes: %v, want %q", size, err, want)
		}
		if asked := strings.Join(w.ecr.Requests(), " "); strings.Contains(asked, layer) {
			t.Errorf("%d bytes: the copy was asked for %s", size, asked)
		}
	}
}

// However many documents a copy and its clients make up, only a few are held in
// memory at once.
func TestAttack41_DocumentsMadeUpAtOnce(t *testing.T) {
	const asked, atOnce = 100, 8
	w := newWorld(t)
	w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	var held, most atomic.Int32
	full, release := make(chan struct{}), make(chan struct{})
	isFull := sync.OnceFunc(func() { close(full) })
	w.hook(&hooked{manifest: func(ctx context.Context, asked verify.Ref) error {
		if asked.Registry != "public.ecr.aws" {
			return nil
		}
		n := held.Add(1)
		defer held.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == atOnce {
			isFull()
		}
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil
	}})
	var wait sync.WaitGroup
	for i := range asked {
		evil := verifytest.NewRelease(fmt.Sprint("evil", i), amd64).Push(w.ecr, ecrRepo, verifytest.Format{Single: true})
		wait.Go(func() {
			if _, _, err := w.gate.Manifest(t.Context(), ref(t, ecrName).WithDigest(evil.Root)); verify.ReasonOf(err) != verify.NotAdmitted {
				t.Errorf("%v", err)
			}
		})
	}
	<-full
	w.mustPull(hubName + ":0.1.19") // which holds up nobody else
	close(release)
	wait.Wait()
	if n := most.Load(); n != atOnce {
		t.Errorf("%d documents were asked for at once", n)
	}
}

// Records of what a copy may serve, put where those of the signed repository would
// be, admit nothing there.
func TestAttack42_RecordOfAnotherRepository(t *testing.T) {
	w := newWorld(t)
	_, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	w.mustPull(ecrName + ":0.1.19")
	const from, to = "/public.ecr.aws_2Fnicolas_2Fwebdis/", "/docker.io_2Fnicolas_2Fwebdis/"
	copied := 0
	for _, folder := range []string{"/admissions", "/expectations"} {
		for _, d := range []digest.Digest{ecr.Root, ecr.Manifests[amd64], ecr.Layers[amd64][1]} {
			files, err := w.driver.List(t.Context(), folder+from+"sha256/"+d.Encoded()[:2]+"/"+d.Encoded())
			if err != nil {
				continue // it is in the other folder
			}
			for _, file := range files {
				raw, err := w.driver.GetContent(t.Context(), file)
				if err == nil {
					err = w.driver.PutContent(t.Context(), strings.Replace(file, from, to, 1), raw)
				}
				if err != nil {
					t.Fatal(err)
				}
				copied++
			}
		}
	}
	if copied < 3 {
		t.Fatalf("%d records were copied, so this test says nothing", copied)
	}
	w.start()
	for d, document := range map[digest.Digest]bool{ecr.Root: true, ecr.Manifests[amd64]: true, ecr.Layers[amd64][1]: false} {
		if _, _, err := w.read(ref(t, hubName).WithDigest(d), document); verify.ReasonOf(err) != verify.NotAdmitted {
			t.Errorf("%s of the copy, asked for as the signed repository's: %v", d, err)
		}
	}
}

// Two documents name one digest with different sizes, and both are pulled at once:
// neither harms the other, and what is stored is right.
func TestAttack43_OneDigestOfTwoSizes(t *testing.T) {
	w := newWorld(t)
	release := verifytest.NewRelease("0.1.19", amd64)
	hub, _ := w.publish("0.1.19", release, verifytest.Format{})
	for i := range 8 {
		lie := change(amd64, func(doc map[string]any) {
			layers(doc)[1].(map[string]any)["size"] = 1000 + i
		})
		pushed := release.Push(w.ecr, ecrRepo, lie) // the signed layers, by other sizes
		if _, _, err := w.read(ref(t, ecrName).WithDigest(pushed.Manifests[amd64]), true); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := w.read(ref(t, hubName).WithDigest(hub.Manifests[amd64]), true); err != nil {
		t.Fatal(err)
	}
	layer := hub.Layers[amd64][1]
	var wait sync.WaitGroup
	for i := range 40 {
		name := []string{hubName, ecrName}[i%2]
		wait.Go(func() {
			raw, _, err := w.read(ref(t, name).WithDigest(layer), false)
			if name == hubName && (err != nil || digest.FromBytes(raw) != layer) {
				t.Errorf("%s: %d bytes, %v", name, len(raw), err)
			}
			if name == ecrName && verify.ReasonOf(err) != verify.SizeMismatch {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wait.Wait()
	w.mustPull(hubName + ":0.1.19")
}

// A copy puts one kind of object in another's place, signed ones among them.
func TestAttack44_ObjectsInEachOthersPlace(t *testing.T) {
	const tarType, config = ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageConfig
	for name, test := range map[string]struct {
		change func(w *world, hub verifytest.Pushed, m map[string]any)
		want   verify.Reason
	}{
		"the signed index as a layer": {func(w *world, hub verifytest.Pushed, m map[string]any) {
			layers(m)[1] = w.blobOf(hub.Root, tarType)
		}, verify.LayerMismatch},
		"the signed manifest as a layer": {func(w *world, hub verifytest.Pushed, m map[string]any) {
			layers(m)[1] = w.blobOf(hub.Manifests[amd64], tarType)
		}, verify.LayerMismatch},
		"the signed manifest as the config": {func(w *world, hub verifytest.Pushed, m map[string]any) {
			m["config"] = w.blobOf(hub.Manifests[amd64], config)
		}, verify.ConfigMismatch},
		"a layer as the config": {func(_ *world, _ verifytest.Pushed, m map[string]any) {
			m["config"] = clone(layers(m)[0].(map[string]any))
			m["config"].(map[string]any)["mediaType"] = config
		}, verify.ConfigMismatch},
		"the config by sha512": {func(w *world, hub verifytest.Pushed, m map[string]any) {
			m["config"].(map[string]any)["digest"] = digest.SHA512.FromString("x").String()
		}, verify.ConfigMismatch},
		"a type with a parameter": {func(_ *world, _ verifytest.Pushed, m map[string]any) {
			layers(m)[1].(map[string]any)["mediaType"] = ocispec.MediaTypeImageLayerGzip + "; charset=utf-8"
		}, verify.MediaType},
		"a type in upper case": {func(_ *world, _ verifytest.Pushed, m map[string]any) {
			layers(m)[1].(map[string]any)["mediaType"] = strings.ToUpper(ocispec.MediaTypeImageLayerGzip)
		}, verify.MediaType},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			release := verifytest.NewRelease("0.1.19", amd64)
			hub, _ := w.publish("0.1.19", release, verifytest.Format{})
			release.Push(w.ecr, ecrRepo, verifytest.Format{})
			m := w.asPublished(hub.Manifests[amd64])
			test.change(w, hub, m)
			evil := pushDocument(w.ecr, ecrRepo, m, "0.1.19")
			w.refused(ecrName+":0.1.19", test.want)
			w.start()
			if _, err := w.pull(ecrName + "@" + evil.String()); err == nil {
				t.Error("by its digest it is served")
			}
			w.mustPull(hubName + ":0.1.19")
		})
	}
}

// blobOf puts a signed document among the copy's blobs, and describes it as one.
func (w *world) blobOf(d digest.Digest, mediaType string) map[string]any {
	raw := w.hub.Document(hubRepo, d.String()).Raw
	w.ecr.PutBlob(ecrRepo, raw)
	return map[string]any{"mediaType": mediaType, "digest": d.String(), "size": len(raw)}
}

// Whoever asks for ever new digests makes refusals be forgotten, but no registry is
// asked for that: what was searched is known still.
func TestAttack45_RefusalsForgotten(t *testing.T) {
	w := newWorld(t)
	w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	refused := func(i int) {
		r := ref(t, hubName).WithDigest(digest.FromString(fmt.Sprint(i)))
		if _, _, err := w.gate.Blob(t.Context(), r); verify.ReasonOf(err) != verify.NotAdmitted {
			t.Fatalf("%v", err)
		}
	}
	refused(-1)
	w.hub.Requests()
	for i := range 2000 {
		refused(i)
	}
	refused(-1)
	if asked := append(w.hub.Requests(), w.ecr.Requests()...); len(asked) > 0 {
		t.Errorf("for all that, registries were asked %d times: %q", len(asked), asked[:min(3, len(asked))])
	}
}

// Ever new names under a pattern are kept in memory up to a number only, and are no
// reason to forget a pull that is under way.
func TestAttack46_NamesUnderAPattern(t *testing.T) {
	made := 0
	policy, err := verify.NewPolicy([]verify.ImageRule{{
		Signed: "docker.io/org/*", Copies: []string{"public.ecr.aws/org/*"},
		Source: func(verify.Ref) (verify.Source, error) { made++; return &verifytest.Source{}, nil },
	}})
	if err != nil {
		t.Fatal(err)
	}
	image := func(name string) *verify.Image {
		found, err := policy.Image(ref(t, "public.ecr.aws/org/"+name))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	first := image("real")
	if image("real") != first || made != 1 {
		t.Fatalf("%d sources were made for one repository", made)
	}
	for i := range 5000 {
		image(fmt.Sprint("made-up-", i))
	}
	if image("real") == first || made != 5002 {
		t.Errorf("%d sources were made, and all of them are kept", made)
	}
}

// Which mirrors a client says it came through is its own affair: it fails its own
// pull, and nobody's who comes after.
func TestAttack47_FailureOfOneAsker(t *testing.T) {
	w := newWorld(t)
	w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	w.hook(&hooked{manifest: func(ctx context.Context, _ verify.Ref) error {
		if ctx.Value(askerKey{}) == "liar" {
			return verify.Unavailable(verify.UpstreamUnavailable, "it came through too many mirrors")
		}
		return nil
	}})
	liar := context.WithValue(t.Context(), askerKey{}, "liar")
	_, _, err := w.gate.Manifest(liar, ref(t, hubName+":0.1.19"))
	if !errors.As(err, new(*verify.UnavailableError)) {
		t.Fatal(err)
	}
	w.mustPull(hubName + ":0.1.19")
}

// What a refusal costs: cold as much as the cheapest proof of it, and nothing when it
// is repeated.
func TestCostOfRefusals(t *testing.T) {
	other := verifytest.NewRelease("other", amd64, arm64)
	for name, test := range map[string]struct {
		ask      func(w *world) (name string)
		document bool
		most     []string // of what kind the requests may be, with how many of each at most
	}{
		"an unsigned tag": {func(*world) string { return hubName + ":evil" }, true, nil},
		"an unsigned tag of the copy": {func(w *world) string {
			other.Push(w.ecr, ecrRepo, verifytest.Format{Tags: []string{"evil"}})
			return ecrName + ":evil"
		}, true, nil},
		"a digest nobody has signed": {func(*world) string { return hubName + "@" + digest.FromString("evil").String() }, true,
			[]string{"manifests", "manifests", "manifests"}}, // those that are signed
		"a copy with another config": {func(w *world) string {
			other.Push(w.ecr, ecrRepo, verifytest.Format{Tags: []string{"0.1.19"}})
			return ecrName + ":0.1.19"
		}, true, []string{"manifests", "manifests", "manifests", "manifests", "manifests"}}, // its index, its first manifest, the signed ones
		"a copy with one platform more": {func(w *world) string {
			verifytest.NewRelease("0.1.19", "linux/riscv64").Push(w.ecr, ecrRepo, verifytest.Format{Tags: []string{"0.1.19"}})
			return ecrName + ":0.1.19"
		}, true, []string{"manifests", "manifests"}}, // its index, the signed one
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64, arm64), verifytest.Format{})
			r := ref(t, test.ask(w))
			for _, cold := range []bool{true, false} {
				if _, _, err := w.read(r, test.document); !errors.As(err, new(*verify.Refusal)) {
					t.Fatalf("%v", err)
				}
				var kinds []string
				for _, q := range append(w.hub.Requests(), w.ecr.Requests()...) {
					kind, _, _ := strings.Cut(strings.TrimPrefix(q, "GET "+hubRepo+"/"), "/")
					kinds = append(kinds, kind)
				}
				most := test.most
				if !cold {
					most = nil
				}
				slices.Sort(kinds)
				if len(kinds) > len(most) || !slices.Equal(kinds, most[:len(kinds)]) {
					t.Errorf("cold is %v: registries were asked for %q, at most %q are needed", cold, kinds, most)
				}
				w.advance(time.Second)
			}
		})
	}
}
