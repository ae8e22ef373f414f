package lab

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/trustmirror/trustmirror/e2e/tools"
)

// GoImage returns the path of a tar archive with a root file system that stands
// for the official Go image: this machine's Go and CA certificates, and busybox.
// It is made once for each version of Go, and kept in the cache.
func GoImage(ctx context.Context, log io.Writer) (string, error) {
	out, err := Run(ctx, nil, "go", "env", "GOVERSION", "GOROOT")
	if err != nil {
		return "", err
	}
	version, goroot, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return tools.Once(filepath.Join("images", version+"-"+runtime.GOARCH+".tar"), func(path string) error {
		fmt.Fprintf(log, "making an image with %s, once; it is kept outside the clone\n", version)
		root := filepath.Join(filepath.Dir(path), "root")
		certs := filepath.Join(root, "etc", "ssl", "certs")
		for _, folder := range []string{filepath.Join(root, "bin"), filepath.Join(root, "tmp"), certs} {
			if err := os.MkdirAll(folder, 0o755); err != nil {
				return err
			}
		}
		// Debian's busybox-static and ca-certificates.
		for from, to := range map[string]string{
			"/bin/busybox":                       filepath.Join(root, "bin", "busybox"),
			"/etc/ssl/certs/ca-certificates.crt": filepath.Join(certs, "ca-certificates.crt"),
		} {
			if _, err := Run(ctx, nil, "cp", from, to); err != nil {
				return fmt.Errorf("%w\nrun e2e/install.sh as root first", err)
			}
		}
		for _, applet := range []string{"sh", "mkdir", "cp", "find", "touch"} {
			if err := os.Symlink("busybox", filepath.Join(root, "bin", applet)); err != nil {
				return err
			}
		}
		_, err := Run(ctx, nil, "tar", "--create", "--file", path, "--owner=0", "--group=0", "--numeric-owner",
			"--exclude=*_test.go", "--exclude=testdata", "--transform=s,^[.]/,usr/local/go/,",
			"--directory", root, "bin", "etc", "tmp",
			"--directory", goroot, "./VERSION", "./go.env", "./bin", "./pkg", "./src")
		return err
	})
}

// ProxyModules serves the modules that this machine has, as a Go module proxy on
// loopback, until the lab is closed. It returns the value for GOPROXY.
func (l *Lab) ProxyModules(ctx context.Context) (string, error) {
	out, err := Run(ctx, nil, "go", "env", "GOMODCACHE")
	if err != nil {
		return "", err
	}
	folder := filepath.Join(strings.TrimSpace(string(out)), "cache", "download")
	server := httptest.NewServer(http.FileServer(http.Dir(folder)))
	l.onClose(server.Close)
	return server.URL, nil
}
