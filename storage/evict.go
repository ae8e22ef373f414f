package storage

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	// spared is how long ago an object has to have been stored or read before it's
	// evicted to keep below a limit: a pull under way comes back for what it was told of.
	spared = 10 * time.Minute
	// evictTo is what part of the limit, in percent, content is brought down to once
	// it's above, so that not each object that is stored evicts another.
	evictTo = 95
	// saveEvery is how often it's written down what was used when, if it changed. Of
	// more than saveRate*saveEvery bytes it is written more rarely.
	saveEvery = time.Minute
	saveRate  = 100 << 10 // bytes a second
)

// Eviction says what is evicted, and who is told.
type Eviction struct {
	// MaxSize is how many bytes content may have; 0: as many as the disk has room for.
	MaxSize int64
	// Free tells how many bytes the disk has left, as DiskFree does; nil: unknown, and
	// that it is full is noticed when a write fails.
	Free func() (int64, error)
	// Told is told of what was evicted, and of what should be but can't; nil: nobody is.
	// It must not block.
	Told func(Evicted)
	// Clock tells the time; nil means time.Now.
	Clock func() time.Time
}

// Evicted is what one round evicted, and what it couldn't.
type Evicted struct {
	Objects  int
	Bytes    int64 // of them
	DiskFull bool  // there was no room on the disk; else content was above the limit

	// Excess is how many bytes are above the limit still, since they are being read or
	// were used less than ten minutes ago. They go when that is over.
	Excess int64
	// TooLarge was stored, has Bytes bytes, which is more than the limit, and will be
	// evicted before anything else; "" in all other events.
	TooLarge digest.Digest
	// Err is why not more was evicted, or what is to be was not written down or looked
	// for; it is tried again.
	Err error
}

// EvictionState is how things are.
type EvictionState struct {
	MaxSize int64     // Eviction.MaxSize
	Excess  int64     // Evicted.Excess of the last round
	Last    time.Time // when something was last evicted by this process; zero: never
}

// EvictBy makes the store note how lately each object was used, and evict what was
// used least recently: when the disk is full, and in EvictAlways. Content that is
// being read stays. Admissions and trust state stay, too: what was evicted is fetched
// again when somebody asks for it. It is called before anything else is.
//
// Other processes may remove content meanwhile. What they read may be evicted: on
// Unix they can read it to the end.
func (s *Store) EvictBy(plan Eviction) {
	s.objects = newObjects(plan)
	s.plain = s.driver
	s.driver = &roomyDriver{StorageDriver: s.driver, store: s}
}

// EvictionState tells how eviction goes; zero if there is none.
func (s *Store) EvictionState() EvictionState {
	x := s.objects
	if x == nil {
		return EvictionState{}
	}
	state := EvictionState{MaxSize: x.plan.MaxSize, Excess: x.excess.Load()}
	if last := x.last.Load(); last > 0 {
		state.Last = time.Unix(last, 0)
	}
	return state
}

// Used notes that an object is used that nobody opened, as where its bytes are still
// in memory. It costs next to nothing.
func (s *Store) Used(d digest.Digest) { s.objects.touch(d) }

// EvictAlways keeps content below the limit until ctx ends. What was used when
// survives restarts in a file of the store; what that doesn't know is looked for
// slowly.
func (s *Store) EvictAlways(ctx context.Context) {
	x := s.objects
	if x == nil {
		return
	}
	x.complete.Store(s.loadObjects(ctx))
	var walking sync.WaitGroup
	walking.Go(func() { s.walkAlways(ctx) })
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	var due time.Time
	for ctx.Err() == nil {
		s.evict(ctx)
		select {
		case <-ctx.Done():
		case <-x.crowded:
		case now := <-tick.C:
			if x.changed.Load() && !now.Before(due) {
				size := s.saveObjects(ctx, runningFile)
				due = now.Add(time.Duration(size/saveRate) * time.Second)
			}
		}
	}
	walking.Wait()
	s.saveAtEnd(context.WithoutCancel(ctx))
}

// evict brings content down to evictTo percent of the limit if it's above.
func (s *Store) evict(ctx context.Context) {
	x := s.objects
	var done Evicted
	if _, bytes := x.total(); x.plan.MaxSize > 0 && bytes > x.plan.MaxSize {
		target := x.plan.MaxSize / 100 * evictTo
		for ctx.Err() == nil && done.Err == nil {
			o := x.take(spared, target)
			if o == nil {
				break
			}
			s.leave(ctx, o, &done)
		}
		_, bytes = x.total()
		done.Excess = max(0, bytes-x.plan.MaxSize)
	}
	if before := x.excess.Swap(done.Excess); done.Objects > 0 || done.Err != nil || (before == 0) != (done.Excess == 0) {
		x.plan.Told(done)
	}
}

// leave removes what take took.
func (s *Store) leave(ctx context.Context, o *object, done *Evicted) {
	path, err := digestPath(contentFolder, o.digest)
	if err == nil {
		err = driverError(s.plain.Delete(ctx, path))
	}
	missing := errors.Is(err, ErrNotFound) // another process removed it
	s.objects.left(o, err == nil || missing)
	switch {
	case err == nil:
		done.Objects++
		done.Bytes += o.size.Load()
		s.objects.last.Store(s.objects.now().Unix())
	case !missing:
		done.Err = err
	}
}
