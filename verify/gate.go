package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/singleflight"

	"github.com/trustmirror/trustmirror/storage"
)

const (
	// workTimeout bounds shared work: fetching and verifying one object.
	workTimeout = time.Hour
	// refusalMemory is how long a refusal is repeated without asking an upstream
	// again: clients ask twice, and a fleet asks at once.
	refusalMemory = 30 * time.Second
	// maxRefusals bounds how many refusals are remembered.
	maxRefusals = 16384
	// maxWalked bounds how many searched documents are remembered.
	maxWalked = 65536
)

// GateConfig says what a Gate works with.
type GateConfig struct {
	Policy  *Policy        // never nil
	Fetcher Fetcher        // never nil
	Store   *storage.Store // never nil; the Gate is the only one that writes content and admissions
	// Clock tells the time; nil means time.Now.
	Clock func() time.Time
	// Decided is told each admission and refusal as it happens; nil means nobody is.
	// It must not block.
	Decided func(context.Context, Decision)
}

// Decision is a verdict, for the decision log.
type Decision struct {
	At        time.Time
	Ref       Ref                // what was asked for, or what was admitted
	Refusal   *Refusal           // nil for an admission
	Admission *storage.Admission // nil for a refusal
}

// Gate decides what is served. Everything that leaves trustmirror leaves through
// it: verified, committed to storage, and admitted in the repository that it was
// asked for in.
type Gate struct {
	policy  *Policy
	fetcher Fetcher
	store   *storage.Store
	now     func() time.Time
	decided func(context.Context, Decision)

	ctx     context.Context // of shared work; ends with Close
	cancel  context.CancelFunc
	flights singleflight.Group
	refused *lru.Cache[string, refused] // by flight
	walked  *lru.Cache[string, walked]  // by place: signed documents, and tags of copies

	recording sync.Mutex // held while records are compared and written

	mu      sync.Mutex // guards what follows
	closed  bool
	working sync.WaitGroup // shared work; grows only while not closed
}

// refused is a remembered refusal, good until it's old or other targets are signed.
type refused struct {
	refusal *Refusal
	set     *TargetSet
	at      time.Time
}

// NewGate makes a Gate; Close it when done.
func NewGate(c GateConfig) (*Gate, error) {
	if c.Policy == nil || c.Fetcher == nil || c.Store == nil {
		return nil, errors.New("a gate needs a policy, a fetcher and a store")
	}
	places, err := lru.New[string, walked](maxWalked)
	if err != nil {
		return nil, err
	}
	known, err := lru.New[string, refused](maxRefusals)
	if err != nil {
		return nil, err
	}
	g := &Gate{
		policy: c.Policy, fetcher: c.Fetcher, store: c.Store, now: c.Clock, decided: c.Decided,
		refused: known, walked: places,
	}
	if g.now == nil {
		g.now = time.Now
	}
	if g.decided == nil {
		g.decided = func(context.Context, Decision) {}
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g, nil
}

// Close ends shared work and waits for it.
func (g *Gate) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel()
	g.working.Wait()
}

func (g *Gate) begin() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return Unavailable(UpstreamUnavailable, "trustmirror is shutting down")
	}
	g.working.Add(1)
	return nil
}

// Manifest opens a manifest or an index, by tag or digest. The caller closes the
// content. Errors: *Refusal, *NotFoundError, *UnavailableError, ctx's.
func (g *Gate) Manifest(ctx context.Context, ref Ref) (*storage.Content, storage.Admission, error) {
	return g.open(ctx, ref, true)
}

// Blob opens a config or a layer by digest. The caller closes the content.
// Errors as Manifest's.
func (g *Gate) Blob(ctx context.Context, ref Ref) (*storage.Content, storage.Admission, error) {
	return g.open(ctx, ref, false)
}

// Tags lists the tags that are signed now, sorted; a copy has the tags of its
// signed repository. Errors as Manifest's.
func (g *Gate) Tags(ctx context.Context, ref Ref) ([]string, error) {
	tags, err := g.tags(ctx, ref)
	return tags, g.conclude(ctx, ref, err)
}

func (g *Gate) tags(ctx context.Context, ref Ref) ([]string, error) {
	image, err := g.policy.Image(ref)
	if err != nil {
		return nil, err
	}
	set, err := image.Source.Targets(ctx)
	if err != nil {
		return nil, err
	}
	tags := []string{}
	for _, t := range set.All() {
		if t.Superseded.IsZero() {
			tags = append(tags, t.Tag)
		}
	}
	return slices.Compact(tags), nil
}

// Repositories lists the repositories that the policy names, sorted.
func (g *Gate) Repositories() []string { return g.policy.Repositories() }

func (g *Gate) open(ctx context.Context, ref Ref, document bool) (*storage.Content, storage.Admission, error) {
	content, admission, err := g.openOnce(ctx, ref, document)
	var stale *staleTagError
	if errors.As(err, &stale) { // ask the copy what the tag is now
		content, admission, err = g.openOnce(ctx, ref, document)
	}
	return content, admission, g.conclude(ctx, ref, err)
}

// staleTagError says that a tag of a copy was bound to a document that the copy
// no longer has, or that turned out to be broken; the binding is forgotten.
type staleTagError struct{ error }

func (e *staleTagError) Unwrap() error { return e.error }

func (g *Gate) openOnce(ctx context.Context, ref Ref, document bool) (*storage.Content, storage.Admission, error) {
	var none storage.Admission
	image, err := g.policy.Image(ref)
	if err != nil {
		return nil, none, err
	}
	object := ref.WithDigest(ref.Digest)
	var target Target
	if ref.Digest == "" {
		if target, err = image.Source.Target(ctx, ref.Tag); err != nil {
			return nil, none, err
		}
		if object.Digest, err = g.tagged(ctx, image, ref, target); err != nil {
			return nil, none, err
		}
	}
	var content *storage.Content
	admission, err := g.admission(ctx, image, object, document)
	if err == nil {
		content, err = g.content(ctx, image, object, admission)
	}
	if reason := ReasonOf(err); ref.Digest == "" && object.Digest != target.Digest && (reason == NotFound || reason == LayerMismatch) {
		if err := g.store.UnbindTag(ctx, ref.Name(), ref.Tag, target.Digest); err != nil {
			return nil, none, storageError(err)
		}
		return nil, none, &staleTagError{err}
	}
	return content, admission, err
}

// tagged resolves a tag to the digest that is served for it. In the signed
// repository that is the signed digest. In a copy it is the digest of the copy's
// own document, if that is admitted for the signed one; it is asked for once.
func (g *Gate) tagged(ctx context.Context, image *Image, ref Ref, target Target) (digest.Digest, error) {
	if ref.Name() == image.Signed.Name() {
		return target.Digest, nil
	}
	bound, err := g.bound(ctx, ref, target)
	if bound != "" || err != nil {
		return bound, err
	}
	set, err := image.Source.Targets(ctx)
	if err != nil {
		return "", err
	}
	return share(ctx, g, "resolve "+ref.String(), set, func(ctx context.Context) (digest.Digest, error) {
		bound, err := g.bound(ctx, ref, target) // meanwhile
		if bound != "" || err != nil {
			return bound, err
		}
		return g.admitCopyTag(ctx, image, set, ref)
	})
}

// bound returns which document a copy's tag was found to be while target was
// signed for it; "" if it wasn't asked for.
func (g *Gate) bound(ctx context.Context, ref Ref, target Target) (digest.Digest, error) {
	d, err := g.store.BoundTag(ctx, ref.Name(), ref.Tag, target.Digest)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return "", storageError(err)
	}
	return d, nil
}

// admission returns why an object may be served, admitting it first if that is
// still to be done (S1, S2).
func (g *Gate) admission(ctx context.Context, image *Image, ref Ref, document bool) (storage.Admission, error) {
	set, err := image.Source.Targets(ctx)
	if err != nil {
		return storage.Admission{}, err
	}
	admission, err := g.admitted(ctx, image, set, ref, document)
	if err == nil || !undecided(err) {
		return admission, err
	}
	key := "admit blob "
	if document {
		key = "admit manifest "
	}
	return share(ctx, g, key+ref.String(), set, func(ctx context.Context) (storage.Admission, error) {
		admission, before := g.admitted(ctx, image, set, ref, document) // meanwhile
		if before == nil || !undecided(before) {
			return admission, before
		}
		err := g.admit(ctx, image, set, ref, document)
		if ReasonOf(err) == NotAdmitted && ReasonOf(before) == Superseded {
			err = before // says more
		}
		if err != nil {
			return storage.Admission{}, err
		}
		return g.admitted(ctx, image, set, ref, document)
	})
}

// undecided tells whether err only says that nothing was admitted yet.
func undecided(err error) bool {
	reason := ReasonOf(err)
	return reason == NotAdmitted || reason == Superseded
}

// admitted looks an admission up that holds now: *Refusal with NotAdmitted or
// Superseded if there is none.
func (g *Gate) admitted(ctx context.Context, image *Image, set *TargetSet, ref Ref, document bool) (storage.Admission, error) {
	records, err := g.store.Admissions(ctx, ref.Name(), ref.Digest)
	if err != nil {
		return storage.Admission{}, storageError(err)
	}
	records = slices.DeleteFunc(records, func(a storage.Admission) bool { return isDocument(a.Kind) != document })
	if err := broken(ref.Digest, records); err != nil {
		return storage.Admission{}, err
	}
	held := g.holding(image, set, records)
	switch {
	case len(held) > 0:
		return held[0], nil
	case len(records) > 0:
		return storage.Admission{}, Refuse(Superseded, "%s belongs to %s of tag %s, which is no longer signed; pull the tag again", ref.Digest, records[0].Signed, records[0].Tag)
	}
	return storage.Admission{}, Refuse(NotAdmitted, "nothing that is signed for %s leads to %s", image.Signed.Name(), ref.Digest)
}

// notBroken refuses a document of a copy that markBroken marked.
func (g *Gate) notBroken(ctx context.Context, ref Ref) error {
	records, err := g.store.Admissions(ctx, ref.Name(), ref.Digest)
	if err != nil {
		return storageError(err)
	}
	return broken(ref.Digest, records)
}

func broken(d digest.Digest, records []storage.Admission) error {
	for _, a := range records {
		if a.Proof == storage.ProofBroken {
			return Refuse(LayerMismatch, "%s leads to layer %s, which isn't what its config says, as was found when the layer was pulled", d, a.Parent)
		}
	}
	return nil
}

// holding keeps the records whose signed digest is signed now, or was until grace
// ago (S2); what is signed now comes first.
func (g *Gate) holding(image *Image, set *TargetSet, records []storage.Admission) []storage.Admission {
	var now, lately []storage.Admission
	for _, a := range records {
		targets := g.current(image, set.ByDigest(a.Signed))
		switch {
		case len(targets) == 0:
		case targets[0].Superseded.IsZero():
			now = append(now, a)
		default:
			lately = append(lately, a)
		}
	}
	return append(now, lately...)
}

// current keeps the targets that are signed now, or were until grace ago; what
// is signed now comes first.
func (g *Gate) current(image *Image, targets []Target) []Target {
	var now, lately []Target
	for _, t := range targets {
		switch {
		case t.Superseded.IsZero():
			now = append(now, t)
		case g.now().Before(t.Superseded.Add(image.Grace)):
			lately = append(lately, t)
		}
	}
	return append(now, lately...)
}

// content opens what an admission admits, fetching it again if storage lost it.
func (g *Gate) content(ctx context.Context, image *Image, ref Ref, a storage.Admission) (*storage.Content, error) {
	if isDocument(a.Kind) || a.Kind == storage.KindConfig && a.Size <= MaxDocument {
		raw, err := g.bytes(ctx, image, ref, a)
		if err != nil {
			return nil, err
		}
		return &storage.Content{ReadSeekCloser: nopCloser{bytes.NewReader(raw)}, Digest: a.Digest, Size: a.Size}, nil
	}
	for range 2 {
		content, err := g.store.OpenContent(ctx, a.Digest)
		switch {
		case err == nil && content.Size == a.Size:
			return content, nil
		case err == nil: // S5: a size that changed is a sign of damage
			if err := errors.Join(content.Close(), g.store.Quarantine(ctx, a.Digest)); err != nil {
				return nil, storageError(err)
			}
		case !errors.Is(err, storage.ErrNotFound):
			return nil, storageError(err)
		}
		if err := g.blob(ctx, image, ref, a.Size, nil); err != nil {
			return nil, err
		}
	}
	return nil, Unavailable(StorageUnavailable, "%s is gone from storage again right after it was stored", a.Digest)
}

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

// conclude fills in what was asked for, and tells the decision log.
func (g *Gate) conclude(ctx context.Context, ref Ref, err error) error {
	var refusal *Refusal
	if !errors.As(err, &refusal) {
		return err
	}
	told := *refusal // shared with other askers
	told.Ref = ref
	g.decided(ctx, Decision{At: g.now(), Ref: ref, Refusal: &told})
	return &told
}

func isDocument(k storage.Kind) bool { return k == storage.KindIndex || k == storage.KindManifest }

// storageError says that storage failed, in words; nil if it didn't.
func storageError(err error) error {
	if err == nil {
		return nil
	}
	return Unavailable(StorageUnavailable, "storage fails: %w", err)
}

// share runs work once for all who ask for the same key at the same time, on a
// context that the Gate owns: an asker who leaves stops waiting and nothing else
// (S4). A refusal is remembered for refusalMemory, unless what is signed changes;
// other errors are not.
func share[T any](ctx context.Context, g *Gate, key string, set *TargetSet, work func(context.Context) (T, error)) (T, error) {
	var none T
	if known, ok := g.refused.Get(key); ok && known.set == set {
		if age := g.now().Sub(known.at); age >= 0 && age < refusalMemory { // clocks jump
			return none, known.refusal
		}
	}
	result := g.flights.DoChan(fmt.Sprintf("%s %p", key, set), func() (value any, err error) {
		if err := g.begin(); err != nil {
			return none, err
		}
		defer g.working.Done()
		defer func() {
			if p := recover(); p != nil { // one bad document must not end the process
				err = fmt.Errorf("verifying panicked: %v\n%s", p, debug.Stack())
			}
		}()
		ctx, cancel := context.WithTimeout(g.ctx, workTimeout)
		defer cancel()
		value, err = work(ctx)
		var refusal *Refusal
		if errors.As(err, &refusal) {
			g.refused.Add(key, refused{refusal, set, g.now()})
		}
		return value, err
	})
	select {
	case r := <-result:
		if r.Err != nil {
			return none, r.Err
		}
		return r.Val.(T), nil //nolint:errcheck,forcetypeassert // a key belongs to one kind of work
	case <-ctx.Done():
		return none, ctx.Err()
	}
}
