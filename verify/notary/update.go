package notary

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/trustmirror/trustmirror/verify"
)

// Fetcher gets metadata from a trust service. It verifies nothing.
type Fetcher interface {
	// Fetch gets the file below /v2/<gun>/_trust/tuf/ whose name without ".json"
	// is name: "root", "2.root", "timestamp", "snapshot.<SHA-256 in hex>",
	// "targets/releases.<SHA-256 in hex>". It reads at most max bytes.
	//
	// Errors: *verify.NotFoundError (404), *verify.UnavailableError
	// (TrustUnavailable), *verify.Refusal with Malformed for what is larger than
	// max or isn't JSON.
	Fetch(ctx context.Context, gun, name string, max int64) ([]byte, error)
}

// maxRootSteps bounds how many roots are fetched to get from the one that is
// known to the newest.
const maxRootSteps = 1024

// updater fetches a repository's newest metadata and verifies them against what
// was seen before.
type updater struct {
	gun     string
	pins    *Pins
	fetcher Fetcher
	history *history
	held    *repository // what is known already, verified under the same pins; or nil
}

// update gets the newest metadata, of which nothing may have expired. It stores
// nothing. It returns held if nothing changed. Errors are newest's.
func (u *updater) update(ctx context.Context, now time.Time) (*repository, error) {
	repo, err := u.newest(ctx)
	if err != nil {
		return nil, err
	}
	if err := repo.check(now); err != nil {
		return nil, suggestArchive(err)
	}
	if u.held.same(repo) {
		return u.held, nil
	}
	return repo, nil
}

// suggestArchive says of what has expired what can be done.
func suggestArchive(err error) error {
	var expired *verify.Refusal
	if !errors.As(err, &expired) {
		return err
	}
	return verify.Refuse(expired.Reason, "%s; if nobody signs anew, `trustmirror trust export` makes an archive of "+
		"what was valid until then, to be named as trust.archive", expired.Detail)
}

// newest follows TUF 1.0, section 5: root, timestamp, snapshot, targets,
// delegations. Dates aren't looked at. Errors: *verify.Refusal,
// *verify.UnavailableError, *verify.NotFoundError if the service knows no root.
func (u *updater) newest(ctx context.Context) (*repository, error) {
	r, err := u.newestRoot(ctx, roleRoot, nil)
	if err != nil {
		return nil, err
	}
	a := &assembler{pins: u.pins, fetch: u.fetch, seen: u.history.seen}
	repo, err := a.assemble(ctx, r)
	if moved := (*errRootMoved)(nil); errors.As(err, &moved) {
		// The publisher may have changed the root since it was fetched, or a cache
		// on the way still has the old one.
		if r, err = u.newestRoot(ctx, hashName(roleRoot, &moved.meta), &moved.meta); err != nil {
			return nil, notPublished(err)
		}
		repo, err = a.assemble(ctx, r)
	}
	if err != nil {
		return nil, notPublished(err)
	}
	return repo, nil
}

// newestRoot fetches a root, and verifies that it uses pinned keys only and
// follows on the newest that was seen before.
//
// At first use that is all: the pins say whom to trust, and no older root could
// add to it. Later on each version between is fetched and has to be signed by
// the one before it and by itself (T3), so that a pinned key which was replaced
// can't be used to go another way. Those between may have expired, and may use
// keys that aren't pinned any more.
func (u *updater) newestRoot(ctx context.Context, name string, meta *fileMeta) (*root, error) {
	raw, err := u.fetcher.Fetch(ctx, u.gun, name, maxRootSize)
	if err != nil {
		return nil, err
	}
	if meta != nil {
		if err := meta.check(roleRoot, raw); err != nil {
			return nil, err
		}
	}
	if u.held != nil && string(raw) == string(u.held.root.raw) {
		return u.held.root, nil
	}
	r, err := openRoot(u.gun, raw)
	if err != nil {
		return nil, err
	}
	if err := r.pinned(u.gun, u.pins); err != nil {
		return nil, err
	}
	if err := u.history.rootSeen(ctx, r, u.pins); err != nil {
		return nil, err
	}
	known, err := u.history.anchor(ctx, r.version, u.pins)
	if known == nil || err != nil {
		return r, err
	}
	return r, u.chain(ctx, known, r)
}

// chain verifies that a root follows on a known one, step by step.
func (u *updater) chain(ctx context.Context, known, newest *root) error {
	if newest.version == known.version {
		return nil // the same, or rootSeen would have refused it
	}
	if steps := newest.version - known.version; steps > maxRootSteps {
		return verify.Refuse(verify.SignatureInvalid, "root version %d is %d versions after the one known; at most %d are followed", newest.version, steps, maxRootSteps)
	}
	for known.version+1 < newest.version {
		raw, err := u.fetcher.Fetch(ctx, u.gun, fmt.Sprintf("%d.%s", known.version+1, roleRoot), maxRootSize)
		if notFound := (*verify.NotFoundError)(nil); errors.As(err, &notFound) {
			return verify.Refuse(verify.SignatureInvalid, "root version %d can't be verified: the trust service doesn't have version %d, which comes before it",
				newest.version, known.version+1)
		}
		if err != nil {
			return err
		}
		next, err := openRoot(u.gun, raw)
		if err != nil {
			return err
		}
		if err := next.succeeds(known); err != nil {
			return err
		}
		known = next
	}
	return newest.succeeds(known)
}

// fetch gets a role's file by its hash, unless it is known already. It is the
// assembler's fetch.
func (u *updater) fetch(ctx context.Context, role string, meta *fileMeta, limit int64) ([]byte, error) {
	if meta == nil {
		return u.fetcher.Fetch(ctx, u.gun, role, limit)
	}
	if u.held != nil {
		for _, d := range u.held.documents() {
			if d.role == role && meta.check(role, d.raw) == nil {
				return d.raw, nil
			}
		}
	}
	return u.fetcher.Fetch(ctx, u.gun, hashName(role, meta), limit)
}

// hashName is the name under which the service keeps one version of a role's
// file for good.
func hashName(role string, meta *fileMeta) string {
	return role + "." + hex.EncodeToString(meta.Hashes["sha256"])
}

// same tells whether two repositories consist of the same files. Nil is like no
// other.
func (r *repository) same(other *repository) bool {
	return r != nil && r.timestamp.sum == other.timestamp.sum && r.root.sum == other.root.sum
}

// notPublished turns the absence of any file but the root into an
// UnavailableError: the service has the repository, but not whole.
func notPublished(err error) error {
	if notFound := (*verify.NotFoundError)(nil); errors.As(err, &notFound) {
		return verify.Unavailable(verify.TrustUnavailable, "the trust service has a part of the metadata only: %s", notFound.Detail)
	}
	return err
}
