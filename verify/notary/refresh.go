package notary

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/trustmirror/trustmirror/verify"
)

const (
	// pace is how long after a question the service isn't asked again on demand.
	pace = 30 * time.Second
	// eager is how soon the service is asked where nothing is known yet.
	eager = 2 * time.Second
	// patience is how long loading and refreshing together may take.
	patience = time.Minute
)

// flight is a load or a refresh, for all who wait for it. It runs on a context
// of its own: whoever leaves cancels nothing.
type flight struct {
	done   chan struct{}
	cancel context.CancelFunc
	asker  trace.SpanContext // who asked first; invalid if that isn't traced

	// Valid once done is closed.
	err  error
	span trace.SpanContext // of what was done; invalid if that isn't traced
}

// start begins a flight in a slot, for who asks with ctx. The caller holds mu.
func (s *Source) start(ctx context.Context, slot **flight, run func(context.Context, *flight) error) *flight {
	asker := trace.SpanContextFromContext(ctx)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	f := &flight{done: make(chan struct{}), cancel: cancel, asker: asker}
	*slot = f
	go func() {
		defer cancel()
		f.err = run(ctx, f)
		s.mu.Lock()
		*slot = nil
		s.mu.Unlock()
		close(f.done)
	}()
	return f
}

// wait waits for a flight's end, and returns its error; if ctx ends first, an
// UnavailableError.
func (s *Source) wait(ctx context.Context, f *flight) error {
	select {
	case <-f.done:
		if f.span.IsValid() {
			trace.SpanFromContext(ctx).AddLink(verify.SpanLink(f.span, verify.LinkWork))
		}
		return own(f.err)
	case <-ctx.Done():
		return verify.Unavailable(verify.TrustUnavailable, "the trust data of %s could not be had in time: %w", s.config.GUN, ctx.Err())
	}
}

// own returns a copy of a Refusal, so that who gets it may fill it in.
func own(err error) error {
	if r, ok := err.(*verify.Refusal); ok { //nolint:errorlint // an error around a Refusal is another error
		c := *r
		return &c
	}
	return err
}

// current returns what is relied on, if it is in date, and otherwise tries to get
// something that is: from the store first, then from the service.
func (s *Source) current(ctx context.Context) (*state, error) {
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	st := s.state.Load()
	if st != nil && st.repo.check(s.config.Clock()) == nil {
		return st, nil
	}
	err := s.ask(ctx, false)
	if st = s.state.Load(); st == nil {
		return nil, s.nothing(err)
	}
	if expired := st.repo.check(s.config.Clock()); expired != nil {
		return nil, stillExpired(expired, err)
	}
	return st, nil
}

// nothing is the answer when there is nothing to rely on: what the service said,
// or, if it said nothing, why what is stored is refused.
func (s *Source) nothing(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var refusal *verify.Refusal
	if s.refused != nil && !errors.As(err, &refusal) {
		return own(s.refused)
	}
	return err
}

// stillExpired is the answer when what is known has expired, and why there is
// nothing newer: that the service serves what must not be trusted says more than
// that time has passed.
func stillExpired(expired, cause error) error {
	var known, news *verify.Refusal
	if !errors.As(expired, &known) || cause == nil {
		return expired
	}
	if errors.As(cause, &news) {
		return verify.Refuse(news.Reason, "%s, and nothing newer can be had: %w", known.Detail, cause)
	}
	return verify.Refuse(verify.MetadataExpired, "%s, and nothing newer can be had (%w); if the trust service is gone for good, "+
		"`trustmirror trust export --from state` makes an archive of what was verified, to be named as trust.archive", known.Detail, cause)
}

// newer asks the service, unless it was asked a moment ago, and returns what is
// relied on then.
func (s *Source) newer(ctx context.Context) (*state, error) {
	if err := s.ask(ctx, false); err != nil && ctx.Err() != nil {
		return nil, err
	}
	return s.current(ctx)
}

// Refresh asks the service now. Errors: *verify.Refusal if what it has must not
// be trusted, *verify.UnavailableError; what was relied on before stays.
func (s *Source) Refresh(ctx context.Context) error { return s.ask(ctx, true) }

// ask asks the service, or waits for the answer if it is being asked. Unless
// forced it leaves the service alone if it was asked a moment ago, and returns
// how that ended. Forced, the question is one asked after the call.
func (s *Source) ask(ctx context.Context, force bool) error {
	s.mu.Lock()
	before := s.attempts
	for {
		f := s.asking
		if f == nil {
			if force && s.attempts > before || !force && s.paced() {
				defer s.mu.Unlock()
				return own(s.lastErr)
			}
			s.attempts++
			s.tried = s.config.Clock()
			f = s.start(ctx, &s.asking, s.refresh)
		}
		s.mu.Unlock()
		if err := s.wait(ctx, f); err != nil && ctx.Err() != nil || !force {
			return err
		}
		s.mu.Lock()
	}
}

// paced tells whether the service was asked a moment ago. The caller holds mu.
func (s *Source) paced() bool {
	since := s.config.Clock().Sub(s.tried)
	return s.attempts > 0 && since >= 0 && since < pace
}

// Load looks at what is stored, so that Status tells of it, and asks nobody. The
// error is a *verify.UnavailableError.
func (s *Source) Load(ctx context.Context) error { return s.load(ctx) }

// load makes sure that what is stored was looked at. It is done once; only if the
// store fails, it is tried again. The error is an UnavailableError.
func (s *Source) load(ctx context.Context) error {
	if s.state.Load() != nil {
		return nil
	}
	s.mu.Lock()
	if s.loaded {
		s.mu.Unlock()
		return nil
	}
	f := s.loading
	if f == nil {
		f = s.start(ctx, &s.loading, s.loadStored)
	}
	s.mu.Unlock()
	return s.wait(ctx, f)
}

// loadStored is the flight that looks at what is stored.
func (s *Source) loadStored(ctx context.Context, _ *flight) error {
	err := s.relyOnStored(ctx)
	var refusal *verify.Refusal
	if err != nil && !errors.As(err, &refusal) {
		return unavailable(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded, s.refused = true, err
	return nil
}

// relyOnStored relies on what is stored, if there is something and it can be
// verified.
func (s *Source) relyOnStored(ctx context.Context) error {
	h, err := readHistory(ctx, s.config.Store, s.config.GUN)
	if err != nil {
		return err
	}
	repo, index, err := h.load(ctx, &s.config.Pins)
	if repo == nil || err != nil {
		return err
	}
	c, err := h.readCommit(ctx, h.commits[index])
	if err != nil {
		return err
	}
	st := newState(repo, s.config.RoleOrder, c.At)
	older, err := h.replacedSince(ctx, &s.config.Pins, index, s.config.Clock().Add(-keepSuperseded))
	if err != nil {
		return err
	}
	for _, o := range older {
		st.supersede(signed(o.repo.verdicts(s.config.RoleOrder)), o.at)
	}
	s.state.Store(st)
	return nil
}

// refresh is the flight that asks the service, and remembers how it went.
func (s *Source) refresh(ctx context.Context, f *flight) (err error) {
	ctx, end := s.traced(ctx, f)
	defer func() { end(err) }()
	start := s.config.Clock()
	changed, err := false, s.load(ctx)
	if err == nil { // without what was seen before, nothing can be accepted
		changed, err = s.relyOnService(ctx, start)
	}
	s.mu.Lock()
	s.lastErr = err
	if err == nil {
		s.success = start
	}
	s.mu.Unlock()
	event := Refreshed{GUN: s.config.GUN, At: start, Took: s.config.Clock().Sub(start), Changed: changed, Err: err}
	if st := s.state.Load(); st != nil {
		event.Versions = st.repo.versions()
	}
	s.config.OnRefresh(event)
	return err
}

// relyOnService asks the service, and relies on the answer once it is stored.
func (s *Source) relyOnService(ctx context.Context, now time.Time) (changed bool, err error) {
	h, err := readHistory(ctx, s.config.Store, s.config.GUN)
	if err != nil {
		return false, err
	}
	if changed, err = s.catchUp(ctx, h, now); err != nil {
		return false, err
	}
	u := &updater{gun: s.config.GUN, pins: &s.config.Pins, fetcher: s.config.Fetcher, history: h}
	before := s.state.Load()
	if before != nil {
		u.held = before.repo
	}
	repo, err := u.update(ctx, now)
	if notFound := (*verify.NotFoundError)(nil); errors.As(err, &notFound) && h.empty() {
		return false, verify.Refuse(verify.UnsignedTag, "%s has no trust data: its publisher doesn't sign it, or signs it elsewhere: %w", s.config.GUN, err)
	}
	if err != nil {
		return false, unavailable(err)
	}
	if repo == u.held {
		return changed, nil
	}
	if err := h.save(ctx, repo, now); err != nil {
		return false, err
	}
	st := newState(repo, s.config.RoleOrder, now)
	if before != nil {
		st.follow(before, now)
	}
	s.state.Store(st)
	return true, nil
}

// catchUp relies on what another process that shares the store accepted meanwhile,
// if that is newer. Who asks a service that was rolled back would otherwise go on
// with what it has, although others know that it was replaced.
func (s *Source) catchUp(ctx context.Context, h *history, now time.Time) (changed bool, err error) {
	before := s.state.Load()
	if before != nil && !h.has(roleRoot, before.repo.root.version+1) && !h.has(roleTimestamp, before.repo.timestamp.version+1) {
		return false, nil
	}
	repo, index, err := h.load(ctx, &s.config.Pins)
	var refusal *verify.Refusal
	if errors.As(err, &refusal) { // under other pins it may be good
		return false, nil
	}
	if err != nil || repo == nil || before != nil && !repo.newerThan(before.repo) {
		return false, err
	}
	c, err := h.readCommit(ctx, h.commits[index])
	if err != nil {
		return false, unavailable(err)
	}
	st := newState(repo, s.config.RoleOrder, c.At)
	if before != nil {
		st.follow(before, now)
	}
	s.state.Store(st)
	return true, nil
}

// has tells whether a role's file of at least a version is stored.
func (h *history) has(role string, version int64) bool {
	return len(h.files[role]) > 0 && h.files[role][0].number >= version
}

// newerThan tells whether a repository's root or, under the same root, timestamp is.
func (r *repository) newerThan(other *repository) bool {
	if r.root.version != other.root.version {
		return r.root.version > other.root.version
	}
	return r.timestamp.version > other.timestamp.version
}

// Run refreshes in the background until ctx ends, and then waits until no
// refresh is under way. It returns ctx's error.
func (s *Source) Run(ctx context.Context) error {
	defer s.settle()
	failures := 0
	// Many Sources start together, and spread their questions: over a tenth of the
	// time between two, or less where nothing can be served before the answer.
	spread := s.config.Refresh / 10
	if err := s.load(ctx); err == nil && s.state.Load() == nil {
		spread = min(spread, eager)
	}
	timer := time.NewTimer(rand.N(spread + 1)) //nolint:gosec // nobody gains from guessing it
	defer timer.Stop()
	for first := true; ; first = false {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		if s.ask(ctx, !first) == nil { // at first somebody may just have asked on demand
			failures = 0
		} else {
			failures++
		}
		timer.Reset(s.next(failures))
	}
}

// next is how long to wait for the next refresh, give or take a tenth. After
// failures it begins with the pace, and doubles.
func (s *Source) next(failures int) time.Duration {
	wait := s.config.Refresh
	if failures > 0 {
		wait = min(wait, pace<<min(failures-1, 10))
	}
	return wait - wait/10 + rand.N(wait/5+1) //nolint:gosec // nobody gains from guessing it
}

// settle cancels what is under way and waits for its end.
func (s *Source) settle() {
	s.mu.Lock()
	flights := []*flight{s.asking, s.loading}
	s.mu.Unlock()
	for _, f := range flights {
		if f != nil {
			f.cancel()
			<-f.done
		}
	}
}
