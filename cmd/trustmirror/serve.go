package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/trustmirror/trustmirror/proxy"
	"github.com/trustmirror/trustmirror/proxy/activity"
	"github.com/trustmirror/trustmirror/proxy/loop"
	"github.com/trustmirror/trustmirror/storage"
)

// serveOptions are serve's flags.
type serveOptions struct {
	config    string
	logFormat outputFormat
	logLevel  slog.LevelVar
	patience  time.Duration // for pulls under way when the mirror is told to end
}

func newServeCommand() *cobra.Command {
	o := &serveOptions{}
	cmd := &cobra.Command{
		Use:   "serve -c FILE",
		Short: "Serve verified images",
		Long: `Serve answers pulls at listen.address, and operators at admin.address: /healthz
while it lives, /readyz while it can serve. It logs to stderr a line for each
request and for each decision.

It reads its configuration again on SIGHUP, and by itself when the file or one
that it names changes: images, pins, upstreams, credentials and certificates come
into force at once, for the requests that begin from then on. A file with a
mistake changes nothing; the log, /readyz and a metric say so. Other addresses and
another storage take a restart.

On SIGTERM or SIGINT it accepts no more connections and lets pulls under way
finish; a second signal ends it at once. Exit status 2 means that the
configuration, an address or the storage can't be used.`,
		Example: `  trustmirror serve -c config.yaml
  docker pull localhost:5000/nicolas/webdis:0.1.19`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), o, cmd.ErrOrStderr())
		},
	}
	configFlag(cmd, &o.config)
	o.logFormat = outputText
	cmd.Flags().Var(&o.logFormat, "log-format", "text or json")
	cmd.Flags().TextVar(&o.logLevel, "log-level", &o.logLevel, "debug, info, warn or error")
	cmd.Flags().DurationVar(&o.patience, "shutdown-timeout", 5*time.Minute, "how long pulls under way may take to finish")
	return cmd
}

func newLogger(w io.Writer, format outputFormat, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == outputJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// serve is the composition root: it builds the mirror, and runs it until it is
// told to end.
func serve(ctx context.Context, o *serveOptions, stderr io.Writer) error {
	c, files, err := readWatched(o.config)
	if err != nil {
		return err
	}
	log := newLogger(stderr, o.logFormat, &o.logLevel)
	quietLogrus(log)
	m := newMirror(o.config, log, o.patience)
	defer m.close()
	if err := m.build(ctx, c); err != nil {
		return err
	}
	m.announceImages(c)
	m.announce()
	return m.run(ctx, files)
}

// mirror is a running trustmirror.
type mirror struct {
	file     string // the configuration
	log      *slog.Logger
	patience time.Duration

	started            *Config // as it was at start: addresses and storage stay so
	store              *storage.Store
	activity           *activity.Recorder
	telemetry          *telemetry
	recording          sync.Mutex // of verify.GateConfig
	clients, operators *http.Server
	clientsAt, adminAt net.Listener
	via                string   // this process's loop.ID
	inUse              *os.File // the lock on a storage folder; nil: there is none

	// Each holds one: there is news of sources, the same for warming, and other parts
	// came into force.
	news, signed, reloaded chan struct{}

	current  current
	reloads  reloads
	retiring sync.WaitGroup // parts that gave way, until they are closed
	ended    chan struct{}  // closed when retired parts are to be closed at once
	ending   atomic.Bool
}

func newMirror(file string, log *slog.Logger, patience time.Duration) *mirror {
	return &mirror{file: file, log: log, patience: patience,
		news: make(chan struct{}, 1), signed: make(chan struct{}, 1), reloaded: make(chan struct{}, 1),
		ended: make(chan struct{}), via: loop.NewID()}
}

// build makes everything and opens the sockets; nothing is served yet. An error
// is a *mistake.
func (m *mirror) build(ctx context.Context, c *Config) error {
	store, err := openStorage(ctx, c)
	if err != nil {
		return err
	}
	m.started, m.store = c, store
	m.evictBy(c.Storage)
	if m.inUse, err = c.shareFolder(); err != nil {
		return err
	}
	if m.telemetry, err = newTelemetry(ctx, m.log); err != nil {
		return err
	}
	if m.activity, err = m.newActivity(c); err != nil {
		return err
	}
	if m.clientsAt, err = listen(ctx, c, "listen.address", c.Listen.Address); err != nil {
		return err
	}
	if m.adminAt, err = listen(ctx, c, "admin.address", c.Admin.Address); err != nil {
		return err
	}
	parts, err := m.prepare(ctx, c)
	if err != nil {
		return err
	}
	m.current.put(parts)
	m.reloads.succeeded(wallClock())
	clientsAt, adminAt := newLimitedListener(m.clientsAt, c.Listen.MaxConnections, &m.current), newLimitedListener(m.adminAt, maxOperators, nil)
	m.clientsAt, m.adminAt = clientsAt, adminAt
	m.clients = proxy.NewServer(c.Listen.Address, &m.current)
	m.clients.ConnState = clientsAt.follow
	m.clients.ErrorLog = slog.NewLogLogger(&serverLog{m.log.Handler()}, slog.LevelWarn)
	if err := m.telemetry.metrics.watch(m.states()); err != nil {
		return err
	}
	page, err := newStatusPage(m.current.get, m.activity, store)
	if err != nil {
		return err
	}
	m.operators = proxy.NewServer(c.Admin.Address, proxy.NewAdmin(proxy.AdminConfig{
		Checks: map[string]proxy.Check{
			"running": m.running,
			"storage": func(ctx context.Context) error { return checkStorage(ctx, store) },
			"trust":   func(ctx context.Context) error { return m.sources().ready(ctx) },
		},
		Expiry:        func() any { return m.expiries() },
		Configuration: func() any { return m.reloads.get() },
		Images:        func() any { return m.sources().images() },
		Metrics:       m.telemetry.metrics.handler(),
		Status:        page,
	}))
	m.operators.ConnState = adminAt.follow
	m.operators.WriteTimeout = operatorTimeout
	m.operators.ErrorLog = m.clients.ErrorLog
	return nil
}

// prepare makes the parts that serve as a configuration says; current brings them
// into force. What is stored of their trust is known then, so nobody has to be
// asked first. An error is a *mistake.
func (m *mirror) prepare(ctx context.Context, c *Config) (*parts, error) {
	p, err := assemble(ctx, assembly{config: c, store: m.store, log: m.log, telemetry: m.telemetry, decided: m.activity.Decided, refresh: true, news: []chan struct{}{m.news, m.signed}, recording: &m.recording, via: m.via})
	if err != nil {
		return nil, err
	}
	if err := m.equip(p, c); err != nil {
		p.close()
		return nil, err
	}
	p.sources.load(ctx, m.log)
	return p, nil
}

// equip makes what only a mirror's parts have.
func (m *mirror) equip(p *parts, c *Config) (err error) {
	if c.Listen.TLS != nil {
		if p.certificates, err = newCertificates(*c.Listen.TLS, m.log); err != nil {
			return c.places.mistake("listen.tls", "listen.tls: %v", err)
		}
	}
	p.handler, err = proxy.New(proxy.Config{
		Gate:            p.gate,
		Registries:      p.policy.Registries(),
		DefaultRegistry: c.DefaultRegistry,
		Htpasswd:        c.Listen.HTPasswd,
		ClientCAs:       p.certificates.clientCAs,
		RateLimit:       c.Listen.rateLimit(),
		MaxRequests:     m.started.Listen.MaxConnections,
		Via:             m.via,
		Decided:         p.decided,
		Pulls:           m.activity,
		Tracing:         proxy.Tracing{Provider: m.telemetry.tracers(), TrustedPeers: c.Telemetry.TrustedPeers},
		Observe:         m.telemetry.counted().request,
		Log:             m.log,
	})
	if err != nil {
		return c.places.mistake("listen", "%v", err)
	}
	return m.keepWarm(p)
}

// sources are those in force.
func (m *mirror) sources() *sources { return m.current.get().sources }

// expiries tells what expires of what is in force.
func (m *mirror) expiries() []trustExpiry {
	p := m.current.get()
	all := p.sources.expiries()
	if p.certificates != nil {
		all = append(all, p.certificates.expiries(wallClock())...)
	}
	return all
}

// listen opens a socket; an error is a *mistake of the field at path.
func listen(ctx context.Context, c *Config, path, address string) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, c.places.mistake(path, "%s: another program uses %s already; end it, or choose another port", path, address)
	case errors.Is(err, syscall.EACCES):
		return nil, c.places.mistake(path, "%s: this user may not listen at %s; choose a port from 1024 on", path, address)
	case err != nil:
		return nil, c.places.mistake(path, "%s: can't listen at %s (%v); choose an address of this machine", path, address, err)
	}
	return l, nil
}

// running is the readiness check that fails once the mirror is told to end.
func (m *mirror) running(context.Context) error {
	if m.ending.Load() {
		return errors.New("the mirror is ending: pulls under way are finished, no new ones are accepted")
	}
	return nil
}

// announceImages says what may be served, and which keys are pinned.
func (m *mirror) announceImages(c *Config) {
	for _, image := range c.Images {
		attrs := []any{"signed", image.Signed, "copies", image.Copies, "grace", image.Grace}
		switch {
		case image.Notary != nil:
			attrs = append(attrs, "notary", image.Notary.URL)
		case image.Archive != nil:
			attrs = append(attrs, "archive", image.Archive.File, "as_of", image.Archive.content.Moment())
		case image.Digests != nil:
			attrs = append(attrs, "digests", image.Digests.Tags)
		}
		if k := image.keys(); k != nil {
			attrs = append(attrs, "root_keys", k.RootKeys, "repository_keys", k.RepositoryKeys, "signers", k.Signers)
		}
		if image.Warm != nil {
			attrs = append(attrs, "warm", image.Warm.Tags)
		}
		m.log.Info("image", attrs...)
	}
}

// announce says where it is served.
func (m *mirror) announce() {
	c := m.started
	m.log.Info("serving", "version", newBuildVersion().Version, "address", m.clientsAt.Addr().String(), "tls", c.Listen.TLS != nil,
		"admin", m.adminAt.Addr().String(), "storage", c.Storage.Driver, "default_registry", c.DefaultRegistry)
}

// run serves until a signal or ctx ends it, and reads the configuration again when
// the files that it rests on change.
func (m *mirror) run(ctx context.Context, files *watched) error {
	signals, hangups := make(chan os.Signal, 2), make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)

	group, failed := errgroup.WithContext(ctx)
	group.Go(func() error { return serveAt(m.clients, m.clientsAt) })
	group.Go(func() error { return serveAt(m.operators, m.adminAt) })
	background, stop := context.WithCancel(failed)
	group.Go(func() error { return m.sweep(background) })
	group.Go(func() error { return m.scrub(background) })
	group.Go(func() error { return m.evict(background) })
	group.Go(func() error { return newExpiryLog(m.expiries, wallClock, m.log).run(background, m.news) })
	group.Go(func() error { return m.watch(background, files, hangups) })
	warming, stopWarming := context.WithCancel(background)
	group.Go(func() error { return m.warm(warming) })
	group.Go(func() error {
		defer stop()
		select {
		case s := <-signals:
			m.log.Info("ending: pulls under way may finish", "signal", s.String(), "timeout", m.patience)
		case <-failed.Done():
		}
		stopWarming() // nobody waits for it
		return m.shutDown(signals)
	})
	if err := group.Wait(); err != nil {
		return &statusError{status: statusRefused, err: err}
	}
	m.log.Info("ended")
	return nil
}

// operatorTimeout is how long an answer at the admin address may take to be read: those
// who don't read would hold pages in memory.
const operatorTimeout = time.Minute

// sweepEvery is how often what dead downloads left in storage is removed.
const sweepEvery = time.Hour

// sweep removes what dead downloads left in storage, until ctx ends.
func (m *mirror) sweep(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(sweepEvery):
			if err := m.store.Sweep(ctx); err != nil {
				m.log.Warn("storage could not be swept; it is tried again", "after", sweepEvery, "error", err)
			}
		}
	}
}

// serveAt serves until the server is shut down.
func serveAt(s *http.Server, l net.Listener) error {
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving at %s: %w", l.Addr(), err)
	}
	return nil
}

// shutDown accepts no more connections and lets pulls under way finish: for
// m.patience, and until a second signal. Operators are served till the end.
func (m *mirror) shutDown(signals <-chan os.Signal) error {
	m.ending.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), m.patience)
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-signals:
			cancel()
		case <-done:
		}
	}()
	err := m.clients.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("pulls under way were cut off: %w", err), m.clients.Close())
	}
	return errors.Join(err, m.operators.Close())
}

// close releases what build has made so far.
func (m *mirror) close() {
	for _, l := range []net.Listener{m.clientsAt, m.adminAt} {
		if l != nil {
			_ = l.Close() // closed already, unless build failed
		}
	}
	close(m.ended)
	m.retiring.Wait()
	if p := m.current.get(); p != nil {
		p.close()
	}
	if m.activity != nil {
		if err := m.activity.Close(); err != nil {
			m.log.Error("the decision log could not be closed", "error", err)
		}
	}
	if m.telemetry != nil {
		m.telemetry.close(m.log)
	}
	m.inUse.Close() // nil too
}
