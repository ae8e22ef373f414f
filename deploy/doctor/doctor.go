package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
)

// State says how a client behaves for a registry when the mirror refuses.
type State string

// The states, the best first.
const (
	Closed  State = "closed"  // it asks nobody else
	Unknown State = "unknown" // it can't be told, or nothing can be pulled
	Open    State = "open"    // it asks somebody else
)

// Finding is the verdict on one client and registry.
type Finding struct {
	Client   string `json:"client"`   // one of Clients
	Registry string `json:"registry"` // as an image's name has it: "docker.io"
	State    State  `json:"state"`
	// Trap is why it isn't closed, "" if it is.
	Trap Trap `json:"trap,omitempty"`
	// File is the file that decides, as the node names it, and Line the line in it,
	// counted from 1; 0 where the file lacks what it should say, or is itself lacking.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Sentence says what happens, Fix what to do about it ("" if it is closed).
	Sentence string `json:"sentence"`
	Fix      string `json:"fix,omitempty"`
	// Warning is something that doesn't change the state, "" for nothing.
	Warning string `json:"warning,omitempty"`

	// origin is true where what lets it through is that the registry's own name is
	// asked, which does no harm if that name leads to the mirror.
	origin bool
}

// MirrorFinding says whether a mirror that was named is one, and can be asked.
type MirrorFinding struct {
	URL      string `json:"url"`
	State    State  `json:"state"` // Closed: it refuses, Open: it is no trustmirror
	Trap     Trap   `json:"trap,omitempty"`
	Sentence string `json:"sentence"`
}

// Report is all that was found.
type Report struct {
	// State is the worst of all findings, and Unknown if there are none.
	State    State           `json:"state"`
	Mirrors  []MirrorFinding `json:"mirrors"`
	Findings []Finding       `json:"findings"`
	// Notes say what was left out, and why.
	Notes []string `json:"notes"`
}

// The clients, as Options and findings name them.
const (
	Containerd = "containerd"
	Docker     = "docker"
	Podman     = "podman" // and skopeo and buildah
	CRIO       = "crio"
	K3s        = "k3s"
	RKE2       = "rke2"
	BuildKit   = "buildkit"
)

// Clients lists all of them, in the order of a report.
func Clients() []string {
	return []string{Containerd, Docker, Podman, CRIO, K3s, RKE2, BuildKit}
}

// The names of Docker Hub that clients know it by.
const (
	dockerHub     = "docker.io"
	dockerHubHost = "registry-1.docker.io"
)

// WithAliases adds to Docker Hub its other names, under which a client can ask it too.
func WithAliases(registries []string) []string {
	var all []string
	for _, registry := range registries {
		all = append(all, registry)
		if registry == dockerHub {
			all = append(all, dockerHubHost, "registry.hub.docker.com") // index.docker.io is docker.io to all clients
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// DefaultRegistries are judged where nobody says which.
func DefaultRegistries() []string { return WithAliases([]string{dockerHub, "public.ecr.aws"}) }

// Options says what to judge.
type Options struct {
	// Node is the node's file system from its root. Required.
	Node fs.FS
	// Asker asks mirrors. Nil: nobody is asked, so nothing is closed.
	Asker Asker
	// Lookup resolves a registry's name where the node's hosts file doesn't have
	// it. Nil: only the hosts file counts.
	Lookup func(ctx context.Context, host string) (addresses []string, err error)
	// Clients to judge, whether or not they seem to be installed. Default: those
	// that are.
	Clients []string
	// Registries to judge. Default: DefaultRegistries.
	Registries []string
	// Images are repositories by their registry; mirrors are asked for a tag of
	// each that nobody signed. Default: one that no policy names.
	Images map[string][]string
	// Tag is the tag that mirrors are asked for, which nobody may have signed. Required.
	Tag string
	// Mirrors are the URLs of the mirrors; any other host is not one. Default: every
	// host that refuses as a mirror does is one.
	Mirrors []string
	// MirrorCA holds, in PEM, what is trusted besides the system's when the Mirrors
	// themselves are asked. Clients are judged by what they trust themselves.
	MirrorCA []byte
	// OwnRoots is true where Node is the very system that this program runs on, so
	// that the system's trusted certificates are this program's.
	OwnRoots bool
	// ContainerdVersion is like "1.7.27". Default: "", the worst version counts.
	ContainerdVersion string
	// DockerStore is "classic" or "containerd". Default: classic if daemon.json says so,
	// else not known: an old dockerd takes no notice of a feature that it doesn't know.
	DockerStore string
	// FixFlags is put behind `trustmirror client KIND` in fixes.
	FixFlags string
}

// checker carries what the judges share.
type checker struct {
	Options
	version version // of containerd
	roots   []byte  // PEM of what the node trusts, nil for this program's own
	answers map[string]verdict
	names   map[string]verdict // what answers at the registries' own names
	report  *Report
}

// Check judges a node. The error is about the options; whatever is wrong with the
// node is in the report.
func Check(ctx context.Context, o Options) (*Report, error) {
	c := &checker{Options: o, answers: make(map[string]verdict), names: make(map[string]verdict),
		report: &Report{Mirrors: []MirrorFinding{}, Findings: []Finding{}, Notes: []string{}}}
	if err := c.complete(); err != nil {
		return nil, err
	}
	for _, url := range c.Mirrors {
		c.report.Mirrors = append(c.report.Mirrors, c.checkMirror(ctx, url))
	}
	for _, client := range c.Clients {
		judge := c.judge(client)
		if judge == nil {
			continue // the reason is a note
		}
		for _, registry := range c.Registries {
			c.add(c.throughNames(ctx, judge(ctx, registry), client, registry), client, registry)
		}
	}
	c.report.State = worst(c.report.Findings)
	return c.report, nil
}

func (c *checker) complete() error {
	if c.Node == nil || c.Tag == "" {
		return fmt.Errorf("doctor: a node and a tag have to be given")
	}
	var err error
	if c.version, err = parseVersion(c.ContainerdVersion); err != nil {
		return err
	}
	switch c.DockerStore {
	case "", storeClassic, storeContainerd:
	default:
		return fmt.Errorf("doctor: %q is no image store of Docker's; write %s or %s", c.DockerStore, storeClassic, storeContainerd)
	}
	for _, client := range c.Clients {
		if !slices.Contains(Clients(), client) {
			return fmt.Errorf("doctor: %q is no client; these are: %s", client, strings.Join(Clients(), ", "))
		}
	}
	for _, mirror := range c.Mirrors {
		if _, err := parseEndpoint(mirror); err != nil {
			return fmt.Errorf("doctor: %q is no mirror's URL: %w; write https://mirror.example", mirror, err)
		}
	}
	if len(c.Clients) == 0 {
		c.Clients = c.installed()
	}
	if len(c.Registries) == 0 {
		c.Registries = DefaultRegistries()
	}
	if !c.OwnRoots {
		c.roots = c.systemRoots()
	}
	return nil
}

// judge is what judges a client, or nil if there is nothing to judge.
func (c *checker) judge(client string) func(context.Context, string) Finding {
	switch client {
	case Containerd:
		return c.containerd()
	case Docker:
		return c.docker()
	case Podman, CRIO:
		return c.containers(client)
	case K3s, RKE2:
		return c.rancher(client)
	default:
		return c.buildkit()
	}
}

// add completes a finding and puts it into the report.
func (c *checker) add(f Finding, client, registry string) {
	f.Client, f.Registry = client, registry
	if f.State != Closed && f.Fix == "" {
		f.Fix = c.fixFor(client, f)
	}
	if f.File != "" {
		f.File = "/" + strings.TrimPrefix(f.File, "/")
	}
	c.report.Findings = append(c.report.Findings, f)
}

// command is the command that configures a client; RKE2 reads the files of k3s, in
// a folder of its own name.
func (c *checker) command(kind string) string {
	flags := c.FixFlags
	if flags == "" {
		flags = "-c FILE --mirror " + c.mirrorOr()
	}
	if kind == RKE2 {
		kind = K3s
	}
	switch kind {
	case Docker, "docker-transparent", K3s, BuildKit: // what they write has addresses in it
		if u, err := url.Parse(c.mirrorOr()); err == nil {
			if _, err := netip.ParseAddr(u.Hostname()); err != nil {
				flags += " --address IP-OF-THE-MIRROR"
			}
		}
	}
	return fmt.Sprintf("trustmirror client %s %s --write", kind, flags)
}

// mirrorOr is the mirror's URL, or what stands for it.
func (c *checker) mirrorOr() string {
	if len(c.Mirrors) > 0 {
		return c.Mirrors[0]
	}
	return "https://MIRROR"
}

func worst(findings []Finding) State {
	if len(findings) == 0 {
		return Unknown
	}
	state := Closed
	for _, f := range findings {
		state = state.worse(f.State)
	}
	return state
}

// worse is the worse of two states.
func (s State) worse(other State) State {
	order := []State{Closed, Unknown, Open}
	return order[max(slices.Index(order, s), slices.Index(order, other))]
}

// installed finds out which clients the node has, by their programs and files.
func (c *checker) installed() []string {
	traces := map[string][]string{
		Containerd: {"etc/containerd/config.toml", "etc/containerd/certs.d", "BIN/containerd"},
		Docker:     {"etc/docker/daemon.json", "etc/docker/certs.d", "BIN/dockerd"},
		Podman:     {"etc/containers/registries.conf", "etc/containers/registries.conf.d", "BIN/podman", "BIN/skopeo", "BIN/buildah"},
		CRIO:       {"etc/crio", "BIN/crio"},
		K3s:        {"etc/rancher/k3s", "var/lib/rancher/k3s", "BIN/k3s"},
		RKE2:       {"etc/rancher/rke2", "var/lib/rancher/rke2", "BIN/rke2"},
		BuildKit:   {"etc/buildkit/buildkitd.toml", "BIN/buildkitd"},
	}
	return slices.DeleteFunc(Clients(), func(client string) bool {
		return !slices.ContainsFunc(traces[client], c.hasTrace)
	})
}

func (c *checker) hasTrace(name string) bool {
	program, isProgram := strings.CutPrefix(name, "BIN/")
	if !isProgram {
		return c.exists(name)
	}
	for _, folder := range []string{"usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin", "bin", "sbin", "opt/bin"} {
		if c.exists(path.Join(folder, program)) {
			return true
		}
	}
	return false
}

// exists is true also for what may be there but can't be looked at.
func (c *checker) exists(name string) bool {
	_, err := fs.Stat(c.Node, name)
	return !isNotExist(err)
}
