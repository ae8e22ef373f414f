package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const example = "../../config.example.yaml"

// The key IDs that the author of Webdis publishes.
const (
	webdisRoot       = "40be21f47831d593892370a8e3fc5bfffb16887c707bd81a6aed2088dc8f4bef"
	webdisRepository = "fed0b56b8a8fd4d156fb2f47c2e8bd3eb61948b72a787c18e2fa3ea3233bba1a"
	webdisSigner     = "dd0768b9d35d344bbd1681418d27052c4c896a59be214352448daa2b6925b95b"
)

func TestExampleIsForWebdis(t *testing.T) {
	got, err := readConfig(example)
	if err != nil {
		t.Fatal(err)
	}
	want := newConfig()
	want.Upstreams["docker.io"] = Upstream{URL: "https://registry-1.docker.io"}
	want.Images = []Image{{
		Signed: "docker.io/nicolas/webdis",
		Copies: []string{"public.ecr.aws/nicolas/webdis"},
		Notary: &Notary{
			URL: "https://notary.docker.io",
			Keys: Keys{
				RootKeys:       []string{webdisRoot},
				RepositoryKeys: []string{webdisRepository},
				Signers:        map[string][]string{"nicolasff": {webdisSigner}},
			},
			Refresh: 10 * time.Minute,
		},
		Grace: time.Hour,
	}}
	got.places = places{}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n %+v\nwant\n %+v", got, want)
	}
}

// What is commented out in the example has to be right too: all fields at once.
func TestExampleShowsEveryField(t *testing.T) {
	t.Chdir(t.TempDir())
	text, err := os.ReadFile(exampleFrom(t))
	if err != nil {
		t.Fatal(err)
	}
	cert := newCertificate(t, "localhost")
	for path, content := range map[string][]byte{
		"server.crt": cert.certPEM, "server.key": cert.keyPEM, "clients.crt": cert.certPEM, "private-ca.crt": cert.certPEM,
		"users": []byte("me:$2y$05$abcdefghijklmnopqrstuu"), "hub-password": []byte("secret\n"), "s3-secret-key": []byte("secret\n"),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	comment := regexp.MustCompile(`(?m)^( *)# ((?:  )?[a-z0-9_]+:(?: .*)?)$`)
	// A bucket and a folder can't both be the storage.
	bucket := regexp.MustCompile(`(?m)^  # s3:\n(?:  #   .*\n)+`).FindString(string(text))
	folder := regexp.MustCompile(`(?m)^  filesystem: .*\n`).FindString(string(text))
	if bucket == "" || folder == "" {
		t.Fatal("the example has no storage.s3 or no storage.filesystem")
	}
	onBucket := strings.NewReplacer(folder, "", bucket, comment.ReplaceAllString(bucket, "$1$2")).Replace(string(text))
	onBucket = strings.ReplaceAll(onBucket, "/etc/trustmirror/", "")
	full := comment.ReplaceAllString(strings.Replace(string(text), bucket, "", 1), "$1$2")
	full = strings.NewReplacer("/etc/trustmirror/", "", "/etc/ssl/", "", "/var/log/trustmirror/", "").Replace(full)
	c, err := parseConfig("full.yaml", []byte(full))
	if err != nil {
		t.Fatalf("%v\n%s", err, full)
	}
	if on, err := parseConfig("bucket.yaml", []byte(onBucket)); err != nil || on.Storage.Driver != "s3" {
		t.Errorf("with the bucket of the example: %v", err)
	}
	// Each field that differs from what an empty file means was read.
	image, upstream := c.Images[0], c.Upstreams["docker.io"]
	for name, v := range map[string]any{
		"listen.tls": c.Listen.TLS, "client_ca": c.Listen.TLS.ClientCA, "htpasswd": c.Listen.HTPasswd,
		"rate_limit": c.Listen.RateLimit, "address": upstream.Address, "resolver": upstream.Resolver,
		"notary.address": image.Notary.Address, "notary.resolver": image.Notary.Resolver,
		"credentials": upstream.Credentials, "token_realm": upstream.TokenRealm, "ca": upstream.CA,
		"decisions.file": c.Decisions.File,
		"gun":            image.Notary.GUN, "notary.ca": image.Notary.CA, "notary.token_realm": image.Notary.TokenRealm,
		"notary.credentials": image.Notary.Credentials, "role_order": image.RoleOrder,
	} {
		if reflect.ValueOf(v).IsZero() {
			t.Errorf("%s isn't in the example", name)
		}
	}
}

func exampleFrom(t *testing.T) string {
	t.Helper()
	if testSourceDir == "" {
		t.Fatal("the working directory wasn't known at start")
	}
	return testSourceDir + "/" + example
}

var testSourceDir, _ = os.Getwd()

func TestCanonicalNames(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"docker.io/nicolas/webdis", "docker.io/nicolas/webdis"},
		{"index.docker.io/redis", "docker.io/library/redis"},
		{"registry-1.docker.io/myorg/*", "docker.io/myorg/*"},
		{"docker.io/*", "docker.io/library/*"},
		{"docker.io/*/app", "docker.io/*/app"},
		{"127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c"},
		{"localhost/a/*", "localhost/a/*"},
	} {
		if got, err := parseName(tc.in); err != nil || got != tc.want {
			t.Errorf("parseName(%q) = %q, %v; want %q", tc.in, got, err, tc.want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{"1B": 1, "50GiB": 50 << 30, "1.5 KiB": 1536, "2TiB": 2 << 40, "3MiB": 3 << 20} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "50", "50G", "50GB", "GiB", "-1GiB", "0GiB", "1e30TiB", "NaNGiB", "InfGiB", "9000000000TiB", "0x10GiB", "1GiB2"} {
		if got, err := parseSize(in); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", in, got)
		}
	}
}

func TestJSONIsAccepted(t *testing.T) {
	json := fmt.Sprintf("{\n\t\"images\": [{\n\t\t\"signed\": \"docker.io/redis\",\n\t\t\"trust\": {\"notary\": {\"url\": \"http://127.0.0.1:1\", \"root_keys\": [%q], \"repository_keys\": [%q]}}\n\t}]\n}\n", webdisRoot, webdisRepository)
	c, err := parseConfig("config.json", []byte(json))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Images[0].Signed; got != "docker.io/library/redis" {
		t.Errorf("signed = %q", got)
	}
}

// A key ID of digits, one e and digits looks like a number; it has to stay as written.
func TestKeyIDThatLooksLikeANumber(t *testing.T) {
	id := strings.Repeat("1", 40) + "e" + strings.Repeat("2", 23)
	text := fmt.Sprintf("images: [{signed: docker.io/redis, trust: {notary: {url: 'http://127.0.0.1:1', root_keys: [%s], repository_keys: [%s]}}}]", id, strings.Repeat("7", 64))
	c, err := parseConfig("c.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if n := c.Images[0].Notary; n.RootKeys[0] != id || n.RepositoryKeys[0] != strings.Repeat("7", 64) {
		t.Errorf("keys = %v, %v", n.RootKeys, n.RepositoryKeys)
	}
}

func TestSeveralMistakesAreSortedByLine(t *testing.T) {
	_, err := parseConfig("c.yaml", []byte("lisen: {}\nstorag: {}\nadmin: {adress: x}\n"))
	want := "c.yaml:1: lisen is not a field of the configuration; did you mean listen?\n" +
		"c.yaml:2: storag is not a field of the configuration; did you mean storage?\n" +
		"c.yaml:3: adress is not a field of admin; did you mean address?"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// FuzzParseConfig: what is accepted pins keys for every image; what isn't is
// explained in lines of their own that name a line of the file.
func FuzzParseConfig(f *testing.F) {
	text, err := os.ReadFile(example)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("\"a\\nb\": 1\nimages: *x\n"))
	f.Add([]byte("listen: {address: \"a\\nb\"}\n"))
	f.Add([]byte("\r\r0"))
	f.Add([]byte("? {a: [b]}\n: c\n---\n- d\n"))
	id := regexp.MustCompile(`^[0-9a-f]{64}$`)
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseConfig("f.yaml", text)
		if err != nil {
			checkMistakes(t, text, err)
			return
		}
		for _, image := range c.Images {
			n := image.Notary
			ids := slices.Concat(n.RootKeys, n.RepositoryKeys)
			for _, keys := range n.Signers {
				if len(keys) == 0 {
					t.Errorf("%s: a signer without keys", image.Signed)
				}
				ids = append(ids, keys...)
			}
			if image.Signed == "" || n.URL == "" || len(n.RootKeys) == 0 || len(n.RepositoryKeys) == 0 {
				t.Errorf("an image that isn't held to anything: %+v", image)
			}
			for _, k := range ids {
				if !id.MatchString(k) {
					t.Errorf("key ID %q", k)
				}
			}
		}
		if len(c.Images) == 0 {
			t.Error("no images")
		}
	})
}

func checkMistakes(t *testing.T, text []byte, err error) {
	t.Helper()
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	lines := 2 + strings.Count(string(text), "\n")
	for _, err := range all {
		var m *mistake
		if !errors.As(err, &m) {
			t.Fatalf("%v is %T", err, err)
		}
		if m.line < 1 || m.line > lines {
			t.Errorf("line %d of %d", m.line, lines)
		}
		if strings.ContainsAny(m.Error(), "\n\r") {
			t.Errorf("more than a line: %q", m.Error())
		}
	}
}
