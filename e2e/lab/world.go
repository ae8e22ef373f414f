package lab

import (
	"context"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The names under which Webdis is published.
const (
	Repository = "nicolas/webdis"
	HubName    = "docker.io/" + Repository
	ECRName    = "public.ecr.aws/" + Repository
	Signer     = "nicolasff"
)

// World is where Webdis is published: a Docker Hub, an ECR, and the notary
// server on which its author signs.
type World struct {
	Hub       *Registry
	ECR       *Registry
	Notary    *Notary
	Publisher *Publisher
}

// Published is one release on both registries.
type Published struct {
	Hub Release
	ECR Release
}

// StartWorld starts the registries and the notary server, and makes the
// author's keys: a root key, a repository key, and a delegation for the signer
// nicolasff. The notary programs are those of the folder notary.
func (l *Lab) StartWorld(ctx context.Context, notary string) (*World, error) {
	w := &World{}
	var err error
	if w.Notary, err = l.StartNotary(ctx, notary); err != nil {
		return nil, err
	}
	if w.Hub, err = l.StartRegistry("hub"); err != nil {
		return nil, err
	}
	if w.ECR, err = l.StartRegistry("ecr"); err != nil {
		return nil, err
	}
	if w.Publisher, err = w.Notary.NewPublisher(); err != nil {
		return nil, err
	}
	if err := w.Publisher.Init(ctx, HubName); err != nil {
		return nil, err
	}
	return w, w.Publisher.AddSigner(ctx, HubName, Signer)
}

// Push uploads a release to both registries under tag.
func (w *World) Push(ctx context.Context, tag string, release Published) error {
	if err := w.Hub.Push(ctx, Repository, tag, release.Hub); err != nil {
		return err
	}
	return w.ECR.Push(ctx, Repository, tag, release.ECR)
}

// Sign signs what the Hub has under tag with the repository key, as the author
// does. Publish makes it known.
func (w *World) Sign(ctx context.Context, tag string, release Published) error {
	return w.Publisher.Sign(ctx, HubName, tag, release.Hub.Top())
}

// Publish sends what was signed to the notary server.
func (w *World) Publish(ctx context.Context) error {
	return w.Publisher.Publish(ctx, HubName)
}

// Upstreams is where trustmirror finds the registries.
func (w *World) Upstreams() map[string]string {
	return map[string]string{"docker.io": w.Hub.URL, "public.ecr.aws": w.ECR.URL}
}

// Rule is the image rule for Webdis, with its author's keys pinned.
func (w *World) Rule() (Rule, error) {
	pins, err := w.Publisher.Pins(HubName)
	return Rule{Signed: HubName, Copies: []string{ECRName}, Notary: w.Notary.URL, Pins: pins}, err
}

// Builds makes a small Webdis for both platforms. Version and note end up in
// its files, so that any two differ.
func Builds(version, note string) ([]Build, error) {
	var builds []Build
	for _, platform := range Platforms() {
		base, err := Layer(
			File{"etc/os-release", 0o644, []byte("NAME=lab\n")},
			File{"usr/lib/base", 0o644, fill("base "+platform.Architecture, 64<<10)},
		)
		if err != nil {
			return nil, err
		}
		program, err := Layer(
			File{"etc/webdis.prod.json", 0o644, []byte(`{"http_port": 7379}` + "\n")},
			File{"usr/local/bin/webdis", 0o755, fill(version+note+platform.Architecture, 256<<10)},
		)
		if err != nil {
			return nil, err
		}
		build, err := NewBuild(platform, processSettings(), base, program)
		if err != nil {
			return nil, err
		}
		builds = append(builds, build)
	}
	return builds, nil
}

// Platforms are those that Webdis is published for.
func Platforms() []ocispec.Platform {
	return []ocispec.Platform{
		{OS: "linux", Architecture: "amd64"},
		{OS: "linux", Architecture: "arm64", Variant: "v8"},
	}
}

// processSettings are how a container of the image runs.
func processSettings() ocispec.ImageConfig {
	return ocispec.ImageConfig{
		Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Cmd:          []string{"/usr/local/bin/webdis", "/etc/webdis.prod.json"},
		ExposedPorts: map[string]struct{}{"7379/tcp": {}},
	}
}

// fill makes size bytes of text that starts with seed and doesn't compress to
// nothing.
func fill(seed string, size int) []byte {
	content := []byte(seed + "\n")
	for i := 0; len(content) < size; i++ {
		content = fmt.Appendf(content, "%s %x\n", seed, uint32(i)*2654435761)
	}
	return content
}

// NewRelease is a release as the author publishes it: one build, packaged for
// each registry in its own way.
func NewRelease(version string) (Published, error) {
	builds, err := Builds(version, "")
	if err != nil {
		return Published{}, err
	}
	return PackageMulti(builds)
}

// PackageMulti packages the builds under an index for each registry.
func PackageMulti(builds []Build) (Published, error) {
	hub, err := ForHub().Multi(builds...)
	if err != nil {
		return Published{}, err
	}
	ecr, err := ForECR().Multi(builds...)
	return Published{hub, ecr}, err
}
