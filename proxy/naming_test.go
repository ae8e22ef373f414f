package proxy

import (
	"net/url"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/verify"
)

func TestWhichRegistryIsMeant(t *testing.T) {
	const hub, ecr = "docker.io/nicolas/webdis", "public.ecr.aws/nicolas/webdis"
	tests := []struct {
		name string // of the repository in the path
		ns   string
		host string
		want string
	}{
		// 1: ?ns=
		{"nicolas/webdis", "docker.io", "", hub},
		{"nicolas/webdis", "public.ecr.aws", "", ecr},
		{"nicolas/webdis", "127.0.0.1:5000", "", "127.0.0.1:5000/nicolas/webdis"},
		{"nicolas/webdis", "index.docker.io", "", hub},
		{"nicolas/webdis", "registry-1.docker.io", "", hub},
		{"nicolas/webdis", "Public.ECR.aws", "", ecr},
		{"redis", "docker.io", "", "docker.io/library/redis"},
		{"library/redis", "docker.io", "", "docker.io/library/redis"},
		{"redis", "public.ecr.aws", "", "public.ecr.aws/redis"},
		// 2: Host
		{"nicolas/webdis", "", "docker.io", hub},
		{"nicolas/webdis", "", "registry-1.docker.io", hub},
		{"nicolas/webdis", "", "registry-1.docker.io:443", hub},
		{"nicolas/webdis", "", "index.docker.io:5000", hub},
		{"nicolas/webdis", "", "public.ecr.aws", ecr},
		{"nicolas/webdis", "", "PUBLIC.ecr.aws:443", ecr},
		{"nicolas/webdis", "", "127.0.0.1:5000", "127.0.0.1:5000/nicolas/webdis"},
		{"nicolas/webdis", "", "127.0.0.1:5001", hub},
		{"nicolas/webdis", "", "mirror.example:5000", hub},
		{"nicolas/webdis", "", "[::1]:5000", hub},
		// 3: path
		{"public.ecr.aws/nicolas/webdis", "", "mirror.example", ecr},
		{"docker.io/nicolas/webdis", "", "mirror.example", hub},
		{"registry-1.docker.io/nicolas/webdis", "", "mirror.example", hub},
		{"docker.io/redis", "", "mirror.example", "docker.io/library/redis"},
		{"docker.io/library/redis", "", "mirror.example", "docker.io/library/redis"},
		{"127.0.0.1:5000/nicolas/webdis", "", "mirror.example", "127.0.0.1:5000/nicolas/webdis"},
		{"127.0.0.1%3A5000/nicolas/webdis", "", "mirror.example", "127.0.0.1:5000/nicolas/webdis"},
		// 4: the default
		{"nicolas/webdis", "", "mirror.example", hub},
		{"redis", "", "mirror.example", "docker.io/library/redis"},
		{"docker.io", "", "mirror.example", "docker.io/library/docker.io"},
		// Conflicts: the first in order decides, and what it leaves is no longer a registry.
		{"nicolas/webdis", "public.ecr.aws", "docker.io", ecr},
		{"public.ecr.aws/nicolas/webdis", "docker.io", "", "docker.io/public.ecr.aws/nicolas/webdis"},
		{"docker.io/nicolas/webdis", "docker.io", "", "docker.io/docker.io/nicolas/webdis"},
		{"public.ecr.aws/nicolas/webdis", "", "docker.io", "docker.io/public.ecr.aws/nicolas/webdis"},
		{"public.ecr.aws/docker.io/nicolas/webdis", "", "mirror.example", "public.ecr.aws/docker.io/nicolas/webdis"},
	}
	for _, test := range tests {
		gate := &fakeGate{}
		server := newTestServer(t, gate)
		path := "/v2/" + test.name + "/manifests/0.1.19"
		if test.ns != "" {
			path += "?ns=" + url.QueryEscape(test.ns)
		}
		got := getAndHead(t, server, path, "Host", test.host)
		if got.status != 200 {
			t.Errorf("%+v: status %d: %s", test, got.status, got.body)
			continue
		}
		for _, ref := range gate.askedFor() {
			if ref.Name() != test.want || ref.Tag != "0.1.19" || ref.Digest != "" {
				t.Errorf("%+v: the gate was asked for %s", test, ref)
			}
		}
	}
}

// TestAttack26_NamespaceOfAnotherRegistry: what isn't configured is refused, and
// the gate doesn't even hear of it.
func TestAttack26_NamespaceOfAnotherRegistry(t *testing.T) {
	gate := &fakeGate{}
	server := newTestServer(t, gate)
	for _, ns := range []string{
		"quay.io", "localhost", "localhost:5000", "127.0.0.1", "127.0.0.1:5001", "169.254.169.254", "[::1]", "10.0.0.1:80",
		"http://docker.io", "https://docker.io/v2/", "docker.io/", "docker.io/nicolas", "docker.io:443", "docker.io.",
		" docker.io", "docker.io\x00", "docker.io@evil.example", "evil.example#docker.io", "*", "..", "", "xn--dcker-jua.io",
		strings.Repeat("a", 10000),
	} {
		for _, host := range []string{"mirror.example", "docker.io"} {
			for _, path := range []string{manifestPath, blobPath, tagsPath, "/v2/docker.io/nicolas/webdis/manifests/0.1.19"} {
				got := getAndHead(t, server, path+"?ns="+url.QueryEscape(ns), "Host", host)
				e := errorOf(t, got)
				if got.status != 403 || e.Code != "DENIED" || e.Detail.Reason != "no_policy" {
					t.Errorf("ns=%.30q, Host %s, %s: %d %s %s", ns, host, path, got.status, e.Code, e.Detail.Reason)
				}
				if !strings.Contains(e.Message, "docker.io, public.ecr.aws") || len(e.Message) > 1000 {
					t.Errorf("ns=%.30q: the message doesn't help: %s", ns, e.Message)
				}
			}
		}
	}
	if asked := gate.askedFor(); len(asked) > 0 {
		t.Errorf("the gate was asked for %v", asked)
	}
}

// TestAttack26_Repeated: whoever reads the first and whoever reads the last would
// disagree.
func TestAttack26_Repeated(t *testing.T) {
	for _, query := range []string{
		"ns=docker.io&ns=public.ecr.aws", "ns=docker.io&ns=docker.io", "ns=docker.io&ns=", "ns=docker.io;ns=quay.io", "ns=%zz",
	} {
		gate := &fakeGate{}
		server := newTestServer(t, gate)
		got := getAndHead(t, server, manifestPath+"?"+query)
		if e := errorOf(t, got); got.status != 400 || e.Code != "NAME_INVALID" || len(gate.askedFor()) > 0 {
			t.Errorf("%s: %d %s, the gate was asked for %v", query, got.status, e.Code, gate.askedFor())
		}
	}
}

// TestAttack31_LookAlikeNames: only a first component that is a registry is
// taken for one; everything else stays in the repository's name, whole.
func TestAttack31_LookAlikeNames(t *testing.T) {
	for name, want := range map[string]string{
		"evil.example/docker.io/nicolas/webdis":   "docker.io/evil.example/docker.io/nicolas/webdis",
		"docker.io/nicolas/webdis-evil":           "docker.io/nicolas/webdis-evil",
		"docker.io/docker.io/nicolas/webdis":      "docker.io/docker.io/nicolas/webdis",
		"docker.io.evil.example/nicolas/webdis":   "docker.io/docker.io.evil.example/nicolas/webdis",
		"evil-docker.io/nicolas/webdis":           "docker.io/evil-docker.io/nicolas/webdis",
		"nicolas/webdis/manifests/0.1.19":         "docker.io/nicolas/webdis/manifests/0.1.19",
		"nicolas/webdis/blobs/manifests/manifest": "docker.io/nicolas/webdis/blobs/manifests/manifest",
		"localhost/nicolas/webdis":                "docker.io/localhost/nicolas/webdis",
	} {
		gate := &fakeGate{err: verify.Refuse(verify.NoPolicy, "no rule")}
		server := newTestServer(t, gate)
		got := getAndHead(t, server, "/v2/"+name+"/manifests/0.1.19")
		if e := errorOf(t, got); got.status != 403 || e.Detail.Ref != want+":0.1.19" {
			t.Errorf("%s: %d, ref %s", name, got.status, e.Detail.Ref)
		}
		for _, ref := range gate.askedFor() {
			if ref.Name() != want || ref.Registry != "docker.io" {
				t.Errorf("%s: the gate was asked for %s of %s", name, ref.Repository, ref.Registry)
			}
		}
	}
}

func TestDefaultRegistryIsAnother(t *testing.T) {
	gate := &fakeGate{}
	server := newTestServer(t, gate, func(c *Config) { c.DefaultRegistry = "harbor.example:8443" })
	for path, want := range map[string]string{
		"/v2/redis/manifests/7":                     "harbor.example:8443/redis",
		"/v2/redis/manifests/7?ns=docker.io":        "docker.io/library/redis",
		"/v2/harbor.example:8443/app/x/manifests/7": "harbor.example:8443/app/x",
	} {
		before := len(gate.askedFor())
		if got := getAndHead(t, server, path); got.status != 200 {
			t.Fatalf("%s: %d %s", path, got.status, got.body)
		}
		for _, ref := range gate.askedFor()[before:] {
			if ref.Name() != want {
				t.Errorf("%s: the gate was asked for %s, want %s", path, ref.Name(), want)
			}
		}
	}
}

func TestNewRefusesBadConfig(t *testing.T) {
	good := func() Config {
		return Config{Gate: &fakeGate{}, Registries: []string{"docker.io"}, DefaultRegistry: "docker.io"}
	}
	if _, err := New(good()); err != nil {
		t.Fatalf("a good configuration: %v", err)
	}
	for want, change := range map[string]func(*Config){
		"no gate":                            func(c *Config) { c.Gate = nil },
		"no default registry":                func(c *Config) { c.DefaultRegistry = "" },
		`"index.docker.io" is not the canon`: func(c *Config) { c.Registries = []string{"index.docker.io"} },
		`"Quay.io" is not the canonical`:     func(c *Config) { c.Registries = []string{"Quay.io"} },
		`"quay" is not the canonical`:        func(c *Config) { c.DefaultRegistry = "quay" },
		`"https://quay.io" is not the name`:  func(c *Config) { c.DefaultRegistry = "https://quay.io" },
		`"" is not the name`:                 func(c *Config) { c.Registries = []string{""} },
		`"quay.io/org" is not the canonical`: func(c *Config) { c.Registries = []string{"quay.io/org"} },
		"must not be negative":               func(c *Config) { c.WriteTimeout = -1 },
		"no such file":                       func(c *Config) { c.Htpasswd = "/nonexistent/htpasswd" },
		"is not a file":                      func(c *Config) { c.Htpasswd = t.TempDir() },
	} {
		c := good()
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q in it", err, want)
		}
	}
}
