package node

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// registriesConf makes podman and skopeo ask the mirror for both registries,
// and the registries themselves never: blocked says so even if the mirror fails.
func registriesConf(dir string, site Site) (file string, err error) {
	var conf strings.Builder
	conf.WriteString("unqualified-search-registries = []\n")
	for _, registry := range []string{"docker.io", "public.ecr.aws"} {
		fmt.Fprintf(&conf, `
[[registry]]
prefix = %[1]q
location = %[1]q
blocked = true
[[registry.mirror]]
location = "%[2]s/%[1]s"
`, registry, site.Mirror)
	}
	file = filepath.Join(dir, "registries.conf")
	return file, os.WriteFile(file, []byte(conf.String()), 0o600)
}

// Podman is podman with a storage of its own.
type Podman struct {
	env    []string
	global []string // flags
}

// NewPodman makes an empty storage.
func NewPodman(site Site) (*Podman, error) {
	dir, err := os.MkdirTemp(site.Lab.Dir, "podman-")
	if err != nil {
		return nil, err
	}
	conf, err := registriesConf(dir, site)
	return &Podman{
		env: []string{site.trustCA(), "CONTAINERS_REGISTRIES_CONF=" + conf, "TMPDIR=" + dir},
		global: []string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"),
			"--tmpdir", filepath.Join(dir, "tmp"), "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"},
	}, err
}

func (p *Podman) run(ctx context.Context, args ...string) ([]byte, error) {
	return lab.Run(ctx, p.env, "podman", append(p.global, args...)...)
}

// Pull implements Node.
func (p *Podman) Pull(ctx context.Context, image string) error {
	_, err := p.run(ctx, "pull", "--quiet", image)
	return err
}

// ImageID implements Node.
func (p *Podman) ImageID(ctx context.Context, image string) (digest.Digest, error) {
	out, err := p.run(ctx, "image", "inspect", "--format", "{{.Id}}", image)
	return digest.NewDigestFromEncoded(digest.SHA256, strings.TrimSpace(string(out))), err
}

// Images implements Node.
func (p *Podman) Images(ctx context.Context) ([]string, error) {
	out, err := p.run(ctx, "images", "--all", "--quiet", "--no-trunc")
	return strings.Fields(string(out)), err
}

// Clear implements Node.
func (p *Podman) Clear(ctx context.Context) error {
	_, err := p.run(ctx, "rmi", "--all", "--force")
	return err
}

// Skopeo copies images into folders, the manifests unchanged.
type Skopeo struct {
	env  []string
	conf string // registries.conf: this client knows no variable for it
	dir  string // with a folder for each image
}

// NewSkopeo makes an empty place for images.
func NewSkopeo(site Site) (*Skopeo, error) {
	dir, err := os.MkdirTemp(site.Lab.Dir, "skopeo-")
	if err != nil {
		return nil, err
	}
	conf, err := registriesConf(dir, site)
	return &Skopeo{env: []string{site.trustCA(), "TMPDIR=" + dir}, conf: conf, dir: dir}, err
}

func (s *Skopeo) folder(image string) string {
	return filepath.Join(s.dir, "images", strings.NewReplacer("/", "_", ":", "_", "@", "_").Replace(image))
}

// Pull implements Node.
func (s *Skopeo) Pull(ctx context.Context, image string) error {
	folder := s.folder(image)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	_, err := lab.Run(ctx, s.env, "skopeo", "--registries-conf", s.conf, "copy", "--quiet", "docker://"+image, "dir:"+folder)
	return err
}

// ImageID implements Node.
func (s *Skopeo) ImageID(_ context.Context, image string) (digest.Digest, error) {
	content, err := os.ReadFile(filepath.Join(s.folder(image), "manifest.json"))
	if err != nil {
		return "", err
	}
	var manifest ocispec.Manifest
	err = json.Unmarshal(content, &manifest)
	return manifest.Config.Digest, err
}

// Images implements Node: a folder with a manifest is an image.
func (s *Skopeo) Images(context.Context) ([]string, error) {
	return filepath.Glob(filepath.Join(s.dir, "images", "*", "manifest.json"))
}

// Clear implements Node.
func (s *Skopeo) Clear(context.Context) error {
	return os.RemoveAll(filepath.Join(s.dir, "images"))
}
