package notary

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/trustmirror/trustmirror/verify"
)

// DefaultRefresh is how often the trust service is asked for news.
const DefaultRefresh = 10 * time.Minute

// Config says what a Source needs to know.
type Config struct {
	// GUN is the repository's name at the trust service:
	// "docker.io/nicolas/webdis".
	GUN string
	// Pins are the keys that the repository may use.
	Pins Pins
	// RoleOrder lists the roles ("targets", "targets/releases",
	// "targets/alice") that win, first to last, where roles name different
	// digests for a tag. Nil: such tags are refused.
	RoleOrder []string
	// Refresh is how often Run asks the service; 0 means DefaultRefresh.
	Refresh time.Duration
	// Fetcher asks the service. Never nil.
	Fetcher Fetcher
	// Store keeps what was accepted, so that a rollback is noticed after a
	// restart. Never nil.
	Store Store
	// Clock tells the time; nil means time.Now.
	Clock func() time.Time
	// OnRefresh is told of each time the service was asked; nil means nobody is.
	OnRefresh func(Refreshed)
	// Tracer makes a span of each refresh; nil means that none is traced.
	Tracer trace.Tracer
}

// Refreshed tells how a refresh went.
type Refreshed struct {
	GUN      string
	At       time.Time
	Took     time.Duration
	Changed  bool             // something new was accepted
	Versions map[string]int64 // by role, of what is relied on now
	Err      error            // why nothing was accepted; nil if all is well
}

// Source is a trust source that rests on a Notary v1 service. It answers from
// memory, and from what it stored; it asks the service when there is nothing to
// answer from, when a tag isn't known, and now and then (see Run). A service
// that can't be reached, or that serves what must not be trusted, changes
// nothing until something expires (T6).
//
// The zero Source is not usable; make one with New. All methods may be called
// at any time by many.
type Source struct {
	config Config

	state atomic.Pointer[state] // what is relied on; nil until something was verified

	mu       sync.Mutex // guards what follows
	loading  *flight    // the look at what is stored that is under way, or nil
	loaded   bool       // it was looked at
	refused  error      // why what is stored isn't relied on, or nil
	asking   *flight    // the question to the service that is under way, or nil
	attempts int        // how many times the service was asked
	tried    time.Time  // when last
	lastErr  error      // how that ended
	success  time.Time  // when it last ended well
}

var _ verify.Source = (*Source)(nil)

// New makes a Source. It asks nobody anything; the error says what is wrong with
// the configuration.
func New(config Config) (*Source, error) {
	if err := validateSource(config.GUN, &config.Pins, config.RoleOrder); err != nil {
		return nil, err
	}
	switch {
	case config.Refresh < 0:
		return nil, errors.New("the time between refreshes can't be negative")
	case config.Fetcher == nil || config.Store == nil:
		return nil, errors.New("a notary source needs a fetcher and a store")
	}
	if config.Refresh == 0 {
		config.Refresh = DefaultRefresh
	}
	if config.Clock == nil {
		config.Clock = time.Now
	}
	if config.OnRefresh == nil {
		config.OnRefresh = func(Refreshed) {}
	}
	return &Source{config: config}, nil
}

// validateSource checks what all sources have to be told.
func validateSource(gun string, pins *Pins, order []string) error {
	if err := validateGUN(gun); err != nil {
		return err
	}
	if err := pins.validate(); err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, role := range order {
		if role != roleTargets && !isChild(role, roleTargets) || seen[role] {
			return fmt.Errorf("role order: %q is repeated, or is neither targets nor targets/<name>", role)
		}
		seen[role] = true
	}
	return nil
}

// validateGUN accepts names that can be part of a URL's path as they are.
func validateGUN(gun string) error {
	for part := range strings.SplitSeq(gun, "/") {
		bad := strings.ContainsFunc(part, func(r rune) bool {
			return !(strings.ContainsRune("._-:", r) || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
		})
		if bad || part == "" || part == "." || part == ".." {
			return fmt.Errorf("%q is not the name of a repository at a trust service, like docker.io/nicolas/webdis", gun)
		}
	}
	return nil
}

// Target returns what is signed for a tag. The service is asked about a tag that
// isn't known, at most every 30 seconds; a known tag never waits for it.
// Errors: *verify.Refusal (UnsignedTag, RolesDisagree, MetadataExpired, and what
// is wrong with the metadata if none were ever accepted),
// *verify.UnavailableError.
func (s *Source) Target(ctx context.Context, tag string) (verify.Target, error) {
	st, err := s.current(ctx)
	if err != nil {
		return verify.Target{}, err
	}
	verify.NoteSource(ctx, sourceNotary)
	noteVersions(ctx, st)
	v, ok := st.verdicts[tag]
	if !ok {
		if st, err = s.newer(ctx); err != nil {
			return verify.Target{}, err
		}
		if v, ok = st.verdicts[tag]; !ok {
			return verify.Target{}, s.unsigned(tag)
		}
	}
	return v.answer()
}

// Targets returns what is signed, and what ceased to be within the last day.
// Tags on which roles disagree are not among them. Errors are Target's.
func (s *Source) Targets(ctx context.Context) (*verify.TargetSet, error) {
	st, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	verify.NoteSource(ctx, sourceNotary)
	noteVersions(ctx, st)
	return st.targets(s.config.Clock()), nil
}

// Metadata returns the verified metadata, to be shown. Errors are Target's.
func (s *Source) Metadata(ctx context.Context) (*Metadata, error) {
	st, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	return st.repo.view(s.config.GUN), nil
}

// Status is how a Source is doing.
type Status struct {
	GUN         string
	Tried       time.Time        // when the service was last asked; zero: not yet
	Succeeded   time.Time        // when it last answered with something to rely on
	Err         error            // how the last time ended; nil if well
	Versions    map[string]int64 // by role, of what is relied on; nil: nothing yet
	Expires     time.Time        // when the first of them expires
	ExpiresRole string
	Accepted    time.Time // when what is relied on was accepted, which is soon after its timestamp was made
	Expiries    []Expiry  // of all that is relied on, the first to expire first
}

// Status tells how the Source is doing. It asks nobody and never waits.
func (s *Source) Status() Status {
	s.mu.Lock()
	status := Status{GUN: s.config.GUN, Tried: s.tried, Succeeded: s.success, Err: s.lastErr}
	s.mu.Unlock()
	if st := s.state.Load(); st != nil {
		status.Versions = st.repo.versions()
		status.Expires, status.ExpiresRole = st.repo.first.expires, st.repo.first.role
		status.Accepted, status.Expiries = st.accepted, st.repo.expiries()
	}
	return status
}

// unsigned is the refusal of a tag that nobody signed.
func (s *Source) unsigned(tag string) error {
	s.mu.Lock()
	lastErr := s.lastErr
	s.mu.Unlock()
	if lastErr != nil {
		return verify.Refuse(verify.UnsignedTag, "%s has no signed tag %s, as far as is known; asking the trust service for news failed: %w",
			s.config.GUN, tag, lastErr)
	}
	return verify.Refuse(verify.UnsignedTag, "%s has no signed tag %s", s.config.GUN, tag)
}
