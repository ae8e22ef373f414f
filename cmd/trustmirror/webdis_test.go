package main

import (
	"bytes"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// webdisFolder is seen from the project's folder.
const webdisFolder = "deploy/webdis"

// What is shipped for Webdis is right: every tag and digest that its author
// published, and nothing else.
func TestWebdisConfiguration(t *testing.T) {
	t.Chdir("../..")
	file := filepath.Join(webdisFolder, "config.yaml")
	var stdout, stderr bytes.Buffer
	if status := run(t.Context(), []string{"config", "check", file}, &stdout, &stderr); status != statusOK {
		t.Fatalf("config check: %d %s", status, &stderr)
	}
	if want := "docker.io/nicolas/webdis: 12 tags with digests pinned in deploy/webdis/digests.yaml\n"; !strings.HasPrefix(stdout.String(), want) {
		t.Errorf("config check says %s", &stdout)
	}
	c, err := readConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	for tag, hex := range map[string]string{
		"0.1.12": "d88b2319e6f4aeb323e98f30780fdd4231911d24c855a0722ee8c8f84405ea30", "0.1.14": "77a7b02490beadda996b7a7e54c79a24203e19701f32b3ebff91963f9d6fe9b8",
		"0.1.17.1": "870738120c7447f887d8fc8263a8c4b9d84179f0439385056914211cc7207057", "0.1.19": "5de58646bae3ee52e05a65672532120b094682b79823291031ccb41533c21667",
		"0.1.22": "5a7d342e3a9e5667fe05f045beae4b5042681d1d737f60843b7dfd11f96ab72f",
	} {
		if got := c.Images[0].Digests.Tags[tag]; got.Encoded() != hex {
			t.Errorf("%s is %s", tag, got)
		}
	}
}

// vector returns a file of real data that isn't the project's own.
func vector(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("../../../shared/vectors", name))
	if os.IsNotExist(err) {
		t.Skipf("SKIPPED: the real data are not there: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// The real manifest list of Webdis 0.1.19 is served, byte for byte, under the
// configuration that is shipped, with a stand-in for Docker Hub. No other tag is,
// nor is the same tag once the registry delivers a byte more.
func TestWebdisIsServedByPinnedDigest(t *testing.T) {
	list := vector(t, "webdis-0.1.19-hub-manifest-list.json")
	const mediaType = "application/vnd.docker.distribution.manifest.list.v2+json"
	const path = "/v2/nicolas/webdis/manifests/"
	hub, ecr := verifytest.NewRegistry(), verifytest.NewRegistry()
	pinned := hub.PutDocument("nicolas/webdis", verifytest.Document{MediaType: mediaType, Raw: list}, "0.1.19", "0.1.11")
	hubServer, ecrServer := httptest.NewServer(hub), httptest.NewServer(ecr)
	defer hubServer.Close()
	defer ecrServer.Close()
	config := func() string { return webdisConfig(t, hubServer.URL, ecrServer.URL) }
	s := startServe(t, config())
	status, body := s.get(path + "0.1.19")
	if status != 200 || !bytes.Equal(body, list) || len(body) != 772 {
		t.Fatalf("0.1.19: %d, %d bytes: %s", status, len(body), body)
	}
	if status, body := s.get(path + pinned.String()); status != 200 || !bytes.Equal(body, list) {
		t.Errorf("by digest: %d, %s", status, body)
	}
	if digest.FromBytes(body) != pinned {
		t.Errorf("digest is %s", digest.FromBytes(body))
	}
	status, body = s.get(path + "0.1.11")
	if status != 403 || !bytes.Contains(body, []byte(`"unsigned_tag"`)) {
		t.Errorf("0.1.11, which nobody signed: %d, %s", status, body)
	}
	if status, body := s.ready(); status != 200 || !bytes.Contains(body, []byte(`"source":"digests"`)) {
		t.Errorf("/readyz: %d %s", status, body)
	}

	hub.SetDocument("nicolas/webdis", pinned.String(), verifytest.Document{MediaType: mediaType, Raw: append(list, '\n')})
	again := startServe(t, config())
	if status, body := again.get(path + "0.1.19"); status != 403 || !bytes.Contains(body, []byte(`"digest_mismatch"`)) {
		t.Errorf("a byte more: %d, %s", status, body)
	}
}

// webdisConfig is the configuration that is shipped, with other registries and on
// other ports.
func webdisConfig(t *testing.T, hub, ecr string) string {
	t.Helper()
	folder := t.TempDir()
	for _, name := range []string{"config.yaml", "digests.yaml"} {
		raw, err := os.ReadFile(filepath.Join("../..", webdisFolder, name))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer(webdisFolder+"/digests.yaml", filepath.Join(folder, "digests.yaml"), `":5000"`, `"127.0.0.1:0"`, "127.0.0.1:5001", "127.0.0.1:0",
			"\nimages:", "\nupstreams:\n  docker.io: {url: \""+hub+"\"}\n  public.ecr.aws: {url: \""+ecr+"\"}\nimages:").Replace(string(raw))
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(folder, "config.yaml")
}
