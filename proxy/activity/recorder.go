package activity

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trustmirror/trustmirror/proxy"
	"github.com/trustmirror/trustmirror/verify"
)

const (
	// remembered is how many refusals are remembered, a few hundred bytes each, at
	// most 2.5 KiB.
	remembered = 10_000
	// queued is how many lines wait to be written.
	queued = 4096
	// window is how long the same refusal is counted instead of written again.
	window = 10 * time.Second
	// maxWindow is how many different refusals are compared within a window;
	// further ones are written as they come.
	maxWindow = 10_000
)

// Config says what a Recorder does.
type Config struct {
	// File is the decision log; its folder has to exist. "": decisions go to Log,
	// each as it is made.
	File string
	// MaxSize is how many bytes the file has before it becomes File.1, and that
	// File.2 and so on. 0: 100 MiB.
	MaxSize int64
	// Keep is how many such older files there are at most. 0: 5.
	Keep int
	// Log gets decisions if there is no file, and what goes wrong with the file, at
	// most once a minute. nil: nobody is told.
	Log *slog.Logger
}

// The defaults of Config.
const (
	DefaultMaxSize = 100 << 20
	DefaultKeep    = 5
)

// Recorder records decisions and pulls. It is safe for concurrent use.
type Recorder struct {
	log     *slog.Logger
	file    *file // nil: decisions go to log; the goroutine owns it
	now     func() time.Time
	done    chan struct{} // closed when the goroutine has ended
	dropped atomic.Uint64 // lines lost

	told       uint64    // of dropped, what the file tells; the goroutine's
	complained time.Time // when log was told last; the goroutine's

	mu      sync.Mutex // guards what follows, never for long
	closed  bool
	queue   chan event
	ring    []*entry // remembered; ring[next] is the oldest
	next    int
	current map[sameness]*entry // refusals of this window

	pulling sync.Mutex // guards pulls
	pulls   map[*proxy.Pull]struct{}
}

var _ proxy.Pulls = (*Recorder)(nil)

// entry is a refusal that may be repeated.
type entry struct {
	Refusal               // immutable; its Repeated is in again
	again   atomic.Uint64 // how often it came again
	last    time.Time     // when; guarded by mu while in current
}

// sameness is what two refusals have in common that are the same.
type sameness struct {
	ref             verify.Ref
	name, reference string // where ref is zero
	reason          verify.Reason
	client          string
}

// New makes a Recorder; Close it when done. An error says why the file can't be
// written, and what to do.
func New(c Config) (*Recorder, error) {
	r, err := newRecorder(c)
	if err != nil {
		return nil, err
	}
	go r.run()
	return r, nil
}

// newRecorder makes a Recorder that doesn't run yet.
func newRecorder(c Config) (*Recorder, error) {
	r := &Recorder{
		log: c.Log, now: time.Now, done: make(chan struct{}), queue: make(chan event, queued),
		current: make(map[sameness]*entry), pulls: make(map[*proxy.Pull]struct{}),
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if c.MaxSize < 0 || c.Keep < 0 {
		return nil, fmt.Errorf("a decision log of %d bytes, %d times: neither may be negative", c.MaxSize, c.Keep)
	}
	if c.File == "" {
		return r, nil
	}
	if c.MaxSize == 0 {
		c.MaxSize = DefaultMaxSize
	}
	if c.Keep == 0 {
		c.Keep = DefaultKeep
	}
	var err error
	r.file, err = openFile(c.File, c.MaxSize, c.Keep)
	return r, err
}

// Decided records a decision (verify.GateConfig.Decided, proxy.Config.Decided). It
// waits for nothing; without a file, for the log.
func (r *Recorder) Decided(ctx context.Context, d verify.Decision) {
	asked := proxy.AskedOf(ctx)
	if d.Refusal == nil {
		r.tell(ctx, event{admitted: d, asked: asked})
		return
	}
	e := &entry{Refusal: refusalOf(d, asked)}
	if r.remember(e) || r.file == nil {
		r.tell(ctx, event{refused: e})
	}
}

// tell hands a decision to who writes it.
func (r *Recorder) tell(ctx context.Context, e event) {
	if r.file == nil {
		e.log(ctx, r.log)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		select {
		case r.queue <- e:
			return
		default:
		}
	}
	r.dropped.Add(1)
}

// remember puts a refusal into the ring, unless the same is there already of this
// window; then that is counted.
func (r *Recorder) remember(e *entry) (isNew bool) {
	same := e.sameness()
	r.mu.Lock()
	defer r.mu.Unlock()
	if first, ok := r.current[same]; ok {
		first.again.Add(1)
		first.last = e.At
		return false
	}
	if len(r.current) < maxWindow {
		r.current[same] = e
	}
	if len(r.ring) < remembered {
		r.ring = append(r.ring, e)
		return true
	}
	r.ring[r.next] = e
	r.next = (r.next + 1) % remembered
	return true
}

func (e *entry) sameness() sameness {
	s := sameness{ref: e.Ref, reason: e.Reason, client: e.Client}
	if e.Ref.Registry == "" {
		s.name, s.reference = e.Name, e.Reference
	}
	return s
}

// Refusals returns the latest refusals, newest first.
func (r *Recorder) Refusals(f Filter) []Refusal {
	all := make([]*entry, 0, remembered)
	r.mu.Lock()
	all = append(append(all, r.ring[r.next:]...), r.ring[:r.next]...)
	r.mu.Unlock()
	all = slices.DeleteFunc(all, func(e *entry) bool {
		return f.Reason != "" && f.Reason != e.Reason || f.Image != "" && f.Image != e.Image
	})
	if f.Limit > 0 {
		all = all[max(0, len(all)-f.Limit):]
	}
	found := make([]Refusal, 0, len(all))
	for _, e := range slices.Backward(all) {
		refusal := e.Refusal
		refusal.Repeated = e.again.Load()
		found = append(found, refusal)
	}
	return found
}

// Dropped is how many lines the decision log has lost: the queue was full, or the
// file couldn't be written.
func (r *Recorder) Dropped() uint64 { return r.dropped.Load() }

// Begin implements proxy.Pulls.
func (r *Recorder) Begin(p *proxy.Pull) {
	r.pulling.Lock()
	r.pulls[p] = struct{}{}
	r.pulling.Unlock()
}

// End implements proxy.Pulls.
func (r *Recorder) End(p *proxy.Pull) {
	r.pulling.Lock()
	delete(r.pulls, p)
	r.pulling.Unlock()
}

// Pulls returns the pulls under way, oldest first.
func (r *Recorder) Pulls() []Pull {
	pulls := []Pull{}
	r.pulling.Lock()
	for p := range r.pulls {
		pulls = append(pulls, Pull{
			Began: p.At, Ref: p.Ref, Kind: p.Kind, Client: p.Client, UserAgent: p.UserAgent, TraceID: p.TraceID,
			Sent: p.Sent(), Size: p.Size(),
		})
	}
	r.pulling.Unlock()
	slices.SortFunc(pulls, func(a, b Pull) int { return a.Began.Compare(b.Began) })
	return pulls
}

// Close writes what waits to be written, and closes the file. Decisions after that
// are lost.
func (r *Recorder) Close() error {
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		close(r.queue)
	}
	r.mu.Unlock()
	<-r.done
	if r.file == nil {
		return nil
	}
	return r.file.close()
}
