// Package clients writes what makes a container client pull through trustmirror and
// from nowhere else. It is pure: a Mirror goes in, files and what to know about them
// come out; writing them is somebody else's.
//
// Most clients take a mirror's refusal as a reason to ask the registry itself. Each
// file here is the form in which its client doesn't, and says why in its comments;
// where there is no such form, the plan's notes say so, and egress rules come with it.
//
// The files: clients.go says what a client gets, mirror.go checks the input,
// templates/ has the texts.
package clients

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"slices"
	"strings"
	"text/template"
)

// Kinds are the clients that there are plans for.
func Kinds() []string {
	return []string{"containerd", "docker", "docker-transparent", "podman", "crio", "k3s", "buildkit", "nerdctl"}
}

// File is a file on a client's machine.
type File struct {
	// Path is absolute, with slashes.
	Path string
	// Mode are the permissions.
	Mode fs.FileMode
	// Content is all of the file.
	Content []byte
	// There says what becomes of a file that is there and has another content.
	// Default: Replace.
	There There
}

// There is what becomes of a file that is there already.
type There int

// The first is for files that are trustmirror's alone, the others for those that the
// machine has for other things, too.
const (
	Replace There = iota // and keep the old one under another name
	Append               // lines after the old ones, and keep the old one so, too
	Merge                // by hand: it must be left alone
)

// Plan is what a client needs.
type Plan struct {
	Files []File
	// Notes tell an operator what to do after writing the files, and what they don't
	// close.
	Notes string
}

// The places of egress rules. Nothing reads them by itself.
const (
	egressNFT     = "/etc/trustmirror/egress.nft"
	networkPolicy = "/etc/trustmirror/networkpolicy.yaml"
	ciliumPolicy  = "/etc/trustmirror/ciliumnetworkpolicy.yaml"
)

//go:embed templates/*.tmpl
var templateFiles embed.FS

// New makes the plan for a kind of client. Its errors are mistakes in what was asked
// for, and say what to write instead.
func New(kind string, m Mirror) (*Plan, error) {
	if !slices.Contains(Kinds(), kind) {
		return nil, fmt.Errorf("there is no client %q; write one of %s", kind, strings.Join(Kinds(), ", "))
	}
	if err := m.check(kind); err != nil {
		return nil, err
	}
	p := &planner{data: m.data(kind)}
	switch kind {
	case "containerd":
		p.ca("/etc/containerd/trustmirror-ca.crt")
		p.hosts("/etc/containerd/certs.d")
		p.file("/etc/containerd/config.toml", "config.toml").There = Merge
	case "nerdctl":
		p.ca("/etc/containerd/trustmirror-ca.crt")
		p.hosts("/etc/containerd/certs.d")
	case "docker":
		p.ca("/etc/docker/trustmirror-ca.crt")
		p.hosts("/etc/docker/certs.d")
		p.file("/etc/docker/daemon.json", "daemon.json").There = Merge
	case "docker-transparent":
		p.ca("/usr/local/share/ca-certificates/trustmirror.crt")
		p.file("/etc/hosts", "hosts").There = Append
	case "podman", "crio":
		p.ca("/etc/containers/certs.d/" + p.data.Host + "/ca.crt")
		p.file("/etc/containers/registries.conf.d/zz-trustmirror.conf", "registries.conf")
	case "k3s":
		p.ca("/etc/rancher/k3s/trustmirror-ca.crt")
		p.file("/etc/rancher/k3s/registries.yaml", "registries.yaml").There = Merge
		p.file("/etc/rancher/k3s/config.yaml.d/trustmirror.yaml", "k3s.yaml")
	case "buildkit":
		p.ca("/etc/buildkit/trustmirror-ca.crt")
		p.file("/etc/buildkit/buildkitd.toml", "buildkitd.toml").There = Merge
	}
	if m.egress(kind) {
		p.file(egressNFT, "egress.nft")
		p.file(networkPolicy, "networkpolicy.yaml")
		p.file(ciliumPolicy, "ciliumnetworkpolicy.yaml")
	}
	p.plan.Notes = p.notes()
	return &p.plan, p.err
}

// planner collects a plan. The first error stays.
type planner struct {
	data data
	plan Plan
	err  error
}

// ca puts the mirror's CA there, if it has one, for the files that name it.
func (p *planner) ca(path string) {
	if len(p.data.CA) > 0 {
		p.data.CAFile = path
		p.plan.Files = append(p.plan.Files, File{Path: path, Mode: 0o644, Content: p.data.CA})
	}
}

// hosts adds a hosts.toml for every name of every registry.
func (p *planner) hosts(dir string) {
	for _, n := range p.data.Named {
		p.data.Registry = n.Name
		p.file(path.Join(dir, hostsFolder(n.Name), "hosts.toml"), "hosts.toml")
	}
}

// hostsFolder is the folder of a registry that is looked for first: the port of
// registry.example:5000 is written registry.example_5000_.
func hostsFolder(registry string) string {
	if host, port, found := strings.Cut(registry, ":"); found {
		return host + "_" + port + "_"
	}
	return registry
}

// file adds a file that is made of a template. The result is good until the next one.
func (p *planner) file(path, name string) *File {
	p.plan.Files = append(p.plan.Files, File{Path: path, Mode: 0o644, Content: []byte(p.text(name))})
	return &p.plan.Files[len(p.plan.Files)-1]
}

// notes are what is said of the kind of client, and of plain http.
func (p *planner) notes() string {
	notes := p.text("notes_" + p.data.Kind)
	if p.data.Plain {
		notes += p.text("notes_http")
	}
	return notes + p.text("notes_proof")
}

func (p *planner) text(name string) string {
	functions := template.FuncMap{
		"join": func(addresses []netip.Addr, separator string) string {
			var texts []string
			for _, a := range addresses {
				texts = append(texts, a.String())
			}
			return strings.Join(texts, separator)
		},
		"list": list,
	}
	file := name + ".tmpl"
	var b bytes.Buffer
	t, err := template.New(file).Funcs(functions).Option("missingkey=error").ParseFS(templateFiles, "templates/"+file)
	if err == nil {
		err = t.Execute(&b, p.data)
	}
	if err != nil && p.err == nil {
		p.err = err
	}
	return b.String()
}

// list writes "a, b and c".
func list(items []string) string {
	if len(items) < 2 {
		return strings.Join(items, "")
	}
	last := len(items) - 1
	return strings.Join(items[:last], ", ") + " and " + items[last]
}
