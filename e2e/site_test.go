package e2e

import (
	"debug/buildinfo"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/e2e/lab"
	"github.com/trustmirror/trustmirror/e2e/node"
	"github.com/trustmirror/trustmirror/e2e/tools"
)

// Where things are in the test's own network. The names of the registries lead
// to the origin, so that a client that doesn't fail closed finds what it wants.
const (
	mirrorName    = "mirror.test"
	mirrorAddress = "127.0.77.1"
	originAddress = "192.0.2.2" // on the loopback interface, but of the public network as registries' are
)

// registryNames are the host names that clients may ask in place of the mirror.
func registryNames() []string {
	return []string{"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "auth.docker.io", "public.ecr.aws"}
}

// site is one test's world: registries, a notary server, a publisher, and the
// origin that must not be asked.
type site struct {
	lab    *lab.Lab
	world  *lab.World
	origin *lab.Origin
	mirror *lab.Mirror // the one that serves now
}

func newSite(t *testing.T) *site {
	t.Helper()
	l, err := lab.New()
	check(t, err)
	s := &site{lab: l}
	t.Cleanup(func() {
		if t.Failed() {
			if s.mirror != nil {
				t.Logf("trustmirror's log ends with:\n%s", s.mirror.Process.LogTail())
			}
			t.Logf("logs and configuration are kept in %s", l.Dir)
			l.Close()
			return
		}
		check(t, l.Remove())
	})
	s.world, err = l.StartWorld(t.Context(), "/usr/bin") // Debian's notary, which takes what delegations sign
	check(t, err)
	registries := map[string]*lab.Registry{}
	for _, name := range registryNames() {
		registries[name] = s.world.Hub
	}
	registries["public.ecr.aws"] = s.world.ECR
	registries[fixtureMirror] = s.world.Hub // where something else has the mirror's name
	s.origin, err = l.StartOrigin(originAddress, registries)
	check(t, err)
	return s
}

// serve starts trustmirror with an empty storage, in place of the one before.
// Without rules it has the one for Webdis.
func (s *site) serve(t *testing.T, rules ...lab.Rule) {
	t.Helper()
	if len(rules) == 0 {
		rule, err := s.world.Rule()
		check(t, err)
		rules = []lab.Rule{rule}
	}
	s.serveAs(t, program(), s.mirrorConfig(rules...))
}

// serveAs starts a trustmirror that is configured in another way.
func (s *site) serveAs(t *testing.T, program string, config lab.MirrorConfig, env ...string) {
	t.Helper()
	if s.mirror != nil {
		s.mirror.Process.Stop()
	}
	mirror, err := s.lab.NewMirror(program, config)
	check(t, err)
	mirror.Env = env
	check(t, mirror.Start(t.Context()))
	s.mirror = mirror
}

// program is the path of trustmirror.
func program() string { return filepath.Join(os.Getenv(isolated), "trustmirror") }

// newMirror writes the configuration of a mirror that program is to serve.
func (s *site) newMirror(program string, rules []lab.Rule) (*lab.Mirror, error) {
	return s.lab.NewMirror(program, s.mirrorConfig(rules...))
}

func (s *site) mirrorConfig(rules ...lab.Rule) lab.MirrorConfig {
	return lab.MirrorConfig{
		Address:   mirrorAddress + ":443",
		Names:     append([]string{mirrorName, fixtureMirror}, registryNames()...),
		Upstreams: s.world.Upstreams(),
		Rules:     rules,
		Refresh:   24 * time.Hour, // so that nothing is asked in the background while requests are counted
	}
}

// push publishes a release under tag, signed by the repository key.
func (s *site) push(t *testing.T, tag string, release lab.Published) {
	t.Helper()
	check(t, s.world.Push(t.Context(), tag, release))
	check(t, s.world.Sign(t.Context(), tag, release))
	check(t, s.world.Publish(t.Context()))
}

// upstreamRequests returns what registries and notary were asked since the last call.
func (s *site) upstreamRequests() []string {
	requests := s.world.Hub.Requests()
	requests = append(requests, s.world.ECR.Requests()...)
	return append(requests, s.world.Notary.Requests()...)
}

// nobodyAskedOrigin fails the test if a client went round the mirror.
func (s *site) nobodyAskedOrigin(t *testing.T) {
	t.Helper()
	if asked := s.askedOrigin(t); len(asked) > 0 {
		t.Errorf("the client asked the origin: %q", asked)
	}
}

// askedOrigin returns what was asked of the origin since the last call.
func (s *site) askedOrigin(t *testing.T) []string {
	t.Helper()
	asked, err := s.origin.Asked()
	check(t, err)
	return asked
}

// machine is a new one, with the mirror's configuration for a kind of client; for ""
// with none.
func (s *site) machine(t *testing.T, kind string) *node.Machine {
	t.Helper()
	m, err := node.NewMachine(t.Context(), s.lab)
	check(t, err)
	if kind == "" {
		return m
	}
	mirror := s.mirror
	if mirror == nil { // it serves nothing yet
		rule, err := s.world.Rule()
		check(t, err)
		mirror, err = s.newMirror(program(), []lab.Rule{rule})
		check(t, err)
	}
	check(t, m.Configure(t.Context(), mirror, kind, mirrorName, mirrorAddress))
	return m
}

// client is a node with its name in the tests' table.
type client struct {
	name    string
	kind    string // of `trustmirror client`
	machine *node.Machine
	node.Node
}

// clients starts each client, configured to fail closed.
func (s *site) clients(t *testing.T) []client {
	t.Helper()
	all := []client{s.dockerd(t)}
	machine := s.machine(t, "docker")
	today, err := node.StartDockerdToday(t.Context(), machine, built(t, "dockerd"), built(t, "containerd"))
	check(t, err)
	all = append(all, client{"dockerd " + builtVersion(t, "dockerd"), "docker", machine, today})
	for _, programs := range []string{"/usr/bin", built(t, "containerd")} {
		machine := s.machine(t, "containerd")
		containerd, err := node.StartContainerd(t.Context(), machine, programs)
		check(t, err)
		kubernetes, err := containerd.CRI(t.Context())
		check(t, err)
		name := "containerd " + version(t, filepath.Join(programs, "containerd"))
		all = append(all, client{name + ", ctr", "containerd", machine, containerd}, client{name + ", CRI", "containerd", machine, kubernetes})
	}
	machine = s.machine(t, "podman")
	podman, err := node.NewPodman(machine)
	check(t, err)
	return append(all, client{"podman " + version(t, "podman"), "podman", machine, podman}, s.skopeo(t))
}

func (s *site) dockerd(t *testing.T) client {
	t.Helper()
	machine := s.machine(t, "docker-transparent")
	dockerd, err := node.StartDockerd(t.Context(), machine)
	check(t, err)
	return client{"dockerd " + version(t, "/usr/sbin/dockerd"), "docker-transparent", machine, dockerd}
}

func (s *site) containerd2(t *testing.T) *node.Containerd {
	t.Helper()
	containerd, err := node.StartContainerd(t.Context(), s.machine(t, "containerd"), built(t, "containerd"))
	check(t, err)
	return containerd
}

func (s *site) skopeo(t *testing.T) client {
	t.Helper()
	machine := s.machine(t, "podman")
	skopeo, err := node.NewSkopeo(machine)
	check(t, err)
	return client{"skopeo " + version(t, "skopeo"), "podman", machine, skopeo}
}

// built is the folder of a tool's programs.
func built(t *testing.T, tool string) string {
	t.Helper()
	folder, err := tools.Dir(t.Context(), tool, os.Stdout)
	check(t, err)
	return folder
}

// builtVersion is that of the module that a tool was built from.
func builtVersion(t *testing.T, tool string) string {
	t.Helper()
	info, err := buildinfo.ReadFile(filepath.Join(built(t, tool), tool))
	check(t, err)
	return info.Main.Version
}

// version is what a program says of itself, without the patch level.
func version(t *testing.T, program string) string {
	t.Helper()
	out, err := lab.Run(t.Context(), nil, program, "--version")
	check(t, err)
	found := regexp.MustCompile(`\bv?(\d+\.\d+)\.`).FindSubmatch(out)
	if found == nil {
		t.Fatalf("%s tells no version: %s", program, out)
	}
	return string(found[1])
}

// check ends the test at an error.
func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
