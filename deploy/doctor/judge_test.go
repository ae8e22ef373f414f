package doctor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pelletier/go-toml/v2"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	good := Options{Node: fstest.MapFS{}, Tag: "doctor"}
	for name, test := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"no node":  {func(o *Options) { o.Node = nil }, "have to be given"},
		"no tag":   {func(o *Options) { o.Tag = "" }, "have to be given"},
		"client":   {func(o *Options) { o.Clients = []string{"rkt"} }, "is no client"},
		"version":  {func(o *Options) { o.ContainerdVersion = "new" }, "no version of containerd"},
		"store":    {func(o *Options) { o.DockerStore = "new" }, "classic or containerd"},
		"mirror":   {func(o *Options) { o.Mirrors = []string{"mirror.example"} }, "has to begin with"},
		"no host":  {func(o *Options) { o.Mirrors = []string{"https://"} }, "names no host"},
		"no error": {func(*Options) {}, ""},
	} {
		o := good
		test.change(&o)
		_, err := Check(t.Context(), o)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A node on which nothing was found is no proof of anything.
func TestNothingIsClosedByDefault(t *testing.T) {
	t.Parallel()
	report, err := Check(t.Context(), Options{Node: fstest.MapFS{}, Tag: "doctor"})
	if err != nil || report.State != Unknown || len(report.Findings) != 0 {
		t.Errorf("an empty node: %+v, %v", report, err)
	}
	report, err = Check(t.Context(), Options{Node: fstest.MapFS{}, Tag: "doctor", Clients: Clients()})
	if err != nil || len(report.Findings) != len(Clients())*len(DefaultRegistries()) {
		t.Fatalf("all clients of an empty node: %+v, %v", report, err)
	}
	for _, f := range report.Findings {
		if f.State == Closed || f.Fix == "" || f.Trap == "" {
			t.Errorf("%+v", f)
		}
	}
	// What fails closed is not called so if nobody asked the mirror.
	f := readFixture(t, "testdata/closed/containerd.txtar")
	f.options.Asker = nil
	report, err = Check(t.Context(), f.options)
	if err != nil || report.State != Unknown || report.Findings[0].Trap != NotAsked {
		t.Errorf("unasked: %+v, %v", report, err)
	}
}

// Where containerd's CRI plugin is switched off, config_path means nothing.
func TestCRISwitchedOff(t *testing.T) {
	t.Parallel()
	node := fstest.MapFS{"etc/containerd/config.toml": {Data: []byte("disabled_plugins = [\"cri\"]\n")}}
	o := Options{Node: node, Tag: "doctor", Registries: []string{"docker.io"}}
	report, err := Check(t.Context(), o)
	if err != nil || len(report.Findings) != 0 || len(report.Notes) != 1 || !strings.Contains(report.Notes[0], "/etc/containerd/config.toml:1") {
		t.Errorf("%+v, %v", report, err)
	}
	node["etc/containerd/certs.d/docker.io/hosts.toml"] = &fstest.MapFile{Data: []byte("server = \"https://registry-1.docker.io\"\n[host]\n")}
	report, err = Check(t.Context(), o)
	if err != nil || len(report.Findings) != 1 || report.Findings[0].Trap != OriginHost {
		t.Errorf("%+v, %v", report, err)
	}
}

// DNS may lead the registries' names to the mirror as well as the hosts file.
func TestNamesByDNS(t *testing.T) {
	t.Parallel()
	f := readFixture(t, "testdata/traps/registry_mirrors.txtar")
	for _, test := range []struct {
		addresses []string
		err       error
		want      State
	}{
		{[]string{"192.168.0.10"}, nil, Closed},
		{[]string{"192.168.0.10", "192.168.0.11"}, nil, Unknown}, // nobody answers at the other
		{[]string{"192.168.0.10", "192.0.2.7"}, nil, Open},
		{nil, errors.New("no such host"), Open},
	} {
		o := f.options
		o.Asker = &fakeAsker{answers: map[string]string{"192.168.0.10": "refuses"}}
		o.Lookup = func(_ context.Context, host string) ([]string, error) {
			if host != "registry-1.docker.io" {
				t.Errorf("%s was looked up", host)
			}
			return test.addresses, test.err
		}
		report, err := Check(t.Context(), o)
		if err != nil || report.State != test.want {
			t.Errorf("%v: %+v, %v", test.addresses, report, err)
		}
	}
}

// FuzzHosts holds the verdict on a hosts.toml against a plain reading of it: what is
// called closed has the mirror as its server and as each of its hosts.
func FuzzHosts(f *testing.F) {
	f.Add("server = \"https://mirror.example\"\n[host.\"https://mirror.example\"]\ncapabilities = [\"pull\", \"resolve\"]\n")
	f.Add("[host.\"https://mirror.example\"]\nserver = \"https://mirror.example\"\n")
	f.Add("server = \"https://mirror.example\"\nhost = {\"https://registry-1.docker.io\" = {}}\n")
	f.Fuzz(func(t *testing.T, hosts string) {
		node := fstest.MapFS{
			"etc/containerd/config.toml":                  {Data: []byte("version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n")},
			"etc/containerd/certs.d/docker.io/hosts.toml": {Data: []byte(hosts)},
		}
		report, err := Check(t.Context(), Options{Node: node, Tag: "doctor", Clients: []string{Containerd}, Registries: []string{"docker.io"},
			Mirrors: []string{"https://mirror.example"}, Asker: &fakeAsker{answers: map[string]string{"mirror.example": "refuses"}}})
		if err != nil {
			t.Fatal(err)
		}
		if report.State != Closed {
			return
		}
		var plain struct {
			Server string         `toml:"server"`
			Host   map[string]any `toml:"host"`
		}
		if err := toml.Unmarshal([]byte(hosts), &plain); err != nil || !isFuzzedMirror(plain.Server) || plain.Host == nil {
			t.Errorf("closed, but %v, %+v", err, plain)
		}
		for host := range plain.Host {
			if !isFuzzedMirror(host) {
				t.Errorf("closed, but %q is asked", host)
			}
		}
	})
}

func isFuzzedMirror(s string) bool {
	s = strings.ToLower(s)
	s = strings.TrimPrefix(strings.TrimPrefix(s, "https:"), "//")
	s, _, _ = strings.Cut(s, "/")
	s, _, _ = strings.Cut(s, "?")
	s, _, _ = strings.Cut(s, "#")
	if at := strings.LastIndex(s, "@"); at >= 0 {
		s = s[at+1:]
	}
	return strings.TrimSuffix(s, ":443") == "mirror.example"
}
