package storage

import (
	"context"
	"sync"
	"time"
)

// memo is an answer that costs something: it is looked for by one at a time, and
// remembered for a while, an error too. Whoever waits for it may leave; it is
// looked for to the end, so that the next one finds it.
type memo[T any] struct {
	mu     sync.Mutex // guards what follows
	known  bool
	answer T
	err    error
	until  time.Time
	found  chan struct{} // closed when the search under way ends; nil: none is
}

// search finds an answer, and says how long it is to be remembered.
type search[T any] func(context.Context) (answer T, keep time.Duration, err error)

// get returns the answer that find gives or gave; find may take timeout. Errors:
// find's, ctx's.
func (m *memo[T]) get(ctx context.Context, timeout time.Duration, find search[T]) (T, error) {
	m.mu.Lock()
	if m.known && time.Now().Before(m.until) {
		defer m.mu.Unlock()
		return m.answer, m.err
	}
	found := m.found
	if found == nil {
		found = make(chan struct{})
		m.found = found
		go m.find(context.WithoutCancel(ctx), timeout, find)
	}
	m.mu.Unlock()
	select {
	case <-found:
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.answer, m.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

func (m *memo[T]) find(ctx context.Context, timeout time.Duration, find search[T]) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer, keep, err := find(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known, m.answer, m.err, m.until = true, answer, err, time.Now().Add(keep)
	close(m.found)
	m.found = nil
}

// last is the last answer; false if there is none, or an error.
func (m *memo[T]) last() (T, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.answer, m.known && m.err == nil
}
