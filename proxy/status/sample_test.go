package status

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
)

const (
	hubName = "docker.io/nicolas/webdis"
	ecrName = "public.ecr.aws/nicolas/webdis"
)

// sample is a mirror to show; tests change what they are about.
type sample struct {
	now      time.Time
	images   []Image
	chain    *verify.Chain
	chainErr error
	refusals []Refusal
	pulls    []Pull
	usage    Usage
	usageErr error
	made     http.Handler // by handler
}

func newSample() *sample {
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	asked := now.Add(-3 * time.Minute)
	s := &sample{now: now, chain: sampleChain(2, 2), usage: Usage{Objects: 1234, Bytes: 5 << 30, MaxSize: 8 << 30, LastEviction: &now, At: now, Repositories: []RepositoryUsage{{Name: hubName, Objects: 17, Bytes: 3 << 20}}}}
	image := Image{
		Name: hubName, Copies: []string{ecrName},
		Trust: Trust{
			Source: "notary", From: "https://notary.docker.io", GUN: hubName, Asked: &asked, Refreshed: &asked,
			Keys: []Key{{"root", digest.FromString("root").Encoded()}, {"repository", digest.FromString("repository").Encoded()}},
		},
	}
	for role, left := range map[string]time.Duration{"timestamp": 13 * 24 * time.Hour, "targets": 800 * 24 * time.Hour} {
		image.Trust.Expires = append(image.Trust.Expires, Expiry{Role: role, Version: 3, At: now.Add(left), Left: int64(left / time.Second)})
	}
	for i := range 12 {
		tag := fmt.Sprintf("0.1.%d", 22-i)
		image.Tags = append(image.Tags, Tag{Tag: tag, Digest: digest.FromString(tag), Signers: []string{"Repo Admin"}})
	}
	s.images = []Image{image}
	s.refusals = []Refusal{{
		At: now.Add(-time.Minute), Name: "nicolas/webdis", Reference: "0.1.11", Image: hubName, Repository: hubName, Client: "10.0.0.7",
		UserAgent: "containerd/2.4.2", Reason: verify.UnsignedTag, Sentence: "docker.io/nicolas/webdis has no signed tag 0.1.11", TraceID: "4bf92f3577b34da6a3ce929d0e0e4736",
	}}
	s.pulls = []Pull{
		{Began: now.Add(-2 * time.Second), Object: hubName + "@" + digest.FromString("layer").String(), Kind: "blob", Client: "10.0.0.8", UserAgent: "docker/28.0", Sent: 3 << 20, Size: 12 << 20},
		{Began: now, Object: ecrName + "@" + digest.FromString("other").String(), Kind: "blob", Client: "10.0.0.9"},
	}
	return s
}

// sampleChain is the chain of an image that was pulled under both names.
func sampleChain(platforms, layers int) *verify.Chain {
	signed := digest.FromString("index")
	c := &verify.Chain{Image: hubName, Tag: "0.1.19", Digest: signed, Signers: []string{"Repo Admin"}}
	at := time.Date(2026, 6, 1, 11, 0, 0, 0, time.UTC)
	for _, name := range []string{hubName, ecrName} {
		isSigned := name == hubName
		proof := storage.ProofSameConfig
		if isSigned {
			proof = storage.ProofSigned
		}
		link := func(kind storage.Kind, name string, proof storage.Proof, size int64) *verify.Link {
			return &verify.Link{Kind: kind, Digest: digest.FromString(name), Size: size, Proof: proof, State: verify.StateVerified, At: &at}
		}
		root := link(storage.KindIndex, "index", proof, 743)
		if !isSigned {
			root.Digest = digest.FromString("other index")
		}
		for p := range platforms {
			if isSigned {
				proof = storage.ProofListed
			}
			m := link(storage.KindManifest, fmt.Sprint(name, p), proof, 1365)
			m.Platform = fmt.Sprintf("linux/p%d", p)
			config := link(storage.KindConfig, fmt.Sprint("config", p), storage.ProofListed, 2728)
			config.Shared = !isSigned
			m.Children = append(m.Children, config)
			for l := range layers {
				layer := link(storage.KindLayer, fmt.Sprint(name, "layer", p, l), storage.ProofListed, 3<<20)
				layer.DiffID = digest.FromString(fmt.Sprint("diff", p, l))
				if !isSigned {
					layer.Proof = storage.ProofDiffID
				}
				m.Children = append(m.Children, layer)
			}
			root.Children = append(root.Children, m)
		}
		c.Sides = append(c.Sides, verify.Side{Name: name, Signed: isSigned, Root: root})
	}
	return c
}

func (s *sample) config() Config {
	chain := func(context.Context, verify.Ref, string) (*verify.Chain, error) { return s.chain, s.chainErr }
	return Config{
		Images: func(context.Context) []Image { return s.images }, Chain: chain, Roots: chain,
		Refusals: func() []Refusal { return s.refusals }, Pulls: func() []Pull { return s.pulls },
		Usage:   func(context.Context) (Usage, error) { return s.usage, s.usageErr },
		Version: "v1.2.3", Clock: func() time.Time { return s.now },
	}
}

func (s *sample) handler(t testing.TB) http.Handler {
	t.Helper()
	if s.made == nil {
		var err error
		if s.made, err = New(s.config()); err != nil {
			t.Fatal(err)
		}
	}
	return s.made
}

func (s *sample) get(t testing.TB, path string) *httptest.ResponseRecorder {
	t.Helper()
	rec := httptest.NewRecorder()
	s.handler(t).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return rec
}
