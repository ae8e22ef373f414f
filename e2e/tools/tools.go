// Package tools builds the programs that the lab and the linters need, from
// the Go module proxy, once for each version, into a cache outside the clone.
package tools

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// tool is one module version and the commands that are wanted of it.
type tool struct {
	version  string
	packages []string
}

func lookUp(name string) (tool, error) {
	switch name {
	case "notary": // the reference client and server of Notary v1
		return tool{"v0.7.0", []string{
			"github.com/theupdateframework/notary/cmd/notary",
			"github.com/theupdateframework/notary/cmd/notary-server",
		}}, nil
	case "containerd": // the shim must be of containerd's own version
		return tool{"v2.4.2", []string{
			"github.com/containerd/containerd/v2/cmd/containerd",
			"github.com/containerd/containerd/v2/cmd/ctr",
			"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
		}}, nil
	case "dockerd": // with the containerd image store; it needs containerd of 2.x in its PATH
		return tool{"v2.0.0-beta.24", []string{"github.com/moby/moby/v2/cmd/dockerd"}}, nil
	case "helm": // draws and lints the chart
		return tool{"v3.22.0", []string{"helm.sh/helm/v3/cmd/helm"}}, nil
	case "versitygw": // an S3 gateway over a folder
		return tool{"v1.8.0", []string{"github.com/versity/versitygw/cmd/versitygw"}}, nil
	case "registry": // a plain pull-through proxy, to measure against
		return tool{"v3.1.2", []string{"github.com/distribution/distribution/v3/cmd/registry"}}, nil
	case "golangci-lint":
		return tool{"v2.15.0", []string{"github.com/golangci/golangci-lint/v2/cmd/golangci-lint"}}, nil
	case "govulncheck":
		return tool{"v1.9.0", []string{"golang.org/x/vuln/cmd/govulncheck"}}, nil
	}
	return tool{}, fmt.Errorf("there is no tool %q: see e2e/tools", name)
}

// Cache returns the folder in which whatever is slow to make is kept between
// runs: $TRUSTMIRROR_CACHE, else trustmirror in the user's cache folder.
func Cache() (string, error) {
	if dir := os.Getenv("TRUSTMIRROR_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("set TRUSTMIRROR_CACHE to a folder for built tools: %w", err)
	}
	return filepath.Join(dir, "trustmirror"), nil
}

// Once returns the path of name in the cache. If it isn't there, create is given
// a path to write to, which becomes name only when all of it is written.
func Once(name string, create func(path string) error) (_ string, err error) {
	cache, err := Cache()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, name)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(path), ".making-*")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	made := filepath.Join(tmp, filepath.Base(path))
	if err := create(made); err != nil {
		return "", err
	}
	if err := os.Rename(made, path); err != nil {
		if _, statErr := os.Stat(path); statErr != nil {
			return "", err
		} // else somebody else made it meanwhile
	}
	return path, nil
}

// Dir returns the folder with the programs of a tool ("notary", "containerd",
// "dockerd", "helm", "versitygw", "registry", "golangci-lint", "govulncheck"), and builds them
// first where they are missing. What it is doing goes to log.
func Dir(ctx context.Context, name string, log io.Writer) (string, error) {
	t, err := lookUp(name)
	if err != nil {
		return "", err
	}
	return Once(filepath.Join("tools", name+"@"+t.version), func(path string) error {
		fmt.Fprintf(log, "building %s %s, once; it is kept outside the clone\n", name, t.version)
		args := []string{"install", "-trimpath"}
		for _, p := range t.packages {
			args = append(args, p+"@"+t.version)
		}
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Env = append(os.Environ(), "GOBIN="+path, "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOOS=", "GOARCH=")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s %s: %w\n%s", name, t.version, err, out)
		}
		return nil
	})
}
