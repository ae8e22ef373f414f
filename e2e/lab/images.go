package lab

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"path"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The media types of Docker's image format (Docker Image Manifest V2, Schema 2).
const (
	DockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerConfig   = "application/vnd.docker.container.image.v1+json"
	DockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// Blob is a piece of content with its media type.
type Blob struct {
	MediaType string
	Content   []byte
}

// Digest is the content's sha256 digest.
func (b Blob) Digest() digest.Digest { return digest.FromBytes(b.Content) }

func (b Blob) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: b.MediaType, Digest: b.Digest(), Size: int64(len(b.Content))}
}

// Build is what a build makes for one platform, before it is packaged for a
// registry: the config, which names the layers by their diff IDs, and the
// layers as plain tar archives.
type Build struct {
	Platform ocispec.Platform
	Config   []byte
	Layers   [][]byte
}

// NewBuild makes the build of an image with these layers and process settings.
func NewBuild(platform ocispec.Platform, process ocispec.ImageConfig, layers ...[]byte) (Build, error) {
	created := time.Date(2022, 6, 1, 12, 0, 0, 0, time.UTC)
	image := ocispec.Image{
		Created:  &created,
		Platform: platform,
		Config:   process,
		RootFS:   ocispec.RootFS{Type: "layers"},
	}
	for i, layer := range layers {
		image.RootFS.DiffIDs = append(image.RootFS.DiffIDs, digest.FromBytes(layer))
		image.History = append(image.History, ocispec.History{Created: &created, CreatedBy: fmt.Sprintf("step %d", i+1)})
	}
	config, err := json.Marshal(image)
	return Build{Platform: platform, Config: config, Layers: layers}, err
}

// Packaging is how a registry's images are compressed and described. The same
// Build in two Packagings has equal config digests and no other digest equal.
type Packaging struct {
	Level                         int // of gzip
	Indent                        string
	List, Manifest, Config, Layer string // media types
}

// ForHub is the way Docker Hub's images are packaged.
func ForHub() Packaging {
	return Packaging{gzip.DefaultCompression, "   ", DockerList, DockerManifest, DockerConfig, DockerLayer}
}

// ForECR is another way, as the images of Amazon's registry are packaged.
func ForECR() Packaging {
	return Packaging{gzip.BestSpeed, "", ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest,
		ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerGzip}
}

// Image is a packaged Build.
type Image struct {
	Platform ocispec.Platform
	Manifest Blob
	Config   Blob
	Layers   []Blob
}

// Release is what a tag leads to: an index with its images, or one image alone.
type Release struct {
	Index  *Blob // nil for a release of one architecture
	Images []Image
}

// Top is what the tag names: the index, or the only image's manifest.
func (r Release) Top() Blob {
	if r.Index != nil {
		return *r.Index
	}
	return r.Images[0].Manifest
}

// Image packages one build.
func (p Packaging) Image(build Build) (Image, error) {
	image := Image{Platform: build.Platform, Config: Blob{p.Config, build.Config}}
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: p.Manifest,
		Config:    image.Config.descriptor(),
	}
	for _, layer := range build.Layers {
		var packed bytes.Buffer
		zip, err := gzip.NewWriterLevel(&packed, p.Level)
		if err != nil {
			return Image{}, err
		}
		if _, err := zip.Write(layer); err != nil {
			return Image{}, err
		}
		if err := zip.Close(); err != nil {
			return Image{}, err
		}
		blob := Blob{p.Layer, packed.Bytes()}
		image.Layers = append(image.Layers, blob)
		manifest.Layers = append(manifest.Layers, blob.descriptor())
	}
	var err error
	image.Manifest, err = p.document(p.Manifest, manifest)
	return image, err
}

// Single packages a release of one architecture: a manifest without an index.
func (p Packaging) Single(build Build) (Release, error) {
	image, err := p.Image(build)
	return Release{Images: []Image{image}}, err
}

// Multi packages a release of several architectures under an index.
func (p Packaging) Multi(builds ...Build) (Release, error) {
	var release Release
	for _, build := range builds {
		image, err := p.Image(build)
		if err != nil {
			return Release{}, err
		}
		release.Images = append(release.Images, image)
	}
	return p.Index(release.Images...)
}

// Index puts an index over images.
func (p Packaging) Index(images ...Image) (Release, error) {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: p.List}
	for _, image := range images {
		entry := image.Manifest.descriptor()
		entry.Platform = &image.Platform
		index.Manifests = append(index.Manifests, entry)
	}
	blob, err := p.document(p.List, index)
	return Release{Index: &blob, Images: images}, err
}

func (p Packaging) document(mediaType string, document any) (Blob, error) {
	content, err := json.MarshalIndent(document, "", p.Indent)
	if p.Indent == "" {
		content, err = json.Marshal(document)
	}
	return Blob{mediaType, content}, err
}

// File is a file in a layer.
type File struct {
	Path    string
	Mode    int64
	Content []byte
}

// Layer makes a layer's tar archive of files, and of the folders they are in.
func Layer(files ...File) ([]byte, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	made := map[string]bool{".": true}
	for _, file := range files {
		if err := addFolders(w, path.Dir(file.Path), made); err != nil {
			return nil, err
		}
		header := &tar.Header{Name: file.Path, Mode: file.Mode, Size: int64(len(file.Content)), Format: tar.FormatPAX}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(file.Content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return archive.Bytes(), err
}

func addFolders(w *tar.Writer, dir string, made map[string]bool) error {
	if made[dir] {
		return nil
	}
	made[dir] = true
	if err := addFolders(w, path.Dir(dir), made); err != nil {
		return err
	}
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, Format: tar.FormatPAX})
}
