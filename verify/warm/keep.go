package warm

import (
	"context"
	"errors"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"go.opentelemetry.io/otel/trace"

	"github.com/trustmirror/trustmirror/verify"
)

const (
	// keptAtOnce is how many objects a Keeper asks for at once: what clients wait for
	// comes first.
	keptAtOnce = 2
	// The pause after a failure doubles from one to the other. A copy that gets a
	// release later than it is signed is warm within minutes of it.
	firstPause = time.Minute
	lastPause  = time.Hour
)

// Wanted says what of an image is to be warm.
type Wanted struct {
	Signed verify.Ref
	Copies []verify.Ref
	// Tags are patterns for signed tags: a whole tag, in which "*" stands for any part
	// of it, also an empty one. At least one.
	Tags []string
	// Platforms are as in Walk.
	Platforms []Platform
	// Targets returns what is signed now, as verify.Source does, or nil as long as
	// nothing is known. It is called at the start and when something may have changed.
	Targets func(context.Context) (*verify.TargetSet, error)
}

// KeeperConfig says what a Keeper works with.
type KeeperConfig struct {
	Images []Wanted
	Mirror Mirror // never nil
	// Changed has word each time that something may have been signed.
	Changed <-chan struct{}
	// Told is told of each image that was asked for, and after which pause it is asked
	// for again, 0 if it is warm. nil means nobody is.
	Told   func(image *Image, again time.Duration)
	Tracer trace.Tracer     // as in Walk
	Clock  func() time.Time // as in Walk; pauses are told by the system's
}

// Keeper keeps images warm in the background: each signed tag that matches, in the
// signed repository and in each copy, since a copy's documents are its own. What is
// warm is asked for again only when another digest is signed for the tag.
type Keeper struct {
	config KeeperConfig
	sets   []*verify.TargetSet // by image: what was looked at last; owned by Run

	mu   sync.Mutex // guards jobs, and what they hold, against Missing
	jobs []*job     // the next one first, where several are due
}

// job is one tag in one repository.
type job struct {
	image  int // in KeeperConfig.Images
	ref    verify.Ref
	signed digest.Digest
	warm   bool
	due    time.Time // if it isn't warm
	failed int       // how often in a row
}

// NewKeeper makes a Keeper; Run it.
func NewKeeper(c KeeperConfig) *Keeper {
	if c.Told == nil {
		c.Told = func(*Image, time.Duration) {}
	}
	return &Keeper{config: c, sets: make([]*verify.TargetSet, len(c.Images))}
}

// Run keeps images warm until ctx ends, one image at a time.
func (k *Keeper) Run(ctx context.Context) {
	k.look(ctx)
	for ctx.Err() == nil {
		next, wait := k.next()
		if next != nil && wait <= 0 {
			k.warm(ctx, next)
			wait = 0
		}
		var timer <-chan time.Time // nil: nothing is to be done until something changes
		if next != nil {
			timer = time.After(wait)
		}
		select {
		case <-ctx.Done():
		case <-k.config.Changed:
			k.look(ctx)
		case <-timer:
		}
	}
}

// Missing tells of each image how many tags, by each of their names, aren't warm.
func (k *Keeper) Missing() []int {
	k.mu.Lock()
	defer k.mu.Unlock()
	missing := make([]int, len(k.config.Images))
	for _, j := range k.jobs {
		if !j.warm {
			missing[j.image]++
		}
	}
	return missing
}

// look finds out what is signed, and what of it is to be warm.
func (k *Keeper) look(ctx context.Context) {
	for i, wanted := range k.config.Images {
		set, err := wanted.Targets(ctx)
		if err != nil || set == nil || set == k.sets[i] { // what was signed before is good until something else is known
			continue
		}
		k.sets[i] = set
		k.plan(i, wanted, set)
	}
}

// plan replaces an image's jobs by those for what is signed now; what is done stays
// done.
func (k *Keeper) plan(image int, wanted Wanted, set *verify.TargetSet) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var jobs []*job
	for _, t := range slices.Backward(set.All()) { // newer versions first, more often than not
		if !t.Superseded.IsZero() || !matches(wanted.Tags, t.Tag) {
			continue
		}
		for _, repo := range append([]verify.Ref{wanted.Signed}, wanted.Copies...) {
			ref := verify.Ref{Registry: repo.Registry, Repository: repo.Repository, Tag: t.Tag}
			at := slices.IndexFunc(k.jobs, func(j *job) bool { return j.image == image && j.ref == ref && j.signed == t.Digest })
			if at >= 0 {
				jobs = append(jobs, k.jobs[at])
			} else {
				jobs = append(jobs, &job{image: image, ref: ref, signed: t.Digest})
			}
		}
	}
	k.jobs = append(slices.DeleteFunc(k.jobs, func(j *job) bool { return j.image == image }), jobs...)
}

// matches tells whether a tag matches one of the patterns.
func matches(patterns []string, tag string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, tag) // tags have no slash
		return ok && err == nil
	})
}

// next is what is to be asked for next, and how long that has time; nil: everything
// is warm.
func (k *Keeper) next() (next *job, wait time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, j := range k.jobs {
		if !j.warm && (next == nil || j.due.Before(next.due)) {
			next = j
		}
	}
	if next == nil {
		return nil, 0
	}
	return next, time.Until(next.due)
}

func (k *Keeper) warm(ctx context.Context, j *job) {
	walk := &Walk{Mirror: k.config.Mirror, Platforms: k.config.Images[j.image].Platforms, AtOnce: keptAtOnce, Tracer: k.config.Tracer, Clock: k.config.Clock}
	image := walk.Image(ctx, j.ref)
	if ctx.Err() != nil { // it isn't the image's fault
		return
	}
	failed := image.Failed()
	k.mu.Lock()
	j.warm = len(failed) == 0
	var pause time.Duration
	if !j.warm {
		j.failed++
		pause = min(lastPause, firstPause<<min(j.failed-1, 10))
		for _, o := range failed {
			var unavailable *verify.UnavailableError
			if errors.As(o.Err, &unavailable) {
				pause = max(pause, unavailable.RetryAfter)
			}
		}
		j.due = time.Now().Add(pause)
	}
	k.mu.Unlock()
	k.config.Told(image, pause)
}
