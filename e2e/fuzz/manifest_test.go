package fuzz

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// What the fuzzer makes up.
const (
	aSignedDocument = iota
	aCopysDocument
	aConfig
	kinds
)

// FuzzManifest asserts of documents that the Gate serves that go-containerregistry
// and containerd read them as it does: the same type, config, layers or manifests,
// with the same media types and sizes; the same platforms; and of a config the same
// platform and diff IDs.
func FuzzManifest(f *testing.F) {
	release := verifytest.NewRelease("0.1.19", "linux/amd64", "linux/arm64/v8", "linux/arm/v7")
	hub, oci := pack(release, verifytest.Format{}), pack(release, verifytest.Format{OCI: true, Layers: "zstd", Change: annotate})
	ecr := pack(release, verifytest.Format{Level: 1})
	for _, p := range []*packed{hub, oci, ecr} {
		for _, doc := range p.documents {
			f.Add(uint8(aSignedDocument), doc.Raw, uint64(0))
			f.Add(uint8(aCopysDocument), doc.Raw, uint64(0))
		}
	}
	for _, build := range release.Platforms {
		f.Add(uint8(aConfig), build.Config, uint64(0))
	}
	for _, raw := range vectors(f, "webdis-*-manifest-list.json") {
		f.Add(uint8(aSignedDocument), raw, uint64(0))
	}
	f.Fuzz(func(t *testing.T, kind uint8, raw []byte, changes uint64) {
		raw = edit(raw, changes)
		s := newSite(t, ecr, hub, oci)
		defer s.gate.Close()
		switch kind % kinds {
		case aSignedDocument:
			s.sign(raw)
			s.checkDocument(t, signedName, raw)
		case aCopysDocument:
			s.sign(hub.root.Raw)
			s.ecr.PutDocument(repository, verifytest.Document{MediaType: typeOf(raw), Raw: raw}, tag)
			s.checkDocument(t, copyName, raw)
		case aConfig:
			s.checkConfig(t, raw)
		}
	})
}

// The targets would find nothing if good images were refused.
func TestGoodImagesAreServed(t *testing.T) {
	release := verifytest.NewRelease("0.1.19", "linux/amd64", "linux/arm64/v8")
	hub, ecr := pack(release, verifytest.Format{}), pack(release, verifytest.Format{Level: 1})
	s := newSite(t, ecr, hub)
	defer s.gate.Close()
	s.sign(hub.root.Raw)
	s.ecr.PutDocument(repository, ecr.root, tag)
	for name, want := range map[string]verifytest.Document{signedName: hub.root, copyName: ecr.root} {
		if got, err := s.open(t, name, ":"+tag); err != nil || got.Digest != digest.FromBytes(want.Raw) {
			t.Errorf("%s is %+v, %v", name, got, err)
		}
	}
}

// checkDocument asks for the tag, and compares what is accepted.
func (s *site) checkDocument(t *testing.T, name string, raw []byte) {
	t.Helper()
	got, err := s.open(t, name, ":"+tag)
	if err != nil {
		return
	}
	doc := ocispec.Descriptor{MediaType: got.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if got.Digest != doc.Digest || got.Size != doc.Size {
		t.Fatalf("%s with %d bytes is admitted as %+v", doc.Digest, doc.Size, got)
	}
	children, err := images.Children(t.Context(), provider{doc.Digest: raw}, doc)
	if err != nil {
		t.Fatalf("containerd can't read it: %v", err)
	}
	compareCrane(t, raw, *got, children)
	known := map[digest.Digest]bool{}
	for i, child := range children {
		if want := s.said(t, name, doc.Digest, child, kindOf(*got, i)); !want && !known[child.Digest] {
			t.Errorf("containerd reads %+v, the Gate doesn't", child)
		}
		known[child.Digest] = true // of one that is named twice the first counts
	}
	if n := s.count(t, doc.Digest); n > len(children) || n < len(known) {
		t.Errorf("the Gate reads %d children, containerd %d", n, len(children))
	}
	if got.Kind == storage.KindIndex && name == signedName {
		s.checkPlatforms(t, children)
	}
}

func kindOf(parent storage.Admission, i int) storage.Kind {
	switch {
	case parent.Kind == storage.KindIndex:
		return storage.KindManifest
	case i == 0:
		return storage.KindConfig
	}
	return storage.KindLayer
}

// compareCrane compares what containerd reads with what go-containerregistry does.
func compareCrane(t *testing.T, raw []byte, doc storage.Admission, children []ocispec.Descriptor) {
	t.Helper()
	mediaType, theirs, err := readCrane(raw, doc.Kind)
	if err != nil && slices.ContainsFunc(children, func(d ocispec.Descriptor) bool { return isSHA512(d.Digest) }) {
		return // which go-containerregistry can't read
	}
	if err != nil || mediaType != "" && mediaType != doc.MediaType || len(theirs) != len(children) {
		t.Fatalf("%s with %d children, go-containerregistry reads %s with %d: %v", doc.MediaType, len(children), mediaType, len(theirs), err)
	}
	for i, their := range theirs {
		child := children[i]
		if their.Digest.String() != child.Digest.String() || their.Size != child.Size || string(their.MediaType) != child.MediaType ||
			platformText(their.Platform) != platformText(child.Platform) {
			t.Errorf("containerd reads %+v, go-containerregistry %+v", child, their)
		}
	}
}

func readCrane(raw []byte, kind storage.Kind) (mediaType string, children []v1.Descriptor, err error) {
	if kind == storage.KindIndex {
		index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
		if err != nil {
			return "", nil, err
		}
		return string(index.MediaType), index.Manifests, nil
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return "", nil, err
	}
	return string(manifest.MediaType), append([]v1.Descriptor{manifest.Config}, manifest.Layers...), nil
}

func isSHA512(d digest.Digest) bool { return d.Algorithm() == digest.SHA512 }

// platformText is what both kinds of platform say.
func platformText(p any) string {
	switch p := p.(type) {
	case *v1.Platform:
		if p != nil {
			return fmt.Sprintf("%q", []string{p.OS, p.Architecture, p.Variant, p.OSVersion})
		}
	case *ocispec.Platform:
		if p != nil {
			return fmt.Sprintf("%q", []string{p.OS, p.Architecture, p.Variant, p.OSVersion})
		}
	}
	return ""
}

// checkPlatforms asks for the manifests that a signed index lists, and expects that
// those are served for which the platform that containerd reads is their config's.
func (s *site) checkPlatforms(t *testing.T, entries []ocispec.Descriptor) {
	t.Helper()
	for _, image := range s.images {
		for d, build := range image.manifests {
			listed := slices.DeleteFunc(slices.Clone(entries), func(e ocispec.Descriptor) bool { return e.Digest != d })
			if len(listed) > 0 {
				s.checkPlatform(t, build, listed)
			}
		}
	}
}

// checkPlatform checks a manifest that is listed once or more.
func (s *site) checkPlatform(t *testing.T, build *verifytest.Build, listed []ocispec.Descriptor) {
	t.Helper()
	d := listed[0].Digest
	doc := s.hub.Document(repository, d.String())
	var config ocispec.Image
	if err := json.Unmarshal(build.Config, &config); err != nil {
		t.Fatal(err)
	}
	right := listed[0].Size == int64(len(doc.Raw)) && listed[0].MediaType == doc.MediaType // of one that is named twice the first counts
	for _, entry := range listed {
		right = right && (entry.Platform == nil || runs(config.Platform, *entry.Platform))
	}
	if _, err := s.open(t, signedName, "@"+d.String()); (err == nil) != right {
		t.Errorf("%s is listed as %+v, and its config is for %s: %v", d, listed, build.Platform, err)
	}
}

// runs tells whether a config is for a platform (D4).
func runs(config, p ocispec.Platform) bool {
	return config.OS == p.OS && config.Architecture == p.Architecture &&
		(config.Variant == "" || p.Variant == "" || config.Variant == p.Variant)
}

// checkConfig has an image with a config signed, asks for a copy's manifest with
// other layers, and compares what these have to decompress to.
func (s *site) checkConfig(t *testing.T, raw []byte) {
	t.Helper()
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	diffIDs, containerdErr := images.RootFS(t.Context(), provider{desc.Digest: raw}, desc)
	var layers []ocispec.Descriptor
	for i := range min(len(diffIDs), 8) {
		layers = append(layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString(fmt.Sprint(i)), Size: 1})
	}
	s.hub.PutBlob(repository, raw)
	signed := put(t, s.hub, ocispec.Manifest{Config: desc, Layers: []ocispec.Descriptor{}})
	signed.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{signed}})
	if err != nil {
		t.Fatal(err)
	}
	s.sign(index)
	put(t, s.ecr, ocispec.Manifest{Config: desc, Layers: layers}, tag)
	if _, err := s.open(t, copyName, ":"+tag); err != nil {
		return
	}
	platform, err := images.ConfigPlatform(t.Context(), provider{desc.Digest: raw}, desc)
	if containerdErr != nil || err != nil || platform.OS != "linux" || platform.Architecture != "arm64" {
		t.Fatalf("containerd reads the platform %+v in %s: %v, %v", platform, raw, containerdErr, err)
	}
	crane, err := v1.ParseConfigFile(bytes.NewReader(raw))
	if slices.ContainsFunc(diffIDs, isSHA512) && err != nil {
		crane, err = &v1.ConfigFile{OS: "linux", Architecture: "arm64"}, nil // which go-containerregistry can't read
		for _, id := range diffIDs {
			crane.RootFS.DiffIDs = append(crane.RootFS.DiffIDs, v1.Hash{Algorithm: id.Algorithm().String(), Hex: id.Encoded()})
		}
	}
	if err != nil || crane.OS != "linux" || crane.Architecture != "arm64" || len(crane.RootFS.DiffIDs) != len(layers) || len(diffIDs) != len(layers) {
		t.Fatalf("a copy with %d layers for linux/arm64 is served; go-containerregistry reads %+v, %v in %s", len(layers), crane, err, raw)
	}
	for i, layer := range layers {
		edges := s.edges(t, copyName, layer.Digest)
		if len(edges) != 1 || edges[0].DiffID != diffIDs[i] || crane.RootFS.DiffIDs[i].String() != diffIDs[i].String() {
			t.Errorf("layer %d is %+v; containerd reads %s, go-containerregistry %s", i, edges, diffIDs[i], crane.RootFS.DiffIDs[i])
		}
	}
}
