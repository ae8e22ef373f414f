package lab

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/trustmirror/trustmirror/e2e/tools"
)

// suite is the Debian release that the genuine Webdis is taken from.
const suite = "bookworm"

// WebdisRoot returns the path of a tar archive with a root file system that has
// the genuine webdis and redis-server, as Debian has them. It is made once, by
// debootstrap and as root, from the mirror that the machine's own apt uses, and
// kept in the cache.
func WebdisRoot(ctx context.Context, log io.Writer) (string, error) {
	return tools.Once(filepath.Join("images", "webdis-"+suite+"-"+runtime.GOARCH+".tar"), func(path string) error {
		fmt.Fprintln(log, "making a root file system with Debian's webdis, once; it is kept outside the clone")
		mirror, err := debianMirror(ctx)
		if err != nil {
			return err
		}
		root := filepath.Join(filepath.Dir(path), "root")
		if _, err := Run(ctx, nil, "debootstrap", "--variant=minbase", "--include=webdis,redis-server", suite, root, mirror); err != nil {
			return err
		}
		_, err = Run(ctx, nil, "tar", "--create", "--file", path, "--directory", root, "--numeric-owner", "--one-file-system",
			"--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*", "--exclude=./dev/*",
			"--exclude=./usr/share/doc/*", "--exclude=./usr/share/man/*", "--exclude=./usr/share/locale/*", ".")
		return err
	})
}

// debianMirror asks apt for the mirror of the machine's sources.
func debianMirror(ctx context.Context) (string, error) {
	targets, err := Run(ctx, nil, "apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages")
	if err != nil {
		return "", err
	}
	lines := bufio.NewScanner(bytes.NewReader(targets))
	for lines.Scan() {
		if uri, ok := strings.CutPrefix(lines.Text(), "Debian "); ok {
			return uri, nil
		}
	}
	return "", fmt.Errorf("apt knows no Debian mirror; run apt-get update first. It knows:\n%s", targets)
}

// WebdisBuilds is the genuine Webdis for both platforms: a container of it
// starts redis and webdis, and serves 127.0.0.1:7379. The other platform has
// the same files: nobody runs it.
func WebdisBuilds(root string) ([]Build, error) {
	base, err := os.ReadFile(root)
	if err != nil {
		return nil, err
	}
	program, err := Layer(
		File{"etc/webdis.prod.json", 0o644, []byte(`{"redis_host": "127.0.0.1", "redis_port": 6379,
"http_host": "127.0.0.1", "http_port": 7379, "threads": 2, "daemonize": false, "verbosity": 3, "logfile": "/dev/stderr"}
`)},
		File{"usr/local/bin/start", 0o755, []byte(`#!/bin/sh
redis-server --bind 127.0.0.1 --save "" --daemonize yes && exec webdis /etc/webdis.prod.json
`)},
	)
	if err != nil {
		return nil, err
	}
	settings := processSettings()
	settings.Cmd = []string{"/usr/local/bin/start"}
	var builds []Build
	for _, platform := range Platforms() {
		build, err := NewBuild(platform, settings, base, program)
		if err != nil {
			return nil, err
		}
		builds = append(builds, build)
	}
	return builds, nil
}
