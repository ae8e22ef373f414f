package storage

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/opencontainers/go-digest"
)

// BindTag records which of a copy's documents was found to be the tag's while
// signed was signed for it. A later binding replaces it.
func (s *Store) BindTag(ctx context.Context, repository, tag string, signed, d digest.Digest) error {
	path, err := tagPath(repository, tag, signed)
	if err != nil {
		return err
	}
	defer s.memory.tags.forget(boundTag{repository, tag, signed})
	return s.putDigest(ctx, path, d)
}

// BoundTag returns what BindTag recorded, or ErrNotFound. A store that remembers may
// be recordsFor behind of what others do.
func (s *Store) BoundTag(ctx context.Context, repository, tag string, signed digest.Digest) (digest.Digest, error) {
	key := boundTag{repository, tag, signed}
	d, began, ok := s.memory.tags.get(key)
	if ok {
		return d, nil
	}
	path, err := tagPath(repository, tag, signed)
	if err != nil {
		return "", err
	}
	if d, err = s.getDigest(ctx, path); err != nil {
		if errors.Is(err, ErrNotFound) {
			s.memory.tags.drop(key)
		}
		return "", err
	}
	s.memory.tags.put(key, d, len(repository)+len(tag), began)
	return d, nil
}

// UnbindTag forgets a binding. One that isn't there needs nothing.
func (s *Store) UnbindTag(ctx context.Context, repository, tag string, signed digest.Digest) error {
	path, err := tagPath(repository, tag, signed)
	if err != nil {
		return err
	}
	defer s.memory.tags.forget(boundTag{repository, tag, signed})
	if err := driverError(s.driver.Delete(ctx, path)); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}

func tagPath(repository, tag string, signed digest.Digest) (string, error) {
	if err := checkDigest(signed); err != nil {
		return "", err
	}
	return path.Join(tagFolder, encodeName(repository), encodeName(tag), digestName(signed)), nil
}

func (s *Store) putDigest(ctx context.Context, path string, d digest.Digest) error {
	if err := checkDigest(d); err != nil {
		return err
	}
	return s.putRecord(ctx, path, []byte(d))
}

// getDigest reads what putDigest wrote. A record that can't be read is as good
// as none: the tag is asked for again.
func (s *Store) getDigest(ctx context.Context, path string) (digest.Digest, error) {
	body, err := s.getRecord(ctx, path)
	if errors.Is(err, errUnreadable) {
		return "", fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if err != nil {
		return "", err
	}
	d := digest.Digest(body)
	if err := checkDigest(d); err != nil {
		return "", fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return d, nil
}
