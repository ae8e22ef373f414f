package verify

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify/internal/strictjson"
)

// Docker's media types (distribution specification, "Image Manifest Version 2,
// Schema 2"); OCI's are in image-spec.
const (
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
)

// DocumentTypes are the media types of the manifests and indexes that are
// accepted (D2), for Accept headers.
func DocumentTypes() []string {
	return []string{ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, dockerList, dockerManifest}
}

// document is a manifest or an index that was parsed strictly from its exact bytes.
type document struct {
	raw       []byte
	digest    digest.Digest
	kind      storage.Kind // KindIndex or KindManifest
	mediaType string

	manifests []descriptor // of an index
	config    descriptor   // of a manifest
	layers    []descriptor // of a manifest

	annotations  map[string]string
	artifactType string
	subject      bool
	unknown      []string // top-level members that no specification names
}

// descriptor is an OCI content descriptor that keeps to D3.
type descriptor struct {
	mediaType    string
	digest       digest.Digest
	size         int64
	annotations  map[string]string
	artifactType string
	platform     *platform // nil where the entry names none
	unknown      bool      // it has members that no specification names
}

// platform is the platform of an index's entry (OCI image index, "platform").
type platform struct {
	OS           string   `json:"os"`
	Architecture string   `json:"architecture"`
	Variant      string   `json:"variant"`
	OSVersion    string   `json:"os.version"`
	OSFeatures   []string `json:"os.features"`
	Features     []string `json:"features"`
}

func (p *platform) String() string {
	if p == nil {
		return "no platform"
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	if p.OSVersion != "" {
		s += " (" + p.OSVersion + ")"
	}
	return s
}

// wireDocument and wireDescriptor say what members exist; presence matters, so
// what may not be there is kept raw.
type wireDocument struct {
	SchemaVersion json.Number       `json:"schemaVersion"`
	MediaType     *string           `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Manifests     *[]wireDescriptor `json:"manifests"`
	Config        *wireDescriptor   `json:"config"`
	Layers        *[]wireDescriptor `json:"layers"`
	Annotations   map[string]string `json:"annotations"`
	Subject       json.RawMessage   `json:"subject"`
}

type wireDescriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       digest.Digest     `json:"digest"`
	Size         json.RawMessage   `json:"size"`
	Annotations  map[string]string `json:"annotations"`
	ArtifactType string            `json:"artifactType"`
	Platform     *platform         `json:"platform"`
	URLs         json.RawMessage   `json:"urls"`
	Data         json.RawMessage   `json:"data"`
}

// maxValues is how many JSON values a manifest, an index or a config may have. A
// large image's have some thousand; a document of the largest size could have two
// million, which take hundreds of MiB.
const maxValues = 16384

// parseDocument reads a manifest or an index strictly (D2, D3). claims are the
// media types that others gave it, the Content-Type and the descriptor that led
// to it; each has to agree with the document itself.
func parseDocument(raw []byte, d digest.Digest, claims ...string) (*document, error) {
	members := map[string]json.RawMessage{}
	if err := strictjson.Unmarshal(raw, &members, strictjson.MaxValues(maxValues)); err != nil {
		return nil, Refuse(Malformed, "%s is not a strict JSON document: %w", d, err)
	}
	if has(members, "fsLayers", "history", "signatures") || string(members["schemaVersion"]) == "1" {
		return nil, Refuse(MediaType, "%s is an image manifest of schema 1, which can't be verified; publish it as schema 2 or OCI", d)
	}
	if has(members, "manifests") && has(members, "layers", "config") {
		return nil, Refuse(AmbiguousDoc, "%s has both manifests and layers, so clients could read it in two ways", d)
	}
	var wire wireDocument
	if err := strictjson.Unmarshal(raw, &wire); err != nil {
		return nil, Refuse(Malformed, "%s is not a manifest or an index: %w", d, err)
	}
	if wire.SchemaVersion != "2" {
		return nil, Refuse(MediaType, "%s has schemaVersion %q; only 2 is accepted", d, wire.SchemaVersion)
	}
	doc := &document{
		raw: raw, digest: d,
		annotations: wire.Annotations, artifactType: wire.ArtifactType, subject: wire.Subject != nil,
	}
	if err := doc.setType(wire, claims); err != nil {
		return nil, err
	}
	for name := range members {
		switch name {
		case "schemaVersion", "mediaType", "artifactType", "manifests", "config", "layers", "annotations", "subject":
		default:
			doc.unknown = append(doc.unknown, name)
		}
	}
	return doc, doc.setDescriptors(wire, members)
}

// setType takes the type from mediaType, or from the shape where an OCI document
// leaves it out, and holds it against the shape and the claims.
func (doc *document) setType(wire wireDocument, claims []string) error {
	var shape string
	switch {
	case wire.Manifests != nil:
		doc.kind, shape = storage.KindIndex, ocispec.MediaTypeImageIndex
	case wire.Config != nil && wire.Layers != nil:
		doc.kind, shape = storage.KindManifest, ocispec.MediaTypeImageManifest
	default:
		return Refuse(AmbiguousDoc, "%s is neither an index (manifests) nor a manifest (config and layers)", doc.digest)
	}
	doc.mediaType = shape
	if wire.MediaType != nil {
		doc.mediaType = *wire.MediaType
	}
	kind, known := documentKind(doc.mediaType)
	if !known {
		return Refuse(MediaType, "%s has media type %q; Docker's manifest list and schema 2 and OCI's index and manifest are accepted", doc.digest, doc.mediaType)
	}
	if kind != doc.kind {
		return Refuse(AmbiguousDoc, "%s says that it is %s but has the shape of an %s", doc.digest, doc.mediaType, doc.kind)
	}
	return doc.agrees(unknownSize, claims)
}

// unknownSize stands for the size of a document of which nobody named one.
const unknownSize = -1

// agrees holds a document against what others say of it: its size (D1), unless
// that is unknownSize, and its type (D2).
func (doc *document) agrees(size int64, claims []string) error {
	if size != unknownSize && int64(len(doc.raw)) != size {
		return Refuse(SizeMismatch, "%s has %d bytes, but its descriptor says %d", doc.digest, len(doc.raw), size)
	}
	for _, claim := range claims {
		if _, known := documentKind(claim); !known {
			return Refuse(MediaType, "%s was delivered or listed as %q, which is not the type of a manifest or an index", doc.digest, claim)
		}
		if claim != doc.mediaType {
			return Refuse(AmbiguousDoc, "%s says that it is %s but was delivered or listed as %s", doc.digest, doc.mediaType, claim)
		}
	}
	return nil
}

func documentKind(mediaType string) (storage.Kind, bool) {
	switch mediaType {
	case dockerList, ocispec.MediaTypeImageIndex:
		return storage.KindIndex, true
	case dockerManifest, ocispec.MediaTypeImageManifest:
		return storage.KindManifest, true
	}
	return "", false
}

func (doc *document) setDescriptors(wire wireDocument, members map[string]json.RawMessage) (err error) {
	if doc.kind == storage.KindIndex {
		doc.manifests, err = doc.descriptors(*wire.Manifests, members["manifests"])
		if err != nil {
			return err
		}
		for _, m := range doc.manifests {
			if kind, known := documentKind(m.mediaType); !known || kind != storage.KindManifest {
				return Refuse(MediaType, "%s lists %s of type %q; an index may list manifests only", doc.digest, m.digest, m.mediaType)
			}
			if m.size == 0 || m.size > MaxDocument {
				return Refuse(BadDescriptor, "%s lists %s with %d bytes; a manifest has at least one and at most %d", doc.digest, m.digest, m.size, MaxDocument)
			}
		}
		return nil
	}
	if doc.layers, err = doc.descriptors(*wire.Layers, members["layers"]); err != nil {
		return err
	}
	config, err := doc.descriptors([]wireDescriptor{*wire.Config}, json.RawMessage("["+string(members["config"])+"]"))
	if err != nil {
		return err
	}
	doc.config = config[0]
	return nil
}

// descriptors checks descriptors (D3; OCI image specification, "Content
// Descriptors"). all is the array that they were read from.
func (doc *document) descriptors(wire []wireDescriptor, all json.RawMessage) ([]descriptor, error) {
	var members []map[string]json.RawMessage
	if err := json.Unmarshal(all, &members); err != nil {
		return nil, Refuse(Malformed, "%s: %w", doc.digest, err)
	}
	list := make([]descriptor, len(wire))
	for i, w := range wire {
		if err := ValidateDigest(w.Digest); err != nil {
			return nil, Refuse(BadDescriptor, "%s names content by %w", doc.digest, err)
		}
		size, err := strconv.ParseInt(string(w.Size), 10, 64)
		if err != nil || size < 0 {
			return nil, Refuse(BadDescriptor, "%s gives %s the size %q; a size is a number of bytes", doc.digest, w.Digest, string(w.Size))
		}
		if w.URLs != nil || w.Data != nil {
			return nil, Refuse(BadDescriptor, "%s gives %s urls or data; content comes from its repository only", doc.digest, w.Digest)
		}
		if w.MediaType == "" {
			return nil, Refuse(BadDescriptor, "%s gives %s no media type", doc.digest, w.Digest)
		}
		list[i] = descriptor{
			mediaType: w.MediaType, digest: w.Digest, size: size,
			annotations: w.Annotations, artifactType: w.ArtifactType, platform: w.Platform,
		}
		for name := range members[i] {
			switch name {
			case "mediaType", "digest", "size", "annotations", "artifactType", "platform":
			default:
				list[i].unknown = true
			}
		}
	}
	return list, nil
}

// children lists the descriptors that the document names, in order.
func (doc *document) children() []descriptor {
	if doc.kind == storage.KindIndex {
		return doc.manifests
	}
	return append([]descriptor{doc.config}, doc.layers...)
}

func has(members map[string]json.RawMessage, names ...string) bool {
	for _, n := range names {
		if _, ok := members[n]; ok {
			return true
		}
	}
	return false
}

// within tells whether all of a's entries are in b with the same values.
func within(a, b map[string]string) bool {
	for k := range maps.Keys(a) {
		if v, ok := b[k]; !ok || v != a[k] {
			return false
		}
	}
	return true
}

// imageConfig is what an image's config says about its identity (OCI image
// specification, "Image Configuration"; Docker's differs in nothing of it).
type imageConfig struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
	RootFS       struct {
		Type    string          `json:"type"`
		DiffIDs []digest.Digest `json:"diff_ids"`
	} `json:"rootfs"`
}

// isImageConfig tells whether a media type is that of a config which says what
// the image is (C3: others carry no identity).
func isImageConfig(mediaType string) bool {
	return mediaType == dockerConfig || mediaType == ocispec.MediaTypeImageConfig
}

// configFoldDepth is how deep member names that differ in case only are refused:
// below config and history, Docker's own images have labels like that.
const configFoldDepth = 2

// parseConfig reads an image's config strictly.
func parseConfig(raw []byte, d digest.Digest) (*imageConfig, error) {
	var c imageConfig
	if err := strictjson.Unmarshal(raw, &c, strictjson.FoldDepth(configFoldDepth), strictjson.MaxValues(maxValues)); err != nil {
		return nil, Refuse(Malformed, "config %s: %w", d, err)
	}
	for _, id := range c.RootFS.DiffIDs {
		if err := ValidateDigest(id); err != nil {
			return nil, Refuse(Malformed, "config %s: diff ID: %w", d, err)
		}
	}
	return &c, nil
}

// identifies tells whether the config says what the image is (C3).
func (c *imageConfig) identifies() bool {
	return c.OS != "" && c.Architecture != "" && c.RootFS.Type == "layers"
}

// runs tells whether the config is that of an image for the platform (D4).
func (c *imageConfig) runs(p *platform) bool {
	return p == nil || c.OS == p.OS && c.Architecture == p.Architecture &&
		(c.Variant == "" || p.Variant == "" || c.Variant == p.Variant)
}

// compatible tells whether two entries of indexes are for one platform (C2):
// what both name has to be equal.
func (p *platform) compatible(q *platform) bool {
	if p == nil || q == nil {
		return true
	}
	return p.OS == q.OS && p.Architecture == q.Architecture &&
		(p.Variant == "" || q.Variant == "" || p.Variant == q.Variant) &&
		(p.OSVersion == "" || q.OSVersion == "" || p.OSVersion == q.OSVersion) &&
		(len(p.OSFeatures) == 0 || len(q.OSFeatures) == 0 || slices.Equal(p.OSFeatures, q.OSFeatures))
}
