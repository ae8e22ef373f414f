package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// evictor is a store on a file system that evicts, at a time of its own.
type evictor struct {
	t   *testing.T
	dir string
	*Store
	plan Eviction

	mu   sync.Mutex // guards what follows
	now  time.Time
	told []Evicted
}

func newEvictor(t *testing.T, maxSize int64) *evictor {
	e := &evictor{t: t, dir: t.TempDir(), now: time.Now().Truncate(time.Second)}
	e.plan = Eviction{MaxSize: maxSize, Clock: e.clock, Told: func(told Evicted) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.told = append(e.told, told)
	}}
	e.start()
	return e
}

// start opens the store anew, as after a restart.
func (e *evictor) start() {
	e.t.Helper()
	d, err := newFilesystem(e.dir)
	if err != nil {
		e.t.Fatal(err)
	}
	d.sync = func(*os.File) error { return nil } // these tests lose no power
	e.Store = New(d)
	e.EvictBy(e.plan)
}

func (e *evictor) clock() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now
}

func (e *evictor) pass(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now = e.now.Add(d)
}

// events are what was told since the last call.
func (e *evictor) events() []Evicted {
	e.mu.Lock()
	defer e.mu.Unlock()
	told := e.told
	e.told = nil
	return told
}

// content is an object's, by number.
func content(i, size int) (digest.Digest, string) {
	c := strings.Repeat(fmt.Sprintf("%08d", i), size/8)
	return digest.FromString(c), c
}

func (e *evictor) put(i, size int) digest.Digest {
	e.t.Helper()
	d, c := content(i, size)
	if err := e.Put(e.t.Context(), d, int64(len(c)), strings.NewReader(c)); err != nil {
		e.t.Fatal(err)
	}
	return d
}

func (e *evictor) open(d digest.Digest) *Content {
	e.t.Helper()
	c, err := e.OpenContent(e.t.Context(), d)
	if err != nil {
		e.t.Fatal(err)
	}
	return c
}

func (e *evictor) read(d digest.Digest) {
	e.t.Helper()
	if err := e.open(d).Close(); err != nil {
		e.t.Fatal(err)
	}
}

// has tells what is stored, without using it.
func (e *evictor) has() map[digest.Digest]int64 {
	e.t.Helper()
	stock, err := e.Stock(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	return stock.Objects
}

// right compares what is known with what there is.
func (e *evictor) right() {
	e.t.Helper()
	known := make(map[digest.Digest]int64)
	var sum, large int64
	for _, o := range e.objects.all() {
		known[o.digest] = o.size.Load()
		sum += o.size.Load()
		if e.objects.isLarge(o.size.Load()) {
			large += o.size.Load()
		}
	}
	if has := e.has(); !maps.Equal(known, has) {
		e.t.Fatalf("known are %v, there are %v", known, has)
	}
	if count, bytes := e.objects.total(); count != len(known) || bytes != sum || e.objects.large != large {
		e.t.Fatalf("counted are %d objects with %d bytes, %d in large ones; there are %d with %d, %d", count, bytes, e.objects.large, len(known), sum, large)
	}
}

// TestEvictionEvents tells once that the limit can't be kept, and once that it can.
func TestEvictionEvents(t *testing.T) {
	e := newEvictor(t, 1000)
	first := e.put(1, 800)
	e.pass(time.Minute)
	e.put(2, 800)
	for range 3 {
		e.evict(t.Context())
	}
	e.pass(spared - time.Minute)
	e.evict(t.Context())
	large := e.put(3, 2000)
	e.evict(t.Context())
	e.pass(spared)
	e.evict(t.Context())
	want := []Evicted{{Excess: 600}, {Objects: 1, Bytes: 800}, {TooLarge: large, Bytes: 2000}, {Excess: 1800}, {Objects: 1, Bytes: 2000}}
	if got := e.events(); !slices.Equal(got, want) {
		t.Errorf("told %+v, want %+v", got, want)
	}
	if _, there := e.has()[first]; there || len(e.has()) != 1 {
		t.Errorf("stored are %v", e.has())
	}
	if state := e.EvictionState(); state.MaxSize != 1000 || state.Excess != 0 || !state.Last.Equal(e.clock()) {
		t.Errorf("state %+v", state)
	}
}

// TestAttack35_EvictionClock sets the clock forward a year and back: neither keeps
// anything for a year, nor evicts what is being read.
func TestAttack35_EvictionClock(t *testing.T) {
	e := newEvictor(t, 1000)
	e.pass(365 * 24 * time.Hour)
	e.put(1, 800)
	e.pass(-365 * 24 * time.Hour)
	open := e.open(e.put(2, 800))
	defer open.Close()
	e.evict(t.Context())
	if has := e.has(); len(has) != 1 || has[open.Digest] != 800 {
		t.Errorf("stored are %v", has)
	}
}

// A restart after a crash without any file, with the one of a while ago, or with a
// damaged one: what isn't known is found, what is gone is forgotten.
func TestEvictionAfterCrash(t *testing.T) {
	for name, damage := range map[string]func(raw []byte) []byte{
		"older file":  func(raw []byte) []byte { return raw },
		"empty file":  func([]byte) []byte { return nil },
		"half a file": func(raw []byte) []byte { return raw[:len(raw)/2] },
		"flipped bit": func(raw []byte) []byte { raw[80] ^= 1; return raw },
		"other file":  func([]byte) []byte { return []byte(strings.Repeat("\n", 10)) },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEvictor(t, 10_000)
			for i := range 5 {
				e.pass(time.Hour)
				e.put(i, 1600)
			}
			e.saveObjects(t.Context(), runningFile)
			e.put(5, 1600)
			gone, _ := content(0, 1600)
			path, err := digestPath(contentFolder, gone)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(e.dir, runningFile)
			raw, err := os.ReadFile(file)
			if err := errors.Join(err, os.Remove(filepath.Join(e.dir, path)), os.WriteFile(file, damage(raw), 0o600)); err != nil {
				t.Fatal(err)
			}
			e.start()
			if e.loadObjects(t.Context()) {
				t.Fatal("what was written down is said to be complete")
			}
			e.walkObjects(t.Context(), 0)
			e.right()
			if !e.objects.complete.Load() {
				t.Error("after looking at everything, something may be missing")
			}
		})
	}
}

// What others removed is a miss, and no longer counted; what they stored is known
// once it is read.
func TestEvictionBesideOthers(t *testing.T) {
	e := newEvictor(t, 10_000)
	d := e.put(1, 800)
	other := New(e.plain)
	if _, err := other.Collect(t.Context(), func(digest.Digest) bool { return true }, false); err != nil {
		t.Fatal(err)
	}
	path, err := digestPath(contentFolder, d)
	if err := errors.Join(err, e.plain.Delete(t.Context(), path)); err != nil {
		t.Fatal(err)
	}
	if _, err := e.OpenContent(t.Context(), d); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	e.right()
	d, c := content(2, 800)
	if err := other.Put(t.Context(), d, 800, strings.NewReader(c)); err != nil {
		t.Fatal(err)
	}
	e.read(d)
	e.right()
	e.put(3, 9600)
	if err := e.plain.Delete(t.Context(), "/content"); err != nil {
		t.Fatal(err)
	}
	e.pass(spared)
	e.events()
	e.evict(t.Context())
	e.right()
	if told := e.events(); len(told) != 0 {
		t.Errorf("what others removed counts as evicted: %+v", told)
	}
}

// Scrubbing is no use, and quarantine takes away.
func TestEvictionAndScrub(t *testing.T) {
	e := newEvictor(t, 1000)
	d := e.put(1, 800)
	e.pass(spared)
	for part := range ScrubParts {
		if _, err := e.Scrub(t.Context(), part, 0); err != nil {
			t.Fatal(err)
		}
	}
	if o := e.objects.known[d]; e.clock().Unix()-o.used.Load() < int64(spared/time.Second) {
		t.Error("scrubbing counts as a use")
	}
	if err := e.Quarantine(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	e.right()
}

// While an object is being evicted, who wants it waits until it's gone, and stores
// it anew.
func TestPutWaitsForEviction(t *testing.T) {
	e := newEvictor(t, 1000)
	d := e.put(1, 1600)
	e.pass(spared)
	o := e.objects.take(spared, 0)
	if o == nil {
		t.Fatal("nothing is taken")
	}
	stored := make(chan digest.Digest)
	go func() { stored <- e.put(1, 1600) }()
	left, leave := context.WithCancel(t.Context())
	leave()
	if held := e.objects.hold(left, d); held != nil {
		t.Error("what leaves is held")
	}
	select {
	case <-stored:
		t.Error("what leaves counts as stored")
	default:
	}
	var done Evicted
	e.leave(t.Context(), o, &done)
	<-stored
	e.read(d)
	e.right()
}

// While an object that is in memory, too, is being evicted, which may take a slow disk
// long, it is served from memory.
func TestAttack74_EvictionKeepsNobodyWaiting(t *testing.T) {
	e := newEvictor(t, 1000)
	e.Remember(e.clock)
	d := e.put(1, 1600)
	if _, err := e.ReadDocument(t.Context(), d, 1<<20); err != nil {
		t.Fatal(err)
	}
	e.pass(spared)
	o := e.objects.take(spared, 0)
	if o == nil {
		t.Fatal("nothing is taken")
	}
	served := make(chan int64)
	go func() {
		var n int64
		if c, ok := e.Remembered(d); ok {
			n, _ = io.Copy(io.Discard, c)
		}
		served <- n
	}()
	select {
	case n := <-served:
		if n != 1600 {
			t.Errorf("served %d bytes", n)
		}
	case <-time.After(10 * time.Second):
		t.Error("who is served from memory waits for the disk")
		e.objects.left(o, false)
		<-served
		return
	}
	var done Evicted
	e.leave(t.Context(), o, &done)
	e.right()
}
