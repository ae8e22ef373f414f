package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/opencontainers/go-digest"
)

// ScrubParts is how many parts content is scrubbed in: its folders, "00" to "ff".
const ScrubParts = 256

// Scrubbed is what scrubbing found.
type Scrubbed struct {
	Objects int   // that hash to their digests
	Bytes   int64 // of them
	Corrupt []*CorruptError
	Failed  []error // what can't be told, since it couldn't be read: one for each object
}

// Scrub hashes what is stored in one part, from 0 up, reading at most so many
// bytes a second; 0 means as fast as it goes. What is corrupt is quarantined, and
// what others store or remove meanwhile does no harm. Errors: the driver's, if it
// doesn't tell what there is; ctx's.
func (s *Store) Scrub(ctx context.Context, part int, bytesPerSecond int64) (Scrubbed, error) {
	var found Scrubbed
	for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		folder := path.Join(contentFolder, algorithm.String(), fmt.Sprintf("%02x", part))
		files, err := s.list(ctx, folder)
		if err != nil {
			return found, fmt.Errorf("scrubbing storage: %w", err)
		}
		for _, file := range files {
			d := digest.NewDigestFromEncoded(algorithm, path.Base(file))
			if checkDigest(d) != nil { // somebody else put it there
				continue
			}
			s.scrub(ctx, d, bytesPerSecond, &found)
			if ctx.Err() != nil {
				return found, ctx.Err()
			}
		}
	}
	return found, nil
}

func (s *Store) scrub(ctx context.Context, d digest.Digest, bytesPerSecond int64, found *Scrubbed) {
	got, n, err := s.hash(ctx, d, bytesPerSecond)
	if err == nil && got != d { // it may have been replaced while it was read
		got, n, err = s.hash(ctx, d, 0)
	}
	switch {
	case errors.Is(err, ErrNotFound): // it was removed, or is a link
	case err != nil:
		found.Failed = append(found.Failed, fmt.Errorf("%s can't be read: %w", d, err))
	case got != d:
		found.Corrupt = append(found.Corrupt, &CorruptError{Digest: d, Got: got, Err: s.Quarantine(ctx, d)})
	default:
		found.Objects++
		found.Bytes += n
	}
}

// hash reads a stored object.
func (s *Store) hash(ctx context.Context, d digest.Digest, bytesPerSecond int64) (got digest.Digest, n int64, err error) {
	c, err := s.openToEnd(ctx, d, s.open) // which is no use of it
	if err != nil {
		return "", 0, err
	}
	defer c.Close()
	digester := d.Algorithm().Digester()
	n, err = io.Copy(digester.Hash(), &pacedReader{ctx: ctx, r: c, bytesPerSecond: bytesPerSecond})
	return digester.Digest(), n, err
}

// pacedReader delivers at most so many bytes a second, until ctx ends.
type pacedReader struct {
	ctx            context.Context
	r              io.Reader
	bytesPerSecond int64     // 0: no bound
	due            time.Time // when what was read so far may have been read
}

func (p *pacedReader) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := p.r.Read(b)
	if p.bytesPerSecond > 0 {
		if now := time.Now(); p.due.Before(now) {
			p.due = now
		}
		p.due = p.due.Add(time.Duration(float64(n) / float64(p.bytesPerSecond) * float64(time.Second)))
		sleep(p.ctx, time.Until(p.due))
	}
	return n, err
}

// sleep returns after a while, or when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
