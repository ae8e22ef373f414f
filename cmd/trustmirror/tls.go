package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// kindCertificate is what expiries call the certificates that clients are shown.
const kindCertificate = "certificate"

// certificates makes TLS configurations from files and reads them again when
// they change. Files that can't be used are said once and change nothing.
type certificates struct {
	files TLS
	log   *slog.Logger

	mu     sync.Mutex // guards all below
	seen   []stamp    // of the files when they were last read, right or wrong
	config *tls.Config
}

// newCertificates reads the files, which have to be right at start.
func newCertificates(files TLS, log *slog.Logger) (*certificates, error) {
	c := &certificates{files: files, log: log, seen: stampsOf(files.all())}
	var err error
	c.config, err = loadTLS(files)
	return c, err
}

// server is the configuration for a connection.
func (c *certificates) server() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current(), nil },
	}
}

// clientCAs are those that clients' certificates have to be from; nil: clients
// need none. A nil c is plain http.
func (c *certificates) clientCAs() *x509.CertPool {
	if c == nil {
		return nil
	}
	return c.current().ClientCAs
}

func (c *certificates) current() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := stampsOf(c.files.all())
	if sameStamps(now, c.seen) {
		return c.config
	}
	c.seen = now
	config, err := loadTLS(c.files)
	if err != nil {
		c.log.Error("the changed certificate can't be used; the one before stays", "error", err)
		return c.config
	}
	c.log.Info("read the certificates again", "files", c.files.all())
	c.config = config
	return config
}

// expiries tells when the certificates expire.
func (c *certificates) expiries(now time.Time) []trustExpiry {
	var all []trustExpiry
	for i, pair := range c.current().Certificates {
		left := pair.Leaf.NotAfter.Sub(now)
		all = append(all, trustExpiry{Source: kindCertificate, File: c.files.Certificates[i].Certificate, Roles: []roleExpiry{{
			Role: kindCertificate, Expires: pair.Leaf.NotAfter.UTC(), Left: int64(left / time.Second), Warning: left <= warnBefore,
		}}})
	}
	return all
}

// tellOfCertificate tells of a certificate of the mirror's own.
func (l *expiryLog) tellOfCertificate(e trustExpiry) {
	r := e.Roles[0]
	attrs := []any{"file", e.File, "expires", r.Expires, "left", (time.Duration(r.Left) * time.Second).String()}
	switch {
	case r.Left <= 0:
		l.log.Warn("the certificate that clients are shown has expired, and they refuse it; put a new one in its place", attrs...)
	case r.Warning:
		l.log.Warn("the certificate that clients are shown expires soon; put a new one in its place", attrs...)
	default:
		l.log.Info("the certificate that clients are shown is in date", attrs...)
	}
}

// all are the files that TLS rests on.
func (t TLS) all() []string {
	files := []string{t.ClientCA}
	for _, p := range t.Certificates {
		files = append(files, p.Certificate, p.Key)
	}
	return files
}

// load reads the certificate and its key, and insists that it is in date: every
// client refuses any other.
func (p KeyPair) load() (tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(p.Certificate, p.Key)
	if err != nil {
		return pair, fmt.Errorf("%s and %s can't be used (%w); name a certificate in PEM form and the private key that belongs to it", p.Certificate, p.Key, err)
	}
	switch now := wallClock(); {
	case now.After(pair.Leaf.NotAfter):
		return pair, fmt.Errorf("%s expired on %s, so clients refuse it; put a new certificate in its place", p.Certificate, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(pair.Leaf.NotBefore):
		return pair, fmt.Errorf("%s isn't valid before %s, so clients refuse it; put one that is in its place, or set this machine's clock", p.Certificate, pair.Leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return pair, nil
}

// loadTLS reads all files. Of several certificates crypto/tls takes the first that
// has the name which the client asks for, else the first of all.
func loadTLS(files TLS) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	for _, p := range files.Certificates {
		pair, err := p.load()
		if err != nil {
			return nil, err
		}
		config.Certificates = append(config.Certificates, pair)
	}
	if files.ClientCA == "" {
		return config, nil
	}
	text, err := readFile(files.ClientCA)
	if err != nil {
		return nil, err
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", files.ClientCA)
	}
	return config, nil
}

// serverLog takes what net/http logs of connections. Of clients that could not
// connect by TLS it tells who and why; all else is for debugging.
type serverLog struct{ slog.Handler }

// Handle implements slog.Handler.
func (l *serverLog) Handle(ctx context.Context, r slog.Record) error {
	rest, failed := strings.CutPrefix(r.Message, "http: TLS handshake error from ")
	client, why, _ := strings.Cut(rest, ": ")
	advice := handshakeAdvice(why)
	if !failed || advice == "" {
		if !l.Enabled(ctx, slog.LevelDebug) {
			return nil
		}
		return l.Handler.Handle(ctx, slog.NewRecord(r.Time, slog.LevelDebug, r.Message, r.PC))
	}
	told := slog.NewRecord(r.Time, slog.LevelWarn, "a client could not connect", r.PC)
	told.AddAttrs(slog.String("client", client), slog.String("error", why), slog.String("advice", advice))
	return l.Handler.Handle(ctx, told)
}

// handshakeAdvice says what to do about a handshake that failed, "" where a client
// only went away. It helps whoever reads the log, and decides nothing.
func handshakeAdvice(why string) string {
	switch {
	case strings.Contains(why, "didn't provide a certificate"):
		return "the client has to have a certificate from listen.tls.client_ca; give it one"
	case strings.Contains(why, "failed to verify certificate"):
		return "the client's certificate is not from listen.tls.client_ca, or not in date; give it another"
	case strings.HasPrefix(why, "remote error: tls: "):
		return "the client refuses this mirror's certificate; give it the CA, or the mirror a certificate for the name that the client asks for, in date"
	case strings.HasPrefix(why, "tls: "):
		return "the client can't speak this TLS; it takes version 1.2 or later"
	}
	return ""
}
