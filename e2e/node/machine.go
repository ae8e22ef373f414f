package node

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// Machine is what a client takes for its machine: its files are those of the tests'
// own, but for a few folders.
type Machine struct {
	// Root holds these folders: etc, home, and usr/local/share/ca-certificates.
	Root string
	// Home is the home folder of who pulls, on the machine. Default: the tests' own.
	Home string

	lab     *lab.Lab
	written string // what `trustmirror client --write` said
}

// inRoot puts the machine's folders in their places, in a mount namespace of its own.
const inRoot = `for folder in etc home usr/local/share/ca-certificates; do
  mount --bind "$0/$folder" "/$folder" || exit
done
exec "$@"`

// NewMachine makes a machine of which nobody has configured anything. As every
// machine does, it trusts the registries' certificates, and not the mirror's.
func NewMachine(ctx context.Context, l *lab.Lab) (*Machine, error) {
	root, err := os.MkdirTemp(l.Dir, "machine-")
	if err != nil {
		return nil, err
	}
	m := &Machine{Root: root, lab: l}
	if _, err := lab.Run(ctx, nil, "cp", "--archive", "/etc", m.path("etc")); err != nil {
		return nil, err
	}
	for _, folder := range []string{"home", "usr/local/share/ca-certificates"} {
		if err := os.MkdirAll(m.path(folder), 0o755); err != nil {
			return nil, err
		}
	}
	return m, m.Trust(l.CA)
}

// Trust adds an authority to the machine's own.
func (m *Machine) Trust(ca *lab.CA) error {
	const store = "etc/ssl/certs/ca-certificates.crt"
	certificate, err := os.ReadFile(ca.Path)
	if err != nil {
		return err
	}
	all, err := os.ReadFile(m.path(store))
	if err != nil {
		return err
	}
	return os.WriteFile(m.path(store), bytes.Join([][]byte{all, certificate}, []byte("\n")), 0o644)
}

// Configure writes on the machine what the mirror's `trustmirror client` writes for a
// kind of client, and does what it says is to be done then.
func (m *Machine) Configure(ctx context.Context, mirror *lab.Mirror, kind, name, address string) error {
	var err error
	m.written, _, err = mirror.Run(ctx, "client", "--mirror", "https://"+name, "--address", address,
		"--ca", m.lab.MirrorCA.Path, "--write", "--root", m.Root, kind)
	if err != nil || kind != "docker-transparent" {
		return err
	}
	if _, err := m.Run(ctx, nil, "update-ca-certificates"); err != nil {
		return err
	}
	return m.Trust(m.lab.CA) // again, since all were collected anew
}

// Undo removes what Configure wrote, and puts back what was there before.
func (m *Machine) Undo() error {
	const suffix = ".before-trustmirror"
	for line := range strings.Lines(m.written) {
		if file, ok := strings.CutPrefix(line, "wrote "); ok {
			file = strings.TrimSpace(file)
			if err := os.Remove(file); err != nil {
				return err
			}
			if err := os.Rename(file+suffix, file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	m.written = ""
	return nil
}

// Run runs a program on the machine to its end.
func (m *Machine) Run(ctx context.Context, env []string, name string, args ...string) ([]byte, error) {
	if m.Home != "" {
		env = append(env, "HOME="+m.Home)
	}
	command, args := m.command(name, args...)
	return lab.Run(ctx, env, command, args...)
}

// start runs a program on the machine in the background.
func (m *Machine) start(process string, env []string, name string, args ...string) (*lab.Process, error) {
	command, args := m.command(name, args...)
	cmd := exec.Command(command, args...)
	cmd.Env = append(os.Environ(), env...)
	return m.lab.Start(process, cmd)
}

func (m *Machine) command(name string, args ...string) (string, []string) {
	return "unshare", append([]string{"--mount", "sh", "-c", inRoot, m.Root, name}, args...)
}

// beside is what runs a program where a process sees its files.
func beside(p *lab.Process, name string, args ...string) (string, []string) {
	return "nsenter", append([]string{"--mount", "--target", strconv.Itoa(p.PID()), "--", name}, args...)
}

// folder makes a new one for what a client keeps.
func (m *Machine) folder(name string) (string, error) {
	return os.MkdirTemp(m.lab.Dir, name+"-")
}

func (m *Machine) path(name string) string { return filepath.Join(m.Root, name) }
