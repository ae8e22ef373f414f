package fuzz

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// The repositories of the image, and its tag.
const (
	signedName = "docker.io/nicolas/webdis"
	copyName   = "public.ecr.aws/nicolas/webdis"
	repository = "nicolas/webdis"
	tag        = "0.1.19"
)

// packed is a release as a registry holds it, but for the layers, which nobody asks
// for here.
type packed struct {
	root      verifytest.Document
	documents []verifytest.Document // root, and the manifest for each platform
	manifests map[digest.Digest]*verifytest.Build
}

func pack(release *verifytest.Release, format verifytest.Format) *packed {
	registry := verifytest.NewRegistry()
	pushed := release.Push(registry, repository, format)
	p := &packed{root: registry.Document(repository, pushed.Root.String()), manifests: map[digest.Digest]*verifytest.Build{}}
	p.documents = append(p.documents, p.root)
	for _, build := range release.Platforms {
		d := pushed.Manifests[build.Platform]
		p.documents = append(p.documents, registry.Document(repository, d.String()))
		p.manifests[d] = build
	}
	return p
}

func annotate(_ string, doc map[string]any) {
	doc["annotations"] = map[string]string{"org.opencontainers.image.version": "0.1.19"}
}

// fill puts an image into a registry.
func (p *packed) fill(registry *verifytest.Registry) {
	for _, doc := range p.documents {
		registry.PutDocument(repository, doc)
	}
	for _, build := range p.manifests {
		registry.PutBlob(repository, build.Config)
	}
}

// site is a Gate in front of two registries in memory.
type site struct {
	gate     *verify.Gate
	driver   *inmemory.Driver
	store    *storage.Store
	source   *verifytest.Source
	hub, ecr *verifytest.Registry
	images   []*packed // on the hub
}

func newSite(t *testing.T, copied *packed, signed ...*packed) *site {
	t.Helper()
	driver := inmemory.New()
	s := &site{
		driver: driver, store: storage.New(driver), source: &verifytest.Source{},
		hub: verifytest.NewRegistry(), ecr: verifytest.NewRegistry(), images: signed,
	}
	for _, p := range signed {
		p.fill(s.hub)
	}
	copied.fill(s.ecr)
	policy, err := verify.NewPolicy([]verify.ImageRule{{
		Signed: signedName, Copies: []string{copyName}, Source: func(verify.Ref) (verify.Source, error) { return s.source, nil },
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.gate, err = verify.NewGate(verify.GateConfig{
		Policy: policy, Store: s.store, Fetcher: verifytest.Fetcher{"docker.io": s.hub, "public.ecr.aws": s.ecr},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sign puts a document into the hub and has it signed.
func (s *site) sign(raw []byte) {
	d := s.hub.PutDocument(repository, verifytest.Document{MediaType: typeOf(raw), Raw: raw})
	s.source.Sign(tag, d, int64(len(raw)), time.Now())
}

// typeOf is the Content-Type with which a registry delivers a document.
func typeOf(raw []byte) string {
	var doc struct {
		MediaType string          `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
	}
	switch err := json.Unmarshal(raw, &doc); {
	case err == nil && doc.MediaType != "":
		return doc.MediaType
	case doc.Manifests != nil:
		return ocispec.MediaTypeImageIndex
	}
	return ocispec.MediaTypeImageManifest
}

// open asks the Gate; a refusal has to be one of the known kinds.
func (s *site) open(t *testing.T, name, reference string) (*storage.Admission, error) {
	t.Helper()
	ref, err := verify.ParseRef(name + reference)
	if err != nil {
		t.Fatal(err)
	}
	content, admission, err := s.gate.Manifest(t.Context(), ref)
	if err != nil {
		if verify.ReasonOf(err) == "" {
			t.Fatalf("an error without a reason: %v", err)
		}
		return nil, err
	}
	content.Close()
	return &admission, nil
}

// edges is what the Gate noted of an object.
func (s *site) edges(t *testing.T, name string, d digest.Digest) []storage.Admission {
	t.Helper()
	admitted, err := s.store.Admissions(t.Context(), name, d)
	if err != nil {
		t.Fatal(err)
	}
	expected, err := s.store.Expected(t.Context(), name, d)
	if err != nil {
		t.Fatal(err)
	}
	return append(admitted, expected...)
}

// count is how many objects the Gate noted that a document names.
func (s *site) count(t *testing.T, parent digest.Digest) (n int) {
	t.Helper()
	names := []byte(`"parent":"` + parent.String() + `"`)
	err := s.driver.Walk(t.Context(), "/", func(file storagedriver.FileInfo) error {
		if file.IsDir() {
			return nil
		}
		record, err := s.driver.GetContent(t.Context(), file.Path())
		if bytes.Contains(record, names) {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// said tells whether the Gate read a child as it is.
func (s *site) said(t *testing.T, name string, parent digest.Digest, child ocispec.Descriptor, kind storage.Kind) bool {
	t.Helper()
	return slices.ContainsFunc(s.edges(t, name, child.Digest), func(a storage.Admission) bool {
		return a.Parent == parent && a.Kind == kind && a.MediaType == child.MediaType && a.Size == child.Size
	})
}

// put marshals a manifest into a registry.
func put(t *testing.T, registry *verifytest.Registry, m ocispec.Manifest, tags ...string) ocispec.Descriptor {
	t.Helper()
	m.SchemaVersion, m.MediaType = 2, ocispec.MediaTypeImageManifest
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	d := registry.PutDocument(repository, verifytest.Document{MediaType: m.MediaType, Raw: raw}, tags...)
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: d, Size: int64(len(raw))}
}

// provider is containerd's content store with what it holds by digest.
type provider map[digest.Digest][]byte

func (p provider) ReaderAt(_ context.Context, d ocispec.Descriptor) (content.ReaderAt, error) {
	return readerAt{bytes.NewReader(p[d.Digest])}, nil
}

type readerAt struct{ *bytes.Reader }

func (readerAt) Close() error { return nil }
