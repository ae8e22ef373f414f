package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// BenchmarkStatusPages asks a running mirror, with its storage on a disk, for each page
// of its status: with 1,000 signed tags, one of which was pulled under both names, and
// 10,000 refusals.
func BenchmarkStatusPages(b *testing.B) {
	const tags, refusals, clients = 1000, 10_000, 8
	l := newLab(b)
	for i := range tags - 1 {
		l.notary.Sign(fmt.Sprint("1.", i), digest.FromString(fmt.Sprint(i)), 743)
	}
	l.notary.Publish("targets")
	s := startServe(b, l.write(b))
	ask := func(address string, want int) string {
		status, body := get(b, testClient, address)
		if status != want {
			b.Errorf("%s: %d %.300s", address, status, body)
		}
		return string(body)
	}
	pull := "http://" + s.address + "/v2/nicolas/webdis/"
	for ns, pushed := range map[string]verifytest.Pushed{"docker.io": l.hubPushed, "public.ecr.aws": l.ecrPushed} {
		ask(pull+"manifests/0.1.19?ns="+ns, http.StatusOK)
		for platform, manifest := range pushed.Manifests {
			ask(pull+"manifests/"+manifest.String()+"?ns="+ns, http.StatusOK)
			for _, blob := range pushed.Blobs(platform) {
				ask(pull+"blobs/"+blob.String()+"?ns="+ns, http.StatusOK)
			}
		}
	}
	var wait sync.WaitGroup
	for c := range clients {
		wait.Go(func() {
			for i := range refusals / clients {
				ask(fmt.Sprintf("%smanifests/unsigned-%d-%d", pull, c, i), http.StatusForbidden)
			}
		})
	}
	wait.Wait()
	known := ask("http://"+s.admin+"/api/v1/status", http.StatusOK)
	for _, want := range []string{`"tags":1000`, `"refused_last_day":10000`} {
		if !strings.Contains(known, want) {
			b.Fatalf("the mirror doesn't know of %s: %s", want, known)
		}
	}
	const image = "images/docker.io/nicolas/webdis"
	for _, page := range []string{
		"", image, image + "/tags/0.1.19", "refusals", "refusals?reason=unsigned_tag&page=9", "pulls", "cache",
		"api/v1/status", "api/v1/images", "api/v1/refusals", "metrics",
	} {
		b.Run("/"+page, func(b *testing.B) {
			for b.Loop() {
				ask("http://"+s.admin+"/"+page, http.StatusOK)
			}
		})
	}
}
