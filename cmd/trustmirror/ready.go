package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify/notary"
)

// usable is what /readyz says of an image whose trust source has something to
// vouch for.
const usable = "ok"

// images tells of each image whether its trust source has something to vouch for,
// and if not, why: "ok" or a sentence, by signed repository. Of the repositories
// below a pattern those are told of that somebody has pulled from.
func (s *sources) images() map[string]string {
	s.mu.Lock()
	running, fixed := maps.Clone(s.running), slices.Clone(s.fixed)
	s.mu.Unlock()
	images := make(map[string]string)
	for name, src := range running {
		images[name] = standing(src.Status(), s.clock())
	}
	for _, src := range fixed { // they were verified at the start and don't expire
		images[src.origin().Image] = usable
	}
	return images
}

// standing tells whether a service's metadata can be relied on.
func standing(status notary.Status, now time.Time) string {
	var why string
	switch {
	case status.Versions == nil && status.Err == nil:
		return "its trust service wasn't asked yet"
	case status.Versions == nil:
		return status.Err.Error()
	case now.Before(status.Expires):
		return usable
	case status.Err != nil:
		why = fmt.Sprintf(" (%v)", status.Err)
	}
	return fmt.Sprintf("its signed metadata expired: the %s on %s; the trust service has none that is newer%s",
		status.ExpiresRole, status.Expires.UTC().Format(time.RFC3339), why)
}

// ready says why nothing can be served: no image's trust source is usable. One
// that is usable makes the mirror ready, since a mirror that is taken out of
// service for one image would fail all the others; which aren't is in the answer
// and on the status page.
func (s *sources) ready(context.Context) error {
	images := s.images()
	var reasons []string
	for _, name := range slices.Sorted(maps.Keys(images)) {
		if images[name] == usable {
			return nil
		}
		reasons = append(reasons, name+": "+images[name])
	}
	if len(reasons) == 0 { // patterns only: nothing to ask before somebody pulls
		return nil
	}
	return fmt.Errorf("nothing is known to be signed: %s", strings.Join(reasons, "; "))
}

// checkStorage says why storage can't be used: nothing new could be verified then.
func checkStorage(ctx context.Context, store *storage.Store) error {
	if err := store.Writable(ctx); err != nil {
		return fmt.Errorf("storage can't be written: %w", err)
	}
	return nil
}
