package clients

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/netip"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

var mirrorAddress = []netip.Addr{netip.MustParseAddr("192.0.2.10")}

// authority makes a CA in PEM.
func authority(t *testing.T) []byte {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func plan(t *testing.T, kind string, m Mirror) *Plan {
	t.Helper()
	if m.Registries == nil {
		m.Registries = []string{"docker.io", "public.ecr.aws"}
	}
	p, err := New(kind, m)
	if err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	return p
}

func find(t *testing.T, p *Plan, name string) File {
	t.Helper()
	i := slices.IndexFunc(p.Files, func(f File) bool { return f.Path == name })
	if i < 0 {
		t.Fatalf("there is no %s", name)
	}
	return p.Files[i]
}

// statements are the lines of a file that aren't comments.
func statements(f File) []string {
	var all []string
	for line := range strings.Lines(string(f.Content)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			all = append(all, line)
		}
	}
	return all
}

func TestEveryKindHasFilesAndNotes(t *testing.T) {
	ca := authority(t)
	for _, kind := range Kinds() {
		p := plan(t, kind, Mirror{URL: "https://mirror.example", CA: ca, Addresses: mirrorAddress, Egress: true})
		seen := make(map[string]bool)
		for _, f := range p.Files {
			if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || seen[f.Path] || f.Mode != 0o644 {
				t.Errorf("%s: %s with mode %v", kind, f.Path, f.Mode)
			}
			seen[f.Path] = true
			if text := string(f.Content); strings.Contains(text, "<no value>") || strings.Contains(text, "{{") || !strings.HasSuffix(text, "\n") || strings.Contains(text, "\n\n\n") {
				t.Errorf("%s: %s is not a text for people:\n%s", kind, f.Path, text)
			}
		}
		if !strings.Contains(p.Notes, "trustmirror doctor") {
			t.Errorf("%s: the notes don't say how to prove it:\n%s", kind, p.Notes)
		}
	}
}

// TestHostsFileClosesContainerd: no line less and no line more than the one form that
// every version of containerd fails closed with.
func TestHostsFileClosesContainerd(t *testing.T) {
	for kind, dir := range map[string]string{"containerd": "/etc/containerd", "nerdctl": "/etc/containerd", "docker": "/etc/docker"} {
		p := plan(t, kind, Mirror{URL: "https://192.0.2.10:5000", CA: authority(t)})
		want := []string{
			`server = "https://192.0.2.10:5000"`,
			`ca = "` + dir + `/trustmirror-ca.crt"`,
			`[host."https://192.0.2.10:5000"]`,
			`capabilities = ["pull", "resolve"]`,
			`ca = "` + dir + `/trustmirror-ca.crt"`,
		}
		for _, registry := range []string{"docker.io", "registry-1.docker.io", "index.docker.io", "registry.hub.docker.com", "public.ecr.aws"} {
			f := find(t, p, dir+"/certs.d/"+registry+"/hosts.toml")
			if got := statements(f); !slices.Equal(got, want) {
				t.Errorf("%s for %s:\n%s", kind, registry, f.Content)
			}
		}
		p = plan(t, kind, Mirror{URL: "http://127.0.0.1:5000"})
		want = []string{`server = "http://127.0.0.1:5000"`, `[host."http://127.0.0.1:5000"]`, `capabilities = ["pull", "resolve"]`}
		if got := statements(find(t, p, dir+"/certs.d/docker.io/hosts.toml")); !slices.Equal(got, want) {
			t.Errorf("%s by plain http: %q", kind, got)
		}
		if !strings.Contains(p.Notes, "plain http") {
			t.Errorf("%s: plain http is not spoken of", kind)
		}
	}
}

// TestRegistryWithPort: containerd looks for the form with underscores first, so that
// no older folder shadows it.
func TestRegistryWithPort(t *testing.T) {
	p := plan(t, "containerd", Mirror{URL: "https://mirror.example", Registries: []string{"registry.example:5000"}})
	find(t, p, "/etc/containerd/certs.d/registry.example_5000_/hosts.toml")
}

// TestPodmanBlocksEveryRegistry: each prefix that has a mirror is blocked.
func TestPodmanBlocksEveryRegistry(t *testing.T) {
	for _, kind := range []string{"podman", "crio"} {
		p := plan(t, kind, Mirror{URL: "https://mirror.example:5000", CA: authority(t)})
		got := strings.Join(statements(find(t, p, "/etc/containers/registries.conf.d/zz-trustmirror.conf")), "\n") + "\n"
		var want strings.Builder
		for _, n := range [][2]string{{"docker.io", "docker.io"}, {"registry-1.docker.io", "docker.io"}, {"index.docker.io", "docker.io"},
			{"registry.hub.docker.com", "docker.io"}, {"public.ecr.aws", "public.ecr.aws"}} {
			want.WriteString("[[registry]]\nprefix = \"" + n[0] + "\"\nlocation = \"" + n[0] + "\"\nblocked = true\n" +
				"[[registry.mirror]]\nlocation = \"mirror.example:5000/" + n[1] + "\"\n")
		}
		if got != want.String() {
			t.Errorf("%s:\n%s", kind, got)
		}
		find(t, p, "/etc/containers/certs.d/mirror.example:5000/ca.crt")

		p = plan(t, kind, Mirror{URL: "http://127.0.0.1:5000"})
		if text := string(find(t, p, "/etc/containers/registries.conf.d/zz-trustmirror.conf").Content); strings.Count(text, "\ninsecure = true") != 5 {
			t.Errorf("%s by plain http:\n%s", kind, text)
		}
	}
}

// TestK3s: the mirrors, no registry's own entry, and the switch.
func TestK3s(t *testing.T) {
	p := plan(t, "k3s", Mirror{URL: "https://mirror.example:5000", CA: authority(t), Addresses: mirrorAddress})
	var registries struct {
		Mirrors map[string]struct{ Endpoint []string }
		Configs map[string]struct {
			TLS struct {
				CAFile string `yaml:"ca_file"`
			} `yaml:"tls"`
		}
	}
	if err := yaml.Unmarshal(find(t, p, "/etc/rancher/k3s/registries.yaml").Content, &registries); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"docker.io", "registry-1.docker.io", "index.docker.io", "registry.hub.docker.com", "public.ecr.aws"} {
		if got := registries.Mirrors[name].Endpoint; !slices.Equal(got, []string{"https://mirror.example:5000"}) {
			t.Errorf("%s: %q", name, got)
		}
	}
	if len(registries.Configs) != 1 || registries.Configs["mirror.example:5000"].TLS.CAFile != "/etc/rancher/k3s/trustmirror-ca.crt" {
		t.Errorf("configs: %+v", registries.Configs)
	}
	if got := statements(find(t, p, "/etc/rancher/k3s/config.yaml.d/trustmirror.yaml")); !slices.Equal(got, []string{"disable-default-registry-endpoint: true"}) {
		t.Errorf("%q", got)
	}
}

func TestDockerTurnsTheContainerdStoreOn(t *testing.T) {
	f := find(t, plan(t, "docker", Mirror{URL: "https://192.0.2.10"}), "/etc/docker/daemon.json")
	var config struct{ Features map[string]bool }
	if err := json.Unmarshal(f.Content, &config); err != nil || !config.Features["containerd-snapshotter"] || f.There != Merge {
		t.Errorf("%v, %v: %s", err, f.There, f.Content)
	}
}

func TestTransparentNames(t *testing.T) {
	m := Mirror{URL: "https://mirror.example", Addresses: append(mirrorAddress[:1:1], netip.MustParseAddr("2001:db8::1")),
		Registries: []string{"127.0.0.1:5000", "docker.io", "registry.example:5000"}}
	p := plan(t, "docker-transparent", m)
	want := []string{
		"192.0.2.10 registry-1.docker.io", "192.0.2.10 index.docker.io", "192.0.2.10 registry.hub.docker.com", "192.0.2.10 registry.example",
		"2001:db8::1 registry-1.docker.io", "2001:db8::1 index.docker.io", "2001:db8::1 registry.hub.docker.com", "2001:db8::1 registry.example",
	}
	if got := statements(find(t, p, "/etc/hosts")); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for _, said := range []string{"stay open: 127.0.0.1:5000", "there too: registry.example:5000",
		"registry-1.docker.io, index.docker.io, registry.hub.docker.com and registry.example"} {
		if !strings.Contains(p.Notes, said) {
			t.Errorf("the notes don't say %q:\n%s", said, p.Notes)
		}
	}
}

// TestWhoCannotFailClosed: the plan says so, and has rules with the mirror's address.
func TestWhoCannotFailClosed(t *testing.T) {
	for _, kind := range []string{"docker", "k3s", "buildkit"} {
		p := plan(t, kind, Mirror{URL: "https://mirror.example:5000", Addresses: append(mirrorAddress[:1:1], netip.MustParseAddr("2001:db8::1"))})
		nft := string(find(t, p, egressNFT).Content)
		for _, line := range []string{"elements = { 192.0.2.10 }", "elements = { 2001:db8::1 }", "reject with tcp reset"} {
			if !strings.Contains(nft, line) {
				t.Errorf("%s: no %q in\n%s", kind, line, nft)
			}
		}
		policy := documents(t, find(t, p, networkPolicy).Content)
		for _, cidr := range []string{"192.0.2.10/32", "2001:db8::1/128"} {
			if !strings.Contains(policy, `"cidr":"`+cidr+`"`) || !strings.Contains(policy, `"port":5000,"protocol":"TCP"`) {
				t.Errorf("%s: %s", kind, policy)
			}
		}
		if policy := documents(t, find(t, p, ciliumPolicy).Content); !strings.Contains(policy, `"toFQDNs":[{"matchName":"mirror.example"}]`) {
			t.Errorf("%s: %s", kind, policy)
		}
	}
	for _, kind := range []string{"docker", "buildkit"} {
		if notes := plan(t, kind, Mirror{URL: "https://192.0.2.10"}).Notes; !strings.Contains(notes, "CANNOT\nFAIL CLOSED") && !strings.Contains(notes, "CANNOT FAIL CLOSED") {
			t.Errorf("%s doesn't say that it stays open:\n%s", kind, notes)
		}
	}
	p := plan(t, "buildkit", Mirror{URL: "https://192.0.2.10"})
	if policy := documents(t, find(t, p, ciliumPolicy).Content); !strings.Contains(policy, `"toCIDR":["192.0.2.10/32"]`) {
		t.Errorf("%s", policy)
	}
	for _, kind := range []string{"containerd", "nerdctl", "podman", "crio", "docker-transparent"} {
		for _, f := range plan(t, kind, Mirror{URL: "https://mirror.example", Addresses: mirrorAddress}).Files {
			if strings.HasPrefix(f.Path, "/etc/trustmirror/") {
				t.Errorf("%s: %s, which wasn't asked for", kind, f.Path)
			}
		}
	}
}

// documents reads a YAML file strictly and gives it back as JSON, keys sorted.
func documents(t *testing.T, content []byte) string {
	t.Helper()
	decoder := yaml.NewDecoder(strings.NewReader(string(content)))
	var document, second any
	if err := decoder.Decode(&document); err != nil {
		t.Fatalf("%v in\n%s", err, content)
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		t.Fatalf("a second document: %v", err)
	}
	out, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestMistakes(t *testing.T) {
	ca := authority(t)
	for _, test := range []struct {
		kind string
		m    Mirror
		want string
	}{
		{"rkt", Mirror{URL: "https://m.example"}, `there is no client "rkt"; write one of containerd, docker, docker-transparent, podman, crio, k3s, buildkit, nerdctl`},
		{"podman", Mirror{}, "the mirror is missing"},
		{"podman", Mirror{URL: "mirror.example:5000"}, `"mirror.example:5000" says neither http nor https`},
		{"podman", Mirror{URL: "ftp://mirror.example"}, "clients don't speak ftp"},
		{"podman", Mirror{URL: "https://mirror.example/"}, "write https://mirror.example"},
		{"podman", Mirror{URL: "https://mirror.example/v2"}, "something after the host"},
		{"podman", Mirror{URL: "https://mirror.example?x"}, "something after the host"},
		{"podman", Mirror{URL: "https://mirror.example?"}, "something after the host"},
		{"podman", Mirror{URL: "https://mirror.example#"}, "something after the host"},
		{"podman", Mirror{URL: "https://me:secret@mirror.example"}, "holds a user"},
		{"podman", Mirror{URL: "https://"}, "is no host"},
		{"podman", Mirror{URL: "https://:5000"}, "is no host"},
		{"podman", Mirror{URL: "https://a\"b"}, "is no"},
		{"podman", Mirror{URL: "https://a\nb"}, "is no URL"},
		{"podman", Mirror{URL: "https://[::1%25eth0]"}, "is no host"},
		{"podman", Mirror{URL: "https://mirror.example:"}, "no port"},
		{"podman", Mirror{URL: "https://mirror.example:0"}, "no port"},
		{"podman", Mirror{URL: "https://mirror.example:65536"}, "no port"},
		{"podman", Mirror{URL: "https://Registry-1.docker.io"}, "not the mirror"},
		{"podman", Mirror{URL: "https://public.ecr.aws"}, "not the mirror"},
		{"podman", Mirror{URL: "https://m.example", Registries: []string{}}, "no registry is configured"},
		{"podman", Mirror{URL: "http://m.example", CA: ca}, "write https://"},
		{"podman", Mirror{URL: "https://m.example", CA: []byte{}}, "holds no certificate"},
		{"podman", Mirror{URL: "https://m.example", CA: []byte("nothing")}, "holds no certificate"},
		{"podman", Mirror{URL: "https://m.example", CA: slices.Concat(ca, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY"}))}, "holds a PRIVATE KEY"},
		{"podman", Mirror{URL: "https://m.example", CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})}, "can't be read"},
		{"docker-transparent", Mirror{URL: "http://192.0.2.10"}, "write https://192.0.2.10"},
		{"docker-transparent", Mirror{URL: "https://192.0.2.10:5000"}, "port 443"},
		{"docker-transparent", Mirror{URL: "https://m.example"}, "add the mirror's with --address"},
		{"buildkit", Mirror{URL: "https://m.example"}, "add the mirror's with --address"},
		{"podman", Mirror{URL: "https://m.example", Egress: true}, "add the mirror's with --address"},
	} {
		if test.m.Registries == nil {
			test.m.Registries = []string{"docker.io", "public.ecr.aws"}
		}
		p, err := New(test.kind, test.m)
		if err == nil || p != nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s with %s: %v; want %q", test.kind, test.m.URL, err, test.want)
		}
	}
}
