package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/trustmirror/trustmirror/proxy/upstream"
	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
	"github.com/trustmirror/trustmirror/verify/warm"
)

// parts are the parts of trustmirror, put together as a configuration says.
type parts struct {
	config   *Config
	policy   *verify.Policy
	gate     *verify.Gate
	sources  *sources
	upstream *upstream.Client
	cleanUp  func() error // once all is closed; nil: nothing
	decided  func(context.Context, verify.Decision)

	// Of a mirror's parts only:
	handler      http.Handler   // answers clients
	certificates *certificates  // nil: clients are served by plain http
	users        sync.WaitGroup // requests that these parts answer, and warming; current adds to it
	keeper       *warm.Keeper   // nil: nothing is kept warm
	warmed       []warm.Wanted  // what keeper keeps warm
}

// assembly says what parts are put together from.
type assembly struct {
	config    *Config
	store     *storage.Store
	seen      notary.Store // what was accepted before, that archives are compared with; nil: store's
	log       *slog.Logger
	refresh   bool            // ask trust services for news in the background
	offline   bool            // ask trust services nothing at all: what is stored of theirs has to do
	news      []chan struct{} // get word when a trust service was asked; each holds one
	recording *sync.Mutex     // of verify.GateConfig
	via       string          // of upstream.Options
	decided   func(context.Context, verify.Decision)
	telemetry *telemetry // nil: nothing is traced or counted
}

// assemble puts the parts together; close them when done. It asks nobody
// anything. An error is a *mistake.
func assemble(ctx context.Context, a assembly) (*parts, error) {
	p := &parts{config: a.config, sources: &sources{
		store: a.store.Trust(), seen: a.seen, clock: wallClock, offline: a.offline, told: logRefresh(a.log), news: a.news, via: a.via, telemetry: a.telemetry, running: make(map[string]*source),
	}}
	if p.sources.seen == nil {
		p.sources.seen = p.sources.store
	}
	if a.refresh {
		p.sources.ctx, p.sources.cancel = context.WithCancel(context.Background())
	}
	if err := p.build(ctx, a); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *parts) build(ctx context.Context, a assembly) error {
	places := a.config.places
	rules := make([]verify.ImageRule, len(a.config.Images))
	for i, image := range a.config.Images {
		make, err := p.sources.of(ctx, image)
		if err != nil {
			return places.mistake(fmt.Sprintf("images[%d].trust.%s", i, image.trustKind()), "%v", err)
		}
		rules[i] = verify.ImageRule{Signed: image.Signed, Copies: image.Copies, Source: make, Grace: image.Grace, Streaming: image.Streaming}
	}
	var err error
	if p.policy, err = verify.NewPolicy(rules); err != nil {
		return places.mistake("images", "%v", err)
	}
	if p.upstream, err = upstream.New(upstreamConfig(a)); err != nil {
		return places.mistake("upstreams", "%v", err)
	}
	counted := a.telemetry.counted()
	counted.covers(a.config.Images)
	p.decided = func(ctx context.Context, d verify.Decision) {
		counted.decided(p.policy, d)
		if a.decided != nil {
			a.decided(ctx, d)
		}
	}
	p.gate, err = verify.NewGate(verify.GateConfig{
		Policy: p.policy, Fetcher: p.upstream, Store: a.store, Recording: a.recording, Clock: wallClock, Decided: p.decided, FetchAhead: a.refresh,
		Tracer: a.telemetry.tracer(), Observe: counted.happened,
	})
	if err != nil || !a.refresh {
		return err
	}
	return p.start(a.config)
}

// start begins to refresh the sources of the repositories that are named in full,
// whether or not anybody asks for them.
func (p *parts) start(c *Config) error {
	for i, image := range c.Images {
		if strings.Contains(image.Signed, "*") {
			continue
		}
		ref, err := verify.ParseRef(image.Signed)
		if err != nil {
			return c.places.mistake(fmt.Sprintf("images[%d].signed", i), "%v", err)
		}
		found, err := p.policy.Image(ref)
		if err != nil {
			return c.places.mistake(fmt.Sprintf("images[%d]", i), "%v", err)
		}
		if src, ok := found.Source.(*source); ok {
			src.began.Do(func() { p.sources.run(src) })
		}
	}
	return nil
}

// close ends what is under way in the parts and waits for it.
func (p *parts) close() {
	if p.gate != nil {
		p.gate.Close()
	}
	p.sources.close()
	if p.upstream != nil {
		p.upstream.Close()
	}
	if p.cleanUp != nil {
		_ = p.cleanUp() // what stays in a temporary folder harms nobody
	}
}

func upstreamConfig(a assembly) upstream.Config {
	registries := make(map[string]upstream.Registry)
	for name, u := range a.config.Upstreams {
		registries[name] = upstream.Registry{
			URL: u.URL, Credentials: upstreamCredentials(u.Credentials), CAFile: u.CA, TokenRealm: u.TokenRealm, Route: upstream.Route(u.Route),
		}
	}
	return upstream.Config{Registries: registries, Options: upstream.Options{
		UserAgent: userAgent(), Via: a.via, TracerProvider: a.telemetry.tracers(),
		Observe: func(e upstream.Event) {
			a.telemetry.counted().upstream(e)
			a.log.Debug("upstream", "registry", e.Registry, "repository", e.Repository, "kind", e.Kind,
				"status", e.Status, "bytes", e.Bytes, "duration", e.Duration, "error", e.Err)
		},
	}}
}

func upstreamCredentials(c *Credentials) upstream.Credentials {
	if c == nil {
		return upstream.Credentials{}
	}
	return upstream.Credentials{Username: c.Username, PasswordFile: c.PasswordFile}
}

func userAgent() string { return "trustmirror/" + newBuildVersion().Version }

// openStorage opens the configured storage; an error is a *mistake.
func openStorage(ctx context.Context, c *Config) (*storage.Store, error) {
	store, err := storage.Open(ctx, c.Storage.Driver, c.Storage.parameters())
	if err != nil {
		return nil, c.places.mistake("storage."+c.Storage.Driver+".rootdirectory", "%v", err)
	}
	return store, nil
}

// text tells which keys a trust source is held to, for people.
func (k Keys) text() string {
	text := fmt.Sprintf("root %s, repository %s", strings.Join(k.RootKeys, " "), strings.Join(k.RepositoryKeys, " "))
	for _, name := range sortedKeys(k.Signers) {
		text += fmt.Sprintf(", %s %s", name, strings.Join(k.Signers[name], " "))
	}
	return text
}

func (s Storage) parameters() map[string]any {
	switch s.Driver {
	case driverFilesystem:
		return map[string]any{"rootdirectory": s.RootDirectory, "maxthreads": s.MaxThreads}
	case driverS3:
		return s.S3.parameters()
	}
	return map[string]any{}
}
