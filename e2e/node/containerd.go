package node

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// containerdConfig is understood by every version; it leaves out what would
// write or listen outside the lab's folder.
const containerdConfig = `version = 2
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.internal.v1.opt",
  "io.containerd.nri.v1.nri",
]
`

// Containerd is a containerd with its ctr.
type Containerd struct {
	env      []string
	ctr      string
	address  string
	hostsDir string
}

// StartContainerd starts the containerd of the folder programs, or Debian's if
// that is empty.
func StartContainerd(ctx context.Context, site Site, programs string) (*Containerd, error) {
	dir, err := os.MkdirTemp(site.Lab.Dir, "containerd-")
	if err != nil {
		return nil, err
	}
	// containerd looks for its shim in PATH.
	path := os.Getenv("PATH")
	if programs == "" {
		programs = "/usr/bin"
	} else {
		path = programs + ":" + path
	}
	c := &Containerd{
		env:      []string{site.trustCA(), "PATH=" + path},
		ctr:      filepath.Join(programs, "ctr"),
		address:  filepath.Join(dir, "sock"),
		hostsDir: filepath.Join(dir, "certs.d"),
	}
	if err := writeHosts(c.hostsDir, site); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(config, []byte(containerdConfig), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(programs, "containerd"), "--config", config,
		"--root", filepath.Join(dir, "root"), "--state", filepath.Join(dir, "state"), "--address", c.address)
	cmd.Env = append(os.Environ(), c.env...)
	process, err := site.Lab.Start("containerd", cmd)
	if err != nil {
		return nil, err
	}
	return c, process.WaitUntil(ctx, func(ctx context.Context) error {
		_, err := c.run(ctx, "version")
		return err
	})
}

// writeHosts writes the one form of hosts.toml with which every version of
// containerd fails closed: the mirror is the server and the only host.
func writeHosts(dir string, site Site) error {
	toml := fmt.Sprintf(`server = "https://%[1]s"
ca = %[2]q

[host."https://%[1]s"]
  capabilities = ["pull", "resolve"]
  ca = %[2]q
`, site.Mirror, site.Lab.CA.Path)
	for _, registry := range []string{"docker.io", "registry-1.docker.io", "public.ecr.aws"} {
		folder := filepath.Join(dir, registry)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, "hosts.toml"), []byte(toml), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (c *Containerd) run(ctx context.Context, args ...string) ([]byte, error) {
	return lab.Run(ctx, c.env, c.ctr, append([]string{"--address", c.address}, args...)...)
}

// Pull implements Node.
func (c *Containerd) Pull(ctx context.Context, image string) error {
	_, err := c.run(ctx, "images", "pull", "--hosts-dir", c.hostsDir, image)
	return err
}

// ImageID implements Node: it goes from the image's top to the config of the
// machine's own platform.
func (c *Containerd) ImageID(ctx context.Context, image string) (digest.Digest, error) {
	list, err := c.run(ctx, "images", "list", "name=="+image)
	if err != nil {
		return "", err
	}
	fields := strings.Fields(string(list))
	at := slices.IndexFunc(fields, func(field string) bool { return strings.HasPrefix(field, "sha256:") })
	if at < 0 {
		return "", fmt.Errorf("containerd has no image %s:\n%s", image, list)
	}
	for top := fields[at]; ; {
		content, err := c.run(ctx, "content", "get", top)
		if err != nil {
			return "", err
		}
		var document struct {
			Config    ocispec.Descriptor   `json:"config"`
			Manifests []ocispec.Descriptor `json:"manifests"`
		}
		if err := json.Unmarshal(content, &document); err != nil {
			return "", err
		}
		if document.Config.Digest != "" {
			return document.Config.Digest, nil
		}
		own := slices.IndexFunc(document.Manifests, func(d ocispec.Descriptor) bool {
			return d.Platform != nil && d.Platform.Architecture == runtime.GOARCH
		})
		if own < 0 {
			return "", fmt.Errorf("%s has no image for %s", top, runtime.GOARCH)
		}
		top = document.Manifests[own].Digest.String()
	}
}

// Images implements Node.
func (c *Containerd) Images(ctx context.Context) ([]string, error) {
	list, err := c.run(ctx, "images", "list", "--quiet")
	return strings.Fields(string(list)), err
}

// Clear implements Node: the content goes with the images.
func (c *Containerd) Clear(ctx context.Context) error {
	images, err := c.Images(ctx)
	if err != nil {
		return err
	}
	if len(images) > 0 {
		if _, err := c.run(ctx, append([]string{"images", "remove", "--sync"}, images...)...); err != nil {
			return err
		}
	}
	_, err = c.run(ctx, "content", "prune", "references")
	return err
}

// RunImage runs a container of an image that was pulled, in the background and
// on the machine's own network.
func (c *Containerd) RunImage(l *lab.Lab, image, name string) (*lab.Process, error) {
	cmd := exec.Command(c.ctr, "--address", c.address, "run", "--rm", "--net-host", image, name)
	cmd.Env = append(os.Environ(), c.env...)
	return l.Start("container-"+name, cmd)
}
