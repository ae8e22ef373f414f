// Package node starts real container runtimes and clients on machines of their own,
// where `trustmirror client` tells them where to pull from.
package node

import (
	"context"

	"github.com/opencontainers/go-digest"
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
