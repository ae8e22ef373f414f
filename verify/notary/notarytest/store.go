package notarytest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/trustmirror/trustmirror/verify/notary"
)

// Store is a notary.Store in memory that can fail, be damaged and be looked into.
type Store struct {
	mu     sync.Mutex
	docs   map[string][]byte // by GUN + " " + name
	puts   int
	failAt int // the put that fails, counted from 1; 0: none
	fail   map[string]bool
}

var _ notary.Store = (*Store)(nil)

// ErrStore is how operations fail that were told to.
var ErrStore = errors.New("the disk is on fire")

// NewStore makes an empty store.
func NewStore() *Store { return &Store{docs: make(map[string][]byte), fail: make(map[string]bool)} }

// List implements notary.Store.
func (s *Store) List(_ context.Context, gun string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail["list"] {
		return nil, ErrStore
	}
	var names []string
	for key := range s.docs {
		if name, ok := strings.CutPrefix(key, gun+" "); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// Get implements notary.Store.
func (s *Store) Get(_ context.Context, gun, name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, ok := s.docs[gun+" "+name]
	if !ok || s.fail["get"] {
		return nil, ErrStore
	}
	return slices.Clone(raw), nil
}

// Put implements notary.Store.
func (s *Store) Put(_ context.Context, gun, name string, raw []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts++
	if s.fail["put"] || s.failAt > 0 && s.puts >= s.failAt {
		return ErrStore
	}
	s.docs[gun+" "+name] = slices.Clone(raw)
	return nil
}

// Remove implements notary.Store.
func (s *Store) Remove(_ context.Context, gun, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail["remove"] {
		return ErrStore
	}
	delete(s.docs, gun+" "+name)
	return nil
}

// Fail makes an operation, "list", "get", "put" or "remove", fail from now on, or work
// again.
func (s *Store) Fail(operation string, fails bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail[operation] = fails
}

// FailPut makes the n-th put from now, counted from 1, and all after it fail, as
// if the machine had stopped; 0 makes them work again.
func (s *Store) FailPut(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts, s.failAt = 0, n
}

// Names returns the names of a GUN's documents, sorted.
func (s *Store) Names(gun string) []string {
	names, err := s.List(context.Background(), gun)
	if err != nil {
		return nil
	}
	slices.Sort(names)
	return names
}

// Damage changes a document: nil content removes it.
func (s *Store) Damage(gun, name string, change func(raw []byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if raw := change(s.docs[gun+" "+name]); raw != nil {
		s.docs[gun+" "+name] = raw
	} else {
		delete(s.docs, gun+" "+name)
	}
}

// Clone returns a store with the same documents that fails in nothing.
func (s *Store) Clone() *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := NewStore()
	maps.Copy(c.docs, s.docs)
	return c
}

// Clock is a clock that a test sets. Its zero value stands at Epoch.
type Clock struct {
	mu    sync.Mutex
	since time.Duration
}

// Now is the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Epoch.Add(c.since)
}

// Advance moves the clock, back if d is negative.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since += d
}
