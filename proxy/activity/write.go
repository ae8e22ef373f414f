package activity

import (
	"slices"
	"time"
)

// complainEvery is how often the mirror's log is told that the file can't be
// written.
const complainEvery = time.Minute

// run writes what is queued, until Close.
func (r *Recorder) run() {
	defer close(r.done)
	tick := time.NewTicker(window)
	defer tick.Stop()
	for {
		select {
		case e, more := <-r.queue:
			if !more {
				r.turn()
				return
			}
			r.write(e.line())
		case <-tick.C:
			r.turn()
		}
	}
}

// turn ends a window: what came again in it is written with its number.
func (r *Recorder) turn() {
	r.mu.Lock()
	ended := r.current
	r.current = make(map[sameness]*entry)
	r.mu.Unlock()
	if r.file == nil {
		return
	}
	var again []*entry
	for _, e := range ended {
		if e.again.Load() > 0 {
			again = append(again, e)
		}
	}
	slices.SortFunc(again, func(a, b *entry) int { return a.last.Compare(b.last) })
	for _, e := range again {
		refusal := e.Refusal
		refusal.At, refusal.Repeated = e.last, e.again.Load()
		r.write(refusedLine(refusal))
	}
	r.writeDropped()
}

// write writes a line, after one that says how many were lost before it.
func (r *Recorder) write(l line) {
	r.writeDropped()
	if !r.put(l) {
		r.dropped.Add(1)
	}
}

func (r *Recorder) writeDropped() {
	lost := r.dropped.Load()
	if lost > r.told && r.put(line{Time: r.now().UTC(), Verdict: "dropped", Dropped: lost - r.told}) {
		r.told = lost
	}
}

// put appends a line to the file, and complains when something is wrong with it.
func (r *Recorder) put(l line) (written bool) {
	written, err := r.file.append(l.encode())
	if now := r.now(); err != nil && now.Sub(r.complained) >= complainEvery {
		r.complained = now
		r.log.Error("the decision log can't be written as it should be; pulls go on",
			"file", r.file.path, "lines_lost", r.dropped.Load(), "error", err)
	}
	return written
}
