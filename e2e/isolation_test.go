package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/trustmirror/trustmirror/e2e/lab"
	"github.com/trustmirror/trustmirror/e2e/tools"
)

// isolated is set, to the folder of the built trustmirror, for the test process
// that has namespaces of its own.
const isolated = "TRUSTMIRROR_E2E_ISOLATED"

// movable is the folder of the trustmirror whose clock clockOffset moves.
const (
	movable     = "movable"
	clockOffset = "TRUSTMIRROR_CLOCK_OFFSET"
)

// TestMain builds what needs the module proxy and the Debian mirror, and then
// goes into network, mount and process namespaces of its own: there the ports
// 443 and 7379 are free, the registries' names can lead anywhere, nothing
// reaches beyond loopback, and whatever a daemon leaves behind ends with the test.
func TestMain(m *testing.M) {
	if os.Getenv(isolated) != "" {
		if err := furnish(); err != nil {
			fail(err)
		}
		code := m.Run()
		if err := os.RemoveAll(os.Getenv(isolated)); err != nil {
			fail(err)
		}
		os.Exit(code)
	}
	if os.Getuid() != 0 {
		fmt.Println("SKIPPED, ALL OF IT: the e2e tests start container daemons and need root. Run: sudo make e2e")
		if os.Getenv("CI") != "" {
			fail(errors.New("in CI nothing may be skipped"))
		}
		os.Exit(0)
	}
	if err := enter(); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "e2e:", err)
	os.Exit(1)
}

// enter prepares what needs a network and becomes the isolated test process.
func enter() error {
	ctx := context.Background()
	for _, tool := range []string{"containerd", "dockerd"} {
		if _, err := tools.Dir(ctx, tool, os.Stdout); err != nil {
			return err
		}
	}
	if _, err := lab.WebdisRoot(ctx, os.Stdout); err != nil {
		return err
	}
	if _, err := lab.GoImage(ctx, os.Stdout); err != nil {
		return err
	}
	if _, err := lab.Run(ctx, nil, "go", "mod", "download", "-C", ".."); err != nil { // for building in the image
		return err
	}
	dir, err := os.MkdirTemp("", "trustmirror-e2e-")
	if err != nil {
		return err
	}
	if err := build(ctx, dir); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return err
	}
	args := append([]string{"unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--", self}, os.Args[1:]...)
	return syscall.Exec(unshare, args, append(os.Environ(), isolated+"="+dir))
}

// build builds trustmirror, and, in the folder movable of dir, one whose clock
// can be moved.
func build(ctx context.Context, dir string) error {
	if _, err := lab.BuildMirror(ctx, dir); err != nil {
		return err
	}
	folder := filepath.Join(dir, movable)
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	_, err := lab.BuildMirror(ctx, folder, "clockoffset")
	return err
}

// furnish gives the new namespaces their only network interface, and a /etc and
// folders for daemons of their own. There the mirror has a name, and every other
// name leads to the origin.
func furnish() error {
	ctx := context.Background()
	etc := filepath.Join(os.Getenv(isolated), "etc")
	for _, command := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"ip", "address", "add", originAddress + "/32", "dev", "lo"},
		{"mount", "-t", "tmpfs", "tmpfs", "/run"},
		{"mkdir", "--parents", "/opt"},
		{"mount", "-t", "tmpfs", "tmpfs", "/opt"},
		{"cp", "--archive", "/etc", etc},
		{"rm", "--recursive", "--force", etc + "/containerd", etc + "/docker", etc + "/resolv.conf"}, // what this machine's own clients are told
	} {
		if _, err := lab.Run(ctx, nil, command[0], command[1:]...); err != nil {
			return err
		}
	}
	hosts := fmt.Sprintf("127.0.0.1 localhost\n%s %s\n", mirrorAddress, mirrorName)
	for name, content := range map[string]string{"hosts": hosts, "resolv.conf": "nameserver 127.0.0.1\n"} {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	if _, err := lab.Run(ctx, nil, "mount", "--bind", etc, "/etc"); err != nil {
		return err
	}
	return lab.AnswerNames("127.0.0.1:53", netip.MustParseAddr(originAddress))
}
