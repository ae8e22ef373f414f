package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	"github.com/trustmirror/trustmirror/verify"
)

func TestManifestAndBlobOfARealRegistry(t *testing.T) {
	holder := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	s := serve(t, holder)
	config := `{"architecture":"amd64","os":"linux"}`
	d := digest.FromString(config)
	send := func(method, path, body, contentType string) {
		req, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
		must(t, err)
		req.Header.Set("Content-Type", contentType)
		resp, err := http.DefaultClient.Do(req)
		must(t, err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			t.Fatalf("%s %s: %s", method, path, resp.Status)
		}
	}
	send(http.MethodPost, "/v2/nicolas/webdis/blobs/uploads/?digest="+d.String(), config, "application/octet-stream")
	send(http.MethodPut, manifestPath, manifestBody, manifestType)
	http.DefaultClient.CloseIdleConnections()
	s.take()

	c := client(t, at(s))
	desc, b, err := c.Manifest(t.Context(), image(t, "0.1.19"))
	must(t, err)
	if string(b) != manifestBody || desc.MediaType != manifestType || desc.Digest != digest.FromString(manifestBody) || desc.Size != int64(len(b)) {
		t.Errorf("got %+v, %s", desc, b)
	}
	_, b, err = c.Manifest(t.Context(), image(t, desc.Digest.String()))
	must(t, err)
	if string(b) != manifestBody {
		t.Errorf("by digest: %s", b)
	}
	got, err := readBlob(t, c, image(t, d.String()))
	must(t, err)
	if got != config {
		t.Errorf("blob is %s", got)
	}
	_, err = c.Blob(t.Context(), image(t, digest.FromString("else").String()))
	wantReason(t, err, verify.NotFound, "hub.example has no blob hub.example/nicolas/webdis@sha256:")
	var missing *verify.NotFoundError
	if errors.As(err, &missing) && missing.Ref != image(t, digest.FromString("else").String()) {
		t.Errorf("the error is about %s", missing.Ref)
	}
	s.wantAsked(t,
		"GET /v2/",
		"GET "+manifestPath,
		"GET /v2/nicolas/webdis/manifests/"+desc.Digest.String(),
		"GET /v2/nicolas/webdis/blobs/"+d.String(),
		"GET /v2/nicolas/webdis/blobs/"+digest.FromString("else").String(),
	)
}

func TestManifestHeaders(t *testing.T) {
	s := serve(t, script{manifestPath: answer(200, manifestBody, "Content-Type: "+manifestType+"; charset=utf-8")})
	config := at(s)
	config.UserAgent = "trustmirror/test"
	desc, _, err := client(t, config).Manifest(t.Context(), image(t, "0.1.19"))
	must(t, err)
	if desc.MediaType != manifestType {
		t.Errorf("media type is %q", desc.MediaType)
	}
	got := s.headers[1]
	want := http.Header{
		"User-Agent":      {"trustmirror/test"},
		"Accept-Encoding": {"identity"},
		"Accept": {"application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, " +
			"application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("headers are\n%v, want\n%v", got, want)
	}
}

func TestManifestDigestHasTheReferencesAlgorithm(t *testing.T) {
	want := digest.SHA512.FromString(manifestBody)
	s := serve(t, script{"/v2/nicolas/webdis/manifests/" + want.String(): manifestAnswer})
	desc, _, err := client(t, at(s)).Manifest(t.Context(), image(t, want.String()))
	must(t, err)
	if desc.Digest != want {
		t.Errorf("digest is %s", desc.Digest)
	}
}

func TestAttack20_WhatTheRegistrySaysOfADigestCountsForNothing(t *testing.T) {
	lie := digest.FromString("something else").String()
	s := serve(t, script{manifestPath: answer(200, manifestBody, "Content-Type: "+manifestType, "Docker-Content-Digest: "+lie)})
	desc, _, err := client(t, at(s)).Manifest(t.Context(), image(t, "0.1.19"))
	must(t, err)
	if desc.Digest != digest.FromString(manifestBody) {
		t.Errorf("digest is %s", desc.Digest)
	}
}

func TestManifestTooLarge(t *testing.T) {
	endless := func(w http.ResponseWriter, _ *http.Request) {
		chunk := bytes.Repeat([]byte("a"), 64<<10)
		for {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}
	declared := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(verify.MaxDocument+1))
		_ = http.NewResponseController(w).Flush()
		hang(w, r)
	}
	for name, h := range map[string]http.HandlerFunc{"endless": endless, "declared": declared} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, script{manifestPath: h})
			c := client(t, at(s))
			_, _, err := c.Manifest(t.Context(), image(t, "0.1.19"))
			wantReason(t, err, verify.SizeMismatch, "larger than a manifest may be (4194304 bytes)")
			s.wantAsked(t, "GET /v2/", "GET "+manifestPath)
		})
	}
	exact := strings.Repeat("a", verify.MaxDocument)
	s := serve(t, script{manifestPath: answer(200, exact)})
	_, b, err := client(t, at(s)).Manifest(t.Context(), image(t, "0.1.19"))
	must(t, err)
	if len(b) != verify.MaxDocument {
		t.Errorf("got %d bytes", len(b))
	}
}

func TestManifestAnswersThatAreNone(t *testing.T) {
	for name, test := range map[string]struct {
		h     http.HandlerFunc
		words string
	}{
		"web page":    {answer(200, "<html>", "Content-Type: text/html; charset=utf-8"), "a web page (200 OK): check the address"},
		"nothing":     {answer(200, "", "Content-Type: "+manifestType), "answers with nothing for manifest"},
		"no content":  {answer(204, ""), "answers 204 No Content"},
		"encoded":     {answer(200, manifestBody, "Content-Type: "+manifestType, "Content-Encoding: gzip"), "in another encoding (gzip)"},
		"two types":   {answer(200, manifestBody, "Content-Type: "+manifestType, "Content-Type: application/json"), "several types"},
		"part":        {answer(206, manifestBody, "Content-Type: "+manifestType), "answers 206 Partial Content"},
		"page for it": {answer(404, "<html>", "Content-Type: text/html"), "a web page (404 Not Found)"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, script{manifestPath: test.h})
			wantReason(t, manifest(t, client(t, at(s))), verify.UpstreamUnavailable, test.words)
			s.wantAsked(t, "GET /v2/", "GET "+manifestPath)
		})
	}
}

func TestManifestThatBreaksOffIsAskedForAgain(t *testing.T) {
	s := serve(t, script{manifestPath: answers(cut(manifestBody, 5), manifestAnswer)})
	must(t, manifest(t, client(t, at(s))))
	s.wantAsked(t, "GET /v2/", "GET "+manifestPath, "GET "+manifestPath)

	s = serve(t, script{manifestPath: cut(manifestBody, 5)})
	wantReason(t, manifest(t, client(t, at(s))), verify.UpstreamUnavailable, "broke the connection off")
	s.wantAsked(t, "GET /v2/", "GET "+manifestPath, "GET "+manifestPath, "GET "+manifestPath)
}

func TestReferencesThatAreNone(t *testing.T) {
	s := serve(t, script{})
	c := client(t, at(s))
	for _, ref := range []verify.Ref{
		{},
		{Registry: "hub.example", Repository: "nicolas/webdis"},
		{Registry: "hub.example", Repository: "../../secret", Tag: "a"},
		{Registry: "hub.example", Repository: "nicolas/webdis", Tag: "../x"},
		{Registry: "hub.example", Repository: "nicolas/webdis", Digest: "sha256:../../x"},
		{Registry: "hub.example", Repository: "nicolas/webdis", Digest: "md5:d41d8cd98f00b204e9800998ecf8427e"},
		{Registry: "user@hub.example", Repository: "nicolas/webdis", Tag: "a"},
		{Registry: "docker.io", Repository: "webdis", Tag: "a"},
		{Registry: "index.docker.io", Repository: "nicolas/webdis", Tag: "a"},
	} {
		var invalid *verify.InvalidError
		if _, _, err := c.Manifest(t.Context(), ref); !errors.As(err, &invalid) {
			t.Errorf("Manifest of %s: %v", ref, err)
		}
		if _, err := c.Blob(t.Context(), ref); !errors.As(err, &invalid) {
			t.Errorf("Blob of %s: %v", ref, err)
		}
	}
	if _, err := c.Blob(t.Context(), image(t, "0.1.19")); err == nil {
		t.Error("a blob has no tag")
	}
	s.wantAsked(t)
}

func TestFirstRequestsShareOnePing(t *testing.T) {
	arrived := make(chan struct{}, 20)
	open := make(chan struct{})
	s := serve(t, script{
		"/v2/":       func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-open },
		manifestPath: manifestAnswer,
	})
	c := client(t, at(s))
	ctx, leave := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, _, err := c.Manifest(ctx, image(t, "0.1.19"))
		first <- err
	}()
	<-arrived
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := manifest(t, c); err != nil {
				t.Error(err)
			}
		})
	}
	// Whoever came first leaving spoils it for nobody.
	leave()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("who left got %v", err)
	}
	close(open)
	wg.Wait()
	pings := 0
	for _, line := range s.take() {
		if line == "GET /v2/" {
			pings++
		}
	}
	if pings != 1 {
		t.Errorf("%d pings", pings)
	}
}

func TestPingFailuresAreNotRemembered(t *testing.T) {
	s := serve(t, script{
		"/v2/":       answers(answer(503, ""), answer(503, ""), answer(503, ""), answer(404, ""), answer(200, "{}")),
		manifestPath: manifestAnswer,
	})
	c := client(t, at(s))
	wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "answers 503 Service Unavailable")
	wantReason(t, manifest(t, c), verify.UpstreamUnavailable, "answers 404 Not Found")
	must(t, manifest(t, c))
	must(t, manifest(t, c))
	s.wantAsked(t, "GET /v2/", "GET /v2/", "GET /v2/", "GET /v2/", "GET /v2/", "GET "+manifestPath, "GET "+manifestPath)
}

func TestRegistryThatIsNotConfiguredIsAskedByHTTPS(t *testing.T) {
	s := serveTLS(t, script{manifestPath: manifestAnswer})
	c := client(t, Config{})
	ref := image(t, "0.1.19")
	ref.Registry = s.host()
	_, _, err := c.Manifest(t.Context(), ref)
	wantReason(t, err, verify.UpstreamUnavailable, "signed by an authority that isn't trusted")
	s.wantAsked(t)
	for name, want := range map[string]string{"docker.io": "https://registry-1.docker.io", "public.ecr.aws": "https://public.ecr.aws"} {
		e, err := c.endpoint(verify.Ref{Registry: name})
		must(t, err)
		if e.base.String() != want {
			t.Errorf("%s is asked at %s", name, e.base)
		}
	}
}

func TestTLSWithItsOwnCA(t *testing.T) {
	s := serveTLS(t, script{manifestPath: manifestAnswer})
	c := client(t, Config{Registries: map[string]Registry{"hub.example": {URL: s.URL, CAFile: s.caFile(t)}}})
	must(t, manifest(t, c))
	s.wantAsked(t, "GET /v2/", "GET "+manifestPath)
}

func TestABodyThatIsClosedTwiceIsReportedOnce(t *testing.T) {
	reports := 0
	b := newBody(t.Context(), http.NoBody, func(error) {}, Timeouts{Stall: 1, Window: 1})
	b.onClose = func(int64, error) { reports++ }
	must(t, b.Close())
	must(t, b.Close())
	if reports != 1 {
		t.Errorf("%d reports", reports)
	}
}

func TestObserver(t *testing.T) {
	s := serve(t, script{manifestPath: answers(answer(502, "oops"), manifestAnswer)})
	var mu sync.Mutex
	var events []string
	config := at(s)
	config.Observe = func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, fmt.Sprint(e.Registry, " ", e.Repository, " ", e.Kind, " ", e.Status, " ", e.Bytes, " ", e.Err))
	}
	must(t, manifest(t, client(t, config)))
	want := []string{
		"hub.example  ping 200 0 <nil>",
		"hub.example nicolas/webdis manifest 502 4 <nil>",
		"hub.example nicolas/webdis manifest 200 19 <nil>",
	}
	if fmt.Sprint(events) != fmt.Sprint(want) {
		t.Errorf("events are\n%s\nwant\n%s", strings.Join(events, "\n"), strings.Join(want, "\n"))
	}
}
