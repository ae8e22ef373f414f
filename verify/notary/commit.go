package notary

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/internal/strictjson"
)

// commit says which stored files were accepted together, and when. It is written
// last, so after a crash there is a commit whose files are all there. It vouches
// for nothing: what it names is verified again when it is read.
type commit struct {
	At    time.Time         `json:"at"`
	Files map[string]string `json:"files"` // names of documents by role
}

// keepSuperseded is how long a target is remembered that ceased to be signed.
const keepSuperseded = 24 * time.Hour

// maxReplayed bounds how many commits are read to find out what ceased to be
// signed lately.
const maxReplayed = 64

// save stores a repository's files, and then the commit that names them. Files
// that are there and whole aren't written again. The error is an
// UnavailableError with StorageUnavailable.
func (h *history) save(ctx context.Context, repo *repository, at time.Time) error {
	c := commit{At: at.UTC(), Files: make(map[string]string)}
	docs := repo.documents()
	for i := range docs {
		d := docs[len(docs)-1-i] // children first, in case that matters to who looks on
		f := storedFile{name: fileName(folder(d.role), d.version, d.sum), number: d.version, sum: d.sum}
		c.Files[d.role] = f.name
		if err := h.put(ctx, d.role, f, d.raw); err != nil {
			return err
		}
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("commit of %s: %w", h.gun, err)
	}
	number := int64(1)
	if len(h.commits) > 0 {
		number = h.commits[0].number + 1
	}
	sum := sha256Hex(raw)
	f := storedFile{name: fileName(folderCommits, number, sum), number: number, sum: sum}
	if err := h.write(ctx, f, raw); err != nil {
		return err
	}
	h.commits = append([]storedFile{f}, h.commits...)
	h.prune(ctx, repo)
	return nil
}

// put stores a file unless it is there and whole.
func (h *history) put(ctx context.Context, role string, f storedFile, raw []byte) error {
	for _, known := range h.files[role] {
		if known.name != f.name {
			continue
		}
		if stored, err := h.get(ctx, known); err == nil && stored != nil {
			return nil
		}
	}
	return h.write(ctx, f, raw)
}

func (h *history) write(ctx context.Context, f storedFile, raw []byte) error {
	if err := h.store.Put(ctx, h.gun, f.name, raw); err != nil {
		return verify.Unavailable(verify.StorageUnavailable, "the trust state of %s can't be stored: %w", h.gun, err)
	}
	return nil
}

// errDamaged says that a stored commit, or a file that it names, isn't what was
// written.
var errDamaged = errors.New("the stored trust state is damaged")

// load verifies the newest commit that isn't damaged. It returns nil if there is
// none. Past damage it goes back only as far as everything but the timestamp
// stays the newest: what was replaced doesn't come back to power. Errors: *verify.Refusal where what
// is stored must not be trusted now (other pins, say), *verify.UnavailableError.
func (h *history) load(ctx context.Context, pins *Pins) (*repository, int, error) {
	for i := range h.commits {
		repo, _, err := h.loadCommit(ctx, pins, h.commits[i])
		switch {
		case errors.Is(err, errDamaged):
			continue
		case err != nil:
			return nil, 0, err
		case i > 0 && h.newerThan(repo):
			return nil, 0, nil
		}
		return repo, i, nil
	}
	return nil, 0, nil
}

// newerThan tells whether a newer version of any role but the timestamp is stored.
func (h *history) newerThan(repo *repository) bool {
	return slices.ContainsFunc(repo.documents(), func(d *document) bool {
		return d.role != roleTimestamp && h.files[d.role][0].number > d.version
	})
}

// loadCommit verifies the files that a commit names as one repository.
func (h *history) loadCommit(ctx context.Context, pins *Pins, f storedFile) (*repository, *commit, error) {
	c, err := h.readCommit(ctx, f)
	if err != nil {
		return nil, nil, err
	}
	a := &assembler{
		pins: pins,
		fetch: func(ctx context.Context, role string, _ *fileMeta, _ int64) ([]byte, error) {
			return h.committed(ctx, c, role)
		},
		seen: func(context.Context, *authority, *document) error { return nil },
	}
	raw, err := h.committed(ctx, c, roleRoot)
	if err != nil {
		return nil, nil, err
	}
	r, err := openRoot(h.gun, raw)
	if err != nil {
		return nil, nil, err
	}
	if err := r.pinned(h.gun, pins); err != nil {
		return nil, nil, err
	}
	repo, err := a.assemble(ctx, r)
	return repo, c, err
}

func (h *history) readCommit(ctx context.Context, f storedFile) (*commit, error) {
	raw, err := h.get(ctx, f)
	if err != nil {
		return nil, err
	}
	var c commit
	if raw == nil || strictjson.Unmarshal(raw, &c) != nil {
		return nil, fmt.Errorf("%s: %w", f.name, errDamaged)
	}
	return &c, nil
}

// committed reads a role's file of a commit.
func (h *history) committed(ctx context.Context, c *commit, role string) ([]byte, error) {
	for _, f := range h.files[role] {
		if f.name != c.Files[role] {
			continue
		}
		raw, err := h.get(ctx, f)
		if err != nil || raw != nil {
			return raw, err
		}
	}
	return nil, fmt.Errorf("%s of %s: %w", role, h.gun, errDamaged)
}

// replaced is a repository's metadata that gave way to newer ones.
type replaced struct {
	repo *repository
	at   time.Time // when
}

// replacedSince returns what commits older than the one at index were replaced
// after a time, newest first. Those that don't verify under the pins are left
// out: what they signed is not to be trusted any more.
func (h *history) replacedSince(ctx context.Context, pins *Pins, index int, since time.Time) ([]replaced, error) {
	newer, err := h.readCommit(ctx, h.commits[index])
	if err != nil {
		return nil, err
	}
	var found []replaced
	at := newer.At
	for i := index + 1; i < len(h.commits) && i-index <= maxReplayed && at.After(since); i++ {
		var refusal *verify.Refusal
		repo, c, err := h.loadCommit(ctx, pins, h.commits[i])
		switch {
		case errors.Is(err, errDamaged), errors.As(err, &refusal):
			continue
		case err != nil:
			return nil, err
		}
		found = append(found, replaced{repo: repo, at: at})
		at = c.At
	}
	return found, nil
}
