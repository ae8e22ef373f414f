package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trustmirror/trustmirror/e2e/tools"
)

// The quantities of what is measured of trustmirror alone.
const (
	failures    = "failures"
	sameRequest = "upstream requests for the same, at most"
	allRequests = "upstream requests in all"
	peakRSS     = "MiB at the peak"
	idleRSS     = "MiB"
)

// How many clients pull at once.
const (
	crowd    = 1000
	fleet    = 400
	replicas = 4
)

// idleFor is how long a server has been left alone when it counts as idle.
const idleFor = 10 * time.Second

func (b *bench) aloneExperiments() []experiment {
	return append([]experiment{
		{name: "alone/crowd", what: fmt.Sprintf("%d clients at once, one cold image of 27 MB", b.few(crowd)), once: true, prepare: b.crowd, goals: []goal{
			{sameRequest, ours, "", atMost(1)}, {allRequests, ours, "", none()}, {failures, ours, "", atMost(0)},
			{peakRSS, ours, "", atMost(256)}, {seconds, ours, "", none()},
		}},
		{name: "alone/replicas", what: fmt.Sprintf("%d replicas on one S3 bucket, %d clients at once, one cold image of 27 MB", replicas, b.few(fleet)), once: true,
			prepare: b.replicas, goals: []goal{
				{sameRequest, ours, "", atMost(replicas)}, {allRequests, ours, "", none()}, {failures, ours, "", atMost(0)},
				{peakRSS, ours, "", none()}, {seconds, ours, "", none()},
			}},
		{name: "alone/idle", what: "memory of an idle server that has served an image", once: true, prepare: b.idle, goals: []goal{
			{idleRSS, ours, "", atMost(64)},
		}},
	}, b.admissionExperiments()...)
}

// few is how many clients there are.
func (b *bench) few(clients int) int {
	if b.short {
		return clients / 10
	}
	return clients
}

// crowdImage is small enough for a thousand clients to have it in some seconds.
func (b *bench) crowdImage(ctx context.Context) (image, error) {
	return b.image(ctx, "crowd", 11*mb, 8*mb, 5*mb, 2.5*mb, 0.5*mb)
}

func (b *bench) crowd(ctx context.Context) ([]subject, error) {
	img, err := b.crowdImage(ctx)
	if err != nil {
		return nil, err
	}
	return []subject{{ours, func(ctx context.Context) (sample, error) {
		s, err := b.startMirror(ctx, mirror{}, img)
		if err != nil {
			return nil, err
		}
		return b.rollOut(ctx, b.few(crowd), img, s)
	}}}, nil
}

func (b *bench) replicas(ctx context.Context) ([]subject, error) {
	programs, err := tools.Dir(ctx, "versitygw", b.log)
	if err != nil {
		return nil, err
	}
	img, err := b.crowdImage(ctx)
	if err != nil {
		return nil, err
	}
	return []subject{{ours, func(ctx context.Context) (sample, error) {
		bucket, err := b.lab.NewBucket(ctx, programs)
		if err != nil {
			return nil, err
		}
		defer bucket.Stop()
		var servers []*server
		for range replicas {
			s, err := b.startMirror(ctx, mirror{
				storage: fmt.Sprintf("s3: {bucket: %s, regionendpoint: %q, rootdirectory: /bench}", bucket.Name, bucket.URL),
				env:     bucket.Env(),
			}, img)
			if err != nil {
				return nil, err
			}
			servers = append(servers, s)
		}
		return b.rollOut(ctx, b.few(fleet), img, servers...)
	}}}, nil
}

// rollOut has clients pull an image at once, each from the next of the servers, and
// ends the servers.
func (b *bench) rollOut(ctx context.Context, clients int, img image, servers ...*server) (_ sample, err error) {
	defer func() {
		for _, s := range servers {
			err = errors.Join(err, s.end())
		}
	}()
	b.upstream.count()
	var (
		wait   sync.WaitGroup
		failed atomic.Int64
		why    sync.Once
	)
	started := time.Now()
	for i := range clients {
		wait.Go(func() {
			client := newPuller(servers[i%len(servers)].url)
			defer client.Close()
			if _, err := client.pull(ctx, signedRepository, img.tag, img.signed); err != nil {
				failed.Add(1)
				why.Do(func() { fmt.Fprintf(b.log, "  the first failure: %v\n", err) })
			}
		})
	}
	wait.Wait()
	took := time.Since(started)
	most, all := b.upstream.count()
	got := sample{seconds: took.Seconds(), failures: float64(failed.Load()), sameRequest: float64(most), allRequests: float64(all)}
	for _, s := range servers {
		peak, err := memory(s.process.PID(), "VmHWM")
		if err != nil {
			return nil, err
		}
		got[peakRSS] = max(got[peakRSS], peak)
	}
	return got, nil
}

func (b *bench) idle(ctx context.Context) ([]subject, error) {
	img, err := b.crowdImage(ctx)
	if err != nil {
		return nil, err
	}
	return []subject{{ours, func(ctx context.Context) (_ sample, err error) {
		s, err := b.startMirror(ctx, mirror{}, img)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.end()) }()
		client := newPuller(s.url)
		if _, err := b.pull(ctx, ours, client, signedRepository, img.tag, img.signed); err != nil {
			return nil, err
		}
		client.Close()
		select {
		case <-time.After(idleFor):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		rss, err := memory(s.process.PID(), "VmRSS")
		return sample{idleRSS: rss}, err
	}}}, nil
}
