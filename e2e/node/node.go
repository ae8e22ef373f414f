// Package node starts real container runtimes and clients, each configured to
// pull through trustmirror and, where it refuses, from nowhere else.
package node

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// Node is a machine's way to images. Images are named in full:
// "docker.io/nicolas/webdis:0.1.19".
type Node interface {
	// Pull pulls an image of the machine's own platform.
	Pull(ctx context.Context, image string) error
	// ImageID is the digest of the config of an image that was pulled.
	ImageID(ctx context.Context, image string) (digest.Digest, error)
	// Images lists whatever images the node has.
	Images(ctx context.Context) ([]string, error)
	// Clear removes all of them, so that the next pull fetches everything.
	Clear(ctx context.Context) error
}

// Site is what a node has to know about where it is.
type Site struct {
	Lab *lab.Lab
	// Mirror is the host name under which trustmirror serves https.
	Mirror string
	// Hosts is a hosts file that leads the registries' own names to trustmirror.
	Hosts string
}

// trustCA makes a Go program trust the lab's CA.
func (s Site) trustCA() string { return "SSL_CERT_FILE=" + s.Lab.CA.Path }
