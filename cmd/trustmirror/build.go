package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/trustmirror/trustmirror/proxy/upstream"
	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
)

// parts are the parts of trustmirror, put together as a configuration says.
type parts struct {
	config   *Config
	policy   *verify.Policy
	gate     *verify.Gate
	sources  *sources
	upstream *upstream.Client
	cleanUp  func() error // once all is closed; nil: nothing
}

// assembly says what parts are put together from.
type assembly struct {
	config  *Config
	store   *storage.Store
	seen    notary.Store // what was accepted before, that archives are compared with; nil: store's
	log     *slog.Logger
	refresh bool // ask trust services for news in the background
}

// assemble puts the parts together; close them when done. It asks nobody
// anything. An error is a *mistake.
func assemble(ctx context.Context, a assembly) (*parts, error) {
	p := &parts{config: a.config, sources: &sources{
		store: a.store.Trust(), seen: a.seen, clock: wallClock, told: logRefresh(a.log), news: make(chan struct{}, 1), running: make(map[string]*source),
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
		rules[i] = verify.ImageRule{Signed: image.Signed, Copies: image.Copies, Source: make, Grace: image.Grace}
	}
	var err error
	if p.policy, err = verify.NewPolicy(rules); err != nil {
		return places.mistake("images", "%v", err)
	}
	if p.upstream, err = upstream.New(upstreamConfig(a)); err != nil {
		return places.mistake("upstreams", "%v", err)
	}
	p.gate, err = verify.NewGate(verify.GateConfig{
		Policy: p.policy, Fetcher: p.upstream, Store: a.store, Clock: wallClock, Decided: logDecision(a.log),
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
			URL: u.URL, Credentials: upstreamCredentials(u.Credentials), CAFile: u.CA, TokenRealm: u.TokenRealm,
		}
	}
	return upstream.Config{Registries: registries, Options: upstream.Options{
		UserAgent: userAgent(),
		Observe: func(e upstream.Event) {
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

// logDecision writes the decision log: a line for each admission and refusal.
func logDecision(log *slog.Logger) func(context.Context, verify.Decision) {
	return func(ctx context.Context, d verify.Decision) {
		if r := d.Refusal; r != nil {
			log.WarnContext(ctx, "decision", "verdict", "refused", "ref", d.Ref.String(), "reason", r.Reason, "detail", r.Detail)
			return
		}
		a := d.Admission
		log.InfoContext(ctx, "decision", "verdict", "admitted", "ref", d.Ref.String(), "kind", a.Kind, "digest", a.Digest,
			"proof", a.Proof, "tag", a.Tag, "signed", a.Signed, "parent", a.Parent)
	}
}

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
	if s.Driver != driverFilesystem {
		return map[string]any{}
	}
	return map[string]any{"rootdirectory": s.RootDirectory, "maxthreads": s.MaxThreads}
}
