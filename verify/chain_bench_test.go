package verify_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// BenchmarkChain looks at an image of two platforms that was pulled under two
// names, among 1,000 signed tags, on a disk.
func BenchmarkChain(b *testing.B) {
	store, err := storage.Open(b.Context(), "filesystem", map[string]any{"rootdirectory": b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	hub, ecr, source := verifytest.NewRegistry(), verifytest.NewRegistry(), &verifytest.Source{}
	policy, err := verify.NewPolicy([]verify.ImageRule{{
		Signed: hubName, Copies: []string{ecrName}, Source: func(verify.Ref) (verify.Source, error) { return source, nil },
	}})
	if err != nil {
		b.Fatal(err)
	}
	gate, err := verify.NewGate(verify.GateConfig{Policy: policy, Store: store, Fetcher: verifytest.Fetcher{"docker.io": hub, "public.ecr.aws": ecr}})
	if err != nil {
		b.Fatal(err)
	}
	defer gate.Close()
	release := verifytest.NewRelease("0.1.19", amd64, arm64)
	pushed := release.Push(hub, hubRepo, verifytest.Format{})
	copied := release.Push(ecr, ecrRepo, verifytest.Format{OCI: true, Level: 1, Tags: []string{"0"}})
	source.Sign("0", pushed.Root, pushed.Size, time.Now())
	for i := range 999 {
		source.Sign(fmt.Sprint(i+1), digest.FromString(fmt.Sprint(i)), 743, time.Now())
	}
	image := verify.Ref{Registry: "docker.io", Repository: hubRepo}
	for _, side := range []struct {
		repo verify.Ref
		verifytest.Pushed
	}{{image, pushed}, {verify.Ref{Registry: "public.ecr.aws", Repository: ecrRepo}, copied}} {
		tag := side.repo
		tag.Tag = "0"
		for i, r := range []verify.Ref{tag, side.repo.WithDigest(side.Manifests[amd64]), side.repo.WithDigest(side.Manifests[arm64])} {
			content, _, err := gate.Manifest(b.Context(), r)
			if err != nil {
				b.Fatal(i, err)
			}
			_ = content.Close()
		}
		for _, d := range append(side.Blobs(amd64), side.Blobs(arm64)...) {
			content, _, err := gate.Blob(b.Context(), side.repo.WithDigest(d))
			if err != nil {
				b.Fatal(err)
			}
			_ = content.Close()
		}
	}
	b.Run("Chain", func(b *testing.B) {
		for b.Loop() {
			if _, err := gate.Chain(b.Context(), image, "0"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Roots", func(b *testing.B) {
		for b.Loop() {
			if _, err := gate.Roots(b.Context(), image, "0"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
