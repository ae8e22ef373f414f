package node

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Podman is podman with a storage of its own.
type Podman struct {
	machine *Machine
	env     []string
	global  []string // flags
}

// NewPodman makes an empty storage.
func NewPodman(m *Machine) (*Podman, error) {
	dir, err := m.folder("podman")
	return &Podman{
		machine: m,
		env:     []string{"TMPDIR=" + dir},
		global: []string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"),
			"--tmpdir", filepath.Join(dir, "tmp"), "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"},
	}, err
}

func (p *Podman) run(ctx context.Context, args ...string) ([]byte, error) {
	return p.machine.Run(ctx, p.env, "podman", append(p.global, args...)...)
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
	machine *Machine
	dir     string // with a folder for each image
}

// NewSkopeo makes an empty place for images.
func NewSkopeo(m *Machine) (*Skopeo, error) {
	dir, err := m.folder("skopeo")
	return &Skopeo{machine: m, dir: dir}, err
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
	_, err := s.machine.Run(ctx, []string{"TMPDIR=" + s.dir}, "skopeo", "copy", "--quiet", "docker://"+image, "dir:"+folder)
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
