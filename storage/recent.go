package storage

import (
	"math"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// overhead is about how many bytes it takes to remember anything.
const overhead = 512

// recent keeps what was read lately, until it is too old or too much: then what was
// used least recently goes first. Nil keeps nothing.
type recent[K comparable, V any] struct {
	max  int           // bytes
	keep time.Duration // from when its read began
	now  func() time.Time

	mu      sync.Mutex // guards what follows, never for long
	entries *simplelru.LRU[K, *entry[V]]
	bytes   int
	forgot  uint64 // how often something was forgotten
}

type entry[V any] struct {
	value V
	bytes int
	read  time.Time
	anew  bool // somebody reads it anew already
}

// moment is when a read began.
type moment struct {
	at     time.Time
	forgot uint64
}

func newRecent[K comparable, V any](limit int, keep time.Duration, now func() time.Time) *recent[K, V] {
	r := &recent[K, V]{max: limit, keep: keep, now: now}
	// The error is of a size below one.
	r.entries, _ = simplelru.NewLRU(math.MaxInt, func(_ K, e *entry[V]) { r.bytes -= e.bytes })
	return r
}

// get returns what is remembered; not ok: it has to be read, which begins now. Of
// those who ask for what has lived half its time, one is sent to read it, so that
// not all are at once when it ends.
func (r *recent[K, V]) get(key K) (value V, now moment, ok bool) {
	if r == nil {
		return value, now, false
	}
	now.at = r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	now.forgot = r.forgot
	e, known := r.entries.Get(key)
	if !known {
		return value, now, false
	}
	age := now.at.Sub(e.read)
	if age < 0 || age >= r.keep { // clocks jump
		r.entries.Remove(key)
		return value, now, false
	}
	if age >= r.keep/2 && !e.anew {
		e.anew = true
		return value, now, false
	}
	return e.value, now, true
}

// put remembers what was read since a moment, unless something was forgotten
// meanwhile: it may have been read before that was written.
func (r *recent[K, V]) put(key K, value V, bytes int, began moment) {
	if r == nil {
		return
	}
	bytes += overhead
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.forgot != began.forgot || bytes > r.max {
		return
	}
	r.entries.Remove(key) // Add alone wouldn't tell what it replaces
	r.entries.Add(key, &entry[V]{value: value, bytes: bytes, read: began.at})
	for r.bytes += bytes; r.bytes > r.max; {
		r.entries.RemoveOldest()
	}
}

// drop is for what was read and isn't there any more.
func (r *recent[K, V]) drop(key K) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries.Remove(key)
}

// forget is for what was written, whatever came of it.
func (r *recent[K, V]) forget(key K) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgot++
	r.entries.Remove(key)
}
