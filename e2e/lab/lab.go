// Package lab starts the real things that trustmirror stands between: registries
// (distribution's own handlers) for Docker Hub and Amazon ECR, a notary server,
// the notary client that a publisher signs with, and trustmirror itself, built
// from this tree and run as a process.
//
// Everything listens on loopback only, keys and passphrases are made at run
// time, and what was started is ended by Close.
package lab

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
)

// Lab owns the folder and the processes of one run.
type Lab struct {
	// Dir holds everything the lab writes: logs, keys, registries' contents.
	Dir string
	// CA signs the certificates of registries and of the notary server. It stands for
	// the authorities that every machine trusts.
	CA *CA
	// MirrorCA signs those of mirrors. Nobody trusts it who isn't told to.
	MirrorCA *CA

	mu    sync.Mutex // guards stops
	stops []func()   // what Close calls, last first
}

// New makes a lab in a new temporary folder.
func New() (*Lab, error) {
	dir, err := os.MkdirTemp("", "tm-lab-") // short: sockets' paths are, and podman insists
	if err != nil {
		return nil, err
	}
	ca, err := newCA(filepath.Join(dir, "tls"))
	mirrorCA, mirrorErr := newCA(filepath.Join(dir, "tls-mirror"))
	if err := errors.Join(err, mirrorErr); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &Lab{Dir: dir, CA: ca, MirrorCA: mirrorCA}, nil
}

// Close ends what the lab started. The folder stays, for its logs: see Remove.
func (l *Lab) Close() {
	l.mu.Lock()
	stops := l.stops
	l.stops = nil
	l.mu.Unlock()
	for i := len(stops) - 1; i >= 0; i-- {
		stops[i]()
	}
}

// Remove closes the lab and deletes its folder.
func (l *Lab) Remove() error {
	l.Close()
	return os.RemoveAll(l.Dir)
}

func (l *Lab) onClose(stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stops = append(l.stops, stop)
}

// folder makes a new folder in the lab's, named after name.
func (l *Lab) folder(name string) (string, error) {
	return os.MkdirTemp(l.Dir, name+"-")
}

// FreeAddress returns a loopback address that nobody listens on now.
func FreeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// passphrase makes one, good for the notary client's key store.
func passphrase() string {
	return fmt.Sprintf("passphrase-%s", rand.Text())
}
