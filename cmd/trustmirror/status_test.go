package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/proxy/status"
	"github.com/trustmirror/trustmirror/verify"
)

// adminJSON reads a document of the status page's API.
func (s *served) adminJSON(path string, into any) {
	s.t.Helper()
	code, body := get(s.t, testClient, "http://"+s.admin+path)
	if code != http.StatusOK {
		s.t.Fatalf("%s: %d %s", path, code, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		s.t.Fatalf("%s: %v in %s", path, err, body)
	}
}

// TestStatusPage reads the status page of a mirror that was pulled from and has
// refused something, while everything else is down: it asks nobody.
func TestStatusPage(t *testing.T) {
	l := newLab(t)
	s := startServe(t, l.write(t))
	for path, want := range map[string]int{
		"/v2/nicolas/webdis/manifests/0.1.19": 200, "/v2/public.ecr.aws/nicolas/webdis/manifests/0.1.19": 200, "/v2/nicolas/webdis/manifests/latest": 403,
	} {
		if code, body := s.get(path); code != want {
			t.Fatalf("%s: %d %s", path, code, body)
		}
	}
	l.stop()

	var overview status.Overview
	s.adminJSON("/api/v1/status", &overview)
	if overview.Images != 1 || overview.Tags != 1 || overview.Refused != 1 {
		t.Errorf("status: %+v", overview)
	}
	var image status.Image
	s.adminJSON("/api/v1/images/docker.io/nicolas/webdis", &image)
	pins := l.notary.Pins()
	if len(image.Trust.Keys) != 3 || image.Trust.Keys[0] != (status.Key{Role: "root", ID: pins.Root[0]}) || image.Trust.Keys[2].Role != "signer nicolasff" {
		t.Errorf("keys: %+v", image.Trust.Keys)
	}
	if image.Error != "" || image.Trust.Refreshed == nil || image.Trust.From != l.notaryURL || len(image.Copies) != 1 {
		t.Errorf("image: %+v", image)
	}
	if first := image.Trust.Expires[0]; first.Role != "timestamp" || first.Version < 1 || first.Left < 13*24*60*60 {
		t.Errorf("the first to expire: %+v", first)
	}
	if len(image.Tags) != 1 || image.Tags[0].Digest != l.hubPushed.Root || image.Tags[0].Signers[0] != "Repo Admin" {
		t.Errorf("tags: %+v", image.Tags)
	}
	var chain verify.Chain
	s.adminJSON("/api/v1/images/docker.io/nicolas/webdis/tags/0.1.19", &chain)
	for i, root := range []string{l.hubPushed.Root.String(), l.ecrPushed.Root.String()} {
		if got := chain.Sides[i].Root; got.State != verify.StateVerified || got.Digest.String() != root {
			t.Errorf("%s: %+v", chain.Sides[i].Name, got)
		}
	}
	var refusals struct{ Refusals []status.Refusal }
	s.adminJSON("/api/v1/refusals", &refusals)
	if r := refusals.Refusals; len(r) != 1 || r[0].Reason != verify.UnsignedTag || r[0].Client != "127.0.0.1" || r[0].Repository != signedRef.Name() || r[0].Advice == "" {
		t.Errorf("refusals: %+v", r)
	}
	var usage status.Usage
	if s.adminJSON("/api/v1/cache", &usage); usage.Objects < 4 || usage.Bytes < 1000 {
		t.Errorf("cache: %+v", usage)
	}
	for _, path := range []string{"/", "/images/docker.io/nicolas/webdis", "/images/docker.io/nicolas/webdis/tags/0.1.19", "/refusals", "/pulls", "/cache", "/api/v1/status"} {
		if code, body := get(t, testClient, "http://"+s.admin+path); code != http.StatusOK {
			t.Errorf("%s: %d %s", path, code, body)
		}
		if code, _ := s.get(path); code != http.StatusNotFound {
			t.Errorf("%s is at the clients' address too: %d", path, code)
		}
	}
}

// A trust service that was never reached is told, and nobody waits for it.
func TestStatusPageWithoutTrustService(t *testing.T) {
	l := newLab(t)
	l.stop()
	s := startServe(t, l.write(t))
	var image status.Image
	s.adminJSON("/api/v1/images/docker.io/nicolas/webdis", &image)
	if image.Error == "" || image.ErrorReason != verify.TrustUnavailable || len(image.Tags) != 0 {
		t.Errorf("image: %+v", image)
	}
	var overview status.Overview
	if s.adminJSON("/api/v1/status", &overview); overview.Level != "problem" {
		t.Errorf("status: %+v", overview)
	}
}

// Digests that are pinned by hand have tags and no keys, and don't expire.
func TestStatusPageOfDigests(t *testing.T) {
	l := newLab(t)
	before, _, _ := strings.Cut(l.config(), "      notary:")
	file := filepath.Join(t.TempDir(), "config.yaml")
	text := before + "      digests: {\"0.1.9\": " + l.hubPushed.Root.String() + ", \"0.1.19\": " + l.hubPushed.Root.String() + "}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startServe(t, file)
	var image status.Image
	s.adminJSON("/api/v1/images/docker.io/nicolas/webdis", &image)
	if image.Trust.Source != "digests" || len(image.Trust.Keys)+len(image.Trust.Expires) != 0 || len(image.Tags) != 2 || image.Tags[0].Tag != "0.1.19" {
		t.Errorf("image: %+v", image)
	}
}
