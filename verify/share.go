package verify

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/trace"
)

const (
	// workTimeout bounds shared work: fetching and verifying one object.
	workTimeout = time.Hour
	// refusalMemory is how long a refusal is repeated without asking an upstream
	// again: clients ask twice, and a fleet asks at once.
	refusalMemory = 30 * time.Second
)

// work says what is shared.
type work struct {
	key   string // who asks for the same at the same time shares the work
	span  string // what it is called in traces
	about Ref
}

// refused is a remembered refusal, good until it's old or other targets are signed.
type refused struct {
	refusal *Refusal
	set     *TargetSet
	at      time.Time
	span    trace.SpanContext // of the work that found it out
}

// result is what shared work came to.
type result struct {
	value any
	span  trace.SpanContext
}

// share runs work once for all who ask for the same key at the same time, on a
// context that the Gate owns: an asker who leaves stops waiting and nothing else
// (S4). It tells who asked first (a miss) from those who shared. A refusal is
// remembered for refusalMemory, unless what is signed changes; other errors are
// not. In traces the work is a span of its own, to which each asker's has a link.
func share[T any](ctx context.Context, g *Gate, w work, set *TargetSet, do func(context.Context) (T, error)) (T, Cache, error) {
	var none T
	if known, ok := g.refused.Get(w.key); ok && known.set == set {
		if age := g.now().Sub(known.at); age >= 0 && age < refusalMemory { // clocks jump
			g.trace.linkTo(ctx, known.span, LinkWork)
			return none, CacheHit, known.refusal
		}
	}
	key, cache := fmt.Sprintf("%s %p", w.key, set), CacheShared
	done := g.flights.DoChan(key, func() (any, error) {
		cache = CacheMiss // it is read once this has ended
		return g.work(ctx, w, key, set, func(ctx context.Context) (any, error) { return do(ctx) })
	})
	select {
	case r := <-done:
		if cache == CacheShared {
			g.observe(Event{Kind: Shared})
		}
		got, _ := r.Val.(result)
		g.trace.linkTo(ctx, got.span, LinkWork)
		if r.Err != nil {
			return none, cache, r.Err
		}
		return got.value.(T), cache, nil //nolint:errcheck,forcetypeassert // a key belongs to one kind of work
	case <-ctx.Done():
		if span, ok := g.underway.Load(key); ok {
			g.trace.linkTo(ctx, span.(trace.SpanContext), LinkWork) //nolint:errcheck,forcetypeassert // nothing else is in there
		}
		return none, CacheMiss, ctx.Err()
	}
}

// work does shared work for who asked first, and returns a result.
func (g *Gate) work(ctx context.Context, w work, key string, set *TargetSet, do func(context.Context) (any, error)) (value any, err error) {
	if err := g.begin(); err != nil {
		return result{}, err
	}
	defer g.working.Done()
	ctx, cancel := context.WithTimeout(workContext{g.ctx, ctx}, workTimeout)
	defer cancel()
	ctx, step := g.trace.work(ctx, w.span, w.about)
	if span := step.context(); span.IsValid() {
		g.underway.Store(key, span)
		defer g.underway.Delete(key)
	}
	defer func() {
		if p := recover(); p != nil { // one bad document must not end the process
			value, err = result{span: step.context()}, fmt.Errorf("verifying panicked: %v\n%s", p, debug.Stack())
		}
		step.end(err)
	}()
	got, err := do(ctx)
	var refusal *Refusal
	if errors.As(err, &refusal) {
		g.refused.Add(w.key, refused{refusal, set, g.now(), step.context()})
	}
	return result{got, step.context()}, err
}
