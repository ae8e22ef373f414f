package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// errOtherBytes says that a server delivered something else than was published.
var errOtherBytes = errors.New("these aren't the bytes that were published")

// accept names the documents that clients understand, as they say it.
func accept() string {
	return strings.Join([]string{lab.DockerList, lab.DockerManifest, ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest}, ", ")
}

// atOnce is how many layers Docker downloads at a time.
const atOnce = 3

// pulled tells how a pull went.
type pulled struct {
	took      time.Duration
	firstByte time.Duration // of the largest layer, since it was asked for
	objects   int           // how many were compared with what was published
}

// puller is a client that pulls, with connections of its own.
type puller struct {
	http    *http.Client
	base    string // "http://127.0.0.1:5000"
	token   string // sent if there is one
	buffers sync.Pool
}

func newPuller(base string) *puller {
	return &puller{
		http:    &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: atOnce, DisableCompression: true}},
		base:    base,
		buffers: sync.Pool{New: func() any { return new([64 << 10]byte) }},
	}
}

// Close ends its connections.
func (p *puller) Close() { p.http.CloseIdleConnections() }

// pull pulls as Docker does: what the tag names, the platform's manifest, the config,
// and the layers three at a time. Every byte is compared with what was published.
func (p *puller) pull(ctx context.Context, repository, tag string, want lab.Release) (pulled, error) {
	started := time.Now()
	top, err := p.document(ctx, repository, tag, want.Top())
	if err != nil {
		return pulled{}, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(top, &index); err != nil {
		return pulled{}, err
	}
	platform := want.Images[0]
	raw, err := p.document(ctx, repository, index.Manifests[0].Digest.String(), platform.Manifest)
	if err != nil {
		return pulled{}, err
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(raw, &manifest); err != nil {
		return pulled{}, err
	}
	if _, err := p.fetch(ctx, lab.BlobPath(repository, manifest.Config.Digest), platform.Config.Content); err != nil {
		return pulled{}, err
	}
	largest := slices.MaxFunc(manifest.Layers, func(a, b ocispec.Descriptor) int { return int(a.Size - b.Size) })
	var (
		result = pulled{objects: 3 + len(manifest.Layers)}
		slots  = make(chan struct{}, atOnce)
		errs   = make([]error, len(manifest.Layers))
		wait   sync.WaitGroup
	)
	for i, layer := range manifest.Layers {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			var first time.Duration
			if first, errs[i] = p.fetch(ctx, lab.BlobPath(repository, layer.Digest), platform.Layers[i].Content); layer.Digest == largest.Digest {
				result.firstByte = first
			}
		})
	}
	wait.Wait()
	result.took = time.Since(started)
	return result, errors.Join(errs...)
}

// login gets a token, as clients do of a registry that asks for one.
func (p *puller) login(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/token", nil)
	if err != nil {
		return err
	}
	response, err := p.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer := struct{ Token *string }{&p.token}
	return json.NewDecoder(response.Body).Decode(&answer)
}

// document fetches a manifest or an index.
func (p *puller) document(ctx context.Context, repository, reference string, want lab.Blob) ([]byte, error) {
	_, err := p.fetch(ctx, lab.ManifestPath(repository, reference), want.Content)
	return want.Content, err
}

// fetch gets one object, compares it as it arrives, and returns how long the first
// byte took.
func (p *puller) fetch(ctx context.Context, path string, want []byte) (firstByte time.Duration, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+path, nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Accept", accept())
	if p.token != "" {
		request.Header.Set("Authorization", "Bearer "+p.token)
	}
	started := time.Now()
	response, err := p.http.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		answer, _ := io.ReadAll(io.LimitReader(response.Body, 4096)) // whatever can be had
		return 0, fmt.Errorf("%s: %s: %s", path, response.Status, answer)
	}
	buffer, ok := p.buffers.Get().(*[64 << 10]byte)
	if !ok {
		buffer = new([64 << 10]byte)
	}
	defer p.buffers.Put(buffer)
	for left := want; ; {
		n, err := response.Body.Read(buffer[:])
		if n > 0 && firstByte == 0 {
			firstByte = time.Since(started)
		}
		if n > len(left) || !bytes.Equal(buffer[:n], left[:n]) {
			return 0, fmt.Errorf("%s: %w", path, errOtherBytes)
		}
		left = left[n:]
		if errors.Is(err, io.EOF) && len(left) == 0 {
			return firstByte, nil
		}
		if err != nil {
			return 0, fmt.Errorf("%s, %d bytes before its end: %w", path, len(left), err)
		}
	}
}
