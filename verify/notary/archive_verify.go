package notary

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/trustmirror/trustmirror/verify"
)

// Verify verifies an archive under pins, as of its moment: all of T1 to T6 but
// for what was seen before, which only an ArchiveSource knows. Errors are
// Refusals, by what is wrong:
//
//   - KeyNotPinned, SignatureInvalid, Malformed, DigestMismatch, SizeMismatch as
//     of metadata from a live service; SignatureInvalid for another GUN, too;
//   - MetadataExpired if at the archive's moment something had expired already;
//   - Malformed if the moment is earlier than the metadata allow, or if there are
//     files that nothing signed vouches for.
func (a *Archive) Verify(ctx context.Context, gun string, pins Pins) (*Metadata, error) {
	repo, err := a.verify(ctx, &pins, &history{gun: gun})
	if err != nil {
		return nil, err
	}
	return repo.view(gun), nil
}

// verify verifies the archive as the successor of what was seen before.
func (a *Archive) verify(ctx context.Context, pins *Pins, h *history) (*repository, error) {
	if a.GUN() != h.gun {
		return nil, verify.Refuse(verify.SignatureInvalid, "the archive holds what was signed for %s, not for %s", a.GUN(), h.gun)
	}
	u := &updater{gun: h.gun, pins: pins, fetcher: archiveFetcher{a}, history: h}
	repo, err := u.newest(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.checkRoots(repo.root); err != nil {
		return nil, err
	}
	if err := a.checkFiles(repo); err != nil {
		return nil, err
	}
	return repo, a.checkMoment(repo)
}

// checkRoots checks that each root in the archive is the version that it is
// listed as, and follows on the one before it (T3).
func (a *Archive) checkRoots(newest *root) error {
	first, last := a.Roots()
	if newest.version != last {
		return verify.Refuse(verify.SignatureInvalid, "%s in the archive is root version %d", rootName(last), newest.version)
	}
	for version := last - 1; version >= first; version-- {
		older, err := openRoot(a.GUN(), a.contents[rootName(version)])
		if err != nil {
			return err
		}
		if err := newest.succeeds(older); err != nil {
			return err
		}
		newest = older
	}
	return nil
}

// checkFiles refuses files that aren't part of the repository.
func (a *Archive) checkFiles(repo *repository) error {
	first, _ := a.Roots()
	used := repo.archiveNames(first)
	for _, e := range a.manifest.Files {
		if !slices.Contains(used, e.Name) {
			return verify.Refuse(verify.Malformed, "the archive holds %s, which nothing in the signed metadata vouches for", e.Name)
		}
	}
	return nil
}

// checkMoment checks that the archive's moment is the one that follows from the
// metadata.
func (a *Archive) checkMoment(repo *repository) error {
	moment, err := repo.moment()
	switch {
	case err != nil:
		return err
	case a.Moment().After(moment):
		return verify.Refuse(verify.MetadataExpired, "the archive claims that its metadata were valid at %s, but they were until %s only; "+
			"use an archive as `trustmirror trust export` wrote it", a.Moment().Format(time.RFC3339), moment.Format(time.RFC3339))
	case a.Moment().Before(moment):
		return verify.Refuse(verify.Malformed, "the archive says that its metadata were valid until %s, but what it holds was until %s: "+
			"metadata were added to it later; use an archive as `trustmirror trust export` wrote it",
			a.Moment().Format(time.RFC3339), moment.Format(time.RFC3339))
	}
	return nil
}

// moment is the latest time, in whole seconds, at which all of the repository's
// metadata were valid. The error is a Refusal with MetadataExpired if there
// never was one.
func (r *repository) moment() (time.Time, error) {
	before := r.first.expires.UTC()
	moment := before.Truncate(time.Second)
	if moment.Equal(before) {
		moment = moment.Add(-time.Second)
	}
	if r.root.certificatesInDate(moment) == nil {
		return moment, nil
	}
	// Enough certificates can be in date only up to the end of one of them.
	var latest time.Time
	for _, k := range r.root.signers {
		end := k.certificates[0].NotAfter.UTC()
		if end.Before(moment) && end.After(latest) && r.root.certificatesInDate(end) == nil {
			latest = end
		}
	}
	if latest.IsZero() {
		return time.Time{}, verify.Refuse(verify.MetadataExpired, "there never was a moment at which all of the metadata of the root were valid: "+
			"role %s expired on %s, and %w", r.first.role, r.first.expires.UTC().Format(time.RFC3339), r.root.certificatesInDate(moment))
	}
	return latest, nil
}

// archiveFetcher serves the files of an archive as a trust service would.
type archiveFetcher struct{ a *Archive }

func (f archiveFetcher) Fetch(_ context.Context, _, name string, limit int64) ([]byte, error) {
	var file string
	version, isVersion := strings.CutSuffix(name, "."+roleRoot)
	role, _, _ := strings.Cut(name, ".") // without the hash; roles have no "."
	switch {
	case isVersion:
		file = archiveRoots + version + archiveSuffix
	case role == roleRoot:
		_, newest := f.a.Roots()
		file = rootName(newest)
	default:
		file = roleFile(role)
	}
	raw, ok := f.a.contents[file]
	switch {
	case !ok && isVersion:
		return nil, &verify.NotFoundError{Detail: "the archive has no " + file}
	case !ok:
		return nil, verify.Refuse(verify.Malformed, "the archive lacks %s, which its metadata name", file)
	case int64(len(raw)) > limit:
		return nil, verify.Refuse(verify.Malformed, "%s in the archive has %d bytes; at most %d may be read", file, len(raw), limit)
	}
	return raw, nil
}

// Keys are the pins under which the archive would verify: whatever keys it lists.
// They say nothing about whose keys they are, so they are good for showing an
// archive only. Errors are Refusals with Malformed or SignatureInvalid.
func (a *Archive) Keys() (Pins, error) {
	pins := Pins{Signers: make(map[string][]string)}
	_, newest := a.Roots()
	r, err := openRoot(a.GUN(), a.contents[rootName(newest)])
	if err != nil {
		return Pins{}, err
	}
	pins.Root, pins.Repository = r.roles[roleRoot].keyIDs, r.roles[roleTargets].keyIDs
	for _, e := range a.manifest.Files {
		role, _ := strings.CutSuffix(e.Name, archiveSuffix)
		if role != roleTargets && !isChild(role, roleTargets) {
			continue
		}
		if err := a.addSigners(role, pins.Signers); err != nil {
			return Pins{}, err
		}
	}
	return pins, nil
}

// addSigners adds the keys that the file of targets, or of a delegation, lists.
func (a *Archive) addSigners(role string, signers map[string][]string) error {
	e, err := parseEnvelope(role, a.contents[roleFile(role)], maxTargetsSize)
	if err != nil {
		return err
	}
	var wire wireTargets
	if err := e.decode(&wire); err != nil {
		return err
	}
	add := func(name, id string) {
		if isSHA256(id) && !slices.Contains(signers[name], id) {
			signers[name] = append(signers[name], id)
		}
	}
	for id := range wire.Delegations.Keys { // of any signer; releases stands for no one
		add(signerName(roleReleases), id)
	}
	for _, d := range wire.Delegations.Roles {
		for _, id := range d.KeyIDs {
			if isChild(d.Name, roleTargets) && role == roleTargets {
				add(signerName(d.Name), id)
			}
		}
	}
	return nil
}
