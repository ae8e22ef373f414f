package warm_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
	"github.com/trustmirror/trustmirror/verify/warm"
)

// kept is a Keeper that runs in a synctest bubble, and what it told.
type kept struct {
	*world
	keeper  *warm.Keeper
	changed chan struct{}
	stop    context.CancelFunc
	ended   chan struct{}
	told    []string // guarded by mu
	known   bool     // guarded by mu: whether what is signed is known yet
}

func keep(t *testing.T, w *world, patterns []string, platforms ...warm.Platform) *kept {
	k := &kept{world: w, changed: make(chan struct{}, 1), ended: make(chan struct{}), known: true}
	k.keeper = warm.NewKeeper(warm.KeeperConfig{
		Images: []warm.Wanted{{
			Signed: ref(t, hubName), Copies: []verify.Ref{ref(t, ecrName)}, Tags: patterns, Platforms: platforms,
			Targets: func(ctx context.Context) (*verify.TargetSet, error) {
				k.mu.Lock()
				defer k.mu.Unlock()
				if !k.known {
					return nil, nil
				}
				return w.source.Targets(ctx)
			},
		}},
		Mirror: w.mirror, Changed: k.changed,
		Told: func(image *warm.Image, again time.Duration) {
			k.mu.Lock()
			defer k.mu.Unlock()
			registry, _, _ := strings.Cut(image.Ref.Name(), "/")
			line := fmt.Sprintf("%s:%s", registry, image.Ref.Tag)
			if again > 0 {
				line += fmt.Sprintf(" %v, again after %v", reasons(image), again)
			}
			k.told = append(k.told, line)
		},
	})
	return k
}

func (k *kept) run() {
	ctx, stop := context.WithCancel(context.Background())
	k.stop = stop
	go func() {
		defer close(k.ended)
		k.keeper.Run(ctx)
	}()
}

// end stops the Keeper and waits for its end.
func (k *kept) end() {
	k.stop()
	<-k.ended
}

// wants waits until the Keeper has nothing to do, and compares what it told since.
func (k *kept) wants(missing int, lines ...string) {
	k.t.Helper()
	synctest.Wait()
	k.mu.Lock()
	told := k.told
	k.told = nil
	k.mu.Unlock()
	if !slices.Equal(told, lines) {
		k.t.Errorf("told %q\nwant %q", told, lines)
	}
	if got := k.keeper.Missing(); got[0] != missing {
		k.t.Errorf("%d are missing, want %d", got[0], missing)
	}
}

// A new signed tag is warmed when it appears, by both names, and a tag for which
// another digest is signed is warmed again. What is warm is left alone.
func TestKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.publish("0.1.18", verifytest.Format{})
		hub, ecr := w.publish("0.1.19", verifytest.Format{})
		w.publish("0.2.0", verifytest.Format{})
		k := keep(t, w, []string{"0.1.*", "latest"})
		k.run()
		defer k.end()
		k.wants(0, "docker.io:0.1.19", "public.ecr.aws:0.1.19", "docker.io:0.1.18", "public.ecr.aws:0.1.18")
		for _, d := range append(append(hub.Blobs(amd64), ecr.Blobs(arm64)...), hub.Root, ecr.Root) {
			if content, err := w.store.OpenContent(t.Context(), d); err != nil {
				t.Errorf("%s isn't stored: %v", d, err)
			} else {
				content.Close()
			}
		}

		w.fetched()
		k.changed <- struct{}{} // nothing is new
		k.wants(0)
		w.publish("0.3.0", verifytest.Format{}) // matches nothing
		k.changed <- struct{}{}
		k.wants(0)
		if w.fetched() {
			t.Error("a registry was asked for nothing new")
		}

		w.publish("0.1.20", verifytest.Format{})
		k.changed <- struct{}{}
		k.wants(0, "docker.io:0.1.20", "public.ecr.aws:0.1.20")

		release := verifytest.NewRelease("another", amd64)
		moved := release.Push(w.hub, repo, verifytest.Format{Tags: []string{"0.1.19"}})
		release.Push(w.ecr, repo, verifytest.Format{Tags: []string{"0.1.19"}})
		w.source.Sign("0.1.19", moved.Root, moved.Size, time.Now())
		k.changed <- struct{}{}
		k.wants(0, "docker.io:0.1.19", "public.ecr.aws:0.1.19")

		w.source.Unsign("0.1.18", time.Now())
		k.changed <- struct{}{}
		k.wants(0)
	})
}

// Until something is known to be signed, nobody is asked.
func TestKeeperWaitsForTrust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.publish("0.1.19", verifytest.Format{})
		k := keep(t, w, []string{"*"}, warm.Platform{OS: "linux", Architecture: "amd64"})
		k.known = false
		k.run()
		defer k.end()
		time.Sleep(24 * time.Hour) // of the bubble
		k.wants(0)
		if w.fetched() {
			t.Error("a registry was asked")
		}
		w.source.Fail(verify.Unavailable(verify.TrustUnavailable, "it is down"))
		k.mu.Lock()
		k.known = true
		k.mu.Unlock()
		k.changed <- struct{}{}
		k.wants(0)
		w.source.Fail(nil)
		k.changed <- struct{}{}
		k.wants(0, "docker.io:0.1.19", "public.ecr.aws:0.1.19")
	})
}

// A copy that lags behind, and one that is refused, are asked for again after longer
// and longer pauses; others go on meanwhile.
func TestKeeperTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		release := verifytest.NewRelease("0.1.19", amd64)
		hub := release.Push(w.hub, repo, verifytest.Format{Tags: []string{"0.1.19"}})
		w.source.Sign("0.1.19", hub.Root, hub.Size, time.Now())
		w.publish("0.1.18", verifytest.Format{Layers: "tar", ChangeLayer: func(platform string, i int, packed []byte) []byte {
			if platform == amd64 && i == 1 {
				return verifytest.Tar("usr/local/bin/webdis", "something else")
			}
			return packed
		}})
		k := keep(t, w, []string{"0.1.*"})
		k.run()
		defer k.end()
		const gone, wrong = "public.ecr.aws:0.1.19 [ not_found], again after ", "public.ecr.aws:0.1.18 [layer layer_mismatch], again after "
		k.wants(2, "docker.io:0.1.19", gone+"1m0s", "docker.io:0.1.18", wrong+"1m0s")
		// Its layer marks the whole document as broken, also for who asks again.
		const broken = "public.ecr.aws:0.1.18 [ layer_mismatch], again after "
		for _, pause := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 32 * time.Minute, time.Hour} {
			time.Sleep(pause - time.Second)
			k.wants(2)
			time.Sleep(time.Second)
			next := min(2*pause, time.Hour).String()
			k.wants(2, gone+next, broken+next)
		}
		release.Push(w.ecr, repo, verifytest.Format{Tags: []string{"0.1.19"}, Level: 1})
		time.Sleep(time.Hour)
		k.wants(1, "public.ecr.aws:0.1.19", broken+"1h0m0s")
	})
}

// A registry that asks to be left alone is left alone for that long.
func TestKeeperHeedsRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.publish("0.1.19", verifytest.Format{})
		k := keep(t, w, []string{"*"})
		k.run()
		defer k.end()
		k.wants(0, "docker.io:0.1.19", "public.ecr.aws:0.1.19")
		w.mu.Lock()
		w.failing = &verify.UnavailableError{Reason: verify.RateLimited, Detail: "later", RetryAfter: 3 * time.Hour}
		w.mu.Unlock()
		w.publish("0.1.20", verifytest.Format{})
		k.changed <- struct{}{}
		k.wants(2, "docker.io:0.1.20 [ rate_limited], again after 3h0m0s", "public.ecr.aws:0.1.20 [ rate_limited], again after 3h0m0s")
	})
}

// The end doesn't wait for a download that hangs, and nothing is left of it.
func TestKeeperEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.publish("0.1.19", verifytest.Format{})
		reached, free := make(chan struct{}, 16), make(chan struct{})
		w.block = func(verify.Ref) {
			reached <- struct{}{}
			<-free
		}
		k := keep(t, w, []string{"*"})
		k.run()
		<-reached
		k.end()
		k.wants(2) // it is nobody's fault
		close(free)
	})
}
