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

// Containerd is a containerd with its ctr.
type Containerd struct {
	machine *Machine
	process *lab.Process
	ctr     string
	address string
}

// StartContainerd starts the containerd of the folder programs, with the machine's
// configuration.
func StartContainerd(ctx context.Context, m *Machine, programs string) (*Containerd, error) {
	dir, err := m.folder("containerd")
	if err != nil {
		return nil, err
	}
	c := &Containerd{machine: m, ctr: filepath.Join(programs, "ctr"), address: filepath.Join(dir, "sock")}
	c.process, err = m.start("containerd", inPath(programs), filepath.Join(programs, "containerd"),
		"--root", filepath.Join(dir, "root"), "--state", filepath.Join(dir, "state"), "--address", c.address)
	if err != nil {
		return nil, err
	}
	return c, c.process.WaitUntil(ctx, func(ctx context.Context) error {
		_, err := c.run(ctx, "version")
		return err
	})
}

// inPath has a daemon find the programs that it starts itself.
func inPath(programs string) []string {
	return []string{"PATH=" + programs + ":" + os.Getenv("PATH")}
}

func (c *Containerd) run(ctx context.Context, args ...string) ([]byte, error) {
	command, args := beside(c.process, c.ctr, append([]string{"--address", c.address}, args...)...)
	return lab.Run(ctx, nil, command, args...)
}

// Stop ends the daemon.
func (c *Containerd) Stop() { c.process.Stop() }

// Pull implements Node.
func (c *Containerd) Pull(ctx context.Context, image string) error {
	_, err := c.run(ctx, "images", "pull", "--hosts-dir", "/etc/containerd/certs.d", image)
	return err
}

// ImageID implements Node.
func (c *Containerd) ImageID(ctx context.Context, image string) (digest.Digest, error) {
	return configOf(ctx, c.run, image)
}

// configOf asks a containerd, by ctr, for an image's config: it goes from the image's
// top to the config of the machine's own platform.
func configOf(ctx context.Context, ctr func(context.Context, ...string) ([]byte, error), image string) (digest.Digest, error) {
	list, err := ctr(ctx, "images", "list", "name=="+image)
	if err != nil {
		return "", err
	}
	fields := strings.Fields(string(list))
	at := slices.IndexFunc(fields, func(field string) bool { return strings.HasPrefix(field, "sha256:") })
	if at < 0 {
		return "", fmt.Errorf("containerd has no image %s:\n%s", image, list)
	}
	for top := fields[at]; ; {
		content, err := ctr(ctx, "content", "get", top)
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
	command, args := beside(c.process, c.ctr, "--address", c.address, "run", "--rm", "--net-host", image, name)
	return l.Start("container-"+name, exec.Command(command, args...))
}
