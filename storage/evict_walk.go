package storage

import (
	"context"
	"fmt"
	"path"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	// walkPause is how long looking at what there is rests after each of ScrubParts
	// parts: it takes half a minute, and nobody notices.
	walkPause = 100 * time.Millisecond
	// walkFirst and walkEvery are how long after the start it's looked first, unless
	// the store wasn't left in order, and how often then.
	walkFirst = time.Hour
	walkEvery = 24 * time.Hour
)

// walkAlways looks at what there is: at once, unless what is known is complete, and
// then now and then, since others may store and remove.
func (s *Store) walkAlways(ctx context.Context) {
	if s.objects.complete.Load() {
		sleep(ctx, walkFirst)
	}
	for ctx.Err() == nil {
		s.walkObjects(ctx, walkPause)
		sleep(ctx, walkEvery)
	}
}

// walkObjects finds objects that aren't known, and forgets those that are gone.
func (s *Store) walkObjects(ctx context.Context, pause time.Duration) {
	x := s.objects
	round := x.round.Add(1)
	var failed error
	for part := range ScrubParts {
		for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			if err := s.walkFolder(ctx, algorithm, fmt.Sprintf("%02x", part)); err != nil {
				failed = err
			}
		}
		x.wake() // while it goes on: it takes a while
		sleep(ctx, pause)
		if ctx.Err() != nil {
			return
		}
	}
	if failed != nil {
		x.plan.Told(Evicted{Err: fmt.Errorf("looking at what is stored: %w", failed)})
		return
	}
	x.complete.Store(true)
	for _, o := range x.all() {
		if o.round.Load() != round && o.open.Load() == 0 {
			x.forget(o.digest)
		}
	}
}

func (s *Store) walkFolder(ctx context.Context, algorithm digest.Algorithm, name string) error {
	x := s.objects
	files, err := s.list(ctx, path.Join(contentFolder, algorithm.String(), name))
	if err != nil {
		return err
	}
	for _, file := range files {
		d := digest.NewDigestFromEncoded(algorithm, path.Base(file))
		if x.seen(d) || checkDigest(d) != nil { // somebody else put it there
			continue
		}
		info, err := s.plain.Stat(ctx, file)
		if err == nil && !info.IsDir() { // else it went meanwhile, or is a link
			x.find(d, info.Size(), info.ModTime().Unix())
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// seen notes that an object is there, and tells whether it's known.
func (x *objects) seen(d digest.Digest) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	o := x.known[d]
	if o != nil {
		o.round.Store(x.round.Load())
	}
	return o != nil
}
