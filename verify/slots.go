package verify

import (
	"context"
	"sync"
)

// copiesAtOnce is how many documents of one registry's copies are held in memory at
// once while it is found out whether something signed leads to them: a registry
// and its clients could make up any number, each of the largest size.
const copiesAtOnce = 8

// slots lets so many at once do something with one registry.
type slots struct {
	mu   sync.Mutex // guards held
	held map[string]chan struct{}
}

// take waits for a slot; ctx's error if it ends before. Whoever holds one doesn't
// take another.
func (s *slots) take(ctx context.Context, registry string) (release func(), err error) {
	s.mu.Lock()
	c := s.held[registry]
	if c == nil {
		if s.held == nil {
			s.held = make(map[string]chan struct{})
		}
		c = make(chan struct{}, copiesAtOnce)
		s.held[registry] = c
	}
	s.mu.Unlock()
	select {
	case c <- struct{}{}:
		return func() { <-c }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
