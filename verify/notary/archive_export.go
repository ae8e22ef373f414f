package notary

import (
	"context"
	"errors"
	"fmt"

	"github.com/trustmirror/trustmirror/verify"
)

// ExportConfig says what is exported.
type ExportConfig struct {
	// GUN is the repository's name at the trust service.
	GUN string
	// Pins are the keys that the repository may use.
	Pins Pins
	// Fetcher has the metadata: a trust service, a folder (NewFolder) or the
	// state of a Source (NewStored). Never nil.
	Fetcher Fetcher
	// Source says for people where that is: a line of ASCII, up to 1024 characters.
	Source string
	// Progress is told of each file before it is fetched; nil means nobody is.
	Progress func(name string)
}

// Exported is an archive that was made, with what there is to say of it.
type Exported struct {
	*Archive
	Metadata *Metadata
	// Expiries tells when each role expires, the first to expire first. What has
	// expired is in the archive all the same.
	Expiries []Expiry
	// Gap says why there are no roots older than the oldest in the archive; nil
	// if they are all there. An archive with a gap is as good as one without for
	// those who pin the newest root's keys and have seen none older.
	Gap error
}

// Export verifies the newest metadata that a Fetcher has, all of T1 to T6 but for
// the dates, and puts them into an archive. It is the same archive whenever the
// metadata are the same. Errors: *verify.Refusal, *verify.UnavailableError,
// *verify.NotFoundError if there are no metadata, others for a configuration
// that can't be.
func Export(ctx context.Context, config ExportConfig) (*Exported, error) {
	if err := validateGUN(config.GUN); err != nil {
		return nil, err
	}
	if err := config.Pins.validate(); err != nil {
		return nil, err
	}
	if config.Fetcher == nil {
		return nil, errors.New("an export needs a fetcher")
	}
	fetcher := &reportingFetcher{Fetcher: config.Fetcher, progress: config.Progress}
	u := &updater{gun: config.GUN, pins: &config.Pins, fetcher: fetcher, history: &history{gun: config.GUN}}
	repo, err := u.newest(ctx)
	if err != nil {
		return nil, err
	}
	moment, err := repo.moment()
	if err != nil {
		return nil, err
	}
	contents := make(map[string][]byte)
	for _, d := range repo.documents() {
		contents[roleFile(d.role)] = d.raw
	}
	delete(contents, roleFile(roleRoot))
	oldest, gap, err := u.olderRoots(ctx, repo.root, contents)
	if err != nil {
		return nil, err
	}
	a, err := newArchive(config.GUN, config.Source, moment, repo.archiveNames(oldest), contents)
	if err != nil {
		return nil, err
	}
	return &Exported{Archive: a, Metadata: repo.view(config.GUN), Expiries: repo.expiries(), Gap: gap}, nil
}

// olderRoots adds a root and, from it back to version 1, those that led to it. It
// stops at the first that can't be had or doesn't lead to the next: gap says
// why. The error is a *verify.UnavailableError.
func (u *updater) olderRoots(ctx context.Context, newest *root, contents map[string][]byte) (oldest int64, gap, err error) {
	contents[rootName(newest.version)] = newest.raw
	for newest.version > 1 {
		version := newest.version - 1
		if len(contents) >= maxRootSteps {
			return newest.version, fmt.Errorf("there are more than %d versions of root", maxRootSteps), nil
		}
		raw, err := u.fetcher.Fetch(ctx, u.gun, fmt.Sprintf("%d.%s", version, roleRoot), maxRootSize)
		if missing := (*verify.NotFoundError)(nil); errors.As(err, &missing) {
			return newest.version, fmt.Errorf("root version %d can't be had: %w", version, err), nil
		}
		var older *root
		if err == nil {
			older, err = openRoot(u.gun, raw)
		}
		if err == nil {
			err = newest.succeeds(older)
		}
		if refusal := (*verify.Refusal)(nil); errors.As(err, &refusal) {
			return newest.version, fmt.Errorf("root version %d doesn't lead to version %d: %w", version, newest.version, err), nil
		}
		if err != nil {
			return 0, nil, unavailable(err)
		}
		contents[rootName(version)] = raw
		newest = older
	}
	return newest.version, nil, nil
}

// reportingFetcher tells of what is fetched.
type reportingFetcher struct {
	Fetcher
	progress func(name string)
}

func (f *reportingFetcher) Fetch(ctx context.Context, gun, name string, limit int64) ([]byte, error) {
	if f.progress != nil {
		f.progress(name)
	}
	return f.Fetcher.Fetch(ctx, gun, name, limit)
}
