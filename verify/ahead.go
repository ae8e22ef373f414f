package verify

import (
	"context"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/trustmirror/trustmirror/storage"
)

const (
	// blobsAhead is how many blobs are fetched at once before anybody asks for them.
	blobsAhead = 4
	// maxSeen bounds how many manifests are remembered for which that was done.
	maxSeen = 4096
	// manifestsAhead is how many manifests may wait for that; what clients ask for
	// themselves never does.
	manifestsAhead = 64
)

// ahead fetches what clients will ask for next.
type ahead struct {
	seen      *lru.Cache[Ref, struct{}]
	manifests chan struct{}
	blobs     chan struct{}
}

func newAhead() (*ahead, error) {
	seen, err := lru.New[Ref, struct{}](maxSeen)
	return &ahead{seen, make(chan struct{}, manifestsAhead), make(chan struct{}, blobsAhead)}, err
}

// fetchAhead brings the config and the layers of a manifest that is served for the
// first time into storage, in the way they would be if clients asked for them (S1
// to S4): who does ask shares the work. Nothing comes of what can't be had or verified; those
// who ask are told. It returns at once.
func (g *Gate) fetchAhead(image *Image, repo Ref, manifest storage.Admission) {
	if g.ahead == nil || manifest.Kind != storage.KindManifest {
		return
	}
	if seen, _ := g.ahead.seen.ContainsOrAdd(repo, struct{}{}); seen {
		return
	}
	select {
	case g.ahead.manifests <- struct{}{}:
	default:
		return
	}
	if g.begin() != nil {
		<-g.ahead.manifests
		return
	}
	go func() {
		defer g.working.Done()
		defer func() { <-g.ahead.manifests }()
		doc, err := g.storedDocument(g.ctx, manifest.Digest)
		if err != nil {
			return
		}
		var blobs sync.WaitGroup
		for _, d := range append([]descriptor{doc.config}, doc.layers...) {
			select {
			case g.ahead.blobs <- struct{}{}:
			case <-g.ctx.Done():
			}
			if g.ctx.Err() != nil {
				break
			}
			blobs.Go(func() {
				defer func() { <-g.ahead.blobs }()
				g.fetchBlobAhead(g.ctx, image, repo.WithDigest(d.digest))
			})
		}
		blobs.Wait()
	}()
}

func (g *Gate) fetchBlobAhead(ctx context.Context, image *Image, ref Ref) {
	admission, _, err := g.admission(ctx, image, ref, false)
	if err != nil {
		return
	}
	if content, _, err := g.content(ctx, image, ref, admission); err == nil {
		_ = content.Close()
	}
}
