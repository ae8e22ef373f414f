package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

var update = flag.Bool("update", false, "write the golden files")

var testNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a signed repository and a copy in memory, behind a real Gate.
type world struct {
	hub, ecr *verifytest.Registry
	source   *verifytest.Source
	gate     *verify.Gate
}

var (
	signedRef = verify.Ref{Registry: "docker.io", Repository: "nicolas/webdis", Tag: "0.1.19"}
	copyRef   = verify.Ref{Registry: "public.ecr.aws", Repository: "nicolas/webdis", Tag: "0.1.19"}
)

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{hub: verifytest.NewRegistry(), ecr: verifytest.NewRegistry(), source: &verifytest.Source{}}
	store, err := storage.Open(t.Context(), "inmemory", nil)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := verify.NewPolicy([]verify.ImageRule{{
		Signed: signedRef.Name(), Copies: []string{copyRef.Name()}, Grace: time.Hour,
		Source: func(verify.Ref) (verify.Source, error) { return w.source, nil },
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.gate, err = verify.NewGate(verify.GateConfig{
		Policy: policy, Store: store, Fetcher: verifytest.Fetcher{"docker.io": w.hub, "public.ecr.aws": w.ecr},
		Clock: func() time.Time { return testNow },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.gate.Close)
	return w
}

// release pushes a release to both registries, differently packed, and signs it.
func (w *world) release(change verifytest.Format, platforms ...string) (hub, ecr verifytest.Pushed) {
	r := verifytest.NewRelease("webdis", platforms...)
	hub = r.Push(w.hub, signedRef.Repository, verifytest.Format{Tags: []string{"0.1.19"}, Single: change.Single})
	change.Tags, change.Level, change.OCI = []string{"0.1.19"}, 1, true
	ecr = r.Push(w.ecr, copyRef.Repository, change)
	w.source.Sign("0.1.19", hub.Root, hub.Size, testNow)
	return hub, ecr
}

// chain walks both repositories, as the verify command does.
func (w *world) chain(ctx context.Context, layers bool) *chain {
	walk := &walker{gate: w.gate, layers: layers, progress: func(string) {}}
	c := &chain{Image: signedRef.String(), At: testNow, Trust: testTrust()}
	c.walk(ctx, walk, signedRef, []verify.Ref{copyRef})
	return c
}

func testTrust() *trust {
	day := 24 * time.Hour
	return &trust{
		Service: "https://notary.docker.io", GUN: signedRef.Name(), outcome: outcome{Verdict: verified},
		Tag: "0.1.19", Digest: "sha256:5de58646bae3ee52e05a65672532120b094682b79823291031ccb41533c21667",
		Signers: []string{"Repo Admin"},
		Roles: []role{
			{Role: "root", Version: 1, Expires: testNow.Add(9 * 365 * day), Keys: []roleKey{{ID: webdisRoot, Pinned: true}}},
			{Role: "targets", Version: 12, Expires: testNow.Add(400 * day), Keys: []roleKey{{ID: webdisRepository, Pinned: true}}},
			{Role: "targets/nicolasff", Version: 3, Expires: testNow.Add(90 * day), Keys: []roleKey{{ID: webdisSigner, Pinned: true}}},
			{Role: "snapshot", Version: 12, Expires: testNow.Add(-3 * time.Hour), Keys: []roleKey{{ID: strings.Repeat("9", 64)}}},
		},
	}
}

func TestChainGolden(t *testing.T) {
	for _, tc := range []struct {
		name   string
		set    func(w *world)
		layers bool
		want   verdict
	}{
		{"verified", func(w *world) { w.release(verifytest.Format{}, "linux/amd64", "linux/arm64/v8") }, false, verified},
		{"layers", func(w *world) { w.release(verifytest.Format{Layers: "zstd"}, "linux/amd64", "linux/arm64/v8") }, true, verified},
		{"single", func(w *world) { w.release(verifytest.Format{Single: true}, "linux/amd64") }, true, verified},
		{"another_config", func(w *world) {
			w.release(verifytest.Format{Change: anotherConfig(w.ecr)}, "linux/amd64", "linux/arm64/v8")
		}, false, refused},
		{"layer_replaced", func(w *world) {
			w.release(verifytest.Format{Layers: "tar", ChangeLayer: anotherLayer}, "linux/amd64", "linux/arm64/v8")
		}, true, refused},
		{"unsigned", func(w *world) {
			w.release(verifytest.Format{}, "linux/amd64")
			w.source.Unsign("0.1.19", testNow.Add(-2*time.Hour))
		}, false, refused},
		{"hub_changed", func(w *world) {
			hub, _ := w.release(verifytest.Format{}, "linux/amd64", "linux/arm64/v8")
			d := w.hub.Document(signedRef.Repository, hub.Manifests["linux/amd64"].String())
			w.hub.SetDocument(signedRef.Repository, hub.Manifests["linux/amd64"].String(), verifytest.Document{MediaType: d.MediaType, Raw: append(d.Raw, '\n')})
		}, false, refused},
		{"copy_down", func(w *world) {
			w.release(verifytest.Format{}, "linux/amd64")
			w.ecr.SetDown(true)
		}, false, unclear},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			tc.set(w)
			c := w.chain(t.Context(), tc.layers)
			if c.Verdict != tc.want {
				t.Errorf("verdict %s (%s), want %s", c.Verdict, c.because(), tc.want)
			}
			for _, width := range []int{80, 140} {
				var out strings.Builder
				if err := (drawing{width: width, now: func() time.Time { return testNow }}).chain(&out, c); err != nil {
					t.Fatal(err)
				}
				golden(t, fmt.Sprintf("%s_%d.txt", tc.name, width), out.String())
			}
		})
	}
}

// withoutDigests replaces digests and key IDs by letters, the same one for the
// same digest, so that a golden file doesn't hang on compression and keys.
func withoutDigests(text string) string {
	letters := map[string]string{}
	return regexp.MustCompile(`\b[0-9a-f]{12,64}\b`).ReplaceAllStringFunc(text, func(s string) string {
		if letters[s[:12]] == "" {
			letters[s[:12]] = string(rune('a' + len(letters)))
		}
		return strings.Repeat(letters[s[:12]], len(s))
	})
}

// golden compares a drawing with a file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	got = withoutDigests(got)
	file := filepath.Join("testdata", "tree", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// The JSON holds what the drawing shows.
func TestChainJSON(t *testing.T) {
	w := newWorld(t)
	hub, ecr := w.release(verifytest.Format{}, "linux/amd64", "linux/arm64/v8")
	raw, err := json.Marshal(w.chain(t.Context(), true))
	if err != nil {
		t.Fatal(err)
	}
	var got chain
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if got.Verdict != verified || len(got.Repositories) != 2 || got.Trust.Roles[0].Keys[0].ID != webdisRoot {
		t.Fatalf("got %s", raw)
	}
	signed, copied := got.Repositories[0].Root, got.Repositories[1].Root
	if signed.Digest != hub.Root || signed.Proof != storage.ProofSigned {
		t.Errorf("signed root is %s, %s", signed.Digest, signed.Proof)
	}
	if copied.Digest != ecr.Root || copied.Proof != storage.ProofSameConfig || copied.InSigned {
		t.Errorf("copy's root is %s, %s, in signed %v", copied.Digest, copied.Proof, copied.InSigned)
	}
	for i, platform := range []string{"linux/amd64", "linux/arm64/v8"} {
		manifest := copied.Children[i]
		if manifest.Platform != platform || manifest.Digest != ecr.Manifests[platform] {
			t.Errorf("entry %d is %s %s", i, manifest.Platform, manifest.Digest)
		}
		config := manifest.Children[0]
		if config.Kind != storage.KindConfig || config.Digest != hub.Configs[platform] || !config.InSigned {
			t.Errorf("config of %s is %s, in signed %v", platform, config.Digest, config.InSigned)
		}
		for j, layer := range manifest.Children[1:] {
			if layer.Digest != ecr.Layers[platform][j] || layer.Proof != storage.ProofDiffID || layer.DiffID == "" {
				t.Errorf("layer %d of %s is %s, %s", j, platform, layer.Digest, layer.Proof)
			}
		}
	}
}

func TestWorseVerdict(t *testing.T) {
	for _, tc := range []struct{ a, b, want verdict }{
		{verified, verified, verified}, {verified, unclear, unclear}, {unclear, refused, refused}, {refused, verified, refused}, {unclear, unclear, unclear},
	} {
		if got := tc.a.worse(tc.b); got != tc.want {
			t.Errorf("%s.worse(%s) = %s, want %s", tc.a, tc.b, got, tc.want)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 minutes", 90 * time.Minute: "90 minutes", 47 * time.Hour: "47 hours", 49 * time.Hour: "2 days",
		14 * 24 * time.Hour: "14 days", 70 * 24 * time.Hour: "2 months", 800 * 24 * time.Hour: "2 years",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestCompareNatural(t *testing.T) {
	sorted := []string{"", "0", "0.1", "0.1.2", "0.1.9", "0.1.10", "0.1.10-rc1", "0.1.10.1", "00", "1", "1a", "01", "001", "2", "10", "99999999999999999998", "99999999999999999999", "a", "a1", "a2", "a2b", "a02", "a-", "ab", "b"}
	for i, a := range sorted {
		for j, b := range sorted {
			want := 0
			switch {
			case i < j:
				want = -1
			case i > j:
				want = 1
			}
			if got := compareNatural(a, b); got != want {
				t.Errorf("compareNatural(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestProgress(t *testing.T) {
	var out strings.Builder
	p := &progress{w: &out, width: 20}
	p.say("manifest linux/amd64  docker.io/nicolas/webdis")
	p.say("")
	if got, want := out.String(), "\r\x1b[Kmanifest linux/amd6\r\x1b[K"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
	newProgress(&out).say("in a pipe")
	if strings.Contains(out.String(), "pipe") {
		t.Error("progress was told to what isn't a terminal")
	}
}
