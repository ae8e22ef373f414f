package main

import (
	"crypto/x509"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// lab is a Docker Hub, an ECR and a Notary service on loopback, with a release of
// Webdis signed as 0.1.19, and configurations for them.
type lab struct {
	hub, ecr             *verifytest.Registry
	hubURL, ecrURL       string
	notary               *notarytest.Repository
	notaryURL            string
	release              *verifytest.Release
	hubPushed, ecrPushed verifytest.Pushed
	hubServer, ecrServer *httptest.Server
	notaryServer         *httptest.Server
}

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{hub: verifytest.NewRegistry(), ecr: verifytest.NewRegistry(), notary: notarytest.New(t, signedRef.Name())}
	now := time.Now()
	l.notary.Timestamp.Expires = now.Add(14*24*time.Hour + time.Minute)
	for _, r := range []*notarytest.Role{&l.notary.Root, &l.notary.Targets, &l.notary.Snapshot} {
		r.Expires = now.AddDate(3, 0, 1)
	}
	l.notary.Delegate("nicolasff")
	l.release = verifytest.NewRelease("webdis", "linux/amd64", "linux/arm64/v8")
	l.hubPushed = l.release.Push(l.hub, signedRef.Repository, verifytest.Format{Tags: []string{"0.1.19", "latest"}})
	l.ecrPushed = l.release.Push(l.ecr, copyRef.Repository, verifytest.Format{Tags: []string{"0.1.19"}, OCI: true, Level: 1})
	l.notary.Sign("0.1.19", l.hubPushed.Root, l.hubPushed.Size)
	l.notary.Publish()

	l.hubServer, l.ecrServer = httptest.NewServer(l.hub), httptest.NewServer(l.ecr)
	l.notaryServer = httptest.NewServer(l.notary.Service())
	l.hubURL, l.ecrURL, l.notaryURL = l.hubServer.URL, l.ecrServer.URL, l.notaryServer.URL
	t.Cleanup(l.stop)
	return l
}

// stop makes everything unreachable.
func (l *lab) stop() {
	for _, s := range []*httptest.Server{l.hubServer, l.ecrServer, l.notaryServer} {
		s.CloseClientConnections()
		s.Close()
	}
}

// config is a configuration for the lab. Each change is an old and a new text.
func (l *lab) config(changes ...string) string {
	pins := l.notary.Pins()
	text := fmt.Sprintf(`listen:
  address: "127.0.0.1:0"
admin:
  address: "127.0.0.1:0"
storage:
  filesystem: {rootdirectory: ./data}
upstreams:
  docker.io: {url: "%s"}
  public.ecr.aws: {url: "%s"}
images:
  - signed: docker.io/nicolas/webdis
    copies: [public.ecr.aws/nicolas/webdis]
    trust:
      notary:
        url: %s
        root_keys: [%s]
        repository_keys: [%s]
        signers:
          nicolasff: [%s]
`, l.hubURL, l.ecrURL, l.notaryURL, pins.Root[0], pins.Repository[0], pins.Signers["nicolasff"][0])
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			panic("nothing to change: " + changes[i])
		}
		text = strings.ReplaceAll(text, changes[i], changes[i+1])
	}
	return text
}

// write puts a configuration into a folder of its own and returns its path.
func (l *lab) write(t testing.TB, changes ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(l.config(changes...)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// pool holds one certificate.
func pool(c certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c.cert)
	return p
}

// anotherConfig makes a change that gives a copy's arm64 image the config of
// another release.
func anotherConfig(registry *verifytest.Registry) func(platform string, document map[string]any) {
	other := verifytest.NewRelease("another", "linux/arm64/v8").Platforms[0].Config
	return func(platform string, document map[string]any) {
		if platform == "linux/arm64/v8" {
			document["config"] = map[string]any{
				"mediaType": ocispec.MediaTypeImageConfig, "size": len(other), "digest": registry.PutBlob(copyRef.Repository, other),
			}
		}
	}
}

// anotherLayer replaces a layer of the amd64 image.
func anotherLayer(platform string, i int, packed []byte) []byte {
	if i == 1 && platform == "linux/amd64" {
		return verifytest.Tar("usr/local/bin/webdis", "something else")
	}
	return packed
}

func (l *lab) otherConfig() {
	l.release.Push(l.ecr, copyRef.Repository, verifytest.Format{Tags: []string{"0.1.19"}, OCI: true, Change: anotherConfig(l.ecr)})
}

func (l *lab) otherLayer() {
	l.release.Push(l.ecr, copyRef.Repository, verifytest.Format{Tags: []string{"0.1.19"}, OCI: true, Layers: "tar", ChangeLayer: anotherLayer})
}

// delegate makes the signer nicolasff sign, and release two of the tags.
func (l *lab) delegate(t testing.TB) {
	t.Helper()
	nicolasff := l.notary.Delegations[0]
	releases := l.notary.Delegate("releases", nicolasff.Keys...)
	nicolasff.Expires, releases.Expires = l.notary.Targets.Expires, l.notary.Targets.Expires
	for i, tag := range []string{"0.1.10", "0.1.9"} {
		d := digest.FromString(fmt.Sprint("image ", i))
		releases.Sign(tag, d, 100)
		nicolasff.Sign(tag, d, 100)
	}
	nicolasff.Sign("draft", digest.FromString("draft"), 100)
	l.notary.Publish("targets")
}
