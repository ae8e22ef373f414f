package node

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// Dockerd is a Docker daemon.
type Dockerd struct {
	dir     string
	env     []string
	process *lab.Process
	ctr     string // of its containerd, if that keeps the images; else ""
}

// StartDockerd starts Debian's daemon, which has the classic image store, with the
// machine's configuration.
func StartDockerd(ctx context.Context, m *Machine, flags ...string) (*Dockerd, error) {
	return startDockerd(ctx, m, "/usr/sbin/dockerd", nil, append([]string{"--storage-driver=vfs"}, flags...)...)
}

// StartDockerdToday starts the daemon of the folder programs, with the containerd of
// another.
func StartDockerdToday(ctx context.Context, m *Machine, programs, containerd string) (*Dockerd, error) {
	d, err := startDockerd(ctx, m, filepath.Join(programs, "dockerd"), inPath(containerd))
	if d != nil {
		d.ctr = filepath.Join(containerd, "ctr")
	}
	return d, err
}

func startDockerd(ctx context.Context, m *Machine, program string, env []string, flags ...string) (*Dockerd, error) {
	dir, err := m.folder("dockerd")
	if err != nil {
		return nil, err
	}
	socket := "unix://" + filepath.Join(dir, "docker.sock")
	config := filepath.Join(dir, "config") // of the client
	if err := os.Mkdir(config, 0o700); err != nil {
		return nil, err
	}
	d := &Dockerd{dir: dir, env: []string{"DOCKER_HOST=" + socket, "DOCKER_CONFIG=" + config, "DOCKER_CONTENT_TRUST=0"}}
	d.process, err = m.start("dockerd", env, program, append([]string{
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--host", socket, "--pidfile", filepath.Join(dir, "pid"),
		"--iptables=false", "--ip6tables=false", "--bridge=none",
	}, flags...)...)
	if err != nil {
		return nil, err
	}
	return d, d.process.WaitUntil(ctx, func(ctx context.Context) error {
		_, err := d.run(ctx, "info")
		return err
	})
}

func (d *Dockerd) run(ctx context.Context, args ...string) ([]byte, error) {
	return d.Docker(ctx, nil, args...)
}

// Docker runs Docker's client with this daemon, and with more environment.
func (d *Dockerd) Docker(ctx context.Context, env []string, args ...string) ([]byte, error) {
	return lab.Run(ctx, slices.Concat(d.env, env), "docker", args...)
}

// Store is the daemon's image store, as doctor's --docker-store names it.
func (d *Dockerd) Store(ctx context.Context) string {
	out, err := d.run(ctx, "info", "--format", "{{json .DriverStatus}}")
	switch {
	case err != nil:
		return ""
	case strings.Contains(string(out), "io.containerd.snapshotter.v1"):
		return "containerd"
	}
	return "classic"
}

// Stop ends the daemon.
func (d *Dockerd) Stop() { d.process.Stop() }

// Pull implements Node.
func (d *Dockerd) Pull(ctx context.Context, image string) error {
	_, err := d.run(ctx, "pull", image)
	return err
}

// ImageID implements Node.
func (d *Dockerd) ImageID(ctx context.Context, image string) (digest.Digest, error) {
	if d.ctr != "" { // Docker itself would say the index's digest
		return configOf(ctx, func(ctx context.Context, args ...string) ([]byte, error) {
			socket := filepath.Join(d.dir, "exec", "containerd", "containerd.sock")
			return lab.Run(ctx, nil, d.ctr, append([]string{"--address", socket, "--namespace", "moby"}, args...)...)
		}, image)
	}
	out, err := d.run(ctx, "image", "inspect", "--format", "{{.Id}}", image)
	return digest.Digest(strings.TrimSpace(string(out))), err
}

// Images implements Node.
func (d *Dockerd) Images(ctx context.Context) ([]string, error) {
	out, err := d.run(ctx, "images", "--all", "--quiet", "--no-trunc")
	return strings.Fields(string(out)), err
}

// Clear implements Node.
func (d *Dockerd) Clear(ctx context.Context) error {
	images, err := d.Images(ctx)
	if err != nil || len(images) == 0 {
		return err
	}
	_, err = d.run(ctx, append([]string{"rmi", "--force"}, images...)...)
	return err
}
