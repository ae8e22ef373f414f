package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	if _, err := tools.Dir(ctx, "containerd", os.Stdout); err != nil {
		return err
	}
	if _, err := lab.WebdisRoot(ctx, os.Stdout); err != nil {
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

// furnish gives the new namespaces their only network interface, and names for
// its addresses: the registries' own names lead to the lab's origin.
func furnish() error {
	ctx := context.Background()
	if _, err := lab.Run(ctx, nil, "ip", "link", "set", "lo", "up"); err != nil {
		return err
	}
	for file, address := range map[string]string{hostsOfOrigin(): originAddress, hostsOfMirror(): mirrorAddress} {
		hosts := fmt.Sprintf("127.0.0.1 localhost\n%s %s\n%s %s\n", mirrorAddress, mirrorName, address, strings.Join(registryNames(), " "))
		if err := os.WriteFile(file, []byte(hosts), 0o600); err != nil {
			return err
		}
	}
	_, err := lab.Run(ctx, nil, "mount", "--bind", hostsOfOrigin(), "/etc/hosts")
	return err
}

// hostsOfOrigin is the hosts file of every process but a transparent dockerd.
func hostsOfOrigin() string { return filepath.Join(os.Getenv(isolated), "hosts.origin") }

// hostsOfMirror leads the registries' names to trustmirror.
func hostsOfMirror() string { return filepath.Join(os.Getenv(isolated), "hosts.mirror") }
