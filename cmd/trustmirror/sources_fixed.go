package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
)

// The kinds of trust sources.
const (
	kindNotary  = "notary"
	kindArchive = "archive"
	kindDigests = "digests"
)

// described is a trust source that says where it has its answers from.
type described interface {
	verify.Source
	origin() origin
}

// origin says where a trust source has its answers from.
type origin struct {
	Kind   string
	Image  string    // the signed repository
	From   string    // the service's URL, or a file; empty: the configuration itself
	GUN    string    // empty for digests
	Keys   *Keys     // that metadata are held to; nil for digests
	Moment time.Time // as of which an archive is judged; else zero
}

// documented is a trust source that rests on Notary's metadata.
type documented interface {
	described
	Metadata(ctx context.Context) (*notary.Metadata, error)
}

var _, _ documented = (*source)(nil), (*archiveSource)(nil)

func (s *source) origin() origin {
	return origin{Kind: kindNotary, Image: s.repo, From: s.notary.URL, GUN: s.Status().GUN, Keys: &s.notary.Keys}
}

// archiveSource is the source of an image that rests on an archive.
type archiveSource struct {
	*notary.ArchiveSource
	image Image
}

func (s *archiveSource) origin() origin {
	return origin{
		Kind: kindArchive, Image: s.image.Signed, From: s.image.Archive.File, GUN: s.GUN(),
		Keys: &s.image.Archive.Keys, Moment: s.Archive().Moment(),
	}
}

// digestSource is the source of an image whose digests are pinned by hand.
type digestSource struct {
	*verify.DigestSource
	image Image
}

func (s *digestSource) origin() origin {
	return origin{Kind: kindDigests, Image: s.image.Signed, From: s.image.Digests.File}
}

// archive makes the source of an image that rests on an archive, and compares it
// with what was accepted before.
func (s *sources) archive(ctx context.Context, image Image) (described, error) {
	made, err := notary.NewArchiveSource(ctx, notary.ArchiveConfig{
		Archive: image.Archive.content, GUN: image.gun(), Pins: image.Archive.pins(), RoleOrder: image.RoleOrder,
		Store: s.seen, Clock: s.clock,
	})
	if err != nil {
		return nil, err
	}
	return &archiveSource{ArchiveSource: made, image: image}, nil
}

// seenBefore is what the mirror with this configuration accepted, to be looked at
// by commands that keep what they accept to themselves, in own.
func seenBefore(ctx context.Context, c *Config, own storage.Trust) (notary.Store, error) {
	switch c.Storage.Driver {
	case driverInmemory:
		return own, nil
	case driverFilesystem:
		if _, err := os.Stat(c.Storage.RootDirectory); err != nil {
			return own, nil //nolint:nilerr // nothing was accepted there yet
		}
	}
	driver, err := storage.NewDriver(ctx, c.Storage.Driver, c.Storage.parameters())
	if err != nil {
		return nil, c.places.mistake("storage."+c.Storage.Driver, "%v", err)
	}
	return &seen{Trust: own, before: storage.New(driver).Trust()}, nil
}

// seen is a trust state that is read as it is, and written elsewhere.
type seen struct {
	storage.Trust
	before storage.Trust
}

// List implements notary.Store.
func (s *seen) List(ctx context.Context, gun string) ([]string, error) {
	before, err := s.before.List(ctx, gun)
	if err != nil {
		return nil, err
	}
	own, err := s.Trust.List(ctx, gun)
	all := slices.Concat(before, own)
	slices.Sort(all)
	return slices.Compact(all), err
}

// Get implements notary.Store.
func (s *seen) Get(ctx context.Context, gun, name string) ([]byte, error) {
	raw, err := s.Trust.Get(ctx, gun, name)
	if errors.Is(err, storage.ErrNotFound) {
		return s.before.Get(ctx, gun, name)
	}
	return raw, err
}

func digestsOf(image Image) (described, error) {
	made, err := verify.NewDigestSource(image.Signed, image.Digests.Tags)
	if err != nil {
		return nil, err
	}
	return &digestSource{DigestSource: made, image: image}, nil
}

// fix remembers a source that is the only one of its rule.
func (s *sources) fix(made described, err error) (func(verify.Ref) (verify.Source, error), error) {
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fixed = append(s.fixed, made)
	return func(verify.Ref) (verify.Source, error) { return made, nil }, nil
}

// trustKind is the name of the image's trust source in the configuration.
func (i Image) trustKind() string {
	switch {
	case i.Archive != nil:
		return kindArchive
	case i.Digests != nil:
		return kindDigests
	}
	return kindNotary
}
