package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// raw sends bytes over a socket, as no client library would, and returns the
// response to a request of that method, which ends the connection.
func raw(t *testing.T, server *httptest.Server, method, request string) response {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatalf("send %.60q: %v", request, err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%.60q: %v", request, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%.60q: read the body: %v", request, err)
	}
	res.Header.Del("Date")
	return response{res.StatusCode, res.Header, string(body)}
}

func requestLine(method, target string) string {
	return method + " " + target + " HTTP/1.1\r\nHost: mirror.example\r\nConnection: close\r\n\r\n"
}

// TestAttack27_Paths: nothing is cleaned, redirected or decoded twice; what isn't
// a plain name is malformed, or no path of the registry at all.
func TestAttack27_Paths(t *testing.T) {
	name := func(name string) string { return "/v2/" + name + "/manifests/0.1.19" }
	ref := func(reference string) string { return "/v2/nicolas/webdis/manifests/" + reference }
	blob := func(digest string) string { return "/v2/nicolas/webdis/blobs/" + digest }
	hex := testDigest.Encoded()
	tests := []struct {
		target string
		status int
		code   string
	}{
		{name("../nicolas/webdis"), 400, "NAME_INVALID"},
		{name("nicolas/../webdis"), 400, "NAME_INVALID"},
		{name("nicolas/./webdis"), 400, "NAME_INVALID"},
		{name("nicolas//webdis"), 400, "NAME_INVALID"},
		{name("/nicolas/webdis"), 400, "NAME_INVALID"},
		{name("nicolas/webdis/"), 400, "NAME_INVALID"},
		{name("/docker.io/nicolas/webdis"), 400, "NAME_INVALID"},
		{name("docker.io/../public.ecr.aws/nicolas/webdis"), 400, "NAME_INVALID"},
		{name("%2e%2e%2fnicolas/webdis"), 400, "NAME_INVALID"},
		{name("%2e%2e/nicolas/webdis"), 400, "NAME_INVALID"},
		{name("nicolas%2fwebdis"), 400, "NAME_INVALID"},
		{name("nicolas%2Fwebdis"), 400, "NAME_INVALID"},
		{name("nicolas%252fwebdis"), 400, "NAME_INVALID"},
		{name("nicolas%5cwebdis"), 400, "NAME_INVALID"},
		{name("nicolas/webdis%00"), 400, "NAME_INVALID"},
		{name("nicolas/webdis%0a"), 400, "NAME_INVALID"},
		{name("nicolas/webdis%ff"), 400, "NAME_INVALID"},
		{name("nicolas/webd%C4%B1s"), 400, "NAME_INVALID"},
		{name("Nicolas/webdis"), 400, "NAME_INVALID"},
		{name("nicolas/Webdis"), 400, "NAME_INVALID"},
		{name("nicolas/webdis:0.1.19"), 400, "NAME_INVALID"},
		{name("nicolas/webdis@sha256:" + hex), 400, "NAME_INVALID"},
		{name("quay.io:443/nicolas/webdis"), 400, "NAME_INVALID"},
		{name(strings.Repeat("a/", 299) + "a"), 400, "NAME_INVALID"},
		{name(strings.Repeat("a", 256)), 400, "NAME_INVALID"},
		{name(strings.Repeat("a/", 10000) + "a"), 400, "NAME_INVALID"},
		{"/v2/_catalog/manifests/latest", 400, "NAME_INVALID"},

		{ref(strings.Repeat("a", 129)), 400, "TAG_INVALID"},
		{ref("%2e%2e"), 400, "TAG_INVALID"},
		{ref(".."), 400, "TAG_INVALID"},
		{ref("..%2fblobs"), 400, "TAG_INVALID"},
		{ref("0.1.19%00"), 400, "TAG_INVALID"},
		{ref("0.1.19%20"), 400, "TAG_INVALID"},
		{ref("-x"), 400, "TAG_INVALID"},
		{ref("sha256:" + hex[1:]), 400, "DIGEST_INVALID"},
		{ref("sha256:" + strings.ToUpper(hex)), 400, "DIGEST_INVALID"},
		{ref("sha256:..%2f..%2fx"), 400, "DIGEST_INVALID"},
		{ref("md5:d41d8cd98f00b204e9800998ecf8427e"), 400, "DIGEST_INVALID"},
		{ref("sha384:" + hex + hex[:32]), 400, "DIGEST_INVALID"},
		{ref("0.1.19:x"), 400, "DIGEST_INVALID"},
		{blob("0.1.19"), 400, "DIGEST_INVALID"},
		{blob("uploads"), 400, "DIGEST_INVALID"},
		{blob(hex), 400, "DIGEST_INVALID"},
		{blob("sha256:" + hex + "0"), 400, "DIGEST_INVALID"},

		{"/", 404, "NAME_UNKNOWN"},
		{"//v2/", 404, "NAME_UNKNOWN"},
		{"/v1/search", 404, "NAME_UNKNOWN"},
		{"/V2/", 404, "NAME_UNKNOWN"},
		{"/v2//", 404, "NAME_UNKNOWN"},
		{"/v2/_catalog/", 404, "NAME_UNKNOWN"},
		{"/v2/../v2/", 404, "NAME_UNKNOWN"},
		{"/./v2/", 404, "NAME_UNKNOWN"},
		{"/x/..%2fv2/", 404, "NAME_UNKNOWN"},
		{"/%76%32/", 404, "NAME_UNKNOWN"},
		{"/v2/nicolas/webdis", 404, "NAME_UNKNOWN"},
		{"/v2/manifests/0.1.19", 404, "NAME_UNKNOWN"},
		{ref(""), 404, "NAME_UNKNOWN"},
		{ref("0.1.19/"), 404, "NAME_UNKNOWN"},
		{ref("sha256:../../x"), 404, "NAME_UNKNOWN"},
		{"/v2/nicolas/webdis%2fmanifests/0.1.19", 404, "NAME_UNKNOWN"},
		{"/v2/nicolas/webdis%2fmanifests%2f0.1.19", 404, "NAME_UNKNOWN"},
		{"/v2/nicolas/webdis/tags/list/", 404, "NAME_UNKNOWN"},
		{blob("uploads/"), 404, "NAME_UNKNOWN"},
		{blob("uploads/7a0f7e2c-5b0e-4f6e-9b5a-0d2f4f3f7f1e"), 404, "NAME_UNKNOWN"},
		{"/v2/nicolas/webdis/referrers/sha256:" + hex, 404, "UNSUPPORTED"},
		{"/v2/nicolas/webdis/referrers/sha256:" + hex + "?artifactType=x", 404, "UNSUPPORTED"},
	}
	gate := &fakeGate{}
	server := newTestServer(t, gate)
	for _, test := range tests {
		got := raw(t, server, "GET", requestLine("GET", test.target))
		e := errorOf(t, got)
		if got.status != test.status || e.Code != test.code {
			t.Errorf("%.80q: %d %s, want %d %s", test.target, got.status, e.Code, test.status, test.code)
		}
		if len(e.Message) > 1000 || e.Detail.Ref != "" || got.header.Get("Location") != "" {
			t.Errorf("%.80q: message %q, ref %q, header %v", test.target, e.Message, e.Detail.Ref, got.header)
		}
		if head := raw(t, server, "HEAD", requestLine("HEAD", test.target)); head.status != got.status || head.body != "" {
			t.Errorf("HEAD %.80q: %d, body %q", test.target, head.status, head.body)
		}
	}
	if asked := gate.askedFor(); len(asked) > 0 {
		t.Errorf("the gate was asked for %v", asked)
	}
}

// What is only written in another way is the same thing.
func TestEncodedReferences(t *testing.T) {
	gate := &fakeGate{}
	server := newTestServer(t, gate)
	for target, want := range map[string]string{
		"/v2/nicolas/webdis/manifests/sha256%3A" + testDigest.Encoded():             "docker.io/nicolas/webdis@" + testDigest.String(),
		"/v2/nicolas/webdis/blobs/sha256%3a" + testDigest.Encoded():                 "docker.io/nicolas/webdis@" + testDigest.String(),
		"/v2/nicolas/webd%69s/manifests/0%2e1.19":                                   "docker.io/nicolas/webdis:0.1.19",
		"http://registry-1.docker.io/v2/nicolas/webdis/manifests/0.1.19":            "docker.io/nicolas/webdis:0.1.19",
		"http://user:secret@public.ecr.aws/v2/nicolas/webdis/manifests/0.1.19":      "public.ecr.aws/nicolas/webdis:0.1.19",
		"/v2/nicolas/webdis/manifests/" + strings.Repeat("a", 128):                  "docker.io/nicolas/webdis:" + strings.Repeat("a", 128),
		"/v2/nicolas/webdis/manifests/0.1.19?platform=linux/amd64&ns=registry.test": "",
	} {
		before := len(gate.askedFor())
		got := raw(t, server, "GET", requestLine("GET", target))
		asked := gate.askedFor()[before:]
		if want == "" {
			if got.status != 403 || len(asked) > 0 {
				t.Errorf("%s: %d, the gate was asked for %v", target, got.status, asked)
			}
			continue
		}
		if got.status != 200 || len(asked) != 1 || asked[0].String() != want {
			t.Errorf("%s: %d, the gate was asked for %v, want %s", target, got.status, asked, want)
		}
	}
}

// TestAttack27_Header: a header of 1 MB is refused before any handler runs.
func TestAttack27_Header(t *testing.T) {
	gate := &fakeGate{}
	server := newTestServer(t, gate)
	request := "GET " + manifestPath + " HTTP/1.1\r\nHost: mirror.example\r\nX-Large: " + strings.Repeat("a", maxHeaderBytes+8<<10)
	got := raw(t, server, "GET", request)
	if got.status != http.StatusRequestHeaderFieldsTooLarge || len(gate.askedFor()) > 0 {
		t.Errorf("status %d, the gate was asked for %v", got.status, gate.askedFor())
	}
}

// TestAttack27_Body: a body on GET is neither waited for nor read, nor is what
// it holds taken for a further request.
func TestAttack27_Body(t *testing.T) {
	smuggled := requestLine("GET", "/v2/nicolas/smuggled/manifests/1")
	for name, request := range map[string]string{
		"none of it sent":   "Content-Length: 1000000\r\n\r\n",
		"part of it sent":   "Content-Length: 1000000\r\n\r\n" + smuggled,
		"all of it sent":    fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(smuggled), smuggled),
		"chunked":           fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled),
		"chunked, unended":  "Transfer-Encoding: chunked\r\n\r\nffff\r\n" + smuggled,
		"it waits to send":  "Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n",
		"in spite of close": "Connection: close\r\nContent-Length: 1000000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			gate := &fakeGate{}
			server := newTestServer(t, gate)
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: mirror.example\r\n%s", manifestPath, request)
			all, err := io.ReadAll(conn) // to the end of the connection
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the server keeps the connection")
			}
			if n := strings.Count(string(all), "HTTP/1.1 "); n != 1 {
				t.Errorf("%d responses: %s", n, all)
			}
			if !strings.HasPrefix(string(all), "HTTP/1.1 200") || !strings.HasSuffix(string(all), string(testBody)) {
				t.Errorf("the response is %s", all)
			}
			if asked := gate.askedFor(); len(asked) != 1 {
				t.Errorf("the gate was asked for %v", asked)
			}
		})
	}
}

// TestAttack28_Methods: nothing but GET and HEAD, wherever.
func TestAttack28_Methods(t *testing.T) {
	gate := &fakeGate{}
	server := newTestServer(t, gate)
	targets := []string{
		"/v2/", manifestPath, blobPath, tagsPath, "/v2/_catalog", "/", "/v2/NO/manifests/x",
		"/v2/nicolas/webdis/blobs/uploads/", "/v2/nicolas/webdis/blobs/uploads/?mount=" + testDigest.String() + "&from=other",
		"/v2/nicolas/webdis/blobs/uploads/7a0f7e2c", "/v2/nicolas/webdis/referrers/" + testDigest.String(), "*",
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "X" + strings.Repeat("Y", 1000)} {
		for _, target := range targets {
			if target == "*" && method != "OPTIONS" {
				continue // net/http refuses it
			}
			got := raw(t, server, method, requestLine(method, target))
			e := errorOf(t, got)
			if got.status != 405 || e.Code != "UNSUPPORTED" || e.Detail.Reason != "read_only" || got.header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%.10s %s: %d %s %s, Allow %q", method, target, got.status, e.Code, e.Detail.Reason, got.header.Get("Allow"))
			}
		}
	}
	if asked := gate.askedFor(); len(asked) > 0 {
		t.Errorf("the gate was asked for %v", asked)
	}
}

func TestBase(t *testing.T) {
	server := newTestServer(t, &fakeGate{})
	for _, path := range []string{"/v2/", "/v2"} {
		got := getAndHead(t, server, path)
		if got.status != 200 || got.body != "{}" || got.header.Get("Content-Type") != "application/json" ||
			got.header.Get("Docker-Distribution-Api-Version") != "registry/2.0" {
			t.Errorf("%s: %d %q %v", path, got.status, got.body, got.header)
		}
	}
}
