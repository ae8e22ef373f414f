package e2e

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// repository is one that is signed in a way of its own.
type repository struct {
	name string
	tags []string // to be inspected besides the repository itself
	sign func(ctx context.Context, p *lab.Publisher, gun string, a, b lab.Blob) error
}

func repositories() []repository {
	type publisher = *lab.Publisher
	return []repository{
		{"lab/initialised", []string{"1.0"}, func(context.Context, publisher, string, lab.Blob, lab.Blob) error {
			return nil
		}},
		{"lab/repository-key", []string{"1.0", "2.0", "3.0"}, func(ctx context.Context, p publisher, gun string, a, b lab.Blob) error {
			return steps(
				func() error { return p.Sign(ctx, gun, "1.0", a) },
				func() error { return p.Sign(ctx, gun, "2.0", b) },
			)
		}},
		{"lab/author", []string{"0.1.9", "0.1.10", "0.1.19"}, func(ctx context.Context, p publisher, gun string, a, b lab.Blob) error {
			return steps(
				func() error { return p.AddSigner(ctx, gun, lab.Signer) },
				func() error { return p.SignAs(ctx, gun, "0.1.9", a, lab.Signer) },
				func() error { return p.SignAs(ctx, gun, "0.1.10", b, lab.Signer) },
				func() error { return p.Sign(ctx, gun, "0.1.19", b) },
			)
		}},
		{"lab/two-signers", []string{"1.0", "1.1", "1.2"}, func(ctx context.Context, p publisher, gun string, a, b lab.Blob) error {
			return steps(
				func() error { return p.AddSigner(ctx, gun, "alice") },
				func() error { return p.AddSigner(ctx, gun, "bob") },
				func() error { return p.SignAs(ctx, gun, "1.0", a, "alice") },
				func() error { return p.SignAs(ctx, gun, "1.1", b, "bob") },
				func() error { return p.SignAs(ctx, gun, "1.2", a, "alice") },
				func() error { return p.SignAs(ctx, gun, "1.2", a, "bob") },
			)
		}},
		{"lab/both-alike", []string{"1.0"}, func(ctx context.Context, p publisher, gun string, a, _ lab.Blob) error {
			return steps(
				func() error { return p.AddSigner(ctx, gun, "alice") },
				func() error { return p.SignAs(ctx, gun, "1.0", a, "alice") },
				func() error { return p.Sign(ctx, gun, "1.0", a) },
			)
		}},
		{"lab/not-released", []string{"1.0", "1.1"}, func(ctx context.Context, p publisher, gun string, a, b lab.Blob) error {
			return steps(
				func() error { return p.AddSigner(ctx, gun, "alice") },
				func() error { return p.Sign(ctx, gun, "1.0", a, "targets/alice") },
				func() error { return p.Sign(ctx, gun, "1.1", b, "targets/releases") },
			)
		}},
		{"lab/two-keys", []string{"1.0"}, func(ctx context.Context, p publisher, gun string, a, _ lab.Blob) error {
			return steps(
				func() error { return p.AddSigner(ctx, gun, "carol") },
				func() error { return p.AddKey(ctx, gun, "carol", "carol-laptop") },
				func() error { return p.SignAs(ctx, gun, "1.0", a, "carol") },
			)
		}},
		{"lab/keys-rotated", []string{"1.0"}, func(ctx context.Context, p publisher, gun string, a, _ lab.Blob) error {
			return steps(
				func() error { return p.Sign(ctx, gun, "1.0", a) },
				func() error { return p.Publish(ctx, gun) },
				func() error { return p.Run(ctx, "key", "rotate", gun, "targets") },
				func() error { return p.RotateRoot(ctx, gun) },
			)
		}},
	}
}

// steps stops at the first error.
func steps(all ...func() error) error {
	for _, step := range all {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// TestInspect compares, byte for byte, what trustmirror and Docker's own client
// say about repositories that are signed in different ways.
func TestInspect(t *testing.T) {
	s := newSite(t)
	release := multi(t, "0.1.19")
	a, b := release.Hub.Top(), release.ECR.Top()
	var rules []lab.Rule
	for _, repository := range repositories() {
		gun := "docker.io/" + repository.name
		publisher := s.world.Publisher
		check(t, publisher.Init(t.Context(), gun))
		check(t, repository.sign(t.Context(), publisher, gun, a, b))
		check(t, publisher.Publish(t.Context(), gun))
		pins, err := publisher.Pins(gun)
		check(t, err)
		rules = append(rules, lab.Rule{Signed: gun, Notary: s.world.Notary.URL, Pins: pins})
	}
	mirror, err := s.newMirror(filepath.Join(os.Getenv(isolated), "trustmirror"), rules)
	check(t, err)
	docker := dockerTrust(t, s, t.TempDir())
	for _, repository := range repositories() {
		images := []string{repository.name}
		for _, tag := range repository.tags {
			images = append(images, repository.name+":"+tag)
		}
		for _, image := range images {
			for format, flags := range map[string][]string{"json": {image}, "pretty": {"--pretty", image}} {
				t.Run(format+"/"+image, func(t *testing.T) {
					want, err := lab.Run(t.Context(), docker, "docker", append([]string{"trust", "inspect"}, flags...)...)
					check(t, err)
					got, _, err := mirror.Run(t.Context(), "inspect", flags...)
					check(t, err)
					if got != string(want) {
						t.Errorf("trustmirror inspect printed\n%s\nand docker trust inspect\n%s", got, want)
					}
				})
			}
		}
	}
}

// dockerTrust is the environment in which Docker's client trusts the lab's
// notary server, with config for its folder.
func dockerTrust(t *testing.T, s *site, config string) []string {
	t.Helper()
	server, err := url.Parse(s.world.Notary.URL)
	check(t, err)
	folder := filepath.Join(config, "tls", server.Host)
	check(t, os.MkdirAll(folder, 0o755))
	ca, err := os.ReadFile(s.lab.CA.Path)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(folder, "ca.crt"), ca, 0o600))
	return []string{"DOCKER_CONFIG=" + config, "DOCKER_CONTENT_TRUST_SERVER=" + s.world.Notary.URL}
}
