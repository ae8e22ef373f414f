package e2e

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/trustmirror/trustmirror/e2e/lab"
	"github.com/trustmirror/trustmirror/e2e/node"
)

// Addresses of mirrors that don't do what they should: see the README of the fixtures.
const (
	passwordAddress = "127.0.77.3" // wants a password
	startingAddress = "127.0.77.4" // has never reached the trust service
	nobodyAddress   = "127.0.77.9"
)

// addressOf is where something is that answers in one of the fixtures' ways.
func addressOf(t *testing.T, kind string) string {
	t.Helper()
	address, ok := map[string]string{
		"refuses": mirrorAddress, "private": mirrorAddress, "down": nobodyAddress, "": nobodyAddress,
		"auth": passwordAddress, "starting": startingAddress, "serves": originAddress, "other": originAddress,
	}[kind]
	if !ok {
		t.Fatalf("nothing here answers as %q", kind)
	}
	return address
}

// serveWrongMirrors starts the mirrors of these addresses, and one without TLS.
func (s *site) serveWrongMirrors(t *testing.T) {
	t.Helper()
	rule, err := s.world.Rule()
	check(t, err)
	unreachable := rule
	unreachable.Notary = "https://" + nobodyAddress
	users := filepath.Join(s.lab.Dir, "users")
	check(t, os.WriteFile(users, htpasswd(t, "somebody", rand.Text()), 0o600))
	for _, config := range []lab.MirrorConfig{
		{Address: passwordAddress + ":443", Names: []string{fixtureMirror, "registry-1.docker.io"}, Rules: []lab.Rule{rule}, HTPasswd: users},
		{Address: startingAddress + ":443", Names: []string{fixtureMirror}, Rules: []lab.Rule{unreachable}},
		{Address: mirrorAddress + ":80", Rules: []lab.Rule{rule}},
	} {
		config.Upstreams = s.world.Upstreams()
		mirror, err := s.lab.NewMirror(program(), config)
		check(t, err)
		check(t, mirror.Start(t.Context()))
	}
}

// fixtureMirror is the mirror's name in fixtures.
const fixtureMirror = "mirror.example"

// fixture is a node's files: see deploy/doctor/testdata/README.md.
type fixture struct {
	name     string
	settings map[string]string
	files    []txtar.File
	want     string
}

// fixturesFor are those that have a verdict on a client.
func fixturesFor(t *testing.T, client string) []fixture {
	t.Helper()
	files, err := filepath.Glob("../deploy/doctor/testdata/*/*.txtar")
	check(t, err)
	var all []fixture
	for _, file := range files {
		if f := readFixture(t, file); len(f.registries(client)) > 0 {
			all = append(all, f)
		}
	}
	if len(all) == 0 {
		t.Fatalf("no fixture has a verdict on %s", client)
	}
	return all
}

func readFixture(t *testing.T, file string) fixture {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	check(t, err)
	f := fixture{name: strings.TrimSuffix(filepath.Base(file), ".txtar"), settings: map[string]string{}}
	for line := range strings.Lines(string(archive.Comment)) {
		if name, value, ok := strings.Cut(line, ":"); ok && !strings.Contains(name, " ") {
			f.settings[name] = strings.TrimSpace(value)
		}
	}
	for _, file := range archive.Files {
		if file.Name == "WANT" {
			f.want = string(file.Data)
			continue
		}
		f.files = append(f.files, file)
	}
	return f
}

func (f fixture) setting(name, otherwise string) string {
	if value := f.settings[name]; value != "" {
		return value
	}
	return otherwise
}

// registries are those that the fixture has a verdict on, for a client.
func (f fixture) registries(client string) []string {
	var all []string
	for line := range strings.Lines(f.want) {
		if fields := strings.Fields(line); !strings.HasPrefix(line, "\t") && fields[0] == client {
			all = append(all, fields[1])
		}
	}
	return all
}

// standing is all that a daemon may read when it starts, or remember for a while.
func (f fixture) standing() string {
	files := slices.DeleteFunc(slices.Clone(f.files), isHosts)
	return string(txtar.Format(&txtar.Archive{Comment: []byte(f.settings["answers"]), Files: files}))
}

// isHosts is true for files that are read at each pull.
func isHosts(file txtar.File) bool { return strings.Contains(file.Name, "/certs.d/") }

// flags are those with which doctor judges what the fixture has a verdict on.
func (f fixture) flags(client, registry string) []string {
	flags := []string{"--client", client, "--registry", registry}
	for mirror := range strings.FieldsSeq(f.settings["mirrors"]) {
		flags = append(flags, "--mirror", mirror)
	}
	for image := range strings.FieldsSeq(f.settings["images"]) {
		if !strings.Contains(image, "//") { // which the command line doesn't take
			flags = append(flags, "--image", "docker.io/"+image)
		}
	}
	return flags
}

// kinds are how the fixture's hosts and addresses answer.
func (f fixture) kinds() map[string]string {
	kinds := map[string]string{fixtureMirror: "refuses"}
	for answer := range strings.FieldsSeq(f.settings["answers"]) {
		host, kind, _ := strings.Cut(answer, "=")
		kinds[host] = kind
	}
	return kinds
}

// write puts the fixture's files on a machine of which nothing is configured.
func (f fixture) write(t *testing.T, s *site, m *node.Machine) {
	t.Helper()
	mirror := f.kinds()[fixtureMirror]
	if mirror != "private" {
		check(t, m.Trust(s.lab.MirrorCA))
	}
	etc := filepath.Join(m.Root, "etc")
	check(t, os.RemoveAll(filepath.Join(etc, "containers/registries.conf")))
	check(t, os.RemoveAll(filepath.Join(etc, "containers/registries.conf.d")))
	for _, file := range f.files {
		if home := strings.Split(file.Name, "/"); home[0] == "home" {
			m.Home = "/home/" + home[1]
		}
		if file.Name == "etc/hosts" { // stands before what the machine has already
			old, err := os.ReadFile(filepath.Join(etc, "hosts"))
			check(t, err)
			file.Data = slices.Concat(file.Data, old)
		}
		if !isHosts(file) {
			f.writeFile(t, s, m, file)
		}
	}
	hosts, err := os.OpenFile(filepath.Join(etc, "hosts"), os.O_APPEND|os.O_WRONLY, 0)
	check(t, err)
	_, err = fmt.Fprintf(hosts, "%s %s\n", addressOf(t, mirror), fixtureMirror)
	check(t, errors.Join(err, hosts.Close()))
}

// writeHosts puts the fixture's folders with hosts.toml in the place of others.
func (f fixture) writeHosts(t *testing.T, s *site, m *node.Machine) {
	t.Helper()
	for _, client := range []string{"containerd", "docker", "containers"} {
		check(t, os.RemoveAll(filepath.Join(m.Root, "etc", client, "certs.d")))
	}
	for _, file := range f.files {
		if isHosts(file) {
			f.writeFile(t, s, m, file)
		}
	}
}

// writeFile writes a file with the addresses that are used here in it.
func (f fixture) writeFile(t *testing.T, s *site, m *node.Machine, file txtar.File) {
	t.Helper()
	ca, err := os.ReadFile(s.lab.MirrorCA.Path)
	check(t, err)
	here := strings.NewReplacer("{{ca}}\n", string(ca), "192.0.2.7", originAddress, // a public one, too
		"192.168.0.10", addressOf(t, f.kinds()["192.168.0.10"]), "192.168.0.11", addressOf(t, f.kinds()["192.168.0.11"]))
	path := filepath.Join(m.Root, file.Name)
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, []byte(here.Replace(string(file.Data))), 0o644))
}
