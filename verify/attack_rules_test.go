package verify_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// A registry that neither answers nor breaks off is waited for up to an hour, whatever
// else bounds it (C4).
func TestAttack113_WorkWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
		w.hook(&hooked{manifest: func(ctx context.Context, _ verify.Ref) error {
			<-ctx.Done()
			return ctx.Err()
		}})
		_, _, err := w.gate.Manifest(t.Context(), ref(t, hubName+":0.1.19"))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v", err)
		}
	})
}

// The signed manifest has fewer layers than its config names, so which of them stands
// where isn't signed: a copy's has to hash to its diff ID (C4).
func TestAttack114_SignedManifestWithFewerLayers(t *testing.T) {
	w := newWorld(t)
	release := verifytest.NewRelease("0.1.19", amd64)
	hub := release.Push(w.hub, hubRepo, verifytest.Format{Change: func(platform string, doc map[string]any) {
		if platform == amd64 {
			doc["layers"] = layers(doc)[1:]
		}
	}})
	w.source.Sign("0.1.19", hub.Root, hub.Size, w.clock())
	swapped := change(amd64, func(doc map[string]any) { slices.Reverse(layers(doc)) })
	swapped.OCI = false
	lie := release.Push(w.ecr, ecrRepo, swapped)
	if _, _, err := w.read(ref(t, ecrName).WithDigest(lie.Manifests[amd64]), true); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.read(ref(t, ecrName).WithDigest(hub.Layers[amd64][1]), false); verify.ReasonOf(err) != verify.LayerMismatch {
		t.Errorf("in the other's place: %v", err)
	}
}

// A copy has the last layer once more, packed in another way (C4).
func TestAttack114_OneLayerMore(t *testing.T) {
	w := newWorld(t)
	hub, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	manifest := w.asPublished(hub.Manifests[amd64])
	packed := layers(parse(w.ecr.Document(ecrRepo, ecr.Manifests[amd64].String()).Raw))
	manifest["layers"] = append(layers(manifest), packed[len(packed)-1])
	copied := pushDocument(w.ecr, ecrRepo, manifest)
	if _, _, err := w.read(ref(t, ecrName).WithDigest(copied), true); verify.ReasonOf(err) != verify.LayerMismatch {
		t.Errorf("error is %v", err)
	}
}

// An image has one layer twice. A copy names it once by another type or size: of two
// edges to one layer only the first would be recorded, and checked (C4).
func TestAttack115_OneLayerTwice(t *testing.T) {
	for name, test := range map[string]struct {
		change func(layer map[string]any)
		want   verify.Reason
	}{
		"as signed":    {func(map[string]any) {}, ""},
		"another type": {func(l map[string]any) { l["mediaType"] = "application/vnd.oci.image.layer.v1.tar+zstd" }, verify.LayerMismatch},
		"another size": {func(l map[string]any) { l["size"] = member(l, "size").(float64) + 1 }, verify.LayerMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			release := verifytest.NewRelease("0.1.19", amd64)
			release.Platforms[0].SetLayer(1, release.Platforms[0].Layers[0])
			hub, _ := w.publish("0.1.19", release, verifytest.Format{OCI: true})
			manifest := w.asPublished(hub.Manifests[amd64])
			manifest["annotations"] = map[string]any{} // so that it isn't the signed one
			test.change(layers(manifest)[1].(map[string]any))
			copied := pushDocument(w.ecr, ecrRepo, manifest)
			if _, _, err := w.read(ref(t, ecrName).WithDigest(copied), true); verify.ReasonOf(err) != test.want {
				t.Errorf("error is %v, want %q", err, test.want)
			}
		})
	}
}

// A copy gives annotations that are signed another value (C4).
func TestAttack116_AnnotationOfAnotherValue(t *testing.T) {
	annotate := func(value string) verifytest.Format {
		return change(amd64, func(doc map[string]any) {
			doc["annotations"] = map[string]any{"a": "signed"}
			layers(doc)[0].(map[string]any)["annotations"] = map[string]any{"a": value}
		})
	}
	for value, want := range map[string]verify.Reason{"signed": "", "another": verify.Annotation} {
		w := newWorld(t)
		release := verifytest.NewRelease("0.1.19", amd64)
		hub := release.Push(w.hub, hubRepo, annotate("signed"))
		w.source.Sign("0.1.19", hub.Root, hub.Size, w.clock())
		copied := annotate(value)
		copied.Level = 1
		digest := release.Push(w.ecr, ecrRepo, copied).Manifests[amd64]
		if _, _, err := w.read(ref(t, ecrName).WithDigest(digest), true); verify.ReasonOf(err) != want {
			t.Errorf("%s: error is %v", value, err)
		}
	}
}

// What is signed lists a manifest under another type than it has: who pulls goes by the
// one or the other (D2).
func TestAttack16_SignedUnderAnotherType(t *testing.T) {
	w := newWorld(t)
	w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	lie := change("", func(doc map[string]any) {
		entries(doc)[0].(map[string]any)["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json"
	})
	hub := verifytest.NewRelease("0.1.20", amd64).Push(w.hub, hubRepo, lie)
	w.source.Sign("0.1.20", hub.Root, hub.Size, w.clock())
	w.refused(hubName+":0.1.20", verify.AmbiguousDoc)
}

// A copy lists the only image for a platform with another os.version or os.features than
// is signed for it (C2).
func TestAttack112_OSVersionOfTheOnlyOne(t *testing.T) {
	for of, values := range map[string][]any{"os.version": {"10.0.1", "10.0.2"}, "os.features": {[]string{"a"}, []string{"b"}}} {
		with := func(value any) verifytest.Format {
			return change("", func(doc map[string]any) {
				member(entries(doc)[0], "platform").(map[string]any)[of] = value
			})
		}
		for i, want := range []verify.Reason{"", verify.ExtraPlatform} {
			w := newWorld(t)
			release := verifytest.NewRelease("0.1.19", "windows/amd64")
			hub := release.Push(w.hub, hubRepo, with(values[0]))
			w.source.Sign("0.1.19", hub.Root, hub.Size, w.clock())
			copied := with(values[i])
			copied.Level = 1
			root := release.Push(w.ecr, ecrRepo, copied).Root
			if _, _, err := w.read(ref(t, ecrName).WithDigest(root), true); verify.ReasonOf(err) != want {
				t.Errorf("%s is %v: error is %v, want %q", of, values[i], err, want)
			}
		}
	}
}

// Each part of a platform that is signed has to be the config's (D4), also for a copy's
// manifest that no index of the copy lists.
func TestD4_EachPart(t *testing.T) {
	for part, value := range map[string]string{"os": "windows", "architecture": "riscv64", "variant": "v7"} {
		w := newWorld(t)
		release := verifytest.NewRelease("0.1.19", arm64)
		hub := release.Push(w.hub, hubRepo, change("", func(doc map[string]any) {
			member(entries(doc)[0], "platform").(map[string]any)[part] = value
		}))
		w.source.Sign("0.1.19", hub.Root, hub.Size, w.clock())
		ecr := release.Push(w.ecr, ecrRepo, verifytest.Format{OCI: true, Level: 1})
		w.refused(hubName+":0.1.19", verify.PlatformMismatch)
		w.refused(ecrName+"@"+ecr.Manifests[arm64].String(), verify.PlatformMismatch)
	}
}

// What is signed names no variant, so a copy's index may; it has to be the config's (D4).
func TestD4_VariantThatACopyNames(t *testing.T) {
	for variant, want := range map[string]verify.Reason{"v8": "", "v7": verify.PlatformMismatch} {
		w := newWorld(t)
		release := verifytest.NewRelease("0.1.19", arm64)
		naming := func(variant string) verifytest.Format {
			return change("", func(doc map[string]any) {
				member(entries(doc)[0], "platform").(map[string]any)["variant"] = variant
			})
		}
		hub := release.Push(w.hub, hubRepo, naming(""))
		w.source.Sign("0.1.19", hub.Root, hub.Size, w.clock())
		copied := naming(variant)
		copied.Level = 1
		root := release.Push(w.ecr, ecrRepo, copied).Root
		if _, _, err := w.read(ref(t, ecrName).WithDigest(root), true); verify.ReasonOf(err) != want {
			t.Errorf("%s: error is %v", variant, err)
		}
	}
}

// An index that is signed lists one manifest for two platforms, of which the second
// isn't its config's (D4).
func TestD4_EveryEntry(t *testing.T) {
	w := newWorld(t)
	hub := verifytest.NewRelease("0.1.19", amd64).Push(w.hub, hubRepo, change("", func(doc map[string]any) {
		again := clone(entries(doc)[0].(map[string]any))
		again["platform"].(map[string]any)["architecture"] = "riscv64"
		doc["manifests"] = append(entries(doc), again)
	}))
	w.source.Sign("0.1.19", hub.Root, hub.Size, w.clock())
	w.refused(hubName+":0.1.19", verify.PlatformMismatch)
}

// A copy stands in for the Hub when it limits the rate, too (C5).
func TestStandInForOneThatLimits(t *testing.T) {
	w := newWorld(t)
	release := verifytest.NewRelease("0.1.19", amd64, arm64)
	w.publish("0.1.19", release, verifytest.Format{})
	release.Push(w.ecr, ecrRepo, verifytest.Format{})
	limited := func(_ context.Context, ref verify.Ref) error {
		if ref.Registry == "docker.io" {
			return verify.Unavailable(verify.RateLimited, "too many requests")
		}
		return nil
	}
	w.hook(&hooked{manifest: limited, blob: limited})
	w.mustPull(hubName + ":0.1.19")
}
