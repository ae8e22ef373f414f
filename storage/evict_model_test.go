package storage

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// modelled is what the model knows of an object.
type modelled struct {
	size int64
	used time.Time
	open []*Content
}

func (m *modelled) spared(now time.Time) bool { return len(m.open) > 0 || now.Sub(m.used) < spared }

// TestEvictionModel stores, reads and evicts at random, restarts in between, and
// compares with what should be.
func TestEvictionModel(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { testEvictionModel(t, rand.New(rand.NewPCG(seed, 0))) })
	}
}

func testEvictionModel(t *testing.T, random *rand.Rand) {
	const limit = 20_000
	e := newEvictor(t, limit)
	model := make(map[digest.Digest]*modelled)
	used := func(d digest.Digest) { model[d].used = e.clock() }
	close := func(d digest.Digest) {
		m := model[d]
		if err := m.open[0].Close(); err != nil {
			t.Fatal(err)
		}
		m.open = m.open[1:]
		used(d)
	}
	evictions, kept := 0, 0
	for range 800 {
		e.pass(time.Duration(1+random.IntN(60)) * time.Second)
		some := slices.Sorted(maps.Keys(model))
		var one digest.Digest
		if len(some) > 0 {
			one = some[random.IntN(len(some))]
		}
		switch what := random.IntN(20); {
		case what < 9 || one == "":
			i := random.IntN(200)
			size := 8 * (1 + i*3%300)
			if i == 7 {
				size = limit + 1000
			}
			d := e.put(i, size)
			if model[d] == nil {
				model[d] = &modelled{size: int64(size / 8 * 8)}
			}
			used(d)
		case what < 13:
			e.read(one)
			used(one)
		case what < 14:
			model[one].open = append(model[one].open, e.open(one))
			used(one)
		case what < 16:
			if len(model[one].open) > 0 {
				close(one)
			}
		case what < 17:
			e.Used(one)
			used(one)
		case what < 18 && random.IntN(10) == 0: // a restart
			for d, m := range model {
				for len(m.open) > 0 {
					close(d)
				}
			}
			e.saveObjects(t.Context(), endedFile)
			e.start()
			if !e.loadObjects(t.Context()) {
				t.Fatal("what was written down is not complete")
			}
		default:
			e.evict(t.Context())
			e.right()
			evictions += checkEvicted(t, e, model, limit)
			if e.EvictionState().Excess > 0 {
				kept++
			}
		}
	}
	for d, m := range model {
		for len(m.open) > 0 {
			close(d)
		}
	}
	e.pass(spared)
	e.evict(t.Context())
	evictions += checkEvicted(t, e, model, limit)
	if _, bytes := e.objects.total(); bytes > limit || e.EvictionState().Excess != 0 {
		t.Errorf("%d bytes are left above the limit: %+v", bytes, e.EvictionState())
	}
	if evictions < 50 || kept == 0 {
		t.Errorf("only %d evictions, %d rounds that couldn't keep the limit", evictions, kept)
	}
}

// checkEvicted checks what a round did, and takes it over into the model.
func checkEvicted(t *testing.T, e *evictor, model map[digest.Digest]*modelled, limit int64) int {
	t.Helper()
	has, now := e.has(), e.clock()
	var before, after, normal int64
	var last time.Time // when what was evicted last had been used
	evicted := 0
	for d, m := range model {
		before += m.size
		if _, ok := has[d]; ok {
			after += m.size
			if m.size <= limit {
				normal += m.size
			}
			continue
		}
		evicted++
		if m.spared(now) {
			t.Fatalf("evicted, though %d read it and it was used %v ago", len(m.open), now.Sub(m.used))
		}
		if m.size <= limit && m.used.After(last) {
			last = m.used
		}
	}
	if before <= limit && evicted > 0 {
		t.Fatalf("%d were evicted from %d bytes, which are below the limit", evicted, before)
	}
	if got := e.EvictionState().Excess; got != max(0, after-limit) {
		t.Fatalf("the excess is %d of %d bytes", got, after)
	}
	for d, m := range model {
		if _, ok := has[d]; !ok {
			delete(model, d)
			continue
		}
		idle := !m.spared(now)
		if idle && m.size <= limit && m.used.Before(last) {
			t.Fatalf("kept, though used at %v, and what was used at %v was evicted", m.used, last)
		}
		if idle && before > limit && (m.size > limit || normal > limit/100*evictTo) {
			t.Fatalf("%d bytes are kept, an object of %d among them that nobody used for %v", after, m.size, now.Sub(m.used))
		}
	}
	return evicted
}
