package node

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// Dockerd is Debian's Docker daemon, with its classic image store.
type Dockerd struct {
	env []string
}

// StartDockerd starts a daemon for which the registries' names lead where the
// site's hosts file says: to trustmirror, in transparent mode, the only way in
// which the classic store fails closed.
func StartDockerd(ctx context.Context, site Site, flags ...string) (*Dockerd, error) {
	dir, err := os.MkdirTemp(site.Lab.Dir, "dockerd-")
	if err != nil {
		return nil, err
	}
	socket := "unix://" + filepath.Join(dir, "docker.sock")
	config := filepath.Join(dir, "config") // of the client
	if err := os.Mkdir(config, 0o700); err != nil {
		return nil, err
	}
	args := append([]string{
		"--mount", "sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, site.Hosts,
		"/usr/sbin/dockerd", "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--host", socket, "--pidfile", filepath.Join(dir, "pid"), "--config-file", filepath.Join(dir, "daemon.json"),
		"--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs",
	}, flags...)
	if err := os.WriteFile(filepath.Join(dir, "daemon.json"), []byte("{}\n"), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command("unshare", args...)
	cmd.Env = append(os.Environ(), site.trustCA())
	process, err := site.Lab.Start("dockerd", cmd)
	if err != nil {
		return nil, err
	}
	d := &Dockerd{env: []string{"DOCKER_HOST=" + socket, "DOCKER_CONFIG=" + config, "DOCKER_CONTENT_TRUST=0"}}
	return d, process.WaitUntil(ctx, func(ctx context.Context) error {
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

// Pull implements Node.
func (d *Dockerd) Pull(ctx context.Context, image string) error {
	_, err := d.run(ctx, "pull", image)
	return err
}

// ImageID implements Node.
func (d *Dockerd) ImageID(ctx context.Context, image string) (digest.Digest, error) {
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
