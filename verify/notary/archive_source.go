package notary

import (
	"context"
	"errors"
	"time"

	"github.com/trustmirror/trustmirror/verify"
)

// ArchiveConfig says what an ArchiveSource needs to know.
type ArchiveConfig struct {
	// Archive is what vouches; the operator has compared its SHA256. Never nil.
	Archive *Archive
	// GUN, Pins and RoleOrder are as in Config.
	GUN       string
	Pins      Pins
	RoleOrder []string
	// Store keeps what was accepted, the same as a Source's: what was seen live,
	// or in a newer archive, can't be rolled back by an older one. Never nil.
	Store Store
	// Clock tells the time; nil means time.Now. Expiry doesn't depend on it: it
	// says when what an archive replaced ceased to be signed.
	Clock func() time.Time
}

// ArchiveSource is a trust source that rests on an archive: everything of T1 to
// T6 holds, with expiry judged as of the archive's moment. It answers from
// memory, and asks nobody. It is safe for concurrent use.
type ArchiveSource struct {
	config ArchiveConfig
	state  *state
}

var _ verify.Source = (*ArchiveSource)(nil)

// NewArchiveSource verifies an archive, compares it with what was accepted
// before, and notes it as accepted. Errors: Verify's, *verify.Refusal with
// Rollback, *verify.UnavailableError (StorageUnavailable), others for a
// configuration that can't be.
func NewArchiveSource(ctx context.Context, config ArchiveConfig) (*ArchiveSource, error) {
	switch {
	case config.Archive == nil || config.Store == nil:
		return nil, errors.New("an archive source needs an archive and a store")
	case config.Clock == nil:
		config.Clock = time.Now
	}
	if err := validateSource(config.GUN, &config.Pins, config.RoleOrder); err != nil {
		return nil, err
	}
	s := &ArchiveSource{config: config}
	return s, s.accept(ctx)
}

// accept makes the archive what is relied on.
func (s *ArchiveSource) accept(ctx context.Context) error {
	pins, now := &s.config.Pins, s.config.Clock()
	h, err := readHistory(ctx, s.config.Store, s.config.GUN)
	if err != nil {
		return err
	}
	repo, err := s.config.Archive.verify(ctx, pins, h)
	if err != nil {
		return explainRollback(err)
	}
	if err := s.note(ctx, h, repo, now); err != nil {
		return err
	}
	s.state = newState(repo, s.config.RoleOrder, now)
	older, err := h.replacedSince(ctx, pins, 0, now.Add(-keepSuperseded))
	if err != nil {
		return err
	}
	for _, o := range older {
		s.state.supersede(signed(o.repo.verdicts(s.config.RoleOrder)), o.at)
	}
	return nil
}

// note stores the repository as the newest that was accepted, unless it is that
// already.
func (s *ArchiveSource) note(ctx context.Context, h *history, repo *repository, now time.Time) error {
	before, index, err := h.load(ctx, &s.config.Pins)
	var refusal *verify.Refusal
	if err != nil && !errors.As(err, &refusal) {
		return err
	}
	if before.same(repo) && index == 0 {
		return nil
	}
	return h.save(ctx, repo, now)
}

// explainRollback says of a rollback what can be done.
func explainRollback(err error) error {
	var refusal *verify.Refusal
	if !errors.As(err, &refusal) || refusal.Reason != verify.Rollback {
		return err
	}
	return verify.Refuse(verify.Rollback, "the archive is older than what was accepted before: %s; pin the newer archive, "+
		"or make one of what was accepted, with `trustmirror trust export --from state`; "+
		"`trustmirror trust reset` forgets what was accepted", refusal.Detail)
}

// Target returns what is signed for a tag. Errors: *verify.Refusal (UnsignedTag,
// RolesDisagree, Superseded never).
func (s *ArchiveSource) Target(ctx context.Context, tag string) (verify.Target, error) {
	verify.NoteSource(ctx, sourceArchive)
	noteVersions(ctx, s.state)
	v, ok := s.state.verdicts[tag]
	if !ok {
		return verify.Target{}, verify.Refuse(verify.UnsignedTag, "%s has no signed tag %s in the archive of what was valid on %s",
			s.config.GUN, tag, s.config.Archive.Moment().Format(time.RFC3339))
	}
	return v.answer()
}

// Targets returns what is signed, and what another archive, or the live service,
// ceased to sign within the last day. There are no errors.
func (s *ArchiveSource) Targets(ctx context.Context) (*verify.TargetSet, error) {
	verify.NoteSource(ctx, sourceArchive)
	noteVersions(ctx, s.state)
	return s.state.targets(s.config.Clock()), nil
}

// Metadata returns the verified metadata, to be shown. There are no errors.
func (s *ArchiveSource) Metadata(context.Context) (*Metadata, error) {
	return s.state.repo.view(s.config.GUN), nil
}

// Archive is the archive that the source rests on.
func (s *ArchiveSource) Archive() *Archive { return s.config.Archive }

// GUN is the repository's name at the trust service.
func (s *ArchiveSource) GUN() string { return s.config.GUN }
