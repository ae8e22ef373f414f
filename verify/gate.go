package verify

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/singleflight"

	"github.com/trustmirror/trustmirror/storage"
)

const (
	// maxRefusals bounds how many refusals are remembered.
	maxRefusals = 16384
	// maxWalked bounds how many searched documents are remembered.
	maxWalked = 65536
)

// GateConfig says what a Gate works with.
type GateConfig struct {
	Policy  *Policy        // never nil
	Fetcher Fetcher        // never nil
	Store   *storage.Store // never nil; only Gates write content and admissions
	// Recording is held while records are compared and written. Gates that work on
	// one Store at a time, as while a configuration gives way to another, share it;
	// nil: there is no other Gate.
	Recording *sync.Mutex
	// FetchAhead is whether a manifest that is served has its config and layers
	// fetched before anybody asks for them.
	FetchAhead bool
	// Clock tells the time; nil means time.Now.
	Clock func() time.Time
	// Decided is told each admission and refusal as it happens; nil means nobody is.
	// It must not block.
	Decided func(context.Context, Decision)
	// Tracer makes a span of each step; nil means that nothing is traced.
	Tracer trace.Tracer
	// Observe is told what is to be counted; nil means nobody is. It must not block.
	Observe func(Event)
}

// Gate decides what is served. Everything that leaves trustmirror leaves through
// it: verified, committed to storage, and admitted in the repository that it was
// asked for in.
type Gate struct {
	policy  *Policy
	fetcher Fetcher
	store   *gateStore
	now     func() time.Time
	decided func(context.Context, Decision)
	observe func(Event)
	trace   tracing

	ctx     context.Context // of shared work; ends with Close
	cancel  context.CancelFunc
	flights singleflight.Group
	refused *lru.Cache[string, refused] // by flight
	walked  *lru.Cache[string, walked]  // by place: signed documents, and tags of copies

	admitters admitters
	underway  sync.Map // the trace.SpanContext of shared work, by flight; empty where nothing is traced

	streams streams // of blobs that are sent while they arrive

	ahead  *ahead // nil: nothing is fetched before it's asked for
	copies slots  // of documents of copies that are being looked at
	forms  *forms // of what is signed, in copies

	recording *sync.Mutex // held while records are compared and written

	mu      sync.Mutex // guards what follows
	closed  bool
	working sync.WaitGroup // shared work; grows only while not closed
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
		policy: c.Policy, fetcher: c.Fetcher, now: c.Clock, decided: c.Decided, observe: c.Observe,
		refused: known, walked: places, recording: c.Recording, trace: tracing{c.Tracer},
	}
	if g.admitters, err = newAdmitters(c.Tracer); err != nil {
		return nil, err
	}
	if g.forms, err = newForms(); err != nil {
		return nil, err
	}
	if g.observe == nil {
		g.observe = func(Event) {}
	}
	g.store = &gateStore{Store: c.Store, trace: g.trace, observe: g.observe}
	if c.FetchAhead {
		if g.ahead, err = newAhead(); err != nil {
			return nil, err
		}
	}
	if g.recording == nil {
		g.recording = &sync.Mutex{}
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
	image, err := g.image(ctx, ref)
	if err != nil {
		return nil, err
	}
	set, err := g.targets(ctx, image)
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
	if err == nil {
		return content, admission, nil
	}
	if stale := (*staleTagError)(nil); errors.As(err, &stale) { // ask the copy what the tag is now
		content, admission, err = g.openOnce(ctx, ref, document)
	}
	return content, admission, g.conclude(ctx, ref, err)
}

// image finds the image that ref belongs to.
func (g *Gate) image(ctx context.Context, ref Ref) (*Image, error) {
	_, step := g.trace.begin(ctx, "policy")
	image, err := g.policy.Image(ref)
	step.end(err)
	return image, err
}

// target asks the trust source what is signed for a tag.
func (g *Gate) target(ctx context.Context, image *Image, tag string) (Target, error) {
	ctx, step := g.trace.begin(ctx, "trust.resolve")
	target, err := image.Source.Target(ctx, tag)
	step.end(err)
	return target, err
}

// targets asks the trust source for all that is signed.
func (g *Gate) targets(ctx context.Context, image *Image) (*TargetSet, error) {
	ctx, step := g.trace.begin(ctx, "trust.resolve")
	set, err := image.Source.Targets(ctx)
	step.end(err)
	return set, err
}

// staleTagError says that a tag of a copy was bound to a document that the copy
// no longer has, or that turned out to be broken; the binding is forgotten.
type staleTagError struct{ error }

func (e *staleTagError) Unwrap() error { return e.error }

func (g *Gate) openOnce(ctx context.Context, ref Ref, document bool) (*storage.Content, storage.Admission, error) {
	var none storage.Admission
	image, err := g.image(ctx, ref)
	if err != nil {
		return nil, none, err
	}
	if !document && image.Streaming {
		if content, admission, err := g.stream(ctx, image, ref); content != nil || err != nil {
			return content, admission, err
		}
	}
	cache := CacheHit
	object := ref.WithDigest(ref.Digest)
	var target Target
	if ref.Digest == "" {
		if target, err = g.target(ctx, image, ref.Tag); err != nil {
			return nil, none, err
		}
		if object.Digest, cache, err = g.tagged(ctx, image, ref, target); err != nil {
			return nil, none, err
		}
	}
	var content *storage.Content
	admission, admitted, err := g.admission(ctx, image, object, document)
	if cache = cache.and(admitted); err == nil {
		if cache == CacheHit { // else there is a link to the work that admitted it
			g.trace.linkTo(ctx, g.admitters.of(object.Name(), object.Digest), LinkAdmitted)
		}
		var stored Cache
		content, stored, err = g.content(ctx, image, object, admission)
		cache = cache.and(stored)
	}
	if reason := ReasonOf(err); ref.Digest == "" && object.Digest != target.Digest && (reason == NotFound || reason == LayerMismatch) {
		if err := g.store.UnbindTag(ctx, ref.Name(), ref.Tag, target.Digest); err != nil {
			return nil, none, storageError(err)
		}
		return nil, none, &staleTagError{err}
	}
	if err == nil {
		g.observe(Event{Kind: Opened, Cache: cache, Document: document})
		g.trace.noteCache(ctx, cache)
		g.fetchAhead(image, object, admission)
	}
	return content, admission, err
}

// tagged resolves a tag to the digest that is served for it. In the signed
// repository that is the signed digest. In a copy it is the digest of the copy's
// own document, if that is admitted for the signed one; it is asked for once.
func (g *Gate) tagged(ctx context.Context, image *Image, ref Ref, target Target) (digest.Digest, Cache, error) {
	if ref.Name() == image.Signed.Name() {
		return target.Digest, CacheHit, nil
	}
	bound, err := g.bound(ctx, ref, target)
	if bound != "" || err != nil {
		return bound, CacheHit, err
	}
	set, err := image.Source.Targets(ctx)
	if err != nil {
		return "", CacheMiss, err
	}
	w := work{span: "verify.copy", about: ref, key: "resolve " + ref.String()}
	return share(ctx, g, w, set, func(ctx context.Context) (digest.Digest, error) {
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
func (g *Gate) admission(ctx context.Context, image *Image, ref Ref, document bool) (storage.Admission, Cache, error) {
	set, err := g.targets(ctx, image)
	if err != nil {
		return storage.Admission{}, CacheMiss, err
	}
	admission, err := g.admitted(ctx, image, set, ref, document)
	if err == nil || !undecided(err) {
		return admission, CacheHit, err
	}
	w := work{span: "verify.layer", about: ref, key: admitKey(ref.String(), document)}
	if document {
		w.span = "verify.index"
		if ref.Name() != image.Signed.Name() {
			w.span = "verify.copy"
		}
	}
	return share(ctx, g, w, set, func(ctx context.Context) (storage.Admission, error) {
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

// admitKey is the key of the work that admits an object.
func admitKey(ref string, document bool) string {
	if document {
		return "admit manifest " + ref
	}
	return "admit blob " + ref
}

// undecided tells whether err only says that nothing was admitted yet.
func undecided(err error) bool {
	reason := ReasonOf(err)
	return reason == NotAdmitted || reason == Superseded
}

// admitted looks an admission up that holds now: *Refusal with NotAdmitted or
// Superseded if there is none.
func (g *Gate) admitted(ctx context.Context, image *Image, set *TargetSet, ref Ref, document bool) (storage.Admission, error) {
	records, err := g.store.RecentAdmissions(ctx, ref.Name(), ref.Digest)
	if err != nil {
		return storage.Admission{}, storageError(err)
	}
	var best storage.Admission
	held := unrecorded
	for i := range records.Len() {
		a := records.At(i)
		if isDocument(a.Kind) != document {
			continue
		}
		if err := notBrokenBy(a); err != nil {
			return storage.Admission{}, err
		}
		if standing := g.standing(image, set.ByDigest(a.Signed)); standing > held { // the oldest of the best
			best, held = a, standing
		}
	}
	switch held {
	case signedNow, signedLately:
		return best, nil
	case superseded:
		return storage.Admission{}, Refuse(Superseded, "%s belongs to %s of tag %s, which is no longer signed; pull the tag again", ref.Digest, best.Signed, best.Tag)
	}
	return storage.Admission{}, Refuse(NotAdmitted, "nothing that is signed for %s leads to %s", image.Signed.Name(), ref.Digest)
}

// content opens what an admission admits, fetching it again if storage lost it.
func (g *Gate) content(ctx context.Context, image *Image, ref Ref, a storage.Admission) (*storage.Content, Cache, error) {
	cache := CacheHit
	if isDocument(a.Kind) || a.Kind == storage.KindConfig && a.Size <= MaxDocument {
		if content := g.store.remembered(ctx, a.Digest, a.Size); content != nil {
			return content, cache, nil
		}
		raw, err := g.stored(ctx, a.Digest, a.Size)
		if errors.Is(err, storage.ErrNotFound) {
			cache = CacheMiss
			raw, err = g.bytes(ctx, image, ref, a)
		}
		if err != nil {
			return nil, cache, err
		}
		return storage.InMemory(a.Digest, raw), cache, nil
	}
	for range 2 {
		content, err := g.store.OpenSized(ctx, a.Digest, a.Size)
		switch {
		case err == nil && content.Size == a.Size:
			return content, cache, nil
		case err == nil: // S5: a size that changed is a sign of damage
			if err := errors.Join(content.Close(), g.store.Quarantine(ctx, a.Digest)); err != nil {
				return nil, cache, storageError(err)
			}
		case !errors.Is(err, storage.ErrNotFound):
			return nil, cache, storageError(err)
		}
		cache = CacheMiss
		if err := g.blob(ctx, image, ref, a.Size, nil); err != nil {
			return nil, cache, err
		}
	}
	return nil, cache, Unavailable(StorageUnavailable, "%s is gone from storage again right after it was stored", a.Digest)
}

// conclude fills in what was asked for, and tells the decision log.
func (g *Gate) conclude(ctx context.Context, ref Ref, err error) error {
	if err == nil {
		return nil
	}
	var refusal *Refusal
	if !errors.As(err, &refusal) {
		return err
	}
	told := *refusal // shared with other askers
	told.Ref = ref
	g.decided(ctx, g.decision(Decision{At: g.now(), Ref: ref, Refusal: &told}))
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
