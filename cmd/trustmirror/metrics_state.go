package main

import (
	"context"
	"maps"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/trustmirror/trustmirror/proxy/activity"
	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify/notary"
)

// lookTimeout bounds how long a scrape waits for storage.
const lookTimeout = 2 * time.Second

// states are what metrics tell about whenever they are asked. What is nil isn't
// told of.
type states struct {
	expiries func() []trustExpiry
	statuses func() map[string]notary.Status // by signed repository
	reloads  func() reloadState
	pulls    func() []activity.Pull
	dropped  func() uint64 // of the decision log
	cold     func(observer)
	usage    func(context.Context) (storage.Usage, error)
	writable func(context.Context) error
	eviction func() storage.EvictionState
}

// states are what metrics tell of.
func (m *mirror) states() states {
	return states{
		expiries: m.expiries,
		statuses: func() map[string]notary.Status { return m.sources().statuses() },
		reloads:  m.reloads.get,
		pulls:    m.activity.Pulls,
		dropped:  m.activity.Dropped,
		cold:     func(o observer) { m.current.get().eachMissing(o) },
		usage:    m.store.Usage,
		writable: m.store.Writable,
		eviction: m.store.EvictionState,
	}
}

// watch makes the metrics tell how things are; it is called once.
func (m *metrics) watch(s states) error {
	m.gauge("trust.expiry", "s", "Seconds until the signed metadata of a role expire; negative once they have. Archives and pinned digests don't expire and have none.",
		func(_ context.Context, o observer) { eachExpiry(s.expiries(), false, o) })
	m.gauge("certificate.expiry", "s", "Seconds until a certificate that clients are shown expires; negative once it has.",
		func(_ context.Context, o observer) { eachExpiry(s.expiries(), true, o) })
	m.gauge("upstream.limited_until.timestamp", "s", "Until when a registry asked to be left alone, in seconds since 1970; 0 if it never did.", m.restsUntil)
	if s.statuses != nil {
		m.gauge("trust.version", "", "Version of the signed metadata that is relied on.", func(_ context.Context, o observer) {
			for image, status := range s.statuses() {
				for role, version := range status.Versions {
					o(float64(version), attribute.String("image", image), attribute.String("role", role))
				}
			}
		})
		m.gauge("trust.last_refresh.timestamp", "s", "When a trust service last answered with something to rely on, in seconds since 1970; 0 if it hasn't since the start.", func(_ context.Context, o observer) {
			for image, status := range s.statuses() {
				o(unix(status.Succeeded), attribute.String("image", image))
			}
		})
	}
	if s.reloads != nil {
		m.gauge("config.last_reload.successful", "", "1 if the configuration in force is the one that was read last, 0 while the file can't be used and the one before stays.", func(_ context.Context, o observer) {
			o(yes(s.reloads().FailedSince == nil))
		})
		m.gauge("config.last_reload.success.timestamp", "s", "When the configuration in force was read, in seconds since 1970.", func(_ context.Context, o observer) {
			o(unix(s.reloads().Loaded))
		})
	}
	if s.pulls != nil {
		m.gauge("pulls.in_flight", "", "Manifests and blobs on their way to clients.", func(_ context.Context, o observer) {
			o(float64(len(s.pulls())))
		})
	}
	if s.cold != nil {
		m.gauge("warm.missing", "", "Tags that are to be kept warm, by each of their names, and aren't all fetched and verified.",
			func(_ context.Context, o observer) { s.cold(o) })
	}
	if s.dropped != nil {
		m.total("decisions.dropped", "Lines that the decision log has lost.", s.dropped)
	}
	if s.usage != nil {
		m.watchStorage(s)
	}
	return m.failed
}

// watchStorage tells of storage, as far as it answers in time.
func (m *metrics) watchStorage(s states) {
	m.gauge("storage.used", "By", "Bytes of manifests, configs and layers in storage.", func(ctx context.Context, o observer) {
		if usage, ok := look(ctx, s.usage); ok {
			o(float64(usage.Bytes))
		}
	})
	m.gauge("storage.objects", "", "Manifests, configs and layers in storage.", func(ctx context.Context, o observer) {
		if usage, ok := look(ctx, s.usage); ok {
			o(float64(usage.Objects))
		}
	})
	m.gauge("storage.writable", "", "1 if storage can be written, 0 if it can't.", func(ctx context.Context, o observer) {
		ctx, cancel := context.WithTimeout(ctx, lookTimeout)
		defer cancel()
		if err := s.writable(ctx); ctx.Err() == nil {
			o(yes(err == nil))
		}
	})
	m.gauge("storage.excess", "By", "Bytes above storage.max_size that aren't evicted yet, since they were just used or are being read; 0 if there is no limit.", func(_ context.Context, o observer) {
		o(float64(s.eviction().Excess))
	})
}

func look(ctx context.Context, usage func(context.Context) (storage.Usage, error)) (storage.Usage, bool) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	u, err := usage(ctx)
	return u, err == nil
}

// eachExpiry tells of certificates, or of all else.
func eachExpiry(all []trustExpiry, certificates bool, o observer) {
	for _, e := range all {
		if (e.Source == kindCertificate) != certificates {
			continue
		}
		for _, r := range e.Roles {
			if certificates {
				o(float64(r.Left), attribute.String("file", e.File))
			} else {
				o(float64(r.Left), attribute.String("image", e.Image), attribute.String("role", r.Role))
			}
		}
	}
}

func (m *metrics) restsUntil(_ context.Context, o observer) {
	m.mu.Lock()
	rests := maps.Clone(m.rests)
	m.mu.Unlock()
	for registry, until := range rests {
		o(unix(until), attribute.String("registry", registry))
	}
}

// unix is a time in seconds since 1970, 0 if there is none.
func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// statuses tells how asking trust services goes, by signed repository.
func (s *sources) statuses() map[string]notary.Status {
	s.mu.Lock()
	running := maps.Clone(s.running)
	s.mu.Unlock()
	all := make(map[string]notary.Status)
	for image, src := range running {
		all[image] = src.Status()
	}
	return all
}
