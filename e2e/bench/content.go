package main

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// Where images are published: signed, and copied.
const (
	signedRegistry, signedRepository = "docker.io", "bench/app"
	copyRegistry, copyRepository     = "public.ecr.aws", "bench-copy/app"
)

// mb is how much a MB is, as registries count: bandwidths and goals are in these, too.
const mb = 1_000_000

// image is what is published under a tag: once signed, and once as a copy of it, with
// the same configs, and layers that are compressed in another way.
type image struct {
	tag          string
	signed, copy lab.Release
}

// compressed is one layer, for each of the two.
type compressed struct {
	diffID       digest.Digest
	signed, copy lab.Blob
}

// newImage makes an image with layers of these sizes in bytes, as they travel. Its
// content is the same at each run with the same Go, and lies in files below dir.
func newImage(dir, tag string, sizes []int64) (image, error) {
	layers, errs := make([]compressed, len(sizes)), make([]error, len(sizes))
	var wait sync.WaitGroup
	for i, size := range sizes {
		wait.Go(func() {
			layers[i], errs[i] = newLayer(filepath.Join(dir, fmt.Sprintf("%s-%d", tag, i)), fmt.Sprintf("%s %d %d", tag, i, size), size)
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return image{}, err
	}
	platform := lab.Platforms()[0]
	described := ocispec.Image{Platform: platform, RootFS: ocispec.RootFS{Type: "layers"}}
	var signed, copied []lab.Blob
	for i, layer := range layers {
		described.RootFS.DiffIDs = append(described.RootFS.DiffIDs, layer.diffID)
		described.History = append(described.History, ocispec.History{CreatedBy: fmt.Sprintf("step %d", i+1)})
		signed, copied = append(signed, layer.signed), append(copied, layer.copy)
	}
	config, err := json.Marshal(described)
	if err != nil {
		return image{}, err
	}
	img := image{tag: tag}
	if img.signed, err = release(lab.ForHub(), platform, config, signed); err != nil {
		return image{}, err
	}
	img.copy, err = release(lab.ForECR(), platform, config, copied)
	return img, err
}

// release packages layers that are compressed already under an index.
func release(p lab.Packaging, platform ocispec.Platform, config []byte, layers []lab.Blob) (lab.Release, error) {
	packed := lab.Image{Platform: platform, Config: lab.Blob{MediaType: p.Config, Content: config}}
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: p.Manifest, Config: describe(packed.Config)}
	for _, layer := range layers {
		layer.MediaType = p.Layer
		packed.Layers = append(packed.Layers, layer)
		manifest.Layers = append(manifest.Layers, describe(layer))
	}
	raw, err := json.MarshalIndent(manifest, "", p.Indent)
	if err != nil {
		return lab.Release{}, err
	}
	packed.Manifest = lab.Blob{MediaType: p.Manifest, Content: raw}
	return p.Index(packed)
}

func describe(b lab.Blob) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: b.MediaType, Digest: b.Digest(), Size: int64(len(b.Content))}
}

// newLayer writes a tar archive, compressed in two ways, to files that begin with path.
// The signed one has at least size bytes, and hardly more.
func newLayer(path, seed string, size int64) (compressed, error) {
	diffID := digest.SHA256.Digester()
	signed, err := newPacker(path+"-signed", gzip.BestSpeed)
	if err != nil {
		return compressed{}, err
	}
	copied, err := newPacker(path+"-copy", gzip.BestSpeed+1)
	if err != nil {
		return compressed{}, err
	}
	archive := tar.NewWriter(io.MultiWriter(diffID.Hash(), signed.zip, copied.zip))
	make := newFiller(seed)
	for i := 0; signed.written < size; i++ {
		content := make.file(min(size-signed.written, 1<<20))
		header := &tar.Header{Name: fmt.Sprintf("usr/lib/file-%06d", i), Mode: 0o644, Size: int64(len(content)), Format: tar.FormatPAX}
		if err := archive.WriteHeader(header); err != nil {
			return compressed{}, err
		}
		if _, err := archive.Write(content); err != nil {
			return compressed{}, err
		}
	}
	if err := archive.Close(); err != nil {
		return compressed{}, err
	}
	layer := compressed{diffID: diffID.Digest()}
	if layer.signed.Content, err = signed.finish(); err != nil {
		return compressed{}, err
	}
	layer.copy.Content, err = copied.finish()
	return layer, err
}

// packer compresses into a file.
type packer struct {
	file    *os.File
	buffer  *bufio.Writer
	zip     *gzip.Writer
	written int64 // bytes of the file, but for what is in the buffers
}

func newPacker(path string, level int) (*packer, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	p := &packer{file: file}
	p.buffer = bufio.NewWriterSize(p, 256<<10)
	p.zip, err = gzip.NewWriterLevel(p.buffer, level)
	return p, err
}

func (p *packer) Write(b []byte) (int, error) {
	p.written += int64(len(b))
	return p.file.Write(b)
}

// finish returns the file's content, which stays in the file.
func (p *packer) finish() ([]byte, error) {
	if err := errors.Join(p.zip.Close(), p.buffer.Flush()); err != nil {
		return nil, err
	}
	content, err := syscall.Mmap(int(p.file.Fd()), 0, int(p.written), syscall.PROT_READ, syscall.MAP_SHARED)
	return content, errors.Join(err, p.file.Close())
}

// fillerPhrases is from how many places something said before is taken: all within
// gzip's window.
const fillerPhrases = 16 << 10

// filler makes what compresses to about a half, as programs and libraries do.
type filler struct {
	random  *rand.ChaCha8
	phrases []byte
}

func newFiller(seed string) *filler {
	f := &filler{random: rand.NewChaCha8(digestBytes(seed)), phrases: make([]byte, fillerPhrases+64)}
	_, _ = f.random.Read(f.phrases) // never fails
	return f
}

func digestBytes(seed string) (sum [32]byte) {
	copy(sum[:], digest.FromString(seed).Encoded())
	return sum
}

// file makes a file of size bytes: by turns something new and something said before.
func (f *filler) file(size int64) []byte {
	content := make([]byte, 0, size+128)
	for int64(len(content)) < size {
		n := f.random.Uint64()
		said := f.phrases[n%fillerPhrases:][:16+n>>32%48]
		content = append(content, said...)
		content = content[:len(content)+16]
		_, _ = f.random.Read(content[len(content)-16:])
	}
	return content[:size]
}
