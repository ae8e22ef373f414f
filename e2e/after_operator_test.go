package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// aYear is by how much the clock is moved, in Go's notation.
const aYear = "8760h"

// operator is somebody with a mirror of their own, who types commands in the
// folder of its configuration, config.yaml. It is their home, too.
type operator struct {
	site    *site
	mirror  *lab.Mirror
	dir     string
	env     []string
	live    string // the configuration that trusts in the notary server
	printed string // what trust export printed last
}

// newOperator makes an operator whose mirror has the rule and an empty storage.
func (s *site) newOperator(t *testing.T, rule lab.Rule) *operator {
	t.Helper()
	program := filepath.Join(os.Getenv(isolated), movable, "trustmirror")
	mirror, err := s.newMirror(program, []lab.Rule{rule})
	check(t, err)
	live, err := os.ReadFile(mirror.ConfigFile)
	check(t, err)
	o := &operator{site: s, mirror: mirror, dir: filepath.Dir(mirror.ConfigFile), live: string(live)}
	docker := filepath.Join(o.dir, ".docker")
	check(t, os.Mkdir(docker, 0o700))
	o.env = append(dockerTrust(t, s, docker), "HOME="+o.dir, "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"))
	return o
}

// aYearLater moves the clock of the operator's trustmirror.
func (o *operator) aYearLater() {
	o.mirror.Env = []string{clockOffset + "=" + aYear}
	o.env = append(o.env, o.mirror.Env...)
}

// typed runs a command, which has to succeed, and returns what it printed. The
// mirror that it starts takes the place of the one before.
func (o *operator) typed(t *testing.T, command string) string {
	t.Helper()
	if strings.HasPrefix(command, "trustmirror serve ") {
		o.site.stopServing()
		check(t, o.mirror.Start(t.Context()))
		o.site.mirror = o.mirror
		return ""
	}
	out, err := o.run(t, command)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	if strings.HasPrefix(command, "trustmirror trust export ") {
		o.printed = out
	}
	return out
}

func (o *operator) run(t *testing.T, command string) (string, error) {
	t.Helper()
	if strings.HasPrefix(command, "trustmirror trust reset ") {
		command = "echo yes | " + command // it asks
	}
	out, err := lab.Run(t.Context(), o.env, "sh", "-c", `cd "$HOME" && `+command)
	return string(out), err
}

// refused runs a command that has to fail with a status, and to say all of want.
func (o *operator) refused(t *testing.T, command string, status int, want ...string) {
	t.Helper()
	_, err := o.run(t, command)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != status {
		t.Errorf("%s: got %v, want exit status %d", command, err, status)
		return
	}
	for _, part := range want {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: it doesn't say %q but:\n%v", command, part, err)
		}
	}
}

// servesNot starts trustmirror, which has to end at once with status 2, and to
// say all of want.
func (o *operator) servesNot(t *testing.T, want ...string) {
	t.Helper()
	o.refused(t, "timeout 30 trustmirror serve -c config.yaml", 2, want...)
}

// paste puts the trust that a text has, indented as in the configuration, in
// place of the image's.
func (o *operator) paste(t *testing.T, text string) {
	t.Helper()
	const trust = "\n    trust:\n"
	before, _, ok := strings.Cut(o.live, trust)
	_, after, also := strings.Cut("\n"+text, trust)
	if !ok || !also {
		t.Fatalf("no trust section to be pasted into\n%s\nfrom\n%s", o.live, text)
	}
	check(t, os.WriteFile(o.mirror.ConfigFile, []byte(before+trust+after), 0o600))
}

// stopServing ends the mirror that serves now, if there is one.
func (s *site) stopServing() {
	if s.mirror != nil {
		s.mirror.Process.Stop()
	}
}

// bothClients are those that show that what an archive vouches for can be had.
func (s *site) bothClients(t *testing.T) []client {
	t.Helper()
	return []client{s.dockerd(t), {name: "containerd", Node: s.containerd2(t)}}
}

// pulled has the clients pull images, and compares what they got.
func (s *site) pulled(t *testing.T, clients []client, want digest.Digest, images ...string) {
	t.Helper()
	for _, client := range clients {
		for _, image := range images {
			check(t, client.Clear(t.Context()))
			if err := client.Pull(t.Context(), image); err != nil {
				t.Fatalf("%s: %v", client.name, err)
			}
			got, err := client.ImageID(t.Context(), image)
			check(t, err)
			if got != want {
				t.Errorf("%s: %s has the image ID %s, want %s", client.name, image, got, want)
			}
		}
	}
	s.nobodyAskedOrigin(t)
}

// bothNames are those of a tag of Webdis.
func bothNames(tag string) []string {
	return []string{fmt.Sprintf("%s:%s", lab.HubName, tag), fmt.Sprintf("%s:%s", lab.ECRName, tag)}
}
