package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// certificates makes TLS configurations from files and reads them again when
// they change. Files that can't be used are said once and change nothing.
type certificates struct {
	files TLS
	log   *slog.Logger

	mu     sync.Mutex // guards all below
	seen   []stamp    // of the files when they were last read, right or wrong
	config *tls.Config
}

// stamp tells whether a file was changed.
type stamp struct {
	modified time.Time
	size     int64
}

// newCertificates reads the files, which have to be right at start.
func newCertificates(files TLS, log *slog.Logger) (*certificates, error) {
	c := &certificates{files: files, log: log, seen: stamps(files)}
	var err error
	c.config, err = loadTLS(files)
	return c, err
}

// server is the configuration for a listener.
func (c *certificates) server() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current(), nil },
	}
}

func (c *certificates) current() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := stamps(c.files)
	if slices.Equal(now, c.seen) {
		return c.config
	}
	c.seen = now
	config, err := loadTLS(c.files)
	if err != nil {
		c.log.Error("the changed certificate can't be used; the one before stays", "certificate", c.files.Certificate, "error", err)
		return c.config
	}
	c.log.Info("read the certificate again", "certificate", c.files.Certificate)
	c.config = config
	return config
}

func stamps(files TLS) []stamp {
	var all []stamp
	for _, file := range []string{files.Certificate, files.Key, files.ClientCA} {
		var s stamp
		if info, err := os.Stat(file); err == nil {
			s = stamp{info.ModTime(), info.Size()}
		}
		all = append(all, s)
	}
	return all
}

func loadTLS(files TLS) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(files.Certificate, files.Key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", files.Certificate, files.Key, err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, Certificates: []tls.Certificate{pair}}
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
