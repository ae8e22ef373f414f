package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// The quantities of pulls.
const (
	seconds   = "s"
	firstByte = "s to the first byte"
)

// The names of trustmirror's ways to release layers.
const (
	verified  = ours + " verified"
	streaming = ours + " streaming"
)

func (b *bench) coldExperiments() []experiment {
	return []experiment{
		{name: "cold/image", what: "a cold pull of 5 layers, 270 MB, three at a time", prepare: b.coldImage, goals: []goal{
			{seconds, ours, proxyPeer, atMost(0.8)}, {seconds, ours, directPeer, none()},
		}},
		{name: "cold/layer", what: "a cold pull of one layer of 1 GB", prepare: b.coldLayer, goals: []goal{
			{seconds, verified, proxyPeer, atMost(0.6)},
			{seconds, streaming, proxyPeer, atMost(0.5)},
			{firstByte, streaming, proxyPeer, atMost(1.5)},
		}},
		{name: "cold/copy", what: "a cold pull of the copy of 5 layers, 270 MB, and of the signed image", prepare: b.coldCopy, goals: []goal{
			{seconds, ours + " copy", ours + " signed", atMost(1.15)},
		}},
	}
}

func (b *bench) appImage(ctx context.Context) (image, error) {
	return b.image(ctx, "app", 110*mb, 80*mb, 50*mb, 25*mb, 5*mb)
}

// cold is a subject that starts anew, with nothing stored, each time that it is asked
// for an image.
func (b *bench) cold(name string, img image, start func(context.Context) (*server, error)) subject {
	return b.coldNamed(name, signedRepository, img.tag, img.signed, start)
}

func (b *bench) coldNamed(name, repository, tag string, want lab.Release, start func(context.Context) (*server, error)) subject {
	return subject{name, func(ctx context.Context) (_ sample, err error) {
		s, err := start(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.end()) }()
		client := newPuller(s.url)
		defer client.Close()
		syscall.Sync() // nobody pays for what was written before
		return b.pull(ctx, name, client, repository, tag, want)
	}}
}

func (b *bench) coldImage(ctx context.Context) ([]subject, error) {
	img, err := b.appImage(ctx)
	if err != nil {
		return nil, err
	}
	return []subject{
		b.cold(ours, img, func(ctx context.Context) (*server, error) { return b.startMirror(ctx, mirror{}, img) }),
		b.cold(proxyPeer, img, b.startProxy),
		{directPeer, func(ctx context.Context) (sample, error) {
			client, started := newPuller(b.upstream.shim.URL()), time.Now()
			defer client.Close()
			if err := client.login(ctx); err != nil {
				return nil, err
			}
			got, err := b.pull(ctx, directPeer, client, signedRepository, img.tag, img.signed)
			if err == nil {
				got[seconds] = time.Since(started).Seconds() // with the token, which the others fetch, too
			}
			return got, err
		}},
	}, nil
}

func (b *bench) coldLayer(ctx context.Context) ([]subject, error) {
	img, err := b.image(ctx, "layer", 1000*mb)
	if err != nil {
		return nil, err
	}
	subjects := []subject{
		b.cold(verified, img, func(ctx context.Context) (*server, error) { return b.startMirror(ctx, mirror{}, img) }),
		b.cold(proxyPeer, img, b.startProxy),
	}
	refused, err := b.refuses(ctx, mirror{release: "streaming"}, img)
	if err != nil {
		return nil, err
	}
	if refused != "" {
		fmt.Fprintf(b.log, "  %s isn't supported by this build: %s\n", streaming, refused)
		return subjects, nil
	}
	return append(subjects, b.cold(streaming, img, func(ctx context.Context) (*server, error) {
		return b.startMirror(ctx, mirror{release: "streaming"}, img)
	})), nil
}

// refuses tells what trustmirror says against a configuration, or "".
func (b *bench) refuses(ctx context.Context, m mirror, img image) (string, error) {
	configured, err := b.newMirror(m, img)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(filepath.Dir(configured.ConfigFile)) //nolint:errcheck // the lab's folder is removed in the end
	if _, err := lab.Run(ctx, nil, b.program, "config", "check", configured.ConfigFile); err != nil {
		_, said, _ := strings.Cut(err.Error(), "\n")
		return strings.TrimSpace(said), ctx.Err()
	}
	return "", nil
}

func (b *bench) coldCopy(ctx context.Context) ([]subject, error) {
	img, err := b.appImage(ctx)
	if err != nil {
		return nil, err
	}
	start := func(ctx context.Context) (*server, error) { return b.startMirror(ctx, mirror{}, img) }
	return []subject{
		b.cold(ours+" signed", img, start),
		b.coldNamed(ours+" copy", copyRegistry+"/"+copyRepository, img.tag, img.copy, start),
	}, nil
}
