package notary_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// liveSource makes a Source whose clock is that of the synctest bubble, which
// begins long before the metadata expire.
func liveSource(w *world) *notary.Source {
	w.tb.Helper()
	begin := time.Now()
	s, err := notary.New(notary.Config{
		GUN: gun, Pins: w.pins, Fetcher: w.service, Store: w.store,
		Clock: func() time.Time { return w.clock.Now().Add(time.Since(begin)) },
	})
	if err != nil {
		w.tb.Fatal(err)
	}
	return s
}

// block makes the service hang until the function it returns is called.
func (w *world) block() (release func()) {
	gate := make(chan struct{})
	w.service.Fail(func(string) error { <-gate; return nil })
	return func() { close(gate) }
}

func TestAskersShareAQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := liveSource(w)
		release := w.block()
		patient := 0
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				ctx := context.Background()
				if i%2 == 0 { // half of them leave after a second
					var cancel func()
					ctx, cancel = context.WithTimeout(ctx, time.Second)
					defer cancel()
				}
				target, err := s.Target(ctx, "0.1.19")
				if i%2 == 0 {
					wantReason(t, err, verify.TrustUnavailable, "in time")
					return
				}
				if err != nil || target.Digest != digestA {
					t.Errorf("asker %d got %v, %v", i, target, err)
				}
				mu.Lock()
				patient++
				mu.Unlock()
			})
		}
		time.Sleep(2 * time.Second) // of the bubble: all who leave have left
		synctest.Wait()
		if got := len(w.service.Requests()); got != 1 {
			t.Errorf("%d requests while the first hangs", got)
		}
		release()
		wg.Wait()
		if got := len(w.service.Requests()); got != 3 || patient != 50 {
			t.Errorf("%d further requests for %d askers", got, patient)
		}
	})
}

// heldFetcher asks nobody before its gate opens, and gives up with the context.
type heldFetcher struct {
	notary.Fetcher
	gate chan struct{}
}

func (f heldFetcher) Fetch(ctx context.Context, gun, name string, limit int64) ([]byte, error) {
	select {
	case <-f.gate:
		return f.Fetcher.Fetch(ctx, gun, name, limit)
	case <-ctx.Done():
		return nil, verify.Unavailable(verify.TrustUnavailable, "%w", ctx.Err())
	}
}

// Who asked first leaves; who asked next gets the answer (S4).
func TestFirstAskerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		fetcher := heldFetcher{w.service, make(chan struct{})}
		s, err := notary.New(notary.Config{GUN: gun, Pins: w.pins, Fetcher: fetcher, Store: w.store, Clock: w.clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		first, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() { _, err := s.Target(first, "0.1.19"); left <- err }()
		synctest.Wait()
		answer := make(chan error, 1)
		go func() { _, err := s.Target(t.Context(), "0.1.19"); answer <- err }()
		synctest.Wait()
		leave()
		wantReason(t, <-left, verify.TrustUnavailable, "in time")
		synctest.Wait()
		close(fetcher.gate)
		if err := <-answer; err != nil {
			t.Error(err)
		}
	})
}

func TestKnownTagsDontWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		wantTarget(t, liveSource(w), "0.1.19", digestA)
		release := w.block()
		defer synctest.Wait()
		defer release()
		s := liveSource(w) // restarted
		done := make(chan struct{})
		go func() { defer close(done); _ = s.Refresh(context.Background()) }()
		synctest.Wait() // the refresh hangs
		begin := time.Now()
		wantTarget(t, s, "0.1.19", digestA)
		unknown, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := s.Target(unknown, "0.2")
		wantReason(t, err, verify.TrustUnavailable, "in time")
		if waited := time.Since(begin); waited != time.Second {
			t.Errorf("waited %v", waited)
		}
	})
}

func TestAttack13_ServiceHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		release := w.block()
		defer synctest.Wait()
		defer release()
		s := liveSource(w)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, err := s.Target(ctx, "0.1.19")
		wantReason(t, err, verify.TrustUnavailable, "in time")
	})
}

func TestRefreshAsksAfterTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := liveSource(w)
		refresh(t, s)
		w.service.Requests()
		release := w.block()
		go func() { _ = s.Refresh(context.Background()) }()
		synctest.Wait() // its question was asked before the one below
		result := make(chan error, 1)
		go func() { result <- s.Refresh(context.Background()) }()
		synctest.Wait()
		w.Sign("0.2", digestB, 5)
		w.Publish("targets")
		release()
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		wantTarget(t, s, "0.2", digestB)
	})
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := liveSource(w)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()

		time.Sleep(2*time.Second + 1) // nothing is known, so the first comes soon
		synctest.Wait()
		if s.Status().Versions == nil {
			t.Error("the service wasn't asked soon, though nothing can be served before")
		}
		wantTarget(t, s, "0.1.19", digestA)
		w.service.Requests()

		time.Sleep(110 * time.Minute) // give or take a tenth
		synctest.Wait()
		if got := len(w.service.Requests()); got < 2*10 || got > 2*12 {
			t.Errorf("%d requests in 110 minutes", got)
		}

		w.service.Down()
		time.Sleep(22 * time.Minute)
		synctest.Wait()
		if got := len(w.service.Requests()); got < 4 || got > 10 {
			t.Errorf("%d requests in 22 minutes to a service that is down", got)
		}

		w.service.Fail(nil)
		w.Sign("0.2", digestB, 5)
		w.Publish("targets")
		time.Sleep(12 * time.Minute)
		synctest.Wait()
		w.service.Requests()
		wantTarget(t, s, "0.2", digestB)
		if got := w.service.Requests(); len(got) > 0 {
			t.Errorf("a tag that a refresh brought asked for %q", got)
		}

		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
}

// What a client asked for just now isn't asked for again in the background.
func TestRunAfterDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := liveSource(w)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		wantTarget(t, s, "0.1.19", digestA)
		asked := len(w.service.Requests())
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if again := w.service.Requests(); asked == 0 || len(again) > 0 {
			t.Errorf("%d requests on demand, and then %q", asked, again)
		}
		cancel()
		<-ended
	})
}

func TestRunEndsWhileTheServiceHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := liveSource(w)
		hang := make(chan struct{})
		w.service.Fail(func(string) error { <-hang; return nil })
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		time.Sleep(2 * time.Minute)
		cancel()
		synctest.Wait()
		select {
		case <-ended:
			t.Error("Run ended before its refresh")
		default:
		}
		close(hang)
		<-ended
	})
}

// Two processes share a store, and the service shows newer metadata to one of them
// only, then goes back for both.
func TestAttack2_RolledBackBehindAnotherProcess(t *testing.T) {
	w := newWorld(t)
	one, two := w.source(), w.source()
	wantTarget(t, one, "0.1.19", digestA)
	wantTarget(t, two, "0.1.19", digestA)
	old := w.service.Files(gun)
	w.Sign("0.1.19", digestB, 1)
	w.Publish("targets")
	refresh(t, one)
	wantTarget(t, one, "0.1.19", digestB)
	w.service.Serve(gun, old)
	wantReason(t, two.Refresh(t.Context()), verify.Rollback, "was accepted before")
	wantTarget(t, two, "0.1.19", digestB)
}
