package main

import (
	"context"
	"fmt"
	"time"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// How servers that have everything are loaded.
const (
	manifestConnections = 16
	manifestTime        = 3 * time.Second
	blobConnections     = 8
	blobTime            = 5 * time.Second
)

// The quantities of warm servers.
const (
	requestsPerSecond = "requests/s"
	mbPerSecond       = "MB/s"
	cpuPerGB          = "CPU s/GB"
)

func (b *bench) warmExperiments() []experiment {
	manifest := []goal{{requestsPerSecond, ours, proxyPeer, atLeast(6)}, {requestsPerSecond, ours, filesPeer, atLeast(0.5)}}
	return []experiment{
		{name: "warm/manifest-tag", what: "a warm manifest by its tag, 16 connections", goals: manifest,
			prepare: func(ctx context.Context) ([]subject, error) {
				return b.warmManifest(ctx, func(img image) string { return img.tag })
			}},
		{name: "warm/manifest-digest", what: "a warm manifest by its digest, 16 connections", goals: manifest,
			prepare: func(ctx context.Context) ([]subject, error) {
				return b.warmManifest(ctx, func(img image) string { return img.signed.Images[0].Manifest.Digest().String() })
			}},
		{name: "warm/blob", what: "a warm blob of 100 MB, 8 connections", prepare: b.warmBlob, goals: []goal{
			{mbPerSecond, ours, filesPeer, atLeast(0.9)}, {mbPerSecond, ours, proxyPeer, none()},
			{cpuPerGB, ours, proxyPeer, atMost(0.5)}, {cpuPerGB, ours, filesPeer, none()},
		}},
	}
}

func (b *bench) warmImage(ctx context.Context) (image, error) {
	return b.image(ctx, "warm", 100*mb, 1*mb, 1*mb, 1*mb, 1*mb)
}

// warmServers starts the servers, once, and pulls the warm image from each, which also
// shows that all deliver the same.
func (b *bench) warmServers(ctx context.Context) ([]*server, image, error) {
	img, err := b.warmImage(ctx)
	if err != nil || b.warm != nil {
		return b.warm, img, err
	}
	starts := []func() (*server, error){
		func() (*server, error) { return b.startMirror(ctx, mirror{}, img) },
		func() (*server, error) { return b.startProxy(ctx) },
	}
	if b.nginx != "" {
		starts = append(starts, func() (*server, error) { return b.startFiles(ctx, img) })
	}
	var servers []*server
	for _, start := range starts {
		s, err := start()
		if err != nil {
			return nil, image{}, err
		}
		client := newPuller(s.url)
		defer client.Close()
		for range 2 { // cold, and warm
			if _, err := b.pull(ctx, s.name, client, signedRepository, img.tag, img.signed); err != nil {
				return nil, image{}, fmt.Errorf("%s: %w", s.name, err)
			}
		}
		servers = append(servers, s)
	}
	b.warm = servers
	return servers, img, nil
}

func (b *bench) warmManifest(ctx context.Context, reference func(image) string) ([]subject, error) {
	servers, img, err := b.warmServers(ctx)
	if err != nil {
		return nil, err
	}
	path := lab.ManifestPath(signedRepository, reference(img))
	var subjects []subject
	for _, s := range servers {
		subjects = append(subjects, subject{s.name, func(ctx context.Context) (sample, error) {
			done, err := load(ctx, s.address(), path, manifestConnections, b.long(manifestTime))
			return sample{requestsPerSecond: float64(done.requests) / done.took.Seconds()}, err
		}})
	}
	return subjects, nil
}

func (b *bench) warmBlob(ctx context.Context) ([]subject, error) {
	servers, img, err := b.warmServers(ctx)
	if err != nil {
		return nil, err
	}
	path := lab.BlobPath(signedRepository, img.signed.Images[0].Layers[0].Digest())
	var subjects []subject
	for _, s := range servers {
		subjects = append(subjects, subject{s.name, func(ctx context.Context) (sample, error) {
			before, err := cpuSeconds(s.process.PID())
			if err != nil {
				return nil, err
			}
			done, err := load(ctx, s.address(), path, blobConnections, b.long(blobTime))
			if err != nil {
				return nil, err
			}
			after, err := cpuSeconds(s.process.PID())
			return sample{
				mbPerSecond: float64(done.bytes) / mb / done.took.Seconds(),
				cpuPerGB:    (after - before) / (float64(done.bytes) / 1000 / mb),
			}, err
		}})
	}
	return subjects, nil
}
