package verify_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// change makes a format that changes one document of a copy.
func change(platform string, f func(doc map[string]any)) verifytest.Format {
	return verifytest.Format{OCI: true, Change: func(p string, doc map[string]any) {
		if p == platform {
			f(doc)
		}
	}}
}

func entries(doc map[string]any) []any { return doc["manifests"].([]any) }

func layers(doc map[string]any) []any { return doc["layers"].([]any) }

// TestAttack17_18_Copies changes a copy in one way each (C2 to C4). Nothing may
// be served under the copy's tag, and the signed name is served all the same.
func TestAttack17_18_Copies(t *testing.T) {
	const evilPlatform = "linux/riscv64"
	annotations := map[string]string{"containerd.io/snapshot/stargz/toc.digest": digest.FromString("evil").String()}
	tests := map[string]struct {
		copy    verifytest.Format
		release func() *verifytest.Release // what the copy holds; nil: what was signed
		want    verify.Reason
		ok      bool
	}{
		"unchanged": {copy: verifytest.Format{OCI: true}, ok: true},
		"one platform missing": {ok: true, copy: change("", func(doc map[string]any) {
			doc["manifests"] = entries(doc)[:1]
		})},
		"another config": {want: verify.ConfigMismatch, release: func() *verifytest.Release {
			return verifytest.NewRelease("evil", amd64, arm64)
		}},
		"another config on one platform": {want: verify.ConfigMismatch, release: func() *verifytest.Release {
			r := verifytest.NewRelease("0.1.19", amd64, arm64)
			r.Platforms[1] = verifytest.NewRelease("evil", arm64).Platforms[0]
			return r
		}},
		"the config of another tag's image": {want: verify.ConfigMismatch, release: func() *verifytest.Release {
			return verifytest.NewRelease("0.1.18", amd64, arm64)
		}},
		"the config of another platform": {want: verify.PlatformMismatch, copy: change("", func(doc map[string]any) {
			list := entries(doc)
			first, second := list[0].(map[string]any), list[1].(map[string]any)
			first["platform"], second["platform"] = second["platform"], first["platform"]
		})},
		"a platform too many": {want: verify.ExtraPlatform, release: func() *verifytest.Release {
			return verifytest.NewRelease("0.1.19", amd64, arm64, evilPlatform)
		}},
		"a platform twice": {want: verify.ExtraPlatform, copy: change("", func(doc map[string]any) {
			doc["manifests"] = append(entries(doc), entries(doc)[0])
		})},
		"an unknown platform that isn't signed": {want: verify.ExtraPlatform, copy: change("", func(doc map[string]any) {
			entry := clone(entries(doc)[0].(map[string]any))
			entry["platform"] = map[string]any{"os": "unknown", "architecture": "unknown"}
			doc["manifests"] = append(entries(doc), entry)
		})},
		"another variant": {want: verify.ExtraPlatform, copy: change("", func(doc map[string]any) {
			entries(doc)[1].(map[string]any)["platform"].(map[string]any)["variant"] = "v9"
		})},
		"no variant": {ok: true, copy: change("", func(doc map[string]any) {
			delete(entries(doc)[1].(map[string]any)["platform"].(map[string]any), "variant")
		})},
		"nothing listed": {want: verify.ConfigMismatch, copy: change("", func(doc map[string]any) {
			doc["manifests"] = []any{}
		})},
		"too few layers": {want: verify.LayerMismatch, copy: change(amd64, func(doc map[string]any) {
			doc["layers"] = layers(doc)[:1]
		})},
		"too many layers": {want: verify.LayerMismatch, copy: change(amd64, func(doc map[string]any) {
			doc["layers"] = append(layers(doc), layers(doc)[0])
		})},
		"layers swapped": {want: verify.LayerMismatch, copy: change(amd64, func(doc map[string]any) {
			slices.Reverse(layers(doc))
		})},
		"a layer replaced": {want: verify.LayerMismatch, copy: verifytest.Format{ChangeLayer: func(_ string, i int, packed []byte) []byte {
			if i == 0 {
				return packed
			}
			return pack(verifytest.Tar("usr/local/bin/webdis", "evil"))
		}}},
		"bytes after a layer's gzip": {want: verify.LayerMismatch, copy: verifytest.Format{ChangeLayer: func(_ string, _ int, packed []byte) []byte {
			return append(packed, "evil"...)
		}}},
		"a layer cut": {want: verify.LayerMismatch, copy: verifytest.Format{ChangeLayer: func(_ string, _ int, packed []byte) []byte {
			return packed[:len(packed)-4]
		}}},
		"annotations on a layer": {want: verify.Annotation, copy: change(amd64, func(doc map[string]any) {
			layers(doc)[1].(map[string]any)["annotations"] = annotations
		})},
		"annotations on the config": {want: verify.Annotation, copy: change(amd64, func(doc map[string]any) {
			doc["config"].(map[string]any)["annotations"] = annotations
		})},
		"annotations on a manifest": {want: verify.Annotation, copy: change(arm64, func(doc map[string]any) {
			doc["annotations"] = annotations
		})},
		"annotations on the index": {want: verify.Annotation, copy: change("", func(doc map[string]any) {
			doc["annotations"] = annotations
		})},
		"annotations on an entry": {want: verify.Annotation, copy: change("", func(doc map[string]any) {
			entries(doc)[0].(map[string]any)["annotations"] = annotations
		})},
		"a subject": {want: verify.Annotation, copy: change(amd64, func(doc map[string]any) {
			doc["subject"] = doc["config"]
		})},
		"a member that nobody knows": {want: verify.Annotation, copy: change(amd64, func(doc map[string]any) {
			doc["x-accelerate"] = true
		})},
		"a member of a layer that nobody knows": {want: verify.Annotation, copy: change(amd64, func(doc map[string]any) {
			layers(doc)[0].(map[string]any)["x-accelerate"] = true
		})},
		"an artifact type": {want: verify.Annotation, copy: change(amd64, func(doc map[string]any) {
			doc["artifactType"] = "application/vnd.evil"
		})},
		"a foreign layer": {want: verify.MediaType, copy: change(amd64, func(doc map[string]any) {
			layers(doc)[0].(map[string]any)["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
		})},
		"a layer's urls": {want: verify.BadDescriptor, copy: change(amd64, func(doc map[string]any) {
			layers(doc)[0].(map[string]any)["urls"] = []string{"https://evil.example/layer"}
		})},
		"a layer of a type that isn't its own": {want: verify.LayerMismatch, copy: change(amd64, func(doc map[string]any) {
			layers(doc)[0].(map[string]any)["mediaType"] = "application/vnd.oci.image.layer.v1.tar"
		})},
		"a config of a type without identity": {want: verify.ConfigMismatch, copy: change(amd64, func(doc map[string]any) {
			doc["config"].(map[string]any)["mediaType"] = "application/vnd.oci.empty.v1+json"
		})},
		"an index in the index": {want: verify.MediaType, copy: change("", func(doc map[string]any) {
			entries(doc)[0].(map[string]any)["mediaType"] = "application/vnd.oci.image.index.v1+json"
		})},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.publish("0.1.18", verifytest.NewRelease("0.1.18", amd64, arm64), verifytest.Format{})
			signed := verifytest.NewRelease("0.1.19", amd64, arm64)
			hub := signed.Push(w.hub, hubRepo, verifytest.Format{})
			w.source.Sign("0.1.19", hub.Root, hub.Size, w.clock())
			release := signed
			if test.release != nil {
				release = test.release()
			}
			test.copy.Tags = []string{"0.1.19"}
			if test.copy.Level == 0 {
				test.copy.Level = 1
			}
			release.Push(w.ecr, ecrRepo, test.copy)
			if test.ok {
				w.mustPull(ecrName + ":0.1.19")
				return
			}
			w.refused(ecrName+":0.1.19", test.want)
			w.mustPull(hubName + ":0.1.19")
			w.start()
			w.refused(ecrName+":0.1.19", test.want)

			release.Push(w.ecr, ecrRepo, verifytest.Format{}) // a lie must not harm what is right
			signed.Push(w.ecr, ecrRepo, verifytest.Format{OCI: true, Level: 1, Tags: []string{"0.1.19"}})
			w.start()
			w.mustPull(ecrName + ":0.1.19")
		})
	}
}

func clone(m map[string]any) map[string]any { return parse(marshal(m)) }

func parse(raw []byte) map[string]any {
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		panic(err)
	}
	return m
}

func marshal(m map[string]any) []byte {
	raw, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return raw
}

// pack compresses as Docker does.
func pack(layer []byte) []byte {
	registry := verifytest.NewRegistry()
	release := &verifytest.Release{Platforms: []*verifytest.Build{{Platform: amd64, Layers: [][]byte{layer}}}}
	var packed []byte
	release.Push(registry, "any", verifytest.Format{ChangeLayer: func(_ string, _ int, p []byte) []byte {
		packed = p
		return p
	}})
	return packed
}

// TestBrokenLayer pulls a copy whose manifests are right and one of whose layers
// isn't what the config says. The layer is never served; once that was found, nor
// are the documents that name it; and the copy is served again when repaired.
func TestBrokenLayer(t *testing.T) {
	w := newWorld(t)
	release := verifytest.NewRelease("0.1.19", amd64, arm64)
	_, ecr := w.publish("0.1.19", release, verifytest.Format{ChangeLayer: func(platform string, i int, packed []byte) []byte {
		if platform == amd64 && i == 1 {
			return pack(verifytest.Tar("usr/local/bin/webdis", "evil"))
		}
		return packed
	}})
	w.refused(ecrName+":0.1.19", verify.LayerMismatch)
	if content, err := w.store.OpenContent(t.Context(), ecr.Layers[amd64][1]); err == nil {
		content.Close()
		t.Error("the wrong layer was stored")
	}
	w.start()
	for _, d := range []digest.Digest{ecr.Root, ecr.Manifests[amd64]} {
		if _, _, err := w.read(ref(t, ecrName).WithDigest(d), true); verify.ReasonOf(err) != verify.LayerMismatch {
			t.Errorf("%s leads to the wrong layer: %v", d, err)
		}
	}
	w.mustPull(ecrName + "@" + ecr.Manifests[arm64].String())
	release.Push(w.ecr, ecrRepo, verifytest.Format{Level: 1, Tags: []string{"0.1.19"}})
	w.mustPull(ecrName + ":0.1.19")
}

// TestLayerUnderTwoNames has a copy's second document name a layer that is served
// already, in a place where the config wants another one.
func TestLayerUnderTwoNames(t *testing.T) {
	w := newWorld(t)
	release := verifytest.NewRelease("0.1.19", amd64)
	w.publish("0.1.19", release, verifytest.Format{})
	w.mustPull(ecrName + ":0.1.19")
	swapped := release.Push(w.ecr, ecrRepo, verifytest.Format{Level: 1, Change: func(platform string, doc map[string]any) {
		if platform == amd64 {
			slices.Reverse(layers(doc))
		}
	}})
	w.refused(ecrName+"@"+swapped.Root.String(), verify.LayerMismatch)

	w = newWorld(t) // the layers that are served are the signed ones
	hub, _ := w.publish("0.1.19", release, verifytest.Format{})
	release.Push(w.ecr, ecrRepo, verifytest.Format{})
	w.mustPull(ecrName + "@" + hub.Root.String())
	swapped = release.Push(w.ecr, ecrRepo, verifytest.Format{Change: func(platform string, doc map[string]any) {
		if platform == amd64 {
			slices.Reverse(layers(doc))
		}
	}})
	w.refused(ecrName+"@"+swapped.Root.String(), verify.LayerMismatch)
}

// TestAttack20_MovingTag moves a copy's tag while it is pulled: what is served is
// what was verified.
func TestAttack20_MovingTag(t *testing.T) {
	w := newWorld(t)
	_, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	w.mustPull(ecrName + ":0.1.19")
	evil := verifytest.NewRelease("evil", amd64)
	evil.Push(w.ecr, ecrRepo, verifytest.Format{Tags: []string{"0.1.19"}})
	if got := w.mustPull(ecrName + ":0.1.19"); got[ecr.Root] == nil {
		t.Error("the tag moved")
	}
	if w.store.UnbindTag(t.Context(), ecrName, "0.1.19", w.signedDigest("0.1.19")) != nil {
		t.Fatal("unbind")
	}
	w.refused(ecrName+":0.1.19", verify.ConfigMismatch)
}

func (w *world) signedDigest(tag string) digest.Digest {
	target, err := w.source.Target(w.t.Context(), tag)
	if err != nil {
		w.t.Fatal(err)
	}
	return target.Digest
}

// TestCopyForgets re-pushes a copy under the same tag and drops the old
// documents: the tag is asked for again, and the copy verified anew.
func TestCopyForgets(t *testing.T) {
	w := newWorld(t)
	release := verifytest.NewRelease("0.1.19", amd64)
	_, ecr := w.publish("0.1.19", release, verifytest.Format{})
	w.mustPull(ecrName + ":0.1.19")
	again := release.Push(w.ecr, ecrRepo, verifytest.Format{OCI: true, Level: 1, Tags: []string{"0.1.19"}})
	w.ecr.Delete(ecrRepo, ecr.Root.String())
	if err := w.store.Quarantine(t.Context(), ecr.Root); err != nil {
		t.Fatal(err)
	}
	if got := w.mustPull(ecrName + ":0.1.19"); got[again.Root] == nil {
		t.Error("the tag wasn't asked for again")
	}
}

// TestSentences reads refusals as a person would.
func TestSentences(t *testing.T) {
	w := newWorld(t)
	w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	for name, want := range map[string]string{
		hubName + ":0.1.11":                             "not signed",
		"docker.io/library/redis:latest":                "no image rule covers docker.io/library/redis",
		ecrName + "@" + digest.FromString("x").String(): "nothing that is signed for " + hubName,
	} {
		_, _, err := w.gate.Manifest(t.Context(), ref(t, name))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want it to say %q", name, err, want)
		}
	}
}

// TestTransit breaks a layer of a copy on its way, and later in storage: that is
// no fact about the layer, and the copy is served once it arrives whole.
func TestTransit(t *testing.T) {
	w := newWorld(t)
	_, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	layer := ecr.Layers[amd64][1]
	whole, _, err := w.read(ref(t, ecrName).WithDigest(layer), false)
	if err != nil {
		t.Fatal(err)
	}
	for at := range min(len(whole), 40) { // wherever it is damaged
		w := newWorld(t)
		w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
		broken := slices.Clone(whole)
		broken[at] ^= 1
		w.ecr.SetBlob(ecrRepo, layer, broken)
		w.refused(ecrName+":0.1.19", verify.DigestMismatch)
		w.ecr.SetBlob(ecrRepo, layer, whole)
		w.start()
		w.mustPull(ecrName + ":0.1.19")
	}
}
