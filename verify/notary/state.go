package notary

import (
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify"
)

// state is what a Source relies on at one time. But for set it never changes.
type state struct {
	repo       *repository
	accepted   time.Time // when repo was
	verdicts   map[string]verdict
	signed     []verify.Target
	superseded []verify.Target // what lately ceased to be signed, with the time

	mu    sync.Mutex // guards set
	set   *verify.TargetSet
	until time.Time // when set has to be made again, because something is forgotten
}

func newState(repo *repository, order []string, accepted time.Time) *state {
	st := &state{repo: repo, accepted: accepted, verdicts: repo.verdicts(order)}
	st.signed = signed(st.verdicts)
	return st
}

// pair is a digest that was signed for a tag.
type pair struct {
	tag    string
	digest digest.Digest
}

// supersede notes what a state vouched for that was replaced at a time. Newer
// ones come before older ones.
func (st *state) supersede(targets []verify.Target, at time.Time) {
	known := make(map[pair]bool)
	for _, t := range slices.Concat(st.signed, st.superseded) {
		known[pair{t.Tag, t.Digest}] = true
	}
	for _, t := range targets {
		if known[pair{t.Tag, t.Digest}] {
			continue
		}
		if t.Superseded.IsZero() {
			t.Superseded = at
		}
		if at.Sub(t.Superseded) < keepSuperseded {
			st.superseded = append(st.superseded, t)
		}
	}
}

// follow makes st the successor of another state: it notes what ceased to be
// signed, and keeps the set if nothing changed in it.
func (st *state) follow(before *state, at time.Time) {
	st.supersede(before.signed, at)
	st.supersede(before.superseded, at)
	if !slices.EqualFunc(st.signed, before.signed, sameTarget) || !slices.EqualFunc(st.superseded, before.superseded, sameTarget) {
		return
	}
	before.mu.Lock()
	defer before.mu.Unlock()
	st.set, st.until = before.set, before.until
}

func sameTarget(a, b verify.Target) bool {
	return a.Tag == b.Tag && a.Digest == b.Digest && a.Size == b.Size && a.Superseded.Equal(b.Superseded) && slices.Equal(a.Signers, b.Signers)
}

// targets returns the set for a time: the same one until something is forgotten.
func (st *state) targets(now time.Time) *verify.TargetSet {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.set != nil && (st.until.IsZero() || now.Before(st.until)) {
		return st.set
	}
	all := slices.Clone(st.signed)
	st.until = time.Time{}
	for _, t := range st.superseded {
		end := t.Superseded.Add(keepSuperseded)
		if !now.Before(end) {
			continue
		}
		all = append(all, t)
		if st.until.IsZero() || end.Before(st.until) {
			st.until = end
		}
	}
	st.set = verify.NewTargetSet(all)
	return st.set
}

// versions lists the version of each role.
func (r *repository) versions() map[string]int64 {
	versions := make(map[string]int64)
	for _, d := range r.documents() {
		versions[d.role] = d.version
	}
	return versions
}
