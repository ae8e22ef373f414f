package storage

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Trust keeps the state of trust sources: named documents for each GUN, stored
// as they are. Names may be any strings.
type Trust struct{ store *Store }

// Trust returns the part of the store that belongs to trust sources.
func (s *Store) Trust() Trust { return Trust{store: s} }

// List returns the names of a GUN's documents, sorted; none is no error.
func (t Trust) List(ctx context.Context, gun string) ([]string, error) {
	folder := trustPath(gun)
	names, err := t.list(ctx, folder, folder)
	if err != nil {
		return nil, fmt.Errorf("trust state of %s: %w", gun, err)
	}
	if len(names) == 0 {
		if err := t.store.deniesWhatIsNot(ctx, folder); err != nil {
			return nil, fmt.Errorf("trust state of %s: %w", gun, err)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (t Trust) list(ctx context.Context, top, folder string) ([]string, error) {
	paths, err := t.store.list(ctx, folder)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range paths {
		if strings.HasSuffix(p, "_") && path.Base(p) != "_" { // a long name goes on below
			below, err := t.list(ctx, top, p)
			if err != nil {
				return nil, err
			}
			names = append(names, below...)
			continue
		}
		// Files that somebody else put there are none of ours.
		if name, err := decodeName(strings.TrimPrefix(p, top+"/")); err == nil {
			names = append(names, name)
		}
	}
	return names, nil
}

// Get returns a document, or ErrNotFound. What is too large for one is returned empty:
// whoever hashes it finds it damaged.
func (t Trust) Get(ctx context.Context, gun, name string) ([]byte, error) {
	raw, err := t.store.driver.GetContent(ctx, trustPath(gun, name))
	if err = driverError(err); errors.Is(err, errUnreadable) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("trust state %s of %s: %w", name, gun, err)
	}
	return raw, nil
}

// Put stores a document, or replaces it, whole or not at all.
func (t Trust) Put(ctx context.Context, gun, name string, raw []byte) error {
	if gun == "" || name == "" {
		return errors.New("trust state needs a GUN and a name")
	}
	if err := driverError(t.store.driver.PutContent(ctx, trustPath(gun, name), raw)); err != nil {
		return fmt.Errorf("trust state %s of %s: %w", name, gun, err)
	}
	return nil
}

// Remove removes a document; one that isn't there is no error.
func (t Trust) Remove(ctx context.Context, gun, name string) error {
	if gun == "" || name == "" {
		return errors.New("trust state needs a GUN and a name")
	}
	return t.remove(ctx, trustPath(gun, name), gun+" "+name)
}

// Delete removes all of a GUN's documents; none is no error. If it fails, some may
// be left; it can be repeated.
func (t Trust) Delete(ctx context.Context, gun string) error {
	if gun == "" {
		return errors.New("trust state needs a GUN")
	}
	return t.remove(ctx, trustPath(gun), gun)
}

func (t Trust) remove(ctx context.Context, at, what string) error {
	err := driverError(t.store.driver.Delete(ctx, at))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("trust state of %s: %w", what, err)
	}
	return nil
}

func trustPath(names ...string) string {
	encoded := []string{trustFolder}
	for _, name := range names {
		encoded = append(encoded, encodeName(name))
	}
	return path.Join(encoded...)
}
