package verify_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// TestAttack29_Askers has 1,000 ask for one cold blob, half of whom leave before
// it arrives: one request, and everybody who stays gets it (S4).
func TestAttack29_Askers(t *testing.T) {
	w := newWorld(t)
	hub, _ := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	arrived, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	layer := ref(t, hubName).WithDigest(hub.Layers[amd64][1])
	w.hook(&hooked{blob: func(ctx context.Context, asked verify.Ref) error {
		if asked.Digest != layer.Digest {
			return nil
		}
		once.Do(func() { close(arrived) })
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}})
	for _, name := range []string{":0.1.19", "@" + hub.Manifests[amd64].String()} {
		if _, _, err := w.read(ref(t, hubName+name), true); err != nil {
			t.Fatal(err)
		}
	}
	w.hub.Requests()
	ctx, leave := context.WithCancel(t.Context())
	var stay, left sync.WaitGroup
	left.Go(func() { // the first asker leaves as well
		if _, _, err := w.gate.Blob(ctx, layer); !errors.Is(err, context.Canceled) {
			t.Errorf("an asker who left: %v", err)
		}
	})
	<-arrived
	for i := range 999 {
		if i%2 == 0 {
			left.Go(func() {
				if _, _, err := w.gate.Blob(ctx, layer); !errors.Is(err, context.Canceled) {
					t.Errorf("an asker who left: %v", err)
				}
			})
			continue
		}
		stay.Go(func() {
			content, _, err := w.gate.Blob(t.Context(), layer)
			if err != nil {
				t.Errorf("an asker who stayed: %v", err)
				return
			}
			content.Close()
		})
	}
	leave()
	left.Wait()
	close(release)
	stay.Wait()
	if asked := w.hub.Counts(); len(asked) != 1 || asked["GET "+hubRepo+"/blobs/"+layer.Digest.String()] != 1 {
		t.Errorf("asked %v", asked)
	}
}

// TestAttack29_Closed ends a gate while somebody waits.
func TestAttack29_Closed(t *testing.T) {
	w := newWorld(t)
	w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	arrived := make(chan struct{})
	w.hook(&hooked{manifest: func(ctx context.Context, _ verify.Ref) error {
		close(arrived)
		<-ctx.Done()
		return ctx.Err()
	}})
	var waiting sync.WaitGroup
	waiting.Go(func() {
		var refusal *verify.Refusal
		if _, _, err := w.gate.Manifest(t.Context(), ref(t, hubName+":0.1.19")); err == nil || errors.As(err, &refusal) {
			t.Errorf("an asker at the end: %v", err)
		}
	})
	<-arrived
	w.gate.Close()
	waiting.Wait()
	if _, _, err := w.gate.Manifest(t.Context(), ref(t, hubName+":0.1.19")); verify.ReasonOf(err) != verify.UpstreamUnavailable {
		t.Errorf("an asker after the end: %v", err)
	}
}

// TestAttack20_SignedAnew signs another digest while the first is fetched: who asks
// afterwards isn't told what held before (S2).
func TestAttack20_SignedAnew(t *testing.T) {
	w := newWorld(t)
	hub, _ := w.publish("latest", verifytest.NewRelease("0.1.18", amd64), verifytest.Format{})
	arrived, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.hook(&hooked{manifest: func(context.Context, verify.Ref) error {
		once.Do(func() { close(arrived) })
		<-release
		return nil
	}})
	var first sync.WaitGroup
	first.Go(func() {
		if _, _, err := w.read(ref(t, hubName+":latest"), true); err != nil {
			t.Error(err)
		}
	})
	<-arrived
	w.publish("latest", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	w.advance(2 * time.Hour)
	var second sync.WaitGroup
	second.Go(func() {
		if _, _, err := w.read(ref(t, hubName+"@"+hub.Root.String()), true); !refusedFor(err, verify.NotAdmitted, verify.Superseded) {
			t.Errorf("a digest that ceased to be signed two hours ago: %v", err)
		}
	})
	second.Go(func() {
		if _, a, err := w.read(ref(t, hubName+":latest"), true); err != nil || a.Digest == hub.Root {
			t.Errorf("the tag leads to %s: %v", a.Digest, err)
		}
	})
	close(release)
	second.Wait()
	first.Wait()
}

func refusedFor(err error, reasons ...verify.Reason) bool {
	for _, r := range reasons {
		if verify.ReasonOf(err) == r {
			return true
		}
	}
	return false
}

// TestAttack35_Clock jumps back an hour and forward a year.
func TestAttack35_Clock(t *testing.T) {
	w := newWorld(t)
	evil := verifytest.NewRelease("evil", amd64).Push(w.hub, hubRepo, verifytest.Format{})
	hub, ecr := w.publish("latest", verifytest.NewRelease("0.1.18", amd64), verifytest.Format{})
	w.mustPull(hubName + ":latest")
	w.mustPull(ecrName + ":latest")
	w.refused(hubName+"@"+evil.Root.String(), verify.NotAdmitted)
	w.publish("latest", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	w.advance(-time.Hour)
	w.source.Sign("evil", evil.Root, evil.Size, w.clock())
	w.mustPull(hubName + ":evil") // the refusal isn't remembered for an hour
	w.mustPull(hubName + ":latest")
	w.mustPull(ecrName + ":latest")
	w.advance(365 * 24 * time.Hour)
	w.mustPull(hubName + ":latest")
	w.refused(hubName+"@"+hub.Root.String(), verify.Superseded)
	w.refused(ecrName+"@"+ecr.Root.String(), verify.Superseded)
}

// TestAttack34_Replicas has two gates pull one copy into one storage at once, and
// reads what the other one wrote.
func TestAttack34_Replicas(t *testing.T) {
	one := newWorld(t)
	_, ecr := one.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64, arm64), verifytest.Format{})
	two := newWorld(t)
	two.hub, two.ecr, two.source, two.store = one.hub, one.ecr, one.source, storage.New(one.driver)
	two.start()
	var pulls sync.WaitGroup
	for _, w := range []*world{one, two} {
		for _, name := range []string{hubName, ecrName} {
			pulls.Go(func() {
				if _, err := w.pull(name + ":0.1.19"); err != nil {
					t.Error(err)
				}
			})
		}
	}
	pulls.Wait()
	one.hub.SetDown(true)
	one.ecr.SetDown(true)
	for _, w := range []*world{one, two} {
		if got := w.mustPull(ecrName + ":0.1.19"); got[ecr.Root] == nil {
			t.Error("another index")
		}
	}
}

// TestAttack20_SignedLater signs a digest right after it was refused (S2).
func TestAttack20_SignedLater(t *testing.T) {
	w := newWorld(t)
	w.publish("0.1.18", verifytest.NewRelease("0.1.18", amd64), verifytest.Format{})
	release := verifytest.NewRelease("0.1.19", amd64)
	hub := release.Push(w.hub, hubRepo, verifytest.Format{})
	ecr := release.Push(w.ecr, ecrRepo, verifytest.Format{Level: 1, Tags: []string{"0.1.19"}})
	for _, later := range []bool{false, true} {
		for name, d := range map[string]digest.Digest{hubName: hub.Root, ecrName: ecr.Root} {
			if later {
				w.mustPull(name + "@" + d.String())
			} else {
				w.refused(name+"@"+d.String(), verify.NotAdmitted)
			}
		}
		w.source.Sign("0.1.19", hub.Root, hub.Size, w.clock())
	}
}

// TestAttack18_WhileTheLayerArrives has a copy name a layer in another place while
// it is fetched for the right one: once it is there, that is found out, and held
// against the document that lies only.
func TestAttack18_WhileTheLayerArrives(t *testing.T) {
	w := newWorld(t)
	release := verifytest.NewRelease("0.1.19", amd64)
	_, ecr := w.publish("0.1.19", release, verifytest.Format{})
	swapped := release.Push(w.ecr, ecrRepo, verifytest.Format{Level: 1, Change: func(platform string, doc map[string]any) {
		if platform == amd64 {
			slices.Reverse(layers(doc))
		}
	}})
	layer := ref(t, ecrName).WithDigest(ecr.Layers[amd64][1])
	arrived, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.hook(&hooked{blob: func(_ context.Context, asked verify.Ref) error {
		if asked.Digest == layer.Digest {
			once.Do(func() { close(arrived) })
			<-goOn
		}
		return nil
	}})
	if _, _, err := w.read(ref(t, ecrName+":0.1.19"), true); err != nil {
		t.Fatal(err)
	}
	var asking sync.WaitGroup
	asking.Go(func() {
		if _, _, err := w.read(layer, false); err != nil {
			t.Error(err)
		}
	})
	<-arrived
	if _, _, err := w.read(ref(t, ecrName).WithDigest(swapped.Root), true); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	asking.Wait()
	w.refused(ecrName+"@"+swapped.Root.String(), verify.LayerMismatch)
	w.mustPull(ecrName + ":0.1.19")
}
