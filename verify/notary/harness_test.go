package notary_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
)

const gun = "docker.io/nicolas/webdis"

var (
	digestA = digest.FromString("a")
	digestB = digest.FromString("b")
)

// world is a repository, its service, a store and a clock: what a Source sees.
// Pins and Order are those that the next Source gets.
type world struct {
	*notarytest.Repository
	tb      testing.TB
	service *notarytest.Service
	store   *notarytest.Store
	clock   *notarytest.Clock
	pins    notary.Pins
	order   []string
}

// newWorld makes a repository that signs 0.1.19; change may alter it before it
// is published and its keys are pinned.
func newWorld(tb testing.TB, change ...func(*notarytest.Repository)) *world {
	tb.Helper()
	repo := notarytest.New(tb, gun)
	repo.Sign("0.1.19", digestA, 772)
	for _, c := range change {
		c(repo)
	}
	repo.Publish()
	return &world{
		Repository: repo, tb: tb, service: repo.Service(), store: notarytest.NewStore(), clock: &notarytest.Clock{},
		pins: repo.Pins(),
	}
}

// source makes a Source, as after a restart.
func (w *world) source() *notary.Source {
	w.tb.Helper()
	s, err := notary.New(notary.Config{
		GUN: gun, Pins: w.pins, RoleOrder: w.order, Fetcher: w.service, Store: w.store, Clock: w.clock.Now,
	})
	if err != nil {
		w.tb.Fatal(err)
	}
	return s
}

// wantTarget asserts that a tag is signed.
func wantTarget(tb testing.TB, s *notary.Source, tag string, want digest.Digest, signers ...string) {
	tb.Helper()
	target, err := s.Target(context.Background(), tag)
	if err != nil {
		tb.Fatalf("target %s: %v", tag, err)
	}
	if target.Tag != tag || target.Digest != want {
		tb.Errorf("target %s is %s, want %s", target.Tag, target.Digest, want)
	}
	if len(signers) > 0 && strings.Join(target.Signers, ",") != strings.Join(signers, ",") {
		tb.Errorf("signers of %s are %q, want %q", tag, target.Signers, signers)
	}
}

// wantReason asserts that a question is answered with a Refusal, or, for reasons
// that are no verdict, with an UnavailableError, that says something.
func wantReason(tb testing.TB, err error, want verify.Reason, says ...string) {
	tb.Helper()
	if verify.ReasonOf(err) != want {
		tb.Fatalf("got %v (reason %q), want %s", err, verify.ReasonOf(err), want)
	}
	var refusal *verify.Refusal
	var cannot *verify.UnavailableError
	verdict := want != verify.TrustUnavailable && want != verify.StorageUnavailable
	if errors.As(err, &refusal) != verdict && !errors.As(err, &cannot) {
		tb.Errorf("%v has the wrong type %T", err, err)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			tb.Errorf("message %q does not say %q", err, s)
		}
	}
}

// wantRefused asserts that a fresh Source refuses everything, tags and all.
func (w *world) wantRefused(want verify.Reason, says ...string) {
	w.tb.Helper()
	s := w.source()
	_, err := s.Target(context.Background(), "0.1.19")
	wantReason(w.tb, err, want, says...)
	set, err := s.Targets(context.Background())
	wantReason(w.tb, err, want, says...)
	if set != nil {
		w.tb.Error("a set of targets came with the refusal")
	}
	if _, err := s.Metadata(context.Background()); verify.ReasonOf(err) != want {
		w.tb.Errorf("metadata: %v, want %s", err, want)
	}
	if names := w.store.Names(gun); len(names) > 0 {
		w.tb.Errorf("something refused was stored: %q", names)
	}
}

// refresh asserts that a forced refresh goes well.
func refresh(tb testing.TB, s *notary.Source) {
	tb.Helper()
	if err := s.Refresh(context.Background()); err != nil {
		tb.Fatalf("refresh: %v", err)
	}
}

// wantRefreshRefused asserts that a refresh is refused, now and again after a
// restart, that nothing of it is stored, and that what was signed before still
// is.
func (w *world) wantRefreshRefused(s *notary.Source, want verify.Reason, says ...string) {
	w.tb.Helper()
	before := w.store.Names(gun)
	for range 2 {
		wantReason(w.tb, s.Refresh(context.Background()), want, says...)
		if err := s.Status().Err; verify.ReasonOf(err) != want {
			w.tb.Errorf("status says %v, want %s", err, want)
		}
		wantTarget(w.tb, s, "0.1.19", digestA)
		if after := w.store.Names(gun); strings.Join(after, " ") != strings.Join(before, " ") {
			w.tb.Errorf("the store has changed from %q to %q", before, after)
		}
		s = w.source()
		wantTarget(w.tb, s, "0.1.19", digestA)
	}
}

func day(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

// base64Digest is a digest as metadata write it.
func base64Digest(d digest.Digest) string {
	raw, err := hex.DecodeString(d.Encoded())
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// weakRSA and weakCurve are keys that are too weak.
func weakRSA(tb testing.TB) *notarytest.Key {
	tb.Helper()
	tb.Setenv("GODEBUG", "rsa1024min=0")
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		tb.Fatal(err)
	}
	return notarytest.FromSigner(tb, key)
}

// slowRSA is a key whose signatures would take long to verify; nobody has its
// private part.
func slowRSA(tb testing.TB) *notarytest.Key {
	tb.Helper()
	n := new(big.Int).Lsh(big.NewInt(1), 8192)
	der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537})
	if err != nil {
		tb.Fatal(err)
	}
	return notarytest.NewKey(tb, "rsa").With(func(k *notarytest.Key) { k.Public = der })
}

func weakCurve(tb testing.TB) *notarytest.Key {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return notarytest.FromSigner(tb, key)
}
