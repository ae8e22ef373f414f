package lab

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
)

// Notary is a real notary server that forgets everything when it stops. Its
// Front speaks TLS for it as "localhost", and counts.
type Notary struct {
	*Front

	lab      *Lab
	programs string // the folder of notary and notary-server
	server   *Process
}

// StartNotary starts the notary server of the folder programs. Built with a Go
// of today, as tools.Dir does, notary-server 0.7.0 takes delegations, but nothing
// that they sign: it looks for "targets/releases" in a name that Go has since cut
// down to "releases". Debian's has that mended.
func (l *Lab) StartNotary(ctx context.Context, programs string) (*Notary, error) {
	backend, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"server":        map[string]string{"http_addr": backend},
		"trust_service": map[string]string{"type": "local", "key_algorithm": "ecdsa"},
		"storage":       map[string]string{"backend": "memory"},
		"logging":       map[string]string{"level": "info"},
	})
	if err != nil {
		return nil, err
	}
	configFile := filepath.Join(l.Dir, "notary-server.json")
	if err := os.WriteFile(configFile, config, 0o600); err != nil {
		return nil, err
	}
	process, err := l.Start("notary-server", exec.Command(filepath.Join(programs, "notary-server"), "-config", configFile))
	if err != nil {
		return nil, err
	}
	backendURL := &url.URL{Scheme: "http", Host: backend}
	if err := process.WaitUntil(ctx, answers(http.DefaultClient, backendURL.String()+"/_notary_server/health")); err != nil {
		return nil, err
	}
	conf, err := l.CA.serverTLS("localhost")
	if err != nil {
		return nil, err
	}
	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	front, err := l.front(address, "localhost", conf, httputil.NewSingleHostReverseProxy(backendURL))
	if err != nil {
		return nil, err
	}
	return &Notary{Front: front, lab: l, programs: programs, server: process}, nil
}

// End stops the server for good: all that it knew is lost.
func (n *Notary) End() {
	n.Stop()
	n.server.Stop()
}
