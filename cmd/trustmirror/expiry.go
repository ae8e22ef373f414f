package main

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/trustmirror/trustmirror/verify/notary"
)

const (
	// warnBefore is how long before something expires operators are warned.
	warnBefore = 14 * 24 * time.Hour
	// tellEvery is how often the log tells when things expire.
	tellEvery = 24 * time.Hour
	// lookEvery is how often it is looked whether something is to be told.
	lookEvery = time.Minute
)

// trustExpiry tells when what an image's trust rests on expires, or a certificate
// of the mirror's own.
type trustExpiry struct {
	Image  string       `json:"image,omitempty"`
	Source string       `json:"source"`          // "notary", "archive" or "digests"; or "certificate"
	File   string       `json:"file,omitempty"`  // of a certificate
	AsOf   *time.Time   `json:"as_of,omitempty"` // of an archive: its moment; nothing expires any more
	Roles  []roleExpiry `json:"roles,omitempty"` // the first to expire first; empty: nothing expires, or nothing is known yet
}

// roleExpiry tells when one role's metadata expire, or the root's certificates.
type roleExpiry struct {
	Role    string    `json:"role"`
	Expires time.Time `json:"expires"`
	Left    int64     `json:"left_seconds"` // negative once it has expired
	Warning bool      `json:"warning,omitempty"`
}

// load makes what is stored known, before any service is asked.
func (s *sources) load(ctx context.Context, log *slog.Logger) {
	s.mu.Lock()
	running := maps.Clone(s.running)
	s.mu.Unlock()
	for name, src := range running {
		if err := src.Load(ctx); err != nil {
			log.Warn("the stored trust state can't be read", "image", name, "error", err)
		}
	}
}

// expiries tells of all images of which something is known, sorted.
func (s *sources) expiries() []trustExpiry {
	s.mu.Lock()
	running, fixed := maps.Clone(s.running), slices.Clone(s.fixed)
	s.mu.Unlock()
	now := s.clock()
	all := []trustExpiry{}
	for name, src := range running {
		all = append(all, trustExpiry{Image: name, Source: kindNotary, Roles: roleExpiries(src.Status(), now)})
	}
	for _, src := range fixed {
		o := src.origin()
		e := trustExpiry{Image: o.Image, Source: o.Kind}
		if !o.Moment.IsZero() {
			e.AsOf = &o.Moment
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b trustExpiry) int { return compareNatural(a.Image, b.Image) })
	return all
}

func roleExpiries(status notary.Status, now time.Time) []roleExpiry {
	var roles []roleExpiry
	for _, e := range status.Expiries {
		left := e.At.Sub(now)
		roles = append(roles, roleExpiry{
			Role: e.Role, Expires: e.At.UTC(), Left: int64(left / time.Second), Warning: left <= warningTime(status, e),
		})
	}
	return roles
}

// warningTime is how long before it expires a role is warned of. The service
// itself renews the timestamp, at the latest when it expires: while it answers,
// only the last tenth of the timestamp's life is worth a warning.
func warningTime(status notary.Status, e notary.Expiry) time.Duration {
	if e.Role != "timestamp" || status.Err != nil {
		return warnBefore
	}
	return min(warnBefore, max(0, e.At.Sub(status.Accepted)/10))
}

// expiryLog tells the log when trust expires: of each image once it is known, and
// then once a day. It is used by one goroutine.
type expiryLog struct {
	expiries func() []trustExpiry // of what is in force
	clock    func() time.Time
	log      *slog.Logger
	told     map[string]time.Time // by kind of source, and image or file
}

func newExpiryLog(expiries func() []trustExpiry, clock func() time.Time, log *slog.Logger) *expiryLog {
	return &expiryLog{expiries: expiries, clock: clock, log: log, told: make(map[string]time.Time)}
}

// run tells until ctx ends: now and then, and when there is news. There is no
// error.
func (l *expiryLog) run(ctx context.Context, news <-chan struct{}) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		l.tell()
		select {
		case <-ctx.Done():
			return nil
		case <-news:
		case <-ticker.C:
		}
	}
}

// tell tells of the images that are due.
func (l *expiryLog) tell() {
	now := l.clock()
	for _, e := range l.expiries() {
		key := e.Source + " " + e.Image + e.File
		last, told := l.told[key]
		since := now.Sub(last)
		if told && since >= 0 && since < tellEvery || e.Source == kindNotary && len(e.Roles) == 0 {
			continue
		}
		l.told[key] = now
		l.tellOf(e)
	}
}

func (l *expiryLog) tellOf(e trustExpiry) {
	switch {
	case e.Source == kindCertificate:
		l.tellOfCertificate(e)
		return
	case e.AsOf != nil:
		l.log.Info("trust rests on an archive and doesn't expire; new releases and revocations aren't seen", "image", e.Image, "as_of", *e.AsOf)
		return
	case len(e.Roles) == 0:
		l.log.Info("trust rests on pinned digests and doesn't expire", "image", e.Image)
		return
	}
	warned := false
	for _, r := range e.Roles {
		attrs := []any{"image", e.Image, "role", r.Role, "expires", r.Expires, "left", (time.Duration(r.Left) * time.Second).String()}
		switch {
		case r.Left <= 0:
			l.log.Warn("trust has expired; make an archive of it with trustmirror trust export and name it as trust.archive, if nobody signs anew", attrs...)
		case r.Warning:
			l.log.Warn("trust expires soon; make an archive of it with trustmirror trust export, in case nobody signs anew", attrs...)
		default:
			continue
		}
		warned = true
	}
	if first := e.Roles[0]; !warned {
		l.log.Info("trust is in date", "image", e.Image, "first_role", first.Role, "expires", first.Expires, "left", (time.Duration(first.Left) * time.Second).String())
	}
}
