package storage

import (
	"container/heap"
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
)

// objects is what a store believes to have of content, and how lately each object
// was used, so that what was used least recently can be evicted. It is never relied
// on for more: what is missing there is fetched again, what is missing here is found
// by looking (evict_walk.go). A nil *objects notes nothing.
//
// Noting a use is a lookup and two stores, however many objects there are: they are
// put in order only when something is evicted.
type objects struct {
	plan    Eviction
	now     func() time.Time
	crowded chan struct{} // gets word when there is more than the limit; holds one

	changed  atomic.Bool   // since the file was written
	complete atomic.Bool   // nothing is stored that isn't known
	round    atomic.Uint32 // of looking at what there is
	excess   atomic.Int64  // EvictionState.Excess
	last     atomic.Int64  // EvictionState.Last, in seconds since 1970; 0: never

	making sync.Mutex // held while room is made on a full disk

	mu    sync.RWMutex // guards what follows; nothing is waited for while it's held
	known map[digest.Digest]*object
	queue queue // of all that is known, but for what is leaving
	bytes int64 // of all that is known
	large int64 // of them: objects larger than the limit
}

// object is one that is stored.
type object struct {
	digest  digest.Digest
	size    atomic.Int64  // written with objects.mu held
	used    atomic.Int64  // when it was last stored, opened or closed, in seconds since 1970
	open    atomic.Int32  // how many read or store it now; rises with objects.mu held for reading
	round   atomic.Uint32 // when it was last seen
	leaving chan struct{} // closed once it was evicted, or wasn't after all; nil: nobody tries. Guarded by objects.mu

	rank, at int64 // used as it was when the queue last looked, and the place there. Guarded by objects.mu
}

func newObjects(plan Eviction) *objects {
	x := &objects{plan: plan, now: plan.Clock, crowded: make(chan struct{}, 1), known: make(map[digest.Digest]*object)}
	if x.now == nil {
		x.now = time.Now
	}
	if x.plan.Told == nil {
		x.plan.Told = func(Evicted) {}
	}
	return x
}

// hold notes that an object is used, and keeps it until release. It is nil, and
// keeps nothing, for an object that isn't known. While the object is being evicted
// it waits, so that what is stored next isn't taken for what just goes.
func (x *objects) hold(ctx context.Context, d digest.Digest) *object {
	if x == nil {
		return nil
	}
	for {
		x.mu.RLock()
		o := x.known[d]
		var leaving chan struct{}
		if o != nil {
			if leaving = o.leaving; leaving == nil {
				o.open.Add(1)
				x.use(o)
			}
		}
		x.mu.RUnlock()
		if leaving == nil {
			return o
		}
		select {
		case <-leaving:
		case <-ctx.Done():
			return nil
		}
	}
}

// release ends what hold or opened began.
func (x *objects) release(o *object) {
	if o != nil {
		x.use(o)
		o.open.Add(-1)
	}
}

// touch notes that an object is used, and waits for nothing.
func (x *objects) touch(d digest.Digest) {
	if x == nil {
		return
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	if o := x.known[d]; o != nil {
		x.use(o)
	}
}

func (x *objects) use(o *object) {
	o.used.Store(x.now().Unix())
	if !x.changed.Load() { // most often it is set, and others write beside it
		x.changed.Store(true)
	}
}

// opened holds an object that was found to be there, unless it's held.
func (x *objects) opened(held *object, d digest.Digest, size int64) *object {
	if x == nil || held != nil && held.size.Load() == size {
		return held
	}
	o := x.put(d, size)
	if held == nil {
		o.open.Add(1)
		return o
	}
	return held
}

// stored notes that an object was stored.
func (x *objects) stored(d digest.Digest, size int64) {
	if x == nil {
		return
	}
	x.put(d, size)
	if x.isLarge(size) {
		x.plan.Told(Evicted{TooLarge: d, Bytes: size})
	}
	x.wake()
}

// wake tells EvictAlways if there is more than the limit.
func (x *objects) wake() {
	if _, bytes := x.total(); x.plan.MaxSize == 0 || bytes <= x.plan.MaxSize {
		return
	}
	select {
	case x.crowded <- struct{}{}:
	default:
	}
}

func (x *objects) put(d digest.Digest, size int64) *object {
	x.mu.Lock()
	defer x.mu.Unlock()
	o := x.known[d]
	if o == nil {
		return x.add(d, size, x.now().Unix())
	}
	x.count(o, -1)
	o.size.Store(size)
	x.count(o, +1)
	x.use(o)
	return o
}

// find adds an object that was found, unless it's known.
func (x *objects) find(d digest.Digest, size, used int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.known[d] == nil {
		x.add(d, size, min(used, x.now().Unix()))
	}
}

// add adds an object; x.mu is held.
func (x *objects) add(d digest.Digest, size, used int64) *object {
	o := &object{digest: digest.Digest(strings.Clone(string(d)))} // it may be a part of a whole document
	o.size.Store(size)
	o.used.Store(used)
	o.round.Store(x.round.Load())
	x.known[o.digest] = o
	x.count(o, +1)
	o.rank = x.rank(o)
	heap.Push(&x.queue, o)
	x.changed.Store(true)
	return o
}

// count adds an object's bytes, or takes them away; x.mu is held.
func (x *objects) count(o *object, sign int64) {
	x.bytes += sign * o.size.Load()
	if x.isLarge(o.size.Load()) {
		x.large += sign * o.size.Load()
	}
}

func (x *objects) isLarge(size int64) bool { return x.plan.MaxSize > 0 && size > x.plan.MaxSize }

// rank is an object's place in the order of leaving: by last use, but what is larger
// than the limit goes first, since nothing else that goes would help.
func (x *objects) rank(o *object) int64 {
	if x.isLarge(o.size.Load()) {
		return 0
	}
	return o.used.Load()
}

// forget drops an object that is gone.
func (x *objects) forget(d digest.Digest) {
	if x == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if o := x.known[d]; o != nil && o.leaving == nil {
		heap.Remove(&x.queue, int(o.at))
		x.drop(o)
	}
}

// drop drops an object that has left the queue; x.mu is held.
func (x *objects) drop(o *object) {
	delete(x.known, o.digest)
	x.count(o, -1)
	x.changed.Store(true)
}

// take begins to evict the object that was used least recently, if what isn't larger
// than the limit has more than target bytes together; nil if there is nothing to
// evict. Nothing is taken that is open, or was used less than spare ago.
func (x *objects) take(spare time.Duration, target int64) *object {
	now := x.now().Unix()
	x.mu.Lock()
	defer x.mu.Unlock()
	var passed []*object
	defer func() {
		for _, o := range passed {
			heap.Push(&x.queue, o)
		}
	}()
	for len(x.queue) > 0 {
		o := x.queue[0]
		if rank := x.rank(o); rank != o.rank {
			o.rank = rank
			heap.Fix(&x.queue, 0)
			continue
		}
		large := x.isLarge(o.size.Load())
		// What seems to come is of a clock that was set back since.
		idle := now - o.used.Load()
		recent := idle >= 0 && idle < int64(spare/time.Second)
		switch {
		case !large && (x.bytes-x.large <= target || recent && o.open.Load() == 0):
			return nil // what comes after was used later
		case o.open.Load() == 0 && !recent:
			heap.Pop(&x.queue)
			o.leaving = make(chan struct{})
			return o
		case o.open.Load() > 0:
			o.used.Store(now)
		}
		heap.Pop(&x.queue)
		o.rank = x.rank(o)
		passed = append(passed, o)
	}
	return nil
}

// left ends what take began. What isn't gone counts as just used, so that others
// are tried next.
func (x *objects) left(o *object, gone bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if gone {
		x.drop(o)
	} else {
		x.use(o)
		o.rank = x.rank(o)
		heap.Push(&x.queue, o)
	}
	close(o.leaving)
	o.leaving = nil
}

// all is what is known, in no order.
func (x *objects) all() []*object {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return append([]*object(nil), x.queue...)
}

func (x *objects) total() (count int, bytes int64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.known), x.bytes
}

// queue is a heap of objects by rank (container/heap).
type queue []*object

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].rank < q[j].rank }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = int64(i), int64(j)
}

// Push is heap.Interface's.
func (q *queue) Push(o any) {
	pushed := o.(*object) //nolint:errcheck,forcetypeassert // nothing else is in there
	pushed.at = int64(len(*q))
	*q = append(*q, pushed)
}

// Pop is heap.Interface's.
func (q *queue) Pop() any {
	last := len(*q) - 1
	o := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return o
}
