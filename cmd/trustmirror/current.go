package main

import (
	"net/http"
	"sync"
	"time"
)

// current hands out the parts that are in force. A request keeps those that it
// began with until it ends, whatever comes into force meanwhile.
type current struct {
	mu    sync.Mutex // guards parts, and that nobody begins to use parts that gave way
	parts *parts
}

// get returns the parts in force, nil if there are none yet, for a look at them.
func (c *current) get() *parts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.parts
}

// put brings parts into force and returns those that gave way, nil for none.
func (c *current) put(p *parts) (old *parts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, c.parts = c.parts, p
	return old
}

// ServeHTTP answers a request by the parts in force.
func (c *current) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := c.use()
	defer p.users.Done()
	p.handler.ServeHTTP(w, r)
}

// use returns the parts in force, with the caller among their users until it is done.
func (c *current) use() *parts {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parts.users.Add(1)
	return c.parts
}

// retireAfter bounds how long parts that gave way are kept for their requests.
// It is as long as fetching and verifying one object may take; an object that is
// verified is sent to its end in any case.
const retireAfter = time.Hour

// retire closes parts once their requests are over, or when the mirror ends.
func (m *mirror) retire(old *parts) {
	over := make(chan struct{})
	go func() {
		old.users.Wait()
		close(over)
	}()
	m.retiring.Go(func() {
		bound := time.NewTimer(retireAfter)
		defer bound.Stop()
		select {
		case <-over:
		case <-bound.C:
		case <-m.ended:
		}
		old.close()
	})
}
