package notary

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/trustmirror/trustmirror/verify"
)

// repository is a complete set of a repository's metadata that was verified as
// one. Whether it is in date is asked again each time, of check.
type repository struct {
	root      *root
	timestamp *document
	snapshot  *document
	targets   *targets // with its delegations

	first *document // the file that expires first
}

// assembler verifies a repository's metadata below its root.
type assembler struct {
	pins *Pins
	// fetch gets a role's file. meta describes the file, and is nil for the
	// timestamp; limit is how many bytes may be read.
	fetch func(ctx context.Context, role string, meta *fileMeta, limit int64) ([]byte, error)
	// seen refuses what is older than what was seen before (Rollback); d is nil
	// for a role that has published nothing.
	seen func(ctx context.Context, by *authority, d *document) error
}

// errRootMoved says that the snapshot vouches for another root than the one that
// was verified. That may be because the publisher has just changed it.
type errRootMoved struct{ meta fileMeta }

func (e *errRootMoved) Error() string {
	return fmt.Sprintf("the snapshot vouches for a root with SHA-256 %x", e.meta.Hashes["sha256"])
}

type wireMeta struct {
	header
	Meta map[string]fileMeta `json:"meta"`
}

// assemble follows the chain timestamp → snapshot → targets → delegations (T4).
// Dates aren't looked at. Errors: *verify.Refusal, with *errRootMoved inside
// where that is the cause; what fetch and seen return.
func (a *assembler) assemble(ctx context.Context, r *root) (*repository, error) {
	repo := &repository{root: r}
	var ts, snap wireMeta
	var err error
	if repo.timestamp, err = a.meta(ctx, r.roles[roleTimestamp], nil, &ts); err != nil {
		return nil, err
	}
	snapshotMeta := ts.Meta[roleSnapshot]
	if repo.snapshot, err = a.meta(ctx, r.roles[roleSnapshot], &snapshotMeta, &snap); err != nil {
		return nil, err
	}
	if len(snap.Meta) > maxMeta {
		return nil, verify.Refuse(verify.Malformed, "snapshot lists %d files; at most %d are read", len(snap.Meta), maxMeta)
	}
	rootMeta := snap.Meta[roleRoot]
	if err := rootMeta.valid(roleRoot, maxRootSize); err != nil {
		return nil, err
	}
	if rootMeta.check(roleRoot, r.raw) != nil {
		return nil, verify.Refuse(verify.DigestMismatch, "metadata of different times are mixed: %w", &errRootMoved{meta: rootMeta})
	}
	targetsMeta := snap.Meta[roleTargets]
	if repo.targets, err = a.targets(ctx, r.roles[roleTargets], &targetsMeta, maxTotalSize); err != nil {
		return nil, err
	}
	if err := a.delegations(ctx, repo.targets, snap.Meta); err != nil {
		return nil, err
	}
	repo.first = slices.MinFunc(repo.documents(), func(a, b *document) int { return a.expires.Compare(b.expires) })
	return repo, nil
}

// meta fetches and verifies a timestamp or a snapshot.
func (a *assembler) meta(ctx context.Context, by *authority, described *fileMeta, v *wireMeta) (*document, error) {
	limit, wantType := int64(maxTimestampSize), "Timestamp"
	if by.role == roleSnapshot {
		limit, wantType = maxSnapshotSize, "Snapshot"
	}
	raw, err := a.file(ctx, by.role, described, limit)
	if err != nil {
		return nil, err
	}
	e, err := parseEnvelope(by.role, raw, limit)
	if err != nil {
		return nil, err
	}
	d, err := e.open(by, wantType, v)
	if err != nil {
		return nil, err
	}
	return d, a.seen(ctx, by, d)
}

// targets fetches and verifies the file of targets or of a delegation.
func (a *assembler) targets(ctx context.Context, by *authority, described *fileMeta, limit int64) (*targets, error) {
	raw, err := a.file(ctx, by.role, described, min(limit, maxTargetsSize))
	if err != nil {
		return nil, err
	}
	t, err := openTargets(by, raw, a.pins)
	if err != nil {
		return nil, err
	}
	return t, a.seen(ctx, by, &t.document)
}

// delegations fetches and verifies what the direct delegations of targets have
// published. One that the snapshot doesn't list has published nothing, which
// `docker trust signer add` leaves behind; but what was published once doesn't
// vanish while targets still names the role.
func (a *assembler) delegations(ctx context.Context, t *targets, meta map[string]fileMeta) error {
	left := maxTotalSize - int64(len(t.raw))
	for _, d := range t.delegations {
		described, ok := meta[d.role]
		if !ok {
			if err := a.seen(ctx, &d.authority, nil); err != nil {
				return err
			}
			continue
		}
		var err error
		if d.targets, err = a.targets(ctx, &d.authority, &described, left); err != nil {
			return err
		}
		left -= int64(len(d.targets.raw))
	}
	return nil
}

// file fetches a file, and checks it against what describes it.
func (a *assembler) file(ctx context.Context, role string, described *fileMeta, limit int64) ([]byte, error) {
	if described == nil {
		return a.fetch(ctx, role, nil, limit)
	}
	if err := described.valid(role, limit); err != nil {
		return nil, err
	}
	if described.Length == 0 {
		return nil, verify.Refuse(verify.Malformed, "%s is listed with no bytes", role)
	}
	raw, err := a.fetch(ctx, role, described, described.Length)
	if err != nil {
		return nil, err
	}
	return raw, described.check(role, raw)
}

// documents lists the set's files, in the order root, timestamp, snapshot,
// targets, delegations.
func (r *repository) documents() []*document {
	docs := []*document{&r.root.document, r.timestamp, r.snapshot, &r.targets.document}
	for _, d := range r.targets.delegations {
		if d.targets != nil {
			docs = append(docs, &d.targets.document)
		}
	}
	return docs
}

// check checks that nothing in the set has expired (T4, TUF 1.0 section 5). The
// error is a Refusal with MetadataExpired that names what expired first.
func (r *repository) check(now time.Time) error {
	if !now.Before(r.first.expires) {
		return verify.Refuse(verify.MetadataExpired, "role %s expired on %s", r.first.role, r.first.expires.UTC().Format(time.RFC3339))
	}
	return r.root.certificatesInDate(now)
}

// unavailable makes sure that an error is one of the kinds that callers know:
// whatever isn't a verdict is an UnavailableError.
func unavailable(err error) error {
	var (
		refusal *verify.Refusal
		cannot  *verify.UnavailableError
	)
	if err == nil || errors.As(err, &refusal) || errors.As(err, &cannot) {
		return err
	}
	if notFound := (*verify.NotFoundError)(nil); errors.As(err, &notFound) {
		return verify.Unavailable(verify.TrustUnavailable, "the trust service no longer knows the repository: %s", notFound.Detail)
	}
	return verify.Unavailable(verify.TrustUnavailable, "the trust service can't be asked: %w", err)
}
