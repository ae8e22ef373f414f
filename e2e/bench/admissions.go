package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// How many admissions there are.
const (
	manyAdmissions = 100_000
	fewAdmissions  = 1000
	mostAdmissions = 1_000_000
)

// The quantities of requests one after another.
const (
	msManifest = "ms for a manifest"
	msConfig   = "ms for a config"
)

// latencyTime is how long one client asks.
const latencyTime = 3 * time.Second

func (b *bench) admissionExperiments() []experiment {
	most := admitted(b.most())
	return []experiment{
		{name: "alone/restart", what: "from start to ready with " + admitted(b.few(manyAdmissions)), prepare: b.restart, goals: []goal{
			{seconds, ours, "", atMost(1)},
		}},
		{name: "alone/latency", what: "a warm object, one client", prepare: b.latency, goals: []goal{
			{msManifest, most, admitted(fewAdmissions), atMost(1.2)}, {msConfig, most, admitted(fewAdmissions), atMost(1.2)},
		}},
	}
}

// most is how many admissions the latency is measured with at most.
func (b *bench) most() int {
	if b.million {
		return mostAdmissions
	}
	return b.few(manyAdmissions)
}

func admitted(n int) string {
	digits := strconv.Itoa(n)
	var groups []string
	for len(digits) > 3 {
		groups = append([]string{digits[len(digits)-3:]}, groups...)
		digits = digits[:len(digits)-3]
	}
	return strings.Join(append([]string{digits}, groups...), ",") + " admissions"
}

// filled is storage with so many admissions of the signed repository.
func (b *bench) filled(ctx context.Context, n int) (mirror, error) {
	fmt.Fprintf(b.log, "writing %s\n", admitted(n))
	program, folder := filepath.Join(b.lab.Dir, "fill"), filepath.Join(b.lab.Dir, fmt.Sprintf("admissions-%d", n))
	module, err := lab.Run(ctx, nil, "go", "env", "GOMOD")
	if err != nil {
		return mirror{}, err
	}
	root := filepath.Dir(filepath.Dir(strings.TrimSpace(string(module))))
	if _, err := lab.Run(ctx, nil, "go", "build", "-C", root, "-o", program, "./storage/storagetest/fill"); err != nil {
		return mirror{}, err
	}
	_, err = lab.Run(ctx, nil, program, folder, signedRegistry+"/"+signedRepository, strconv.Itoa(n))
	return mirror{storage: fmt.Sprintf("filesystem: {rootdirectory: %q}", folder)}, err
}

func (b *bench) restart(ctx context.Context) ([]subject, error) {
	img, err := b.crowdImage(ctx)
	if err != nil {
		return nil, err
	}
	full, err := b.filled(ctx, b.few(manyAdmissions))
	if err != nil {
		return nil, err
	}
	return []subject{{ours, func(ctx context.Context) (_ sample, err error) {
		configured, err := b.newMirror(full, img)
		if err != nil {
			return nil, err
		}
		started := time.Now()
		if err := configured.Start(ctx); err != nil {
			return nil, err
		}
		defer configured.Process.Stop()
		err = configured.Process.WaitUntil(ctx, answersWell(configured.AdminURL+"/readyz"))
		return sample{seconds: time.Since(started).Seconds()}, err
	}}}, nil
}

func (b *bench) latency(ctx context.Context) ([]subject, error) {
	img, err := b.crowdImage(ctx)
	if err != nil {
		return nil, err
	}
	var subjects []subject
	for _, n := range []int{fewAdmissions, b.most()} {
		full, err := b.filled(ctx, n)
		if err != nil {
			return nil, err
		}
		s, err := b.startMirror(ctx, full, img)
		if err != nil {
			return nil, err
		}
		client := newPuller(s.url)
		defer client.Close()
		if _, err := b.pull(ctx, ours, client, signedRepository, img.tag, img.signed); err != nil {
			return nil, err
		}
		manifest := lab.ManifestPath(signedRepository, img.tag)
		config := lab.BlobPath(signedRepository, img.signed.Images[0].Config.Digest())
		subjects = append(subjects, subject{admitted(n), func(ctx context.Context) (sample, error) {
			forManifest, err := latency(ctx, s.address(), manifest, b.long(latencyTime))
			forConfig, err2 := latency(ctx, s.address(), config, b.long(latencyTime))
			return sample{msManifest: forManifest, msConfig: forConfig}, errors.Join(err, err2)
		}})
	}
	return subjects, nil
}
