package warm_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
	"github.com/trustmirror/trustmirror/verify/warm"
)

func TestWalk(t *testing.T) {
	// An index, two manifests, two configs, and two layers for each platform.
	const whole = 1 + 2 + 2 + 4
	for name, tc := range map[string]struct {
		ref       string
		platforms []warm.Platform
		objects   int
		missing   int
	}{
		"signed":                {ref: hubName + ":0.1.19", objects: whole},
		"copy":                  {ref: ecrName + ":0.1.19", objects: whole},
		"one platform":          {ref: hubName + ":0.1.19", platforms: []warm.Platform{{OS: "linux", Architecture: "amd64"}}, objects: 5},
		"any variant":           {ref: ecrName + ":0.1.19", platforms: []warm.Platform{{OS: "linux", Architecture: "arm64"}}, objects: 5},
		"another variant":       {ref: hubName + ":0.1.19", platforms: []warm.Platform{{OS: "linux", Architecture: "arm64", Variant: "v9"}}, objects: 1, missing: 1},
		"both, and one missing": {ref: hubName + ":0.1.19", platforms: []warm.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "s390x"}}, objects: 5, missing: 1},
		"a platform twice":      {ref: hubName + ":0.1.19", platforms: []warm.Platform{{OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "arm64", Variant: "v8"}}, objects: 5},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.publish("0.1.19", verifytest.Format{})
			var last warm.Progress
			walk := &warm.Walk{Mirror: w.mirror, Platforms: tc.platforms, AtOnce: 3, Told: func(p warm.Progress) { last = p }}
			image := walk.Image(t.Context(), ref(t, tc.ref))
			there, fresh := image.Sum()
			if failed := image.Failed(); len(failed) > 0 || there.Objects != tc.objects || fresh != there || len(image.Missing) != tc.missing {
				t.Errorf("%+v are there, %+v are new, missing %v, failed %v", there, fresh, image.Missing, failed)
			}
			if last.Objects != there.Objects || last.Total != there.Objects || last.Bytes != there.Bytes || last.TotalBytes != there.Bytes || !last.Complete {
				t.Errorf("progress at the end: %+v, want %+v", last, there)
			}
			for _, o := range image.Objects {
				if content, err := w.store.OpenContent(t.Context(), o.Ref.Digest); err != nil || content.Size != o.Size {
					t.Errorf("%s %s isn't stored: %v", o.Kind, o.Ref, err)
				}
			}

			w.fetched()
			again := walk.Image(t.Context(), ref(t, tc.ref))
			if now, fresh := again.Sum(); now != there || fresh.Objects != 0 || w.fetched() {
				t.Errorf("the second time %+v are there, %+v new", now, fresh)
			}
		})
	}
}

// Attestations are taken only where everything is.
func TestWalkAttestations(t *testing.T) {
	w := newWorld(t)
	hub := verifytest.NewRelease("attested", amd64, "unknown/unknown").Push(w.hub, repo, verifytest.Format{Tags: []string{"1"}})
	w.source.Sign("1", hub.Root, hub.Size, time.Now())
	for want, platforms := range map[int][]warm.Platform{9: nil, 5: {{OS: "linux", Architecture: "amd64"}}} {
		image := (&warm.Walk{Mirror: w.mirror, Platforms: platforms, AtOnce: 3}).Image(t.Context(), ref(t, hubName+":1"))
		if there, _ := image.Sum(); there.Objects != want || len(image.Failed()) > 0 {
			t.Errorf("%v: %d objects, failed %v", platforms, there.Objects, image.Failed())
		}
	}
}

// By digest it begins where it is told to.
func TestWalkByDigest(t *testing.T) {
	w := newWorld(t)
	hub, ecr := w.publish("0.1.19", verifytest.Format{OCI: true})
	for name, want := range map[string]int{
		hubName + "@" + hub.Manifests[amd64].String(): 4,
		ecrName + "@" + ecr.Manifests[arm64].String(): 4,
		ecrName + "@" + ecr.Root.String():             9,
	} {
		image := (&warm.Walk{Mirror: w.mirror, AtOnce: 1}).Image(t.Context(), ref(t, name))
		if there, _ := image.Sum(); there.Objects != want || len(image.Failed()) > 0 {
			t.Errorf("%s: %d objects, failed %v", name, there.Objects, image.Failed())
		}
	}
}

// What is refused is told with its reason, and the rest is warm all the same.
func TestWalkGoesOnAfterRefusals(t *testing.T) {
	w := newWorld(t)
	_, ecr := w.publish("0.1.19", verifytest.Format{ChangeLayer: func(platform string, i int, packed []byte) []byte {
		if platform == amd64 && i == 1 {
			return verifytest.Tar("usr/local/bin/webdis", "something else")
		}
		return packed
	}, Layers: "tar"})
	walk := &warm.Walk{Mirror: w.mirror, AtOnce: 3}
	image := walk.Image(t.Context(), ref(t, ecrName+":0.1.19"))
	if got := reasons(image); !slices.Equal(got, []string{"layer layer_mismatch"}) {
		t.Errorf("failed: %v", got)
	}
	if there, _ := image.Sum(); there.Objects != 8 {
		t.Errorf("%d objects", there.Objects)
	}
	if _, err := w.store.OpenContent(t.Context(), ecr.Layers[amd64][1]); err == nil {
		t.Error("the layer that was refused is stored")
	}

	for name, want := range map[string]string{
		hubName + ":latest":                 " unsigned_tag",
		"docker.io/somebody/else:1":         " no_policy",
		hubName + "@" + ecr.Root.String():   "manifest not_admitted",
		"registry.example/nicolas/webdis:1": " no_policy",
	} {
		if got := reasons(walk.Image(t.Context(), ref(t, name))); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %v, want %s", name, got, want)
		}
	}
}

// A registry that is down is no refusal, and one object that is gone is found out
// about.
func TestWalkTellsWhatCouldNotBeHad(t *testing.T) {
	w := newWorld(t)
	hub, _ := w.publish("0.1.19", verifytest.Format{Layers: "zstd"}) // so that ECR can't stand in
	w.hub.Delete(repo, hub.Layers[arm64][0].String())
	image := (&warm.Walk{Mirror: w.mirror, AtOnce: 3}).Image(t.Context(), ref(t, hubName+":0.1.19"))
	if got := reasons(image); !slices.Equal(got, []string{"layer not_found"}) {
		t.Errorf("failed: %v", got)
	}
	w.hub.SetDown(true)
	w.publish("0.1.20", verifytest.Format{Layers: "zstd"})
	image = (&warm.Walk{Mirror: w.mirror, AtOnce: 3}).Image(t.Context(), ref(t, hubName+":0.1.20"))
	if got := reasons(image); !slices.Equal(got, []string{" " + string(verify.UpstreamUnavailable)}) {
		t.Errorf("failed: %v", got)
	}
}

// No more objects are asked for at once than it is said, and as many.
func TestWalkAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hub, _ := w.publish("0.1.19", verifytest.Format{})
		configs := []digest.Digest{hub.Configs[amd64], hub.Configs[arm64]}
		free := make(chan struct{})
		w.block = func(r verify.Ref) {
			if !slices.Contains(configs, r.Digest) {
				<-free
			}
		}
		done := make(chan *warm.Image, 1)
		go func() {
			done <- (&warm.Walk{Mirror: w.mirror, AtOnce: 3}).Image(t.Context(), ref(t, hubName+":0.1.19"))
		}()
		synctest.Wait() // four layers are to be had
		w.mu.Lock()
		atOnce := w.atOnce
		w.mu.Unlock()
		close(free)
		if image := <-done; len(image.Failed()) > 0 || atOnce != 3 {
			t.Errorf("%d were fetched at once, failed %v", atOnce, image.Failed())
		}
	})
}

// When ctx ends the walk ends, though a download hangs.
func TestWalkEnds(t *testing.T) {
	w := newWorld(t)
	hub, _ := w.publish("0.1.19", verifytest.Format{})
	free, reached := make(chan struct{}), make(chan struct{})
	layer := ref(t, hubName).WithDigest(hub.Layers[amd64][0])
	w.block = func(r verify.Ref) {
		if r == layer {
			close(reached)
			<-free
		}
	}
	t.Cleanup(func() { close(free) }) // before the Gate waits for it
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan *warm.Image)
	go func() { done <- (&warm.Walk{Mirror: w.mirror, AtOnce: 1}).Image(ctx, ref(t, hubName+":0.1.19")) }()
	<-reached
	cancel()
	image := <-done
	if failed := image.Failed(); len(failed) != 1 || failed[0].Kind != storage.KindLayer {
		t.Errorf("failed: %v", failed)
	}
}

func TestParsePlatform(t *testing.T) {
	for _, s := range []string{"linux/amd64", "linux/arm/v7", "windows/amd64"} {
		if p, err := warm.ParsePlatform(s); err != nil || p.String() != s {
			t.Errorf("%s: %v, %v", s, p, err)
		}
	}
	for _, s := range []string{"", "linux", "linux/", "amd64", "linux/amd64/", "linux/amd64/v1/x", "Linux/amd64", "*/amd64", "linux/*"} {
		if p, err := warm.ParsePlatform(s); err == nil {
			t.Errorf("%q is taken for %v", s, p)
		}
	}
}
