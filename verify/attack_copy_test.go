package verify_test

import (
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

func member(v any, name string) any { return v.(map[string]any)[name] }

// pushDocument puts a document of the test's own making into a repository.
func pushDocument(registry *verifytest.Registry, repo string, doc map[string]any, tags ...string) digest.Digest {
	return registry.PutDocument(repo, verifytest.Document{MediaType: doc["mediaType"].(string), Raw: marshal(doc)}, tags...)
}

// asPublished is the signed index or one of its manifests, to be changed.
func (w *world) asPublished(d digest.Digest) map[string]any {
	return parse(w.hub.Document(hubRepo, d.String()).Raw)
}

// describe is a descriptor of a document that a registry has.
func describe(registry *verifytest.Registry, repo string, d digest.Digest, platform any) map[string]any {
	doc := registry.Document(repo, d.String())
	entry := map[string]any{"mediaType": doc.MediaType, "digest": d.String(), "size": len(doc.Raw)}
	if platform != nil {
		entry["platform"] = platform
	}
	return entry
}

// TestAttack17_SignedParts has a copy build its documents from what is signed,
// digests and all, and change one thing (C2, C4).
func TestAttack17_18_SignedParts(t *testing.T) {
	const (
		foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
		zstd    = "application/vnd.oci.image.layer.v1.tar+zstd"
		ociGzip = "application/vnd.oci.image.layer.v1.tar+gzip"
	)
	set := func(v any, name string, value any) { v.(map[string]any)[name] = value }
	tests := map[string]struct {
		manifest func(m map[string]any) // of amd64
		index    func(amd, arm map[string]any) []any
		want     verify.Reason // "" where it is all right
		late     bool          // it shows only when the layer arrives
	}{
		"as signed":                         {},
		"a member more":                     {manifest: func(m map[string]any) { m["annotations"] = map[string]any{} }},
		"OCI's name for a layer's type":     {manifest: func(m map[string]any) { set(layers(m)[0], "mediaType", ociGzip) }},
		"a signed layer as a foreign one":   {want: verify.MediaType, manifest: func(m map[string]any) { set(layers(m)[0], "mediaType", foreign) }},
		"a signed layer as an unknown type": {want: verify.MediaType, manifest: func(m map[string]any) { set(layers(m)[0], "mediaType", "application/x-evil") }},
		"a signed layer as another type":    {late: true, want: verify.LayerMismatch, manifest: func(m map[string]any) { set(layers(m)[0], "mediaType", zstd) }},
		"one layer in two places":           {want: verify.LayerMismatch, manifest: func(m map[string]any) { layers(m)[1] = layers(m)[0] }},
		"one layer with two types": {want: verify.LayerMismatch, manifest: func(m map[string]any) {
			again := clone(layers(m)[0].(map[string]any))
			again["mediaType"] = zstd
			m["layers"] = []any{layers(m)[0], again}
		}},
		"the config for a layer": {want: verify.LayerMismatch, manifest: func(m map[string]any) {
			layer := clone(m["config"].(map[string]any))
			layer["mediaType"] = "application/vnd.oci.image.layer.v1.tar"
			layers(m)[1] = layer
		}},
		"a layer's size": {late: true, want: verify.SizeMismatch, manifest: func(m map[string]any) { set(layers(m)[0], "size", member(layers(m)[0], "size").(float64)+1) }},
		"a layer of 2^62 bytes": {want: verify.BadDescriptor, manifest: func(m map[string]any) {
			set(layers(m)[0], "digest", digest.FromString("endless").String())
			set(layers(m)[0], "size", 1<<62)
		}},
		"a config's size": {want: verify.ConfigMismatch, manifest: func(m map[string]any) {
			set(m["config"], "size", member(m["config"], "size").(float64)+1)
		}},
		"no platform": {want: verify.ExtraPlatform, index: func(amd, arm map[string]any) []any {
			delete(amd, "platform")
			return []any{amd, arm}
		}},
		"a platform twice, with other features": {want: verify.ExtraPlatform, index: func(amd, arm map[string]any) []any {
			again := clone(amd)
			set(again["platform"], "os.features", []string{"x"})
			return []any{amd, again, arm}
		}},
		"a platform twice, with another version": {want: verify.ExtraPlatform, index: func(amd, arm map[string]any) []any {
			again := clone(amd)
			set(again["platform"], "os.version", "10")
			return []any{amd, again, arm}
		}},
		"a signed manifest twice": {want: verify.ExtraPlatform, index: func(_, arm map[string]any) []any {
			return []any{arm, arm}
		}},
		"a signed manifest for another platform": {want: verify.PlatformMismatch, index: func(amd, arm map[string]any) []any {
			set(arm, "platform", map[string]any{"os": "linux", "architecture": "amd64"})
			return []any{arm}
		}},
		"a signed manifest of another size": {want: verify.SizeMismatch, index: func(amd, arm map[string]any) []any {
			set(arm, "size", member(arm, "size").(int)+1)
			return []any{amd, arm}
		}},
		"a signed manifest of no size": {want: verify.BadDescriptor, index: func(amd, arm map[string]any) []any {
			set(arm, "size", 0)
			return []any{amd, arm}
		}},
		"a signed manifest of another type": {want: verify.AmbiguousDoc, index: func(amd, arm map[string]any) []any {
			set(arm, "mediaType", "application/vnd.oci.image.manifest.v1+json")
			return []any{amd, arm}
		}},
		"the size of its own manifest": {want: verify.SizeMismatch, index: func(amd, arm map[string]any) []any {
			set(amd, "size", member(amd, "size").(int)+1)
			return []any{amd, arm}
		}},
		"an artifact type": {want: verify.Annotation, index: func(amd, arm map[string]any) []any {
			set(arm, "artifactType", "application/x-evil")
			return []any{amd, arm}
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			release := verifytest.NewRelease("0.1.19", amd64, arm64)
			hub, _ := w.publish("0.1.19", release, verifytest.Format{})
			release.Push(w.ecr, ecrRepo, verifytest.Format{}) // the signed layers, too
			m := w.asPublished(hub.Manifests[amd64])
			m["annotations"] = map[string]any{} // so that it isn't the signed one
			if test.manifest != nil {
				test.manifest(m)
			}
			manifest := pushDocument(w.ecr, ecrRepo, m)
			index := w.asPublished(hub.Root)
			amd := describe(w.ecr, ecrRepo, manifest, map[string]any{"os": "linux", "architecture": "amd64"})
			arm := describe(w.hub, hubRepo, hub.Manifests[arm64], map[string]any{"os": "linux", "architecture": "arm64", "variant": "v8"})
			index["manifests"] = []any{amd, arm}
			if test.index != nil {
				index["manifests"] = test.index(amd, arm)
			}
			root := pushDocument(w.ecr, ecrRepo, index, "0.1.19")
			if test.want == "" {
				w.mustPull(ecrName + ":0.1.19")
				return
			}
			if _, _, err := w.read(ref(t, ecrName).WithDigest(root), true); verify.ReasonOf(err) != test.want && !test.late {
				t.Errorf("the index: %v", err)
			}
			w.refused(ecrName+"@"+root.String(), test.want)
			w.start()
			w.refused(ecrName+":0.1.19", test.want)
			w.mustPull(hubName + ":0.1.19") // a copy's lies harm nobody else, at once
		})
	}
}

// TestAttack17_Variants drops the variant from one of two entries that differ in
// nothing else: clients would take one for the other.
func TestAttack17_Variants(t *testing.T) {
	w := newWorld(t)
	w.publish("0.1.19", verifytest.NewRelease("0.1.19", "linux/arm/v6", "linux/arm/v7"), change("", func(doc map[string]any) {
		delete(member(entries(doc)[0], "platform").(map[string]any), "variant")
	}))
	w.refused(ecrName+":0.1.19", verify.ExtraPlatform)
}

// Of two entries that differ in os.version or os.features only, a copy gives one the
// other's place, or one that nobody signed: the machine that pulls chooses by it (C2).
func TestAttack112_OSVersions(t *testing.T) {
	const windows = "windows/amd64"
	release := verifytest.NewRelease("0.1.19", windows)
	release.Platforms = append(release.Platforms, verifytest.NewRelease("later", windows).Platforms...)
	type platform = map[string]any
	for of, values := range map[string][]any{
		"os.version":  {"10.0.1", "10.0.2", "10.0.3"},
		"os.features": {[]string{"a"}, []string{"b"}, []string{"c"}},
	} {
		for name, test := range map[string]struct {
			change func(first, second platform)
			want   verify.Reason
		}{
			"as signed":          {func(_, _ platform) {}, ""},
			"each for the other": {func(a, b platform) { a[of], b[of] = b[of], a[of] }, verify.PlatformMismatch},
			"another":            {func(_, b platform) { b[of] = values[2] }, verify.ExtraPlatform},
			"none":               {func(_, b platform) { delete(b, of) }, verify.ExtraPlatform},
			"another os":         {func(_, b platform) { b["os"] = "linux" }, verify.ExtraPlatform},
		} {
			t.Run(of+" "+name, func(t *testing.T) {
				format := func(then func(first, second platform)) verifytest.Format {
					return change("", func(doc map[string]any) {
						a, b := member(entries(doc)[0], "platform").(platform), member(entries(doc)[1], "platform").(platform)
						a[of], b[of] = values[0], values[1]
						then(a, b)
					})
				}
				w := newWorld(t)
				hub := release.Push(w.hub, hubRepo, format(func(_, _ platform) {}))
				w.source.Sign("0.1.19", hub.Root, hub.Size, w.clock())
				copied := format(test.change)
				copied.Level, copied.Tags = 1, []string{"0.1.19"}
				release.Push(w.ecr, ecrRepo, copied)
				if test.want == "" {
					w.mustPull(ecrName + ":0.1.19")
					return
				}
				w.refused(ecrName+":0.1.19", test.want)
			})
		}
	}
}

// TestPlatforms copies an index as it is, whose platforms differ little.
func TestPlatforms(t *testing.T) {
	w := newWorld(t)
	w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64, "linux/amd64/v3", "linux/arm/v6", "linux/arm/v7"), verifytest.Format{OCI: true})
	w.mustPull(ecrName + ":0.1.19")
}

// TestD4_Platform signs an index that says another platform than the config, by
// mistake: it's served under no name.
func TestD4_Platform(t *testing.T) {
	swapped := change("", func(doc map[string]any) {
		first, second := entries(doc)[0].(map[string]any), entries(doc)[1].(map[string]any)
		first["platform"], second["platform"] = second["platform"], first["platform"]
	})
	w := newWorld(t)
	release := verifytest.NewRelease("0.1.19", amd64, arm64)
	hub := release.Push(w.hub, hubRepo, swapped)
	w.source.Sign("0.1.19", hub.Root, hub.Size, w.clock())
	swapped.Level, swapped.Tags = 1, []string{"0.1.19"}
	release.Push(w.ecr, ecrRepo, swapped)
	w.refused(hubName+":0.1.19", verify.PlatformMismatch)
	w.refused(ecrName+":0.1.19", verify.PlatformMismatch)
	w.refused(ecrName+"@"+hub.Root.String(), verify.PlatformMismatch)
	for _, p := range []string{amd64, arm64} {
		w.refused(hubName+"@"+hub.Manifests[p].String(), verify.PlatformMismatch)
	}
}

// TestAttack16_StoredUnderOtherDescriptors lists a manifest that is stored already
// with another size and type than it has (D1, D2).
func TestAttack16_StoredUnderOtherDescriptors(t *testing.T) {
	for member, test := range map[string]struct {
		value any
		want  verify.Reason
	}{
		"size":      {5, verify.SizeMismatch},
		"mediaType": {"application/vnd.docker.distribution.manifest.v2+json", verify.AmbiguousDoc},
	} {
		w := newWorld(t)
		_, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{OCI: true})
		w.mustPull(ecrName + ":0.1.19")
		index := parse(w.ecr.Document(ecrRepo, ecr.Root.String()).Raw)
		entries(index)[0].(map[string]any)[member] = test.value
		w.refused(ecrName+"@"+pushDocument(w.ecr, ecrRepo, index).String(), test.want)
	}
}

// TestAttack18_ServedAlready names a layer that is served already by another type.
func TestAttack18_ServedAlready(t *testing.T) {
	w := newWorld(t)
	release := verifytest.NewRelease("0.1.19", amd64)
	w.publish("0.1.19", release, verifytest.Format{OCI: true})
	w.mustPull(ecrName + ":0.1.19")
	lie := change(amd64, func(doc map[string]any) {
		layers(doc)[1].(map[string]any)["mediaType"] = "application/vnd.oci.image.layer.v1.tar+zstd"
	})
	lie.Level = 1
	w.refused(ecrName+"@"+release.Push(w.ecr, ecrRepo, lie).Root.String(), verify.LayerMismatch)
}

// TestCopyOfOneManifest pushes one platform of a signed index, or an index around
// a signed manifest (C1, C2).
func TestCopyOfOneManifest(t *testing.T) {
	w := newWorld(t)
	hub, _ := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64, arm64), verifytest.Format{Single: true, OCI: true})
	w.mustPull(ecrName + ":0.1.19")
	signed := w.hub.Document(hubRepo, hub.Manifests[arm64].String())
	w.ecr.PutDocument(ecrRepo, signed, "0.1.20")
	w.source.Sign("0.1.20", hub.Root, hub.Size, w.clock())
	if got := w.mustPull(ecrName + ":0.1.20"); got[hub.Manifests[arm64]] == nil {
		t.Error("not what the copy has")
	}

	w = newWorld(t)
	release := verifytest.NewRelease("0.1.18", amd64)
	hub = release.Push(w.hub, hubRepo, verifytest.Format{Single: true})
	w.source.Sign("0.1.18", hub.Root, hub.Size, w.clock())
	ecr := release.Push(w.ecr, ecrRepo, verifytest.Format{Tags: []string{"0.1.18"}})
	if ecr.Manifests[amd64] != hub.Root || ecr.Root == hub.Root {
		t.Fatal("the copy must be an index that lists the signed manifest")
	}
	w.mustPull(ecrName + ":0.1.18")
	w.mustPull(ecrName + "@" + ecr.Root.String())
}

// TestC3_NoIdentity lets configs that don't say what the image is match by manifest
// digest only.
func TestC3_NoIdentity(t *testing.T) {
	const image, chart = "application/vnd.oci.image.config.v1+json", "application/vnd.cncf.helm.config.v1+json"
	config := string(verifytest.NewRelease("any", amd64).Platforms[0].Config)
	for name, test := range map[string]struct{ signed, copied, config string }{
		"an empty config": {"application/vnd.oci.empty.v1+json", "application/vnd.oci.empty.v1+json", "{}"},
		"an empty config that is an image's by name": {image, image, "{}"},
		"an image's config under another name":       {chart, chart, config},
		"an image's config by the copy's word":       {chart, image, config},
		"an image's config by the signed word":       {image, chart, config},
		"an image's config without an os":            {image, image, without(config, "os")},
		"an image's config without an architecture":  {image, image, without(config, "architecture")},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			doc := map[string]any{
				"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
				"config": map[string]any{"mediaType": test.signed, "digest": w.hub.PutBlob(hubRepo, []byte(test.config)).String(), "size": len(test.config)},
				"layers": []any{},
			}
			w.ecr.PutBlob(ecrRepo, []byte(test.config))
			manifest := pushDocument(w.hub, hubRepo, doc)
			signed := pushDocument(w.hub, hubRepo, map[string]any{
				"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
				"manifests": []any{describe(w.hub, hubRepo, manifest, nil)},
			})
			w.source.Sign("1", signed, 0, w.clock())
			pushDocument(w.ecr, ecrRepo, doc, "1") // C1
			w.mustPull(ecrName + ":1")
			doc["annotations"] = map[string]any{}
			doc["config"].(map[string]any)["mediaType"] = test.copied
			w.refused(ecrName+"@"+pushDocument(w.ecr, ecrRepo, doc).String(), verify.ConfigMismatch)
		})
	}
}

func without(config, member string) string {
	m := parse([]byte(config))
	delete(m, member)
	return string(marshal(m))
}

// TestAttack17_ConfigInTwoReleases shares a config between a tag for one platform
// and a tag for all: a copy of the latter is found by digest on an empty cache.
func TestAttack17_ConfigInTwoReleases(t *testing.T) {
	w := newWorld(t)
	both := verifytest.NewRelease("0.1.19", amd64, arm64)
	one := &verifytest.Release{Platforms: both.Platforms[:1]}
	hub := one.Push(w.hub, hubRepo, verifytest.Format{OCI: true})
	w.source.Sign("0.1.19-amd64", hub.Root, hub.Size, w.clock())
	hub = both.Push(w.hub, hubRepo, verifytest.Format{OCI: true})
	w.source.Sign("0.1.20", hub.Root, hub.Size, w.clock())
	ecr := both.Push(w.ecr, ecrRepo, verifytest.Format{OCI: true, Level: 1})
	w.mustPull(ecrName + "@" + ecr.Root.String())
}

// TestCopyHasNot pulls what is signed by digest under the name of a copy that
// doesn't have it (C1).
func TestCopyHasNot(t *testing.T) {
	w := newWorld(t)
	hub, _ := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64, arm64), verifytest.Format{})
	w.mustPull(ecrName + "@" + hub.Manifests[arm64].String())
}

// TestAttack18_BrokenAgain has a copy list a manifest anew whose layer was found to
// be another one.
func TestAttack18_BrokenAgain(t *testing.T) {
	w := newWorld(t)
	_, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64, arm64), verifytest.Format{ChangeLayer: func(platform string, i int, packed []byte) []byte {
		if platform == amd64 && i == 1 {
			return pack(verifytest.Tar("usr/local/bin/webdis", "evil"))
		}
		return packed
	}})
	w.refused(ecrName+":0.1.19", verify.LayerMismatch)
	index := parse(w.ecr.Document(ecrRepo, ecr.Root.String()).Raw)
	index["annotations"] = map[string]any{}
	again := pushDocument(w.ecr, ecrRepo, index, "0.1.19")
	if _, _, err := w.read(ref(t, ecrName).WithDigest(again), true); verify.ReasonOf(err) != verify.LayerMismatch {
		t.Errorf("an index that lists it again: %v", err)
	}
	w.refused(ecrName+":0.1.19", verify.LayerMismatch)
	w.ecr.Requests()
	w.refused(ecrName+":0.1.19", verify.LayerMismatch)
	if asked := w.ecr.Requests(); len(asked) > 0 {
		t.Errorf("a repeated refusal asked %q", asked)
	}
}

// TestAttack25_AskedAsWhatItIsNot asks for manifests as blobs and the other way
// round.
func TestAttack25_AskedAsWhatItIsNot(t *testing.T) {
	for _, warm := range []bool{false, true} {
		w := newWorld(t)
		hub, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
		if warm {
			w.mustPull(hubName + ":0.1.19")
			w.mustPull(ecrName + ":0.1.19")
		}
		for name, pushed := range map[string]verifytest.Pushed{hubName: hub, ecrName: ecr} {
			for _, d := range []digest.Digest{pushed.Root, pushed.Manifests[amd64]} {
				if _, _, err := w.read(ref(t, name).WithDigest(d), false); verify.ReasonOf(err) != verify.NotAdmitted {
					t.Errorf("document %s of %s as a blob: %v", d, name, err)
				}
			}
			for _, d := range pushed.Blobs(amd64) {
				if _, _, err := w.read(ref(t, name).WithDigest(d), true); verify.ReasonOf(err) != verify.NotAdmitted {
					t.Errorf("blob %s of %s as a document: %v", d, name, err)
				}
			}
		}
	}
}

// TestNothingIsKeptOfWhatIsRefused has a copy offer documents and configs that are
// refused: they don't fill the disk.
func TestNothingIsKeptOfWhatIsRefused(t *testing.T) {
	w := newWorld(t)
	w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	evil := verifytest.NewRelease("evil", amd64).Push(w.ecr, ecrRepo, verifytest.Format{Tags: []string{"0.1.19"}})
	w.refused(ecrName+":0.1.19", verify.ConfigMismatch)
	w.refused(ecrName+"@"+evil.Root.String(), verify.NotAdmitted)
	w.refused(ecrName+"@"+evil.Manifests[amd64].String(), verify.NotAdmitted)
	for _, d := range slices.Concat([]digest.Digest{evil.Root, evil.Manifests[amd64]}, evil.Blobs(amd64)) {
		if content, err := w.store.OpenContent(t.Context(), d); err == nil {
			content.Close()
			t.Errorf("%s was stored", d)
		}
	}
}
