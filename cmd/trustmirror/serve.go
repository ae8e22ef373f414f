package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/trustmirror/trustmirror/proxy"
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
	c, err := readConfig(o.config)
	if err != nil {
		return err
	}
	log := newLogger(stderr, o.logFormat, &o.logLevel)
	m := &mirror{log: log, patience: o.patience}
	defer m.close()
	if err := m.build(ctx, c); err != nil {
		return err
	}
	m.announce(c)
	return m.run(ctx)
}

// mirror is a running trustmirror.
type mirror struct {
	log      *slog.Logger
	patience time.Duration

	store              *storage.Store
	parts              *parts
	clients, operators *http.Server
	clientsAt, adminAt net.Listener
	ending             atomic.Bool
}

// build makes everything and opens the sockets; nothing is served yet. An error
// is a *mistake.
func (m *mirror) build(ctx context.Context, c *Config) error {
	store, err := openStorage(ctx, c)
	if err != nil {
		return err
	}
	m.store = store
	var tlsConfig *tls.Config
	if c.Listen.TLS != nil {
		certificates, err := newCertificates(*c.Listen.TLS, m.log)
		if err != nil {
			return c.places.mistake("listen.tls", "%v; name a certificate in PEM form and the private key that belongs to it", err)
		}
		tlsConfig = certificates.server()
	}
	if m.clientsAt, err = listen(ctx, c, "listen.address", c.Listen.Address); err != nil {
		return err
	}
	if m.adminAt, err = listen(ctx, c, "admin.address", c.Admin.Address); err != nil {
		return err
	}
	if tlsConfig != nil {
		m.clientsAt = tls.NewListener(m.clientsAt, tlsConfig)
	}
	if m.parts, err = assemble(ctx, assembly{config: c, store: store, log: m.log, refresh: true}); err != nil {
		return err
	}
	handler, err := proxy.New(proxy.Config{
		Gate:            m.parts.gate,
		Registries:      m.parts.policy.Registries(),
		DefaultRegistry: c.DefaultRegistry,
		Htpasswd:        c.Listen.HTPasswd,
		Log:             m.log,
	})
	if err != nil {
		return c.places.mistake("listen", "%v", err)
	}
	m.clients = proxy.NewServer(c.Listen.Address, handler)
	m.clients.ErrorLog = slog.NewLogLogger(m.log.Handler(), slog.LevelDebug)
	metrics, err := metricsHandler(newExpiryMetrics(m.parts.sources.expiries))
	if err != nil {
		return err
	}
	m.operators = proxy.NewServer(c.Admin.Address, proxy.NewAdmin(proxy.AdminConfig{
		Checks: map[string]proxy.Check{
			"running": m.running,
			"storage": func(ctx context.Context) error { return checkStorage(ctx, store) },
			"trust":   m.parts.sources.ready,
		},
		Expiry:  func() any { return m.parts.sources.expiries() },
		Metrics: metrics,
	}))
	m.operators.ErrorLog = m.clients.ErrorLog
	return nil
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

func checkStorage(ctx context.Context, store *storage.Store) error {
	if _, err := store.Trust().List(ctx, "readiness"); err != nil {
		return fmt.Errorf("storage can't be read: %w", err)
	}
	return nil
}

// announce says what is served, where, and which keys are pinned.
func (m *mirror) announce(c *Config) {
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
		m.log.Info("image", attrs...)
	}
	m.log.Info("serving", "version", newBuildVersion().Version, "address", m.clientsAt.Addr().String(), "tls", c.Listen.TLS != nil,
		"admin", m.adminAt.Addr().String(), "storage", c.Storage.Driver, "default_registry", c.DefaultRegistry)
}

// run serves until a signal or ctx ends it.
func (m *mirror) run(ctx context.Context) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)

	group, failed := errgroup.WithContext(ctx)
	group.Go(func() error { return serveAt(m.clients, m.clientsAt) })
	group.Go(func() error { return serveAt(m.operators, m.adminAt) })
	background, stop := context.WithCancel(failed)
	group.Go(func() error { return m.sweep(background) })
	group.Go(func() error { return newExpiryLog(m.parts.sources, m.log).run(background) })
	group.Go(func() error {
		defer stop()
		select {
		case s := <-signals:
			m.log.Info("ending: pulls under way may finish", "signal", s.String(), "timeout", m.patience)
		case <-failed.Done():
		}
		return m.shutDown(signals)
	})
	if err := group.Wait(); err != nil {
		return &statusError{status: statusRefused, err: err}
	}
	m.log.Info("ended")
	return nil
}

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
	if m.parts != nil {
		m.parts.close()
	}
}

// sortedKeys are a map's keys in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
