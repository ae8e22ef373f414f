package notary

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/trustmirror/trustmirror/verify"
)

// Store keeps the metadata that were accepted: named documents for each GUN.
// Names are "<folder>/<number>-<SHA-256 of the document>"; a name is only ever
// put again with the same bytes. Any error of Get means that the document can't
// be read now, not that it isn't there: List says what is there.
type Store interface {
	// List returns the names of all documents of a GUN, in any order.
	List(ctx context.Context, gun string) ([]string, error)
	// Get returns a document.
	Get(ctx context.Context, gun, name string) ([]byte, error)
	// Put stores a document, whole or not at all, so that it survives a crash.
	Put(ctx context.Context, gun, name string, raw []byte) error
	// Remove removes a document; one that isn't there is no error.
	Remove(ctx context.Context, gun, name string) error
}

// history is what was accepted of a repository before: of each role what the
// high-water marks are read from that versions never fall below (T4), and the
// commits, which say what belongs together. Old states are removed (see prune); the
// marks stay.
//
// A stored file counts towards a mark if it verifies under the keys that are in
// force now. So a repository recovers from a version that was set absurdly high
// when the keys that signed it are replaced, and by nothing else. Numbers and
// hashes are in the names: a file that is damaged still counts by its name, and
// if it stands in the way of a recovery it has to be removed by hand.
type history struct {
	store   Store
	gun     string
	files   map[string][]storedFile // by role, newest first
	commits []storedFile            // newest first
}

// storedFile is what the name of a stored document says.
type storedFile struct {
	name   string
	number int64  // version, or the commit's place in order
	sum    string // SHA-256, hexadecimal
}

// folderCommits holds the commits; no role has that name.
const folderCommits = "commits"

// folder is where a role's files are; role names have no ".".
func folder(role string) string { return strings.ReplaceAll(role, "/", ".") }

func fileName(folder string, number int64, sum string) string {
	return fmt.Sprintf("%s/%d-%s", folder, number, sum)
}

func parseFileName(name string) (folder string, f storedFile, ok bool) {
	folder, rest, _ := strings.Cut(name, "/")
	number, sum, _ := strings.Cut(rest, "-")
	n, err := strconv.ParseInt(number, 10, 64)
	f = storedFile{name: name, number: n, sum: sum}
	return folder, f, err == nil && isSHA256(sum) && name == fileName(folder, n, sum)
}

// readHistory lists what is stored. The error is an UnavailableError with
// StorageUnavailable.
func readHistory(ctx context.Context, store Store, gun string) (*history, error) {
	names, err := store.List(ctx, gun)
	if err != nil {
		return nil, verify.Unavailable(verify.StorageUnavailable, "the trust state of %s can't be listed: %w", gun, err)
	}
	h := &history{store: store, gun: gun, files: make(map[string][]storedFile)}
	for _, name := range names {
		dir, f, ok := parseFileName(name)
		switch {
		case !ok: // not ours
		case dir == folderCommits:
			h.commits = append(h.commits, f)
		default:
			role := strings.ReplaceAll(dir, ".", "/")
			h.files[role] = append(h.files[role], f)
		}
	}
	for _, files := range h.files {
		newestFirst(files)
	}
	newestFirst(h.commits)
	return h, nil
}

func newestFirst(files []storedFile) {
	slices.SortFunc(files, func(a, b storedFile) int {
		return cmp.Or(cmp.Compare(b.number, a.number), cmp.Compare(a.sum, b.sum))
	})
}

// empty tells whether nothing was ever accepted.
func (h *history) empty() bool { return len(h.files) == 0 && len(h.commits) == 0 }

// get reads a document. It returns nil if the document is damaged; the error is
// an UnavailableError with StorageUnavailable.
func (h *history) get(ctx context.Context, f storedFile) ([]byte, error) {
	raw, err := h.store.Get(ctx, h.gun, f.name)
	if err != nil {
		return nil, verify.Unavailable(verify.StorageUnavailable, "the trust state %s of %s can't be read: %w", f.name, h.gun, err)
	}
	if sha256Hex(raw) != f.sum {
		return nil, nil
	}
	return raw, nil
}

// seen refuses a version below the role's mark, and another content of the same
// version; d is nil for a role that publishes nothing. It is the assembler's
// seen.
func (h *history) seen(ctx context.Context, by *authority, d *document) error {
	return h.atLeast(ctx, by.role, d, func(raw []byte) []byte {
		if e, _ := by.counts(raw); e != nil {
			return e.signed
		}
		return nil
	})
}

// counts reads a stored file, and tells which keys in force signed it; nil if too few
// did.
func (a *authority) counts(raw []byte) (*envelope, []*Key) {
	e, err := parseEnvelope(a.role, raw, maxTotalSize)
	if err != nil {
		return nil, nil
	}
	signers, err := a.verify(e.signed, e.signatures)
	if err != nil {
		return nil, nil
	}
	return e, signers
}

// atLeast compares d with what is stored of its role. signed returns the signed
// part of a stored file if it still counts, else nil.
func (h *history) atLeast(ctx context.Context, role string, d *document, signed func(raw []byte) []byte) error {
	var version int64
	if d != nil {
		version = d.version
	}
	for _, f := range h.files[role] {
		if f.number < version || d != nil && f.number == version && f.sum == d.sum {
			continue
		}
		raw, err := h.get(ctx, f)
		if err != nil {
			return err
		}
		if raw == nil {
			return verify.Refuse(verify.Rollback, "%s of %s has %s, but version %d was accepted before; "+
				"the stored file of that is damaged: if the publisher replaced the keys since, remove %q from the trust state",
				role, h.gun, versionText(d), f.number, f.name)
		}
		content := signed(raw)
		switch {
		case content == nil:
		case f.number > version:
			return verify.Refuse(verify.Rollback, "%s of %s has %s, but version %d was accepted before", role, h.gun, versionText(d), f.number)
		case string(content) != string(d.signed):
			return verify.Refuse(verify.Rollback, "%s of %s has a version %d that is not the one accepted before", role, h.gun, version)
		}
	}
	return nil
}

func versionText(d *document) string {
	if d == nil {
		return "vanished"
	}
	return fmt.Sprintf("version %d", d.version)
}

// rootSeen is seen for a root. Stored roots count if their root keys are pinned:
// pins are what trust rests on, so taking a pin away forgets what rested on it.
func (h *history) rootSeen(ctx context.Context, r *root, pins *Pins) error {
	return h.atLeast(ctx, roleRoot, &r.document, func(raw []byte) []byte {
		if stored := h.pinnedRoot(raw, pins); stored != nil {
			return stored.signed
		}
		return nil
	})
}

// pinnedRoot reads a stored root, and returns nil if it isn't one to rely on.
func (h *history) pinnedRoot(raw []byte, pins *Pins) *root {
	r, err := openRoot(h.gun, raw)
	if err != nil || pins.check(roleRoot, r.roles[roleRoot].keys, pins.isRoot) != nil {
		return nil
	}
	return r
}

// anchor returns the newest stored root of at most a version that can be relied
// on, or nil.
func (h *history) anchor(ctx context.Context, version int64, pins *Pins) (*root, error) {
	for _, f := range h.files[roleRoot] {
		if f.number > version {
			continue
		}
		raw, err := h.get(ctx, f)
		if err != nil {
			return nil, err
		}
		if r := h.pinnedRoot(raw, pins); raw != nil && r != nil {
			return r, nil
		}
	}
	return nil, nil
}
