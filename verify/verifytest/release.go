package verifytest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// Release is what a publisher builds once: for each platform a config and
// layers, not yet compressed.
type Release struct {
	Platforms []*Build
}

// Build is a release's image for one platform.
type Build struct {
	Platform string   // "linux/arm64/v8"
	Layers   [][]byte // tar streams
	Config   []byte
}

// NewRelease builds an image of two layers for each platform, "linux/amd64" and
// so on. Two releases with different names differ in everything.
func NewRelease(name string, platforms ...string) *Release {
	r := &Release{}
	for _, p := range platforms {
		b := &Build{Platform: p, Layers: [][]byte{
			Tar("etc/os-release", "NAME="+p),
			Tar("usr/local/bin/webdis", strings.Repeat(name+" for "+p+"\n", 2000)),
		}}
		b.Config = config(b)
		r.Platforms = append(r.Platforms, b)
	}
	return r
}

// Tar returns a tar stream with one file.
func Tar(name, content string) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	must(w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}))
	_, err := w.Write([]byte(content))
	must(err)
	must(w.Close())
	return buf.Bytes()
}

// SetLayer replaces a layer's tar stream, and says so in the config.
func (b *Build) SetLayer(i int, tar []byte) {
	b.Layers[i] = tar
	b.Config = config(b)
}

func config(b *Build) []byte {
	diffIDs := []digest.Digest{}
	for _, l := range b.Layers {
		diffIDs = append(diffIDs, digest.FromBytes(l))
	}
	c := platformOf(b.Platform)
	c["rootfs"] = map[string]any{"type": "layers", "diff_ids": diffIDs}
	c["config"] = map[string]any{"Cmd": []string{"/usr/local/bin/webdis"}, "Labels": map[string]string{"maintainer": "a", "MAINTAINER": "b"}}
	return marshal(c)
}

func platformOf(p string) map[string]any {
	parts := strings.Split(p, "/")
	m := map[string]any{"os": parts[0], "architecture": parts[1]}
	if len(parts) > 2 {
		m["variant"] = parts[2]
	}
	return m
}

// Format says how a release is packed for a registry. The zero value packs as
// Docker does: gzip, Docker's media types.
type Format struct {
	OCI    bool   // OCI's media types
	Level  int    // gzip's level; 0 is gzip's default
	Layers string // "gzip" (default), "zstd" or "tar"
	Single bool   // push the first platform's manifest, no index
	Tags   []string

	// Change, if not nil, is called with each document before it is marshalled:
	// platform is empty for the index.
	Change func(platform string, document map[string]any)
	// ChangeLayer, if not nil, is called with each compressed layer.
	ChangeLayer func(platform string, i int, packed []byte) []byte
}

// Pushed says what Push put where.
type Pushed struct {
	Root      digest.Digest
	Size      int64
	Manifests map[string]digest.Digest   // by platform
	Configs   map[string]digest.Digest   // by platform
	Layers    map[string][]digest.Digest // by platform
}

// Blobs lists the digests of all blobs, by platform, config first.
func (p Pushed) Blobs(platform string) []digest.Digest {
	return append([]digest.Digest{p.Configs[platform]}, p.Layers[platform]...)
}

// Push packs the release and puts it into a repository.
func (r *Release) Push(registry *Registry, repository string, f Format) Pushed {
	types := f.types()
	out := Pushed{Manifests: map[string]digest.Digest{}, Configs: map[string]digest.Digest{}, Layers: map[string][]digest.Digest{}}
	entries := []any{}
	var single Document
	for _, b := range r.Platforms {
		layers := []any{}
		for i, l := range b.Layers {
			packed := f.pack(l)
			if f.ChangeLayer != nil {
				packed = f.ChangeLayer(b.Platform, i, packed)
			}
			out.Layers[b.Platform] = append(out.Layers[b.Platform], registry.PutBlob(repository, packed))
			layers = append(layers, describe(types.layer, packed))
		}
		out.Configs[b.Platform] = registry.PutBlob(repository, b.Config)
		m := map[string]any{"schemaVersion": 2, "mediaType": types.manifest, "config": describe(types.config, b.Config), "layers": layers}
		if f.Change != nil {
			f.Change(b.Platform, m)
		}
		doc := Document{MediaType: types.manifest, Raw: marshal(m)}
		out.Manifests[b.Platform] = registry.PutDocument(repository, doc)
		if single.Raw == nil {
			single = doc
		}
		entry := describe(types.manifest, doc.Raw)
		entry["platform"] = platformOf(b.Platform)
		entries = append(entries, entry)
	}
	root := single
	if !f.Single {
		index := map[string]any{"schemaVersion": 2, "mediaType": types.index, "manifests": entries}
		if f.Change != nil {
			f.Change("", index)
		}
		root = Document{MediaType: types.index, Raw: marshal(index)}
	}
	out.Root, out.Size = registry.PutDocument(repository, root, f.Tags...), int64(len(root.Raw))
	return out
}

type mediaTypes struct{ index, manifest, config, layer string }

func (f Format) types() mediaTypes {
	t := mediaTypes{
		index:    "application/vnd.docker.distribution.manifest.list.v2+json",
		manifest: "application/vnd.docker.distribution.manifest.v2+json",
		config:   "application/vnd.docker.container.image.v1+json",
		layer:    "application/vnd.docker.image.rootfs.diff.tar",
	}
	compression := map[string][2]string{"": {".gzip", "+gzip"}, "gzip": {".gzip", "+gzip"}, "zstd": {".zstd", "+zstd"}, "tar": {"", ""}}[f.Layers]
	if f.OCI {
		return mediaTypes{
			index:    "application/vnd.oci.image.index.v1+json",
			manifest: "application/vnd.oci.image.manifest.v1+json",
			config:   "application/vnd.oci.image.config.v1+json",
			layer:    "application/vnd.oci.image.layer.v1.tar" + compression[1],
		}
	}
	t.layer += compression[0]
	return t
}

func (f Format) pack(layer []byte) []byte {
	var buf bytes.Buffer
	switch f.Layers {
	case "tar":
		return layer
	case "zstd":
		w, err := zstd.NewWriter(&buf)
		must(err)
		_, err = w.Write(layer)
		must(err)
		must(w.Close())
	default:
		level := f.Level
		if level == 0 {
			level = gzip.DefaultCompression
		}
		w, err := gzip.NewWriterLevel(&buf, level)
		must(err)
		_, err = w.Write(layer)
		must(err)
		must(w.Close())
	}
	return buf.Bytes()
}

func describe(mediaType string, raw []byte) map[string]any {
	return map[string]any{"mediaType": mediaType, "digest": digest.FromBytes(raw).String(), "size": len(raw)}
}

func marshal(v any) []byte {
	raw, err := json.MarshalIndent(v, "", "   ")
	must(err)
	return raw
}

// must ends a test whose own material is broken.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
