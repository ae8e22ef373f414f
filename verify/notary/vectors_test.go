package notary_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
)

// vectors finds ../shared/vectors from the project's root.
func vectors(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the test")
		}
		dir = parent
	}
	dir = filepath.Join(dir, "..", "shared", "vectors")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("SKIPPED: the real-world vectors are not there: %v", err)
	}
	return dir
}

// vectorService serves a folder of metadata as a notary server would.
func vectorService(t *testing.T, dir, gun string) *notarytest.Service {
	t.Helper()
	files := make(notarytest.Files)
	for _, name := range []string{"root", "timestamp", "snapshot", "targets", "targets/releases"} {
		raw, err := os.ReadFile(filepath.Join(dir, name+".json"))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(raw)
		files[name], files[name+"."+hex.EncodeToString(sum[:])] = raw, raw
	}
	service := notarytest.NewService()
	service.Serve(gun, files)
	return service
}

func vectorSource(t *testing.T, service *notarytest.Service, gun string, pins notary.Pins, now string) *notary.Source {
	t.Helper()
	at, err := time.Parse(time.DateOnly, now)
	if err != nil {
		t.Fatal(err)
	}
	s, err := notary.New(notary.Config{
		GUN: gun, Pins: pins, Fetcher: service, Store: notarytest.NewStore(), Clock: func() time.Time { return at },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestVectorPublicKey(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(vectors(t), "nicolasff.pub"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := notary.ParseKeyPEM(raw)
	if err != nil {
		t.Fatal(err)
	}
	const want = "dd0768b9d35d344bbd1681418d27052c4c896a59be214352448daa2b6925b95b"
	if key.ID() != want || key.PublicKeyID() != want || key.Type() != notary.TypeECDSA {
		t.Errorf("got %s %s (%s), want ecdsa %s", key.Type(), key.ID(), key.PublicKeyID(), want)
	}
}

func TestVectorNotary01(t *testing.T) {
	const gun = "docker.com/notary0.1/samplerepo"
	service := vectorService(t, filepath.Join(vectors(t), "notary0.1"), gun)
	pins := notary.Pins{
		Root:       []string{"4ff57dc987163053a12c066f2dd36b1ae6037a92f5416d381fe311a3db1868d8"},
		Repository: []string{"7fc757801b9bab4ec9e35bfe7a6b61668ff6f4c81b5632af19e6c728ab799599"},
	}
	s := vectorSource(t, service, gun, pins, "2026-08-01")
	target, err := s.Target(context.Background(), "LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	want := digest.Digest("sha256:9395bac6fccb26bcb55efb083d1b4b0fe72a1c25f959f056c016120b3bb56a62")
	if target.Digest != want || target.Size != 11309 {
		t.Errorf("LICENSE is %s (%d bytes), want %s (11309 bytes)", target.Digest, target.Size, want)
	}
	m, err := s.Metadata(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if m.Timestamp.Version != 1 || m.Snapshot.Version != 2 || m.Targets.Version != 2 {
		t.Errorf("versions are %d, %d, %d", m.Timestamp.Version, m.Snapshot.Version, m.Targets.Version)
	}
	_, err = vectorSource(t, service, gun, pins, "2116-01-13").Target(context.Background(), "LICENSE")
	wantReason(t, err, verify.MetadataExpired)
}

func TestVectorNotary03(t *testing.T) {
	const gun = "docker.com/notary0.3/tst"
	service := vectorService(t, filepath.Join(vectors(t), "notary0.3"), gun)
	pins := notary.Pins{
		Root:       []string{"354e203ba09dbe17807b6a9d191bff887167c06d121e738d849446a9c76c2866"},
		Repository: []string{"041b64dab281324ef2b62fd2d04f4758269e120ff063b7bc78709272821a0a02"},
		Signers:    map[string][]string{"releases": {"68243a1f948be7841403f65fc8f24d5eda9050c337e727e2eacc3d3cb5227d73"}},
	}
	s := vectorSource(t, service, gun, pins, "2026-07-01")
	wantTarget(t, s, "hello", digest.FromString(""), notary.RepoAdmin)

	_, err := vectorSource(t, service, gun, pins, "2026-07-26").Target(context.Background(), "hello")
	wantReason(t, err, verify.MetadataExpired, "certificate", "2026-07-25")

	unpinned := pins
	unpinned.Signers = nil
	_, err = vectorSource(t, service, gun, unpinned, "2026-07-01").Target(context.Background(), "hello")
	wantReason(t, err, verify.KeyNotPinned, "targets/releases", "68243a1f948b")
}
