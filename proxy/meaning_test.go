package proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestMeaningsAreNotMixed asks for the same path by every other way to name a
// registry, over and over: what is remembered of one request is said of no other.
func TestMeaningsAreNotMixed(t *testing.T) {
	gate := &fakeGate{}
	server := newTestServer(t, gate)
	manifest, blob := "/v2/nicolas/webdis/manifests/", "/v2/nicolas/webdis/blobs/"
	d := testDigest.String()
	for _, round := range []string{"first", "again", "once more"} {
		for _, test := range []struct{ target, host, want string }{
			{manifest + "1", "mirror.example", "docker.io/nicolas/webdis:1"},
			{manifest + "1", "public.ecr.aws", "public.ecr.aws/nicolas/webdis:1"},
			{manifest + "1?ns=public.ecr.aws", "mirror.example", "public.ecr.aws/nicolas/webdis:1"},
			{manifest + "1?ns=docker.io", "public.ecr.aws", "docker.io/nicolas/webdis:1"},
			{manifest + "1?ns=registry.test", "mirror.example", ""},
			{manifest + "1?ns=docker.io&ns=public.ecr.aws", "mirror.example", ""},
			{manifest + "1?ns=%zz", "mirror.example", ""},
			{"/v2/public.ecr.aws/nicolas/webdis/manifests/1", "mirror.example", "public.ecr.aws/nicolas/webdis:1"},
			{"/v2/nicolas%2fwebdis/manifests/1", "mirror.example", ""},
			{"/v2/nicolas/webd%69s/manifests/1", "mirror.example", "docker.io/nicolas/webdis:1"},
			{manifest + d, "mirror.example", "docker.io/nicolas/webdis@" + d},
			{blob + d, "mirror.example", "docker.io/nicolas/webdis@" + d},
			{blob + "1", "mirror.example", ""},
		} {
			before := len(gate.askedFor())
			get(t, server, "GET", test.target, "Host", test.host)
			asked := fmt.Sprint(gate.askedFor()[before:])
			if asked != "["+test.want+"]" {
				t.Errorf("%s, %s at %s: the gate was asked for %s, want %s", round, test.target, test.host, asked, test.want)
			}
		}
	}
}

// What is remembered of requests is bounded, whatever clients send.
func TestMeaningsAreBounded(t *testing.T) {
	mirror := newTestServer(t, &fakeGate{})
	known := mirror.Config.Handler.(*server).meanings
	get(t, mirror, "GET", manifestPath)
	for _, path := range []string{manifestPath + "?x=" + strings.Repeat("x", maxWording), "/v2/UPPER/manifests/1", "/v2/nicolas/webdis/tags/list"} {
		get(t, mirror, "GET", path)
	}
	if got := known.Keys(); len(got) != 1 || got[0].path != manifestPath {
		t.Errorf("remembered: %v", got)
	}
	for i := range maxMeanings + 10 {
		known.Add(wording{path: fmt.Sprint(i)}, meaning{})
	}
	if known.Len() != maxMeanings || slices.ContainsFunc(known.Keys(), func(w wording) bool { return w.path == manifestPath }) {
		t.Errorf("%d are remembered", known.Len())
	}
}
