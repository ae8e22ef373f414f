package verify_test

import (
	"strings"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

func source(verify.Ref) (verify.Source, error) { return &verifytest.Source{}, nil }

func TestPolicy(t *testing.T) {
	policy, err := verify.NewPolicy([]verify.ImageRule{
		{Signed: "docker.io/nicolas/webdis", Copies: []string{"public.ecr.aws/nicolas/webdis"}, Source: source},
		{Signed: "docker.io/myorg/*", Copies: []string{"ghcr.example/mirror/*/image"}, Source: source},
		{Signed: "docker.io/myorg/special", Source: source},
		{Signed: "index.docker.io/redis", Source: source},
		{Signed: "127.0.0.1:5000/a", Source: source},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, signed := range map[string]string{
		"nicolas/webdis":                "docker.io/nicolas/webdis",
		"registry-1.docker.io/redis":    "docker.io/library/redis",
		"public.ecr.aws/nicolas/webdis": "docker.io/nicolas/webdis",
		"myorg/app":                     "docker.io/myorg/app",
		"myorg/special":                 "docker.io/myorg/special",
		"ghcr.example/mirror/app/image": "docker.io/myorg/app",
		"127.0.0.1:5000/a":              "127.0.0.1:5000/a",
	} {
		image, err := policy.Image(ref(t, name))
		if err != nil || image.Signed.Name() != signed {
			t.Errorf("%s: %+v, %v; want %s", name, image, err, signed)
		}
		again, err := policy.Image(ref(t, signed))
		if err != nil || again != image {
			t.Errorf("%s: not the same image as %s: %v", signed, name, err)
		}
	}
	// Attack 31: look-alikes.
	for _, name := range []string{
		"evil.example/docker.io/nicolas/webdis", "docker.io/nicolas/webdis-evil", "docker.io/evil/nicolas/webdis",
		"docker.io/nicolas/webdis/evil", "docker.io/myorg/app/evil", "docker.io/myorg/library/x", "public.ecr.aws/nicolas/webdis2",
		"docker.io/library/webdis", "docker.io/myorg2/app", "ghcr.example/mirror/app", "127.0.0.1:5001/a", "127.0.0.1/a",
	} {
		if image, err := policy.Image(ref(t, name)); verify.ReasonOf(err) != verify.NoPolicy {
			t.Errorf("%s: %+v, %v", name, image, err)
		}
	}
}

func TestPolicyRefuses(t *testing.T) {
	tests := map[string]struct {
		rules []verify.ImageRule
		want  string
	}{
		"nothing":             {nil, "name at least one"},
		"no source":           {[]verify.ImageRule{{Signed: "docker.io/a/b"}}, "no trust source"},
		"unanchored":          {[]verify.ImageRule{{Signed: "*webdis*", Source: source}}, "whole name"},
		"part of a component": {[]verify.ImageRule{{Signed: "docker.io/nicolas/web*", Source: source}}, "whole path component"},
		"two stars":           {[]verify.ImageRule{{Signed: "docker.io/*/*", Source: source}}, "whole path component"},
		"star for a registry": {[]verify.ImageRule{{Signed: "*.example/a", Source: source}}, "whole path component"},
		"a tag":               {[]verify.ImageRule{{Signed: "docker.io/a/b:1", Source: source}}, "not a repository name"},
		"no registry":         {[]verify.ImageRule{{Signed: "nicolas/webdis", Source: source}}, "with its registry"},
		"upper case":          {[]verify.ImageRule{{Signed: "docker.io/Nicolas/webdis", Source: source}}, "not a repository name"},
		"the same twice":      {[]verify.ImageRule{{Signed: "docker.io/a/b", Source: source}, {Signed: "index.docker.io/a/b", Source: source}}, "one rule"},
		"a copy of two":       {[]verify.ImageRule{{Signed: "docker.io/a/b", Copies: []string{"x.example/c"}, Source: source}, {Signed: "docker.io/a/d", Copies: []string{"x.example/c"}, Source: source}}, "one rule"},
		"a tie":               {[]verify.ImageRule{{Signed: "docker.io/a/*", Source: source}, {Signed: "docker.io/*/b", Source: source}}, "one rule"},
		"its own copy":        {[]verify.ImageRule{{Signed: "docker.io/a/b", Copies: []string{"docker.io/a/b"}, Source: source}}, "one rule"},
		"a star in one only":  {[]verify.ImageRule{{Signed: "docker.io/a/*", Copies: []string{"x.example/c"}, Source: source}}, "exactly where"},
		"negative grace":      {[]verify.ImageRule{{Signed: "docker.io/a/b", Grace: -1, Source: source}}, "not between"},
		"endless grace":       {[]verify.ImageRule{{Signed: "docker.io/a/b", Source: source, Grace: 25 * time.Hour}}, "not between"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := verify.NewPolicy(test.rules)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want it to say %q", err, test.want)
			}
		})
	}
}

func TestParseRef(t *testing.T) {
	const d = "sha256:5de58646bae3ee52e05a65672532120b094682b79823291031ccb41533c21667"
	for in, want := range map[string]string{
		"redis":                                "docker.io/library/redis",
		"nicolas/webdis:0.1.19":                "docker.io/nicolas/webdis:0.1.19",
		"docker.io/nicolas/webdis@" + d:        "docker.io/nicolas/webdis@" + d,
		"index.docker.io/library/redis:7":      "docker.io/library/redis:7",
		"public.ecr.aws/nicolas/webdis:1@" + d: "public.ecr.aws/nicolas/webdis:1@" + d,
		"localhost:5000/a/b":                   "localhost:5000/a/b",
	} {
		if r, err := verify.ParseRef(in); err != nil || r.String() != want {
			t.Errorf("%s: %s, %v; want %s", in, r, err, want)
		}
	}
	for _, bad := range []string{"", "a/Upper", "a/../b", "a/b:" + strings.Repeat("x", 129), "a/b@sha256:../../x", "a/b@md5:d41d8cd98f00b204e9800998ecf8427e", "https://docker.io/a/b", "Registry/a/b"} {
		if r, err := verify.ParseRef(bad); err == nil {
			t.Errorf("%q was read as %s", bad, r)
		}
	}
}

// TestGateNeedsAll shows that nothing is left out by mistake.
func TestGateNeedsAll(t *testing.T) {
	if _, err := verify.NewGate(verify.GateConfig{}); err == nil {
		t.Error("a gate without policy")
	}
	var none verify.Fetcher
	if _, err := verify.NewGate(verify.GateConfig{Fetcher: none}); err == nil {
		t.Error("a gate without fetcher")
	}
}
