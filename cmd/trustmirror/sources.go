package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/trustmirror/trustmirror/proxy/upstream"
	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
)

// sources makes the trust sources of signed repositories, and refreshes them in
// the background once they have something to vouch for. So names under a pattern
// that nobody signs cost nothing that lasts.
type sources struct {
	store     storage.Trust
	seen      notary.Store // that archives are compared with
	clock     func() time.Time
	offline   bool // nobody is asked
	told      func(notary.Refreshed)
	via       string // of upstream.Options
	telemetry *telemetry
	news      []chan struct{} // each holds one: a trust service was asked since somebody looked
	ctx       context.Context // of refreshing; nil: nothing is refreshed in the background
	cancel    context.CancelFunc
	clients   []*upstream.Notary

	mu      sync.Mutex // guards all below
	closed  bool
	group   errgroup.Group
	running map[string]*source // by signed repository
	fixed   []described        // archives and digests, which nobody is asked about
}

// source is a notary source that begins to be refreshed when it is of use.
type source struct {
	*notary.Source
	notary *Notary // what it was made from
	repo   string
	owner  *sources
	began  sync.Once
}

var _ described = (*source)(nil)

// Target implements verify.Source.
func (s *source) Target(ctx context.Context, tag string) (verify.Target, error) {
	t, err := s.Source.Target(ctx, tag)
	s.begin()
	return t, err
}

// Targets implements verify.Source.
func (s *source) Targets(ctx context.Context) (*verify.TargetSet, error) {
	set, err := s.Source.Targets(ctx)
	s.begin()
	return set, err
}

// begin begins to refresh the source if it has something to vouch for.
func (s *source) begin() {
	if s.owner.ctx != nil && s.Status().Versions != nil {
		s.began.Do(func() { s.owner.run(s) })
	}
}

// run refreshes a source until close.
func (s *sources) run(src *source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.running[src.repo] != nil {
		return
	}
	s.running[src.repo] = src
	s.group.Go(func() error { return src.Run(s.ctx) })
}

// of returns what makes the sources of an image rule (verify.ImageRule.Source).
// Those that need nobody are made now.
func (s *sources) of(ctx context.Context, image Image) (func(verify.Ref) (verify.Source, error), error) {
	switch {
	case image.Archive != nil:
		return s.fix(s.archive(ctx, image))
	case image.Digests != nil:
		return s.fix(digestsOf(image))
	case image.Notary == nil:
		return nil, fmt.Errorf("%s has no trust source", image.Signed)
	}
	n := image.Notary
	config := notaryConfig(n)
	config.Via, config.TracerProvider, config.Observe = s.via, s.telemetry.tracers(), s.telemetry.counted().upstream
	client, err := upstream.NewNotary(config)
	if err != nil {
		return nil, err
	}
	s.clients = append(s.clients, client)
	return func(signed verify.Ref) (verify.Source, error) {
		return s.source(client, image, signed)
	}, nil
}

func notaryConfig(n *Notary) upstream.NotaryConfig {
	return upstream.NotaryConfig{
		URL: n.URL, CAFile: n.CA, TokenRealm: n.TokenRealm, Credentials: upstreamCredentials(n.Credentials), Route: upstream.Route(n.Route),
		Options: upstream.Options{UserAgent: userAgent()},
	}
}

// source returns the one source of a repository that is being refreshed, or a
// new one.
func (s *sources) source(client *upstream.Notary, image Image, signed verify.Ref) (verify.Source, error) {
	s.mu.Lock()
	running := s.running[signed.Name()]
	s.mu.Unlock()
	if running != nil {
		return running, nil
	}
	n := image.Notary
	gun := n.GUN
	if gun == "" {
		gun = signed.Name()
	}
	var fetcher notary.Fetcher = client
	if s.offline {
		fetcher = nobody{}
	}
	made, err := notary.New(notary.Config{
		GUN:       gun,
		Pins:      n.pins(),
		RoleOrder: image.RoleOrder,
		Refresh:   n.Refresh,
		Fetcher:   fetcher,
		Store:     s.store,
		Clock:     s.clock,
		Tracer:    s.telemetry.tracer(),
		OnRefresh: func(r notary.Refreshed) {
			s.told(r)
			s.telemetry.counted().refreshed(image.Signed, r)
			for _, news := range s.news {
				hint(news)
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("trust source of %s: %w", signed.Name(), err)
	}
	return &source{Source: made, notary: n, repo: signed.Name(), owner: s}, nil
}

// hint gives word to a channel that holds one, unless there is word already.
func hint(news chan struct{}) {
	select {
	case news <- struct{}{}:
	default:
	}
}

// nobody is a trust service that isn't asked.
type nobody struct{}

// Fetch implements notary.Fetcher.
func (nobody) Fetch(context.Context, string, string, int64) ([]byte, error) {
	return nil, verify.Unavailable(verify.TrustUnavailable, "this command asks no trust service")
}

// close ends refreshing and waits for it.
func (s *sources) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	if s.cancel != nil {
		s.cancel()
	}
	_ = s.group.Wait() // sources end with the context's error only
	for _, c := range s.clients {
		c.Close()
	}
}

// logRefresh says what news a trust service had.
func logRefresh(log *slog.Logger) func(notary.Refreshed) {
	return func(r notary.Refreshed) {
		attrs := []any{"gun", r.GUN, "versions", r.Versions, "took", r.Took}
		switch {
		case r.Err != nil:
			log.Warn("trust not refreshed; what was verified before holds until it expires", append(attrs, "reason", verify.ReasonOf(r.Err), "error", r.Err)...)
		case r.Changed:
			log.Info("trust refreshed", attrs...)
		default:
			log.Debug("trust unchanged", attrs...)
		}
	}
}
