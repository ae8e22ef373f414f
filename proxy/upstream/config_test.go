package upstream

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestConfigurationsThatAreRefused(t *testing.T) {
	file := passwordFile(t, "secret")
	empty := passwordFile(t, "")
	missing := filepath.Join(t.TempDir(), "missing")
	one := func(r Registry) Config { return Config{Registries: map[string]Registry{"hub.example": r}} }
	for name, test := range map[string]struct {
		config Config
		words  string
	}{
		"scheme":            {one(Registry{URL: "ftp://hub.example"}), "must begin with https://"},
		"no scheme":         {one(Registry{URL: "hub.example"}), "write it as https://registry.example"},
		"nonsense":          {one(Registry{URL: "https://a b"}), "can't be read"},
		"a path":            {one(Registry{URL: "https://hub.example/v2/"}), "write https://hub.example"},
		"a query":           {one(Registry{URL: "https://hub.example?x"}), "write https://hub.example"},
		"a password":        {one(Registry{URL: "https://u:p@hub.example"}), "username and password file"},
		"no password":       {one(Registry{Credentials: Credentials{Username: "u"}}), "both a username and a password file"},
		"no user":           {one(Registry{Credentials: Credentials{PasswordFile: file}}), "both a username and a password file"},
		"user with a colon": {one(Registry{Credentials: Credentials{"a:b", file}}), "contains a colon"},
		"missing password":  {one(Registry{Credentials: Credentials{"u", missing}}), "the password file can't be read"},
		"empty password":    {one(Registry{Credentials: Credentials{"u", empty}}), "is empty"},
		"in the clear":      {one(Registry{URL: "http://hub.example", Credentials: Credentials{"u", file}}), "in the clear to hub.example: write https://"},
		"missing CA":        {one(Registry{CAFile: missing}), "the CA file can't be read"},
		"no CA":             {one(Registry{CAFile: file}), "holds no certificate"},
		"realm":             {one(Registry{TokenRealm: "auth.example/token"}), "must be a whole URL"},
		"realm in http":     {one(Registry{TokenRealm: "http://auth.example/token"}), "write https://auth.example/token"},
		"alias":             {Config{Registries: map[string]Registry{"index.docker.io": {}}}, `"index.docker.io" is not a registry's canonical name: write docker.io`},
		"upper case":        {Config{Registries: map[string]Registry{"Hub.example": {}}}, "write hub.example"},
		"no name":           {Config{Registries: map[string]Registry{"https://hub.example": {}}}, "is not a registry's name"},
		"timeout":           {Config{Options: Options{Timeouts: Timeouts{Stall: -time.Second}}}, "the stall timeout -1s is negative"},
		"limit":             {Config{Options: Options{Limits: Limits{Total: -1}}}, "write how many there may be"},
		"user agent":        {Config{Options: Options{UserAgent: "a\r\nX: y"}}, "contains a line break"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := New(test.config)
			if err == nil || !strings.Contains(err.Error(), test.words) {
				t.Errorf("error is %v, want %q", err, test.words)
			}
			if c != nil {
				t.Error("there is a client all the same")
			}
			for name := range test.config.Registries {
				if name == "hub.example" && err != nil && !strings.HasPrefix(err.Error(), "registry hub.example: ") {
					t.Errorf("error doesn't say where: %v", err)
				}
			}
		})
	}
	for url, words := range map[string]string{"": "the trust service has no URL", "notary.example": "must begin with https://", "https://notary.example/x": "write https://notary.example"} {
		if _, err := NewNotary(NotaryConfig{URL: url}); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: error is %v, want %q", url, err, words)
		}
	}
}

func TestConfigurationsThatAreAccepted(t *testing.T) {
	file := passwordFile(t, "secret")
	c, err := New(Config{Registries: map[string]Registry{
		"docker.io":      {},
		"hub.example":    {URL: "https://HUB.example/", Credentials: Credentials{"u", file}, TokenRealm: "https://auth.example/token"},
		"plain.example":  {URL: "http://plain.example"},
		"127.0.0.1:5000": {URL: "http://127.0.0.1:5000", Credentials: Credentials{"u", file}, TokenRealm: "http://10.0.0.1/token"},
		"localhost:5000": {URL: "http://localhost:5000", Credentials: Credentials{"u", file}},
	}})
	must(t, err)
	c.Close()
	password, err := Credentials{"u", file}.password()
	must(t, err)
	if password != "secret" {
		t.Errorf("the password is %q", password)
	}
	must(t, os.WriteFile(file, []byte(" other "), 0o600))
	if password, err = (Credentials{"u", file}).password(); err != nil || password != " other " {
		t.Errorf("the password is %q, %v", password, err)
	}
}
