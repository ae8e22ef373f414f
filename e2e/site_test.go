package e2e

import (
	"os"
	"path/filepath"
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
	originAddress = "127.0.77.2"
)

// registryNames are the host names that clients may ask in place of the mirror.
func registryNames() []string {
	return []string{"docker.io", "index.docker.io", "registry-1.docker.io", "auth.docker.io", "public.ecr.aws"}
}

// site is one test's world: registries, a notary server, a publisher, and the
// origin that must not be asked.
type site struct {
	lab    *lab.Lab
	world  *lab.World
	origin *lab.Front
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
	s.origin, err = l.StartOrigin(originAddress+":443", registries)
	check(t, err)
	return s
}

// serve starts trustmirror with an empty storage, in place of the one before.
// Without rules it has the one for Webdis.
func (s *site) serve(t *testing.T, rules ...lab.Rule) {
	t.Helper()
	if s.mirror != nil {
		s.mirror.Process.Stop()
	}
	if len(rules) == 0 {
		rule, err := s.world.Rule()
		check(t, err)
		rules = []lab.Rule{rule}
	}
	mirror, err := s.newMirror(filepath.Join(os.Getenv(isolated), "trustmirror"), rules)
	check(t, err)
	check(t, mirror.Start(t.Context()))
	s.mirror = mirror
}

// newMirror writes the configuration of a mirror that program is to serve.
func (s *site) newMirror(program string, rules []lab.Rule) (*lab.Mirror, error) {
	return s.lab.NewMirror(program, lab.MirrorConfig{
		Address:   mirrorAddress + ":443",
		Names:     append([]string{mirrorName}, registryNames()...),
		Upstreams: s.world.Upstreams(),
		Rules:     rules,
		Refresh:   24 * time.Hour, // so that nothing is asked in the background while requests are counted
	})
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
	if asked := s.origin.Requests(); len(asked) > 0 {
		t.Errorf("the client asked the origin: %q", asked)
	}
}

func (s *site) nodeSite() node.Site {
	return node.Site{Lab: s.lab, Mirror: mirrorName, Hosts: hostsOfMirror()}
}

// client is a node with its name in the tests' table.
type client struct {
	name string
	node.Node
}

// clients starts each kind of client that is known to fail closed.
func (s *site) clients(t *testing.T) []client {
	t.Helper()
	dockerd, err := node.StartDockerd(t.Context(), s.nodeSite())
	check(t, err)
	containerd1, err := node.StartContainerd(t.Context(), s.nodeSite(), "")
	check(t, err)
	podman, err := node.NewPodman(s.nodeSite())
	check(t, err)
	return []client{
		{"dockerd-20.10", dockerd},
		{"containerd-1.6", containerd1},
		{"containerd-2.4", s.containerd2(t)},
		{"skopeo", s.skopeo(t)},
		{"podman", podman},
	}
}

func (s *site) containerd2(t *testing.T) *node.Containerd {
	t.Helper()
	programs, err := tools.Dir(t.Context(), "containerd", os.Stdout)
	check(t, err)
	containerd, err := node.StartContainerd(t.Context(), s.nodeSite(), programs)
	check(t, err)
	return containerd
}

func (s *site) skopeo(t *testing.T) *node.Skopeo {
	t.Helper()
	skopeo, err := node.NewSkopeo(s.nodeSite())
	check(t, err)
	return skopeo
}

// check ends the test at an error.
func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
