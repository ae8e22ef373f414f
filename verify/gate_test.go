package verify_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

func TestPullSigned(t *testing.T) {
	w := newWorld(t)
	hub, _ := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64, arm64), verifytest.Format{})
	w.hub.SetDocument(hubRepo, "0.1.19", verifytest.Document{}) // the upstream's tag must not matter

	got := w.mustPull(hubName + ":0.1.19")
	if len(got) != 9 {
		t.Errorf("pulled %d objects, want 1 index, 2 manifests, 2 configs and 4 layers", len(got))
	}
	want := requests("GET", hubRepo, hub.Root, hub.Manifests[amd64], hub.Manifests[arm64], hub.Blobs(amd64), hub.Blobs(arm64))
	if asked := sorted(w.hub.Requests()); !slices.Equal(asked, want) {
		t.Errorf("asked the Hub\n %s\nwant each object once\n %s", strings.Join(asked, "\n "), strings.Join(want, "\n "))
	}
	if asked := w.ecr.Requests(); len(asked) > 0 {
		t.Errorf("asked ECR %q", asked)
	}

	w.hub.SetDown(true)
	w.ecr.SetDown(true)
	for _, name := range []string{hubName + ":0.1.19", hubName + "@" + hub.Root.String()} {
		if again := w.mustPull(name); !maps.EqualFunc(again, got, slices.Equal) {
			t.Errorf("warm pull of %s differs", name)
		}
	}
	w.start() // and after a restart
	w.mustPull(hubName + ":0.1.19")
	if asked := append(w.hub.Requests(), w.ecr.Requests()...); len(asked) > 0 {
		t.Errorf("a warm pull asked %q", asked)
	}
}

func TestPullCopy(t *testing.T) {
	for name, format := range map[string]verifytest.Format{
		"gzip": {}, "OCI": {OCI: true}, "zstd": {OCI: true, Layers: "zstd"}, "tar": {Layers: "tar"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			hub, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64, arm64), format)
			if hub.Root == ecr.Root || hub.Configs[amd64] != ecr.Configs[amd64] {
				t.Fatal("the copy must differ in its documents and agree in its configs")
			}
			got := w.mustPull(ecrName + ":0.1.19")

			want := requests("GET", ecrRepo, "manifests/0.1.19", ecr.Manifests[amd64], ecr.Manifests[arm64], ecr.Blobs(amd64), ecr.Blobs(arm64))
			if asked := sorted(w.ecr.Requests()); !slices.Equal(asked, want) {
				t.Errorf("asked ECR\n %s\nwant each object once\n %s", strings.Join(asked, "\n "), strings.Join(want, "\n "))
			}
			want = requests("GET", hubRepo, hub.Root, hub.Manifests[amd64], hub.Manifests[arm64])
			if asked := sorted(w.hub.Requests()); !slices.Equal(asked, want) {
				t.Errorf("asked the Hub\n %s\nwant the signed documents only\n %s", strings.Join(asked, "\n "), strings.Join(want, "\n "))
			}

			w.hub.SetDown(true)
			w.ecr.SetDown(true)
			w.start()
			if again := w.mustPull(ecrName + ":0.1.19"); !maps.EqualFunc(again, got, slices.Equal) {
				t.Error("the warm pull differs")
			}
			if asked := append(w.hub.Requests(), w.ecr.Requests()...); len(asked) > 0 {
				t.Errorf("a warm pull asked %q", asked)
			}
		})
	}
}

func TestPullSingleArchitecture(t *testing.T) {
	t.Run("equal digests", func(t *testing.T) { // as 0.1.12 to 0.1.18
		w := newWorld(t)
		release := verifytest.NewRelease("0.1.18", amd64)
		format := verifytest.Format{Single: true, Tags: []string{"0.1.18"}}
		hub := release.Push(w.hub, hubRepo, format)
		if ecr := release.Push(w.ecr, ecrRepo, format); ecr.Root != hub.Root {
			t.Fatal("digests differ")
		}
		w.source.Sign("0.1.18", hub.Root, hub.Size, w.clock())
		w.mustPull(ecrName + ":0.1.18")
		if asked := w.hub.Requests(); len(asked) > 0 {
			t.Errorf("asked the Hub %q for what ECR has", asked)
		}
		w.mustPull(hubName + ":0.1.18")
		if asked := w.hub.Requests(); len(asked) > 0 {
			t.Errorf("asked the Hub %q for what is stored", asked)
		}
	})
	t.Run("one config", func(t *testing.T) {
		w := newWorld(t)
		release := verifytest.NewRelease("0.1.18", amd64)
		hub := release.Push(w.hub, hubRepo, verifytest.Format{Single: true, Tags: []string{"0.1.18"}})
		release.Push(w.ecr, ecrRepo, verifytest.Format{Single: true, OCI: true, Level: 1, Tags: []string{"0.1.18"}})
		w.source.Sign("0.1.18", hub.Root, hub.Size, w.clock())
		w.mustPull(ecrName + ":0.1.18")
	})
}

// TestPullByDigestCold pulls what nobody led to: a pod pinned to a digest on an
// empty cache (S1).
func TestPullByDigestCold(t *testing.T) {
	prepare := func(t *testing.T) (*world, verifytest.Pushed, verifytest.Pushed) {
		w := newWorld(t)
		w.publish("0.1.18", verifytest.NewRelease("0.1.18", amd64), verifytest.Format{})
		hub, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64, arm64), verifytest.Format{})
		return w, hub, ecr
	}
	for name, of := range map[string]func(hub, ecr verifytest.Pushed) string{
		"index on the Hub":    func(hub, _ verifytest.Pushed) string { return hubName + "@" + hub.Root.String() },
		"manifest on the Hub": func(hub, _ verifytest.Pushed) string { return hubName + "@" + hub.Manifests[arm64].String() },
		"index on ECR":        func(_, ecr verifytest.Pushed) string { return ecrName + "@" + ecr.Root.String() },
		"manifest on ECR":     func(_, ecr verifytest.Pushed) string { return ecrName + "@" + ecr.Manifests[arm64].String() },
	} {
		t.Run(name, func(t *testing.T) {
			w, hub, ecr := prepare(t)
			w.mustPull(of(hub, ecr))
			for _, registry := range []*verifytest.Registry{w.hub, w.ecr} {
				for object, n := range registry.Counts() {
					if n != 1 {
						t.Errorf("asked %d times: %s", n, object)
					}
				}
			}
		})
	}
	for name, of := range map[string]func(hub, ecr verifytest.Pushed) (string, digest.Digest){
		"layer on the Hub": func(hub, _ verifytest.Pushed) (string, digest.Digest) { return hubName, hub.Layers[arm64][1] },
		"layer on ECR":     func(_, ecr verifytest.Pushed) (string, digest.Digest) { return ecrName, ecr.Layers[arm64][1] },
		"config on ECR":    func(_, ecr verifytest.Pushed) (string, digest.Digest) { return ecrName, ecr.Configs[arm64] },
	} {
		t.Run(name, func(t *testing.T) {
			w, hub, ecr := prepare(t)
			repo, d := of(hub, ecr)
			if _, _, err := w.read(ref(t, repo).WithDigest(d), false); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestAttack25 asks for what isn't reachable from anything signed, or is, but
// elsewhere (S1).
func TestAttack25_Unreachable(t *testing.T) {
	w := newWorld(t)
	hub, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	evil := verifytest.NewRelease("evil", amd64).Push(w.hub, hubRepo, verifytest.Format{Tags: []string{"evil"}})
	verifytest.NewRelease("evil", amd64).Push(w.ecr, ecrRepo, verifytest.Format{})
	w.mustPull(hubName + ":0.1.19")
	w.mustPull(ecrName + ":0.1.19")

	w.refused(hubName+":evil", verify.UnsignedTag)
	w.refused(ecrName+":evil", verify.UnsignedTag)
	w.refused(hubName+"@"+evil.Root.String(), verify.NotAdmitted)
	w.refused(ecrName+"@"+evil.Root.String(), verify.NotAdmitted)
	w.refused(hubName+"@"+evil.Manifests[amd64].String(), verify.NotAdmitted)
	w.refused("docker.io/nicolas/webdis-evil@"+hub.Root.String(), verify.NoPolicy)
	w.refused("evil.example/docker.io/nicolas/webdis@"+hub.Root.String(), verify.NoPolicy)
	// In storage, but admitted in the other repository only.
	w.refused(hubName+"@"+ecr.Root.String(), verify.NotAdmitted)
	for _, d := range []digest.Digest{evil.Layers[amd64][1], evil.Configs[amd64], ecr.Layers[amd64][1]} {
		if _, _, err := w.read(ref(t, hubName).WithDigest(d), false); verify.ReasonOf(err) != verify.NotAdmitted {
			t.Errorf("blob %s on the Hub: %v", d, err)
		}
	}

	w.hub.Requests()
	w.ecr.Requests()
	w.refused(hubName+"@"+evil.Root.String(), verify.NotAdmitted)
	w.refused(ecrName+"@"+evil.Root.String(), verify.NotAdmitted)
	if asked := append(w.hub.Requests(), w.ecr.Requests()...); len(asked) > 0 {
		t.Errorf("a repeated refusal asked %q", asked)
	}
}

// TestPullConcurrently has 200 clients pull one cold image under both names (S4).
func TestPullConcurrently(t *testing.T) {
	w := newWorld(t)
	w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64, arm64), verifytest.Format{})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			name := []string{hubName, ecrName}[i%2]
			if _, err := w.pull(name + ":0.1.19"); err != nil {
				t.Errorf("pull %d of %s: %v", i, name, err)
			}
		})
	}
	wg.Wait()
	for registry, counts := range map[string]map[string]int{"the Hub": w.hub.Counts(), "ECR": w.ecr.Counts()} {
		for object, n := range counts {
			if n != 1 {
				t.Errorf("asked %s %d times: %s", registry, n, object)
			}
		}
	}
}

// TestSuperseded signs another digest for a tag: what was admitted for the first
// one is served until grace has passed (S2).
func TestSuperseded(t *testing.T) {
	w := newWorld(t)
	hub, ecr := w.publish("latest", verifytest.NewRelease("0.1.18", amd64), verifytest.Format{})
	w.mustPull(hubName + ":latest")
	w.mustPull(ecrName + ":latest")
	w.publish("latest", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})

	w.advance(59 * time.Minute)
	w.mustPull(hubName + "@" + hub.Root.String())
	w.mustPull(ecrName + "@" + ecr.Root.String())
	if got := w.mustPull(hubName + ":latest"); got[hub.Root] != nil {
		t.Error("the tag still leads to what was signed before")
	}
	if got := w.mustPull(ecrName + ":latest"); got[ecr.Root] != nil {
		t.Error("the copy's tag still leads to what was signed before")
	}
	w.advance(2 * time.Minute)
	w.start()
	w.refused(hubName+"@"+hub.Root.String(), verify.Superseded)
	w.refused(ecrName+"@"+ecr.Root.String(), verify.Superseded)
	if _, _, err := w.read(ref(t, hubName).WithDigest(hub.Layers[amd64][1]), false); verify.ReasonOf(err) != verify.Superseded {
		t.Errorf("a layer of the superseded image: %v", err)
	}
	w.mustPull(hubName + ":latest")
	w.mustPull(ecrName + ":latest")
}

// TestCopyLagsBehind serves a copy that doesn't have the new release yet, while
// grace lasts.
func TestCopyLagsBehind(t *testing.T) {
	w := newWorld(t)
	_, ecr := w.publish("latest", verifytest.NewRelease("0.1.18", amd64), verifytest.Format{})
	hub := verifytest.NewRelease("0.1.19", amd64).Push(w.hub, hubRepo, verifytest.Format{Tags: []string{"latest"}})
	w.source.Sign("latest", hub.Root, hub.Size, w.clock())
	if got := w.mustPull(ecrName + ":latest"); got[ecr.Root] == nil {
		t.Error("not what the copy has")
	}
	w.advance(61 * time.Minute)
	w.refused(ecrName+":latest", verify.ConfigMismatch)
}

// TestStandIn fetches equal digests from a copy while the Hub is down (C5).
func TestStandIn(t *testing.T) {
	w := newWorld(t)
	release := verifytest.NewRelease("0.1.18", amd64)
	hub := release.Push(w.hub, hubRepo, verifytest.Format{Single: true})
	release.Push(w.ecr, ecrRepo, verifytest.Format{Single: true})
	w.source.Sign("0.1.18", hub.Root, hub.Size, w.clock())
	w.hub.SetDown(true)
	w.mustPull(hubName + ":0.1.18")

	w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	_, err := w.pull(hubName + ":0.1.19")
	if verify.ReasonOf(err) != verify.UpstreamUnavailable {
		t.Errorf("the Hub is down and ECR has no equal digest: %v", err)
	}
	w.hub.SetDown(false)
	w.mustPull(hubName + ":0.1.19") // not remembered
}

// TestTrustFails shows that nothing is served, stored or not, once the trust
// source refuses.
func TestTrustFails(t *testing.T) {
	w := newWorld(t)
	hub, _ := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	w.mustPull(hubName + ":0.1.19")
	w.source.Fail(verify.Refuse(verify.MetadataExpired, "timestamp expired"))
	w.refused(hubName+":0.1.19", verify.MetadataExpired)
	w.refused(hubName+"@"+hub.Root.String(), verify.MetadataExpired)
	if _, err := w.gate.Tags(t.Context(), ref(t, hubName)); verify.ReasonOf(err) != verify.MetadataExpired {
		t.Errorf("tags: %v", err)
	}
}

// TestWaiterLeaves shows that an asker who leaves neither waits nor takes the
// others' answer away (S4).
func TestWaiterLeaves(t *testing.T) {
	w := newWorld(t)
	w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	left, leave := context.WithCancel(t.Context())
	leave()
	if _, _, err := w.gate.Manifest(left, ref(t, hubName+":0.1.19")); !errors.Is(err, context.Canceled) && err != nil {
		t.Errorf("an asker who left got %v", err)
	}
	w.mustPull(hubName + ":0.1.19")
}

func TestTags(t *testing.T) {
	w := newWorld(t)
	for _, tag := range []string{"0.1.19", "latest", "0.1.20"} {
		w.publish(tag, verifytest.NewRelease(tag, amd64), verifytest.Format{})
	}
	w.source.Unsign("0.1.20", w.clock())
	for _, name := range []string{hubName, ecrName} {
		tags, err := w.gate.Tags(t.Context(), ref(t, name))
		if err != nil || !slices.Equal(tags, []string{"0.1.19", "latest"}) {
			t.Errorf("%s: %q, %v", name, tags, err)
		}
	}
	if got := w.gate.Repositories(); !slices.Equal(got, []string{hubName, ecrName}) {
		t.Errorf("repositories: %q", got)
	}
}
