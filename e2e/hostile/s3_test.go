package hostile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/e2e/lab"
	"github.com/trustmirror/trustmirror/e2e/tools"
)

func newBucket(t *testing.T, l *lab.Lab) *lab.Bucket {
	t.Helper()
	programs, err := tools.Dir(t.Context(), "versitygw", os.Stderr)
	check(t, err)
	b, err := l.NewBucket(t.Context(), programs)
	check(t, err)
	return b
}

// replica is a mirror whose storage is a bucket; it asks a trust service each second.
// Its key is in the environment, or, of every other one, in a file. fields are more of
// storage.s3.
type replica struct{ *mirror }

func newReplica(t *testing.T, l *lab.Lab, b *lab.Bucket, keyFile bool, s *site, notary *server, fields ...string) replica {
	t.Helper()
	key := ""
	for _, field := range fields {
		key += ", " + field
	}
	if keyFile {
		key += fmt.Sprintf(", accesskey: %q, secretkey_file: %q", b.AccessKey, b.SecretKeyFile)
	}
	m, err := l.NewMirror(program, lab.MirrorConfig{
		Upstreams: map[string]string{s.hubName: s.hub.url, s.copyName: s.copy.url},
		Rules:     []lab.Rule{{Signed: s.signed(), Copies: []string{s.copied()}, Notary: notary.url, Pins: s.signer.pins()}},
		Refresh:   time.Second,
		Storage:   fmt.Sprintf("s3: {bucket: %s, regionendpoint: %q, rootdirectory: /mirrors/one%s}", b.Name, b.URL, key),
	})
	check(t, err)
	if !keyFile {
		m.Env = b.Env()
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 32}
	t.Cleanup(transport.CloseIdleConnections)
	return replica{&mirror{Mirror: m, client: &http.Client{Transport: transport, Timeout: 2 * time.Minute}}}
}

// eventuallyBoth pulls by both names until that works.
func (r replica) eventuallyBoth(t *testing.T, s *site, tag string, want lab.Published) {
	t.Helper()
	r.eventually(t, s.signed(), tag, want.Hub)
	r.eventually(t, s.copied(), tag, want.ECR)
}

// turnsTo waits until what the tag meant before is replaced.
func (r replica) turnsTo(t *testing.T, s *site, want lab.Published) {
	t.Helper()
	waitFor(t, "the tag to be another release's", func() bool {
		err := errors.Join(r.pull(t.Context(), s.signed(), tag, want.Hub), r.pull(t.Context(), s.copied(), tag, want.ECR))
		return err == nil
	})
}

// wholeContent asserts that every object in the bucket is what its key says, and
// returns how many there are.
func wholeContent(t *testing.T, b *lab.Bucket) (objects int) {
	t.Helper()
	check(t, filepath.WalkDir(filepath.Join(b.Dir, "mirrors/one/content"), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // nothing yet
			return nil
		}
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		objects++
		if got := digest.FromBytes(raw); got.Encoded() != filepath.Base(path) {
			t.Errorf("%s hashes to %s", path, got)
		}
		return nil
	}))
	return objects
}

// TestAttack34_BucketConforms runs what every storage backend has to pass.
func TestAttack34_BucketConforms(t *testing.T) {
	b := newBucket(t, newLab(t))
	params := fmt.Sprintf(`{"bucket": %q, "region": "us-east-1", "regionendpoint": %q, "forcepathstyle": true, "accesskey": %q, "secretkey_file": %q}`,
		b.Name, b.URL, b.AccessKey, b.SecretKeyFile)
	module, err := lab.Run(t.Context(), nil, "go", "env", "GOMOD")
	check(t, err)
	out, err := lab.Run(t.Context(), []string{"TRUSTMIRROR_TEST_S3=" + params},
		"go", "test", "-C", filepath.Dir(filepath.Dir(string(module))), "-count=1", "-v", "-run", "^TestS3$", "./storage")
	check(t, err)
	if passed := strings.Count(string(out), "    --- PASS: "); passed < 25 {
		t.Errorf("only %d parts passed:\n%s", passed, out)
	}
}

// TestAttack34_Replicas has two mirrors share a bucket, pulled from at once while it
// is empty. What either stores, the other serves, and so does a third that starts later.
func TestAttack34_Replicas(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	b, s := newBucket(t, l), newSite(t, "replicas")
	one, two := newReplica(t, l, b, false, s, s.notary), newReplica(t, l, b, true, s, s.notary)
	check(t, one.Start(t.Context()))
	check(t, two.Start(t.Context()))
	var clients sync.WaitGroup
	for _, r := range []replica{one, two} {
		for range 4 {
			clients.Go(func() {
				err := errors.Join(r.pull(t.Context(), s.signed(), tag, s.release.Hub), r.pull(t.Context(), s.copied(), tag, s.release.ECR))
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	clients.Wait()
	for _, registry := range []*server{s.hub, s.copy} {
		for path, times := range registry.counts() {
			if times > 2 {
				t.Errorf("%s was asked for %d times by two mirrors", path, times)
			}
		}
	}
	if objects := wholeContent(t, b); objects == 0 {
		t.Error("nothing is in the bucket")
	}

	second := release(t, "second")
	s.push(t, "0.1.20", second)
	s.publish(t)
	one.eventuallyBoth(t, s, "0.1.20", second)
	if len(s.hub.counts()) == 0 || len(s.copy.counts()) == 0 {
		t.Fatal("the registries count nothing")
	}
	three := newReplica(t, l, b, true, s, s.notary)
	check(t, three.Start(t.Context()))
	for _, r := range []replica{two, three} {
		r.eventuallyBoth(t, s, "0.1.20", second)
		r.eventuallyBoth(t, s, tag, s.release)
	}
	for _, registry := range []*server{s.hub, s.copy} {
		if asked := registry.counts(); len(asked) > 0 {
			t.Errorf("what another mirror stored was asked for again: %v", asked)
		}
	}
	wholeContent(t, b)
}

// TestAttack34_Fleet has four mirrors share a bucket, and a hundred clients pull a cold
// image from them at once: a registry is asked for each object once by each mirror at
// most.
func TestAttack34_Fleet(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	b, s := newBucket(t, l), newSite(t, "fleet")
	big := large(t, 12)
	s.push(t, "big", lab.Published{Hub: big, ECR: big})
	s.publish(t)
	const mirrors, each = 4, 25
	var fleet []replica
	for i := range mirrors {
		r := newReplica(t, l, b, i%2 == 0, s, s.notary)
		check(t, r.Start(t.Context()))
		fleet = append(fleet, r)
	}
	s.hub.counts()
	s.copy.counts()
	var clients sync.WaitGroup
	for _, r := range fleet {
		for i := range each {
			clients.Go(func() {
				err := r.pull(t.Context(), s.signed(), tag, s.release.Hub)
				if i%5 == 0 {
					err = errors.Join(err, r.pull(t.Context(), s.signed(), "big", big))
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	clients.Wait()
	total := map[string]int{} // by object: a copy may stand in for the registry
	for _, registry := range []*server{s.hub, s.copy} {
		for path, times := range registry.counts() {
			total[path] += times
		}
	}
	if len(total) == 0 {
		t.Error("the registries count nothing")
	}
	for path, times := range total {
		if times > mirrors && path != "/v2/" {
			t.Errorf("%s was asked for %d times by %d mirrors", path, times, mirrors)
		}
	}
	if objects, want := wholeContent(t, b), len(objectsOf(s.release.Hub, big)); objects != want {
		t.Errorf("%d objects are in the bucket, not %d", objects, want)
	}
	for _, r := range fleet { // what any of them stored
		check(t, r.pull(t.Context(), s.signed(), "big", big))
		r.bounded(t)
	}
	if again := s.hub.counts(); len(again) > 0 {
		t.Errorf("what is stored was asked for again: %v", again)
	}
}

// objectsOf are the digests of all that releases have.
func objectsOf(releases ...lab.Release) map[digest.Digest]bool {
	all := map[digest.Digest]bool{}
	for _, r := range releases {
		all[r.Top().Digest()] = true
		for _, image := range r.Images {
			for _, blob := range append(slices.Clone(image.Layers), image.Config, image.Manifest) {
				all[blob.Digest()] = true
			}
		}
	}
	return all
}

// TestAttack34_RollbackBehindAnother shows one mirror newer metadata than another,
// for which the trust service has stopped at what it once said.
func TestAttack34_RollbackBehindAnother(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	b, s := newBucket(t, l), newSite(t, "rollback")
	stopped := newServer(t)
	s.notary.mu.Lock()
	stopped.files = maps.Clone(s.notary.files)
	s.notary.mu.Unlock()
	told, lied := newReplica(t, l, b, false, s, s.notary), newReplica(t, l, b, true, s, stopped)
	check(t, told.Start(t.Context()))
	check(t, lied.Start(t.Context()))
	told.eventuallyBoth(t, s, tag, s.release)
	lied.eventuallyBoth(t, s, tag, s.release)

	second := release(t, "second")
	s.push(t, tag, second) // the same tag: the first one is replaced
	s.publish(t)
	told.turnsTo(t, s, second)
	waitFor(t, "the other mirror to say that it is lied to", func() bool { return strings.Contains(lied.log(t, 0), "but version 2 was accepted before") })
	lied.turnsTo(t, s, second)

	// A mirror keeps nothing that the bucket doesn't have.
	check(t, lied.Process.Kill())
	lied.client.CloseIdleConnections()
	check(t, lied.Start(t.Context()))
	lied.eventuallyBoth(t, s, tag, second)
	for range 20 {
		check(t, lied.pull(t.Context(), s.signed(), tag, second.Hub))
	}
}

// TestAttack34_BucketAway takes the bucket away from a mirror: the gateway ends, and
// then stands still. Nothing is served meanwhile, and everything after it, without a
// restart.
func TestAttack34_BucketAway(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	b, s := newBucket(t, l), newStock(t, "away")
	m := newReplica(t, l, b, true, s.site, s.notary)
	check(t, m.Start(t.Context()))
	m.saysReady(t, http.StatusOK, "")
	s.served(t, m.mirror, tag, s.release)

	b.Stop()
	m.noStorage(t, s.signed(), tag, s.release.Hub, "connection refused")
	m.noStorage(t, s.copied(), tag, s.release.ECR, "connection refused")
	m.noStorage(t, s.signed(), "small", s.small.Hub, "connection refused")
	m.saysReady(t, http.StatusServiceUnavailable, "storage can't be written: ")
	check(t, b.Start(t.Context()))
	m.eventually(t, s.signed(), tag, s.release.Hub)
	m.eventually(t, s.copied(), tag, s.release.ECR)
	m.eventually(t, s.signed(), "small", s.small.Hub)
	m.saysReady(t, http.StatusOK, "")

	check(t, b.Signal(syscall.SIGSTOP))
	m.noStorage(t, s.signed(), tag, s.release.Hub, "no answer in time")
	m.noStorage(t, s.copied(), "small", s.small.ECR, "no answer in time")
	check(t, b.Signal(syscall.SIGCONT))
	m.eventually(t, s.signed(), "big", s.big.Hub)
	m.eventually(t, s.copied(), "big", s.big.ECR)
	s.served(t, m.mirror, "small", s.small)
	wholeContent(t, b)
	m.bounded(t)
}

// TestAttack34_BucketKilledAnytime kills the gateway amid pulls, again and again.
func TestAttack34_BucketKilledAnytime(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	b, s := newBucket(t, l), newSite(t, "killed")
	m := newReplica(t, l, b, false, s, s.notary)
	check(t, m.Start(t.Context()))
	for i := range 5 {
		tag, next := fmt.Sprintf("kill-%d", i), large(t, 3+i)
		s.push(t, tag, lab.Published{Hub: next, ECR: next})
		s.publish(t)
		before := len(m.log(t, 0))
		waitFor(t, "the mirror to know the new tag", func() bool { return strings.Contains(m.log(t, before), "trust refreshed") })
		ctx, cancel := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		for range 3 {
			clients.Go(func() {
				for ctx.Err() == nil {
					if err := m.pull(ctx, s.signed(), tag, next); errors.Is(err, errOtherBytes) {
						t.Error(err)
					}
				}
			})
		}
		time.Sleep(time.Duration(i*i) * 30 * time.Millisecond) // the moment is the point
		check(t, b.Kill())
		wholeContent(t, b)
		cancel()
		clients.Wait()
		check(t, b.Start(t.Context()))
		m.eventually(t, s.signed(), tag, next)
		m.eventually(t, s.copied(), tag, next)
	}
	if objects := wholeContent(t, b); objects == 0 {
		t.Error("nothing is in the bucket")
	}
}
