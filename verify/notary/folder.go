package notary

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/trustmirror/trustmirror/verify"
)

// folderFetcher serves the metadata that Docker's client keeps.
type folderFetcher struct{ folder fs.FS }

// NewFolder makes a Fetcher over a folder such as Docker's client leaves at
// ~/.docker/trust/tuf/<gun>/metadata: root.json, timestamp.json, snapshot.json,
// targets.json, targets/releases.json … It has the newest version of each only.
func NewFolder(folder fs.FS) Fetcher { return folderFetcher{folder} }

// Fetch implements Fetcher.
func (f folderFetcher) Fetch(_ context.Context, _, name string, limit int64) ([]byte, error) {
	if strings.HasSuffix(name, "."+roleRoot) {
		return nil, &verify.NotFoundError{Detail: "a folder of Docker's client holds the newest root only"}
	}
	role, _, _ := strings.Cut(name, ".") // without the hash; roles have no "."
	file := role + ".json"
	raw, err := readBounded(f.folder, file, limit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, verify.Unavailable(verify.TrustUnavailable, "the folder has no %s, so the metadata in it aren't complete; "+
			"while the trust service answers, `docker trust inspect` completes them", file)
	case err != nil:
		return nil, verify.Unavailable(verify.TrustUnavailable, "%s can't be read: %w", file, err)
	case int64(len(raw)) > limit:
		return nil, verify.Refuse(verify.Malformed, "%s has more than the %d bytes that it may have", file, limit)
	}
	return raw, nil
}

// readBounded reads a file, and of a longer one limit+1 bytes.
func readBounded(folder fs.FS, file string, limit int64) ([]byte, error) {
	opened, err := folder.Open(file)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	if info, err := opened.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", file)
	}
	return io.ReadAll(io.LimitReader(opened, limit+1))
}

// storedFetcher serves what a Source accepted last.
type storedFetcher struct {
	history *history
	repo    *repository
}

// NewStored makes a Fetcher over the state that a Source, or an ArchiveSource,
// keeps in a Store: what was accepted last, and those of the roots before that
// were accepted. Errors: *verify.NotFoundError if there is nothing,
// *verify.Refusal if what there is must not be trusted under the pins,
// *verify.UnavailableError.
func NewStored(ctx context.Context, store Store, gun string, pins Pins) (Fetcher, error) {
	h, err := readHistory(ctx, store, gun)
	if err != nil {
		return nil, err
	}
	repo, _, err := h.load(ctx, &pins)
	switch {
	case err != nil:
		return nil, err
	case repo == nil && h.empty():
		return nil, &verify.NotFoundError{Detail: "nothing of " + gun + " was ever verified with this storage"}
	case repo == nil:
		return nil, verify.Unavailable(verify.StorageUnavailable, "the trust state of %s is damaged", gun)
	}
	return storedFetcher{h, repo}, nil
}

// Fetch implements Fetcher.
func (f storedFetcher) Fetch(ctx context.Context, _, name string, limit int64) ([]byte, error) {
	if strings.HasSuffix(name, "."+roleRoot) {
		return f.root(ctx, name)
	}
	role, _, _ := strings.Cut(name, ".")
	for _, d := range f.repo.documents() {
		if d.role == role && int64(len(d.raw)) <= limit {
			return d.raw, nil
		}
	}
	return nil, &verify.NotFoundError{Detail: "the trust state has no " + name}
}

// root gets a version of root.
func (f storedFetcher) root(ctx context.Context, name string) ([]byte, error) {
	for _, file := range f.history.files[roleRoot] {
		if fmt.Sprintf("%d.%s", file.number, roleRoot) != name {
			continue
		}
		if raw, err := f.history.get(ctx, file); err != nil || raw != nil {
			return raw, err
		}
	}
	return nil, &verify.NotFoundError{Detail: "that version was never the newest while this mirror looked"}
}

// Seen tells the newest version of each role that was accepted of a GUN; none if
// nothing was. The error is a *verify.UnavailableError.
func Seen(ctx context.Context, store Store, gun string) (map[string]int64, error) {
	h, err := readHistory(ctx, store, gun)
	if err != nil {
		return nil, err
	}
	seen := make(map[string]int64)
	for role, files := range h.files {
		seen[role] = files[0].number // newest first
	}
	return seen, nil
}
