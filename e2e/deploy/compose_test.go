package deploy

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// loadCompose reads the project as "docker compose" does: it's the same code, with
// the same schema.
func loadCompose(ctx context.Context, file string) (*types.Project, error) {
	options, err := cli.NewProjectOptions([]string{file}, cli.WithInterpolation(true), cli.WithResolvedPaths(true))
	if err != nil {
		return nil, err
	}
	return options.LoadProject(ctx)
}

func TestCompose(t *testing.T) {
	project, err := loadCompose(t.Context(), filepath.Join(shipped, "compose/compose.yaml"))
	check(t, err)
	service, err := project.GetService("trustmirror")
	check(t, err)
	if service.Image != "trustmirror" {
		t.Errorf("the image is %s", service.Image)
	}
	root, err := filepath.Abs(filepath.Join(shipped, ".."))
	check(t, err)
	if service.Build == nil || service.Build.Context != root {
		t.Errorf("it's built from %+v, want %s", service.Build, root)
	}
	if !service.ReadOnly || service.User != "65532:65532" || !slices.Equal(service.CapDrop, []string{"ALL"}) ||
		!slices.Contains(service.SecurityOpt, "no-new-privileges:true") || service.Privileged || len(service.CapAdd) > 0 {
		t.Errorf("the container may do more than it needs: %+v", service)
	}
	for _, port := range service.Ports {
		if loopback := port.HostIP == "127.0.0.1"; loopback != (port.Target == 5001) {
			t.Errorf("port %d is published at %q: clients need it everywhere, operators on this machine only", port.Target, port.HostIP)
		}
	}
	var targets []string
	for _, volume := range service.Volumes {
		targets = append(targets, volume.Target)
		if volume.Target == "/etc/trustmirror" {
			if folder := filepath.Join(root, "deploy/compose/config"); volume.Source != folder || !volume.ReadOnly {
				t.Errorf("the configuration is mounted as %+v, want %s", volume, folder)
			}
		}
	}
	if !slices.Equal(targets, []string{"/etc/trustmirror", "/data"}) {
		t.Errorf("mounted are %q", targets)
	}
	checkConfig(t, read(t, "compose/config/config.yaml"), map[string]string{"/data": t.TempDir()})
}

// The loader does notice mistakes.
func TestComposeMistakes(t *testing.T) {
	for name, text := range map[string]string{
		"an unknown field":    "services: {trustmirror: {image: trustmirror, readonly: true}}\n",
		"a value of no type":  "services: {trustmirror: {image: trustmirror, read_only: [1]}}\n",
		"a volume of no name": "services: {trustmirror: {image: trustmirror, volumes: [{type: volume, source: data, target: /data}]}}\n",
	} {
		file := filepath.Join(t.TempDir(), "compose.yaml")
		write(t, file, "name: trustmirror\n"+text)
		if _, err := loadCompose(t.Context(), file); err == nil {
			t.Errorf("%s is let through", name)
		}
	}
}
