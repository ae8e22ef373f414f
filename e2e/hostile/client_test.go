package hostile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// reply is one answer, whole.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// send writes bytes to the mirror and reads one answer.
func (m *mirror) send(t *testing.T, method, request string) reply {
	t.Helper()
	conn, err := net.Dial("tcp", m.Address)
	check(t, err)
	defer conn.Close()
	check(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	go func() { _, _ = io.WriteString(conn, request) }() // it may be answered before all of it is read
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	check(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	check(t, err)
	got := reply{response.StatusCode, response.Header, body}
	_, asker, _ := strings.Cut(request, "User-Agent: ")
	asker, _, named := strings.Cut(asker, "\r\n")
	if told := readRefusal(got); named && errors.As(told, new(*refusal)) {
		if err := m.audited(asker, told); !errors.As(err, new(*refusal)) {
			t.Errorf("%.100q: %v", request, err)
		}
	}
	return got
}

// line is a request without a body.
func line(method, target string, headers ...string) string {
	host := "mirror.test"
	var more string
	for _, h := range headers {
		if value, ok := strings.CutPrefix(h, "Host: "); ok {
			host = value
			continue
		}
		more += h + "\r\n"
	}
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nUser-Agent: %s\r\n%s\r\n", method, target, host, newAsker(), more)
}

// question is what a client that lies asks, and what it is told.
type question struct {
	name, target string
	headers      []string
	status       int
	reason       string
}

// unconfigured are registries that ns must not lead to.
var unconfigured = []string{"quay.io", "169.254.169.254", "localhost:5001", "http://docker.io", "docker.io%00"}

func TestAttack24To31_ClientLies(t *testing.T) {
	one, other := newSite(t, "one"), newSite(t, "other")
	m := startMirror(t, one, other)
	check(t, m.pull(t.Context(), one.signed(), tag, one.release.Hub))
	check(t, m.pull(t.Context(), other.signed(), tag, other.release.Hub))

	manifest := func(name, reference string) string { return lab.ManifestPath(name, reference) }
	signed := one.release.Hub.Top().Digest()
	foreign := other.release.Hub
	questions := []question{
		{"unsigned tag", manifest(one.signed(), "0.1.11"), nil, 403, "unsigned_tag"},
		{"unsigned tag of the copy", manifest(one.copied(), "0.1.11"), nil, 403, "unsigned_tag"},
		{"attestation tag", manifest(one.signed(), "sha256-"+signed.Encoded()), nil, 403, "unsigned_tag"},
		{"signature tag", manifest(one.signed(), "sha256-"+signed.Encoded()+".sig"), nil, 403, "unsigned_tag"},
		{"referrers", "/v2/" + one.signed() + "/referrers/" + signed.String(), nil, 404, "referrers_unsupported"},

		{"unknown digest", manifest(one.signed(), digest.FromString("x").String()), nil, 403, "not_admitted"},
		{"unknown blob", lab.BlobPath(one.signed(), digest.FromString("x")), nil, 403, "not_admitted"},
		{"index of another repository", manifest(one.signed(), foreign.Top().Digest().String()), nil, 403, "not_admitted"},
		{"manifest of another repository", manifest(one.signed(), foreign.Images[0].Manifest.Digest().String()), nil, 403, "not_admitted"},
		{"config of another repository", lab.BlobPath(one.signed(), foreign.Images[0].Config.Digest()), nil, 403, "not_admitted"},
		{"layer of another repository", lab.BlobPath(one.signed(), foreign.Images[0].Layers[1].Digest()), nil, 403, "not_admitted"},
		{"the signed index by the copy's name", manifest(one.copied(), other.release.ECR.Top().Digest().String()), nil, 403, "not_admitted"},
		{"a manifest as a blob", lab.BlobPath(one.signed(), signed), nil, 403, "not_admitted"},
		{"a config as a manifest", manifest(one.signed(), one.release.Hub.Images[0].Config.Digest().String()), nil, 403, "not_admitted"},

		{"two ns", manifest(repository, tag) + "?ns=" + one.hubName + "&ns=quay.io", nil, 400, "name_invalid"},
		{"ns against path", manifest(one.signed(), tag) + "?ns=" + other.hubName, nil, 403, "no_policy"},
		{"Host against path", manifest(other.signed(), tag), []string{"Host: " + one.hubName}, 403, "no_policy"},
		{"Host that isn't configured", manifest(repository, tag), []string{"Host: quay.io"}, 403, "no_policy"},

		{"dots", manifest("../"+one.signed(), tag), nil, 400, "name_invalid"},
		{"encoded dots", manifest("%2e%2e%2f"+one.signed(), tag), nil, 400, "name_invalid"},
		{"zero byte", manifest(one.signed()+"%00", tag), nil, 400, "name_invalid"},
		{"upper case", manifest(one.hubName+"/Nicolas/webdis", tag), nil, 400, "name_invalid"},
		{"long tag", manifest(one.signed(), strings.Repeat("a", 129)), nil, 400, "tag_invalid"},
		{"300 components", manifest(strings.Repeat("a/", 299)+"a", tag), nil, 400, "name_invalid"},
		{"digest that leads out", manifest(one.signed(), "sha256:..%2f..%2fx"), nil, 400, "digest_invalid"},
		{"path of the storage", "/v2/../../content/sha256/", nil, 404, "path_unknown"},
		{"range outside", lab.BlobPath(one.signed(), one.release.Hub.Images[0].Config.Digest()), []string{"Range: bytes=99999999-"}, 416, "range_invalid"},

		{"negative page", "/v2/" + one.signed() + "/tags/list?n=-1", nil, 400, "page_invalid"},
		{"page beyond numbers", "/v2/" + one.signed() + "/tags/list?n=18446744073709551616", nil, 400, "page_invalid"},

		{"name in a name", manifest("evil.test/"+one.signed(), tag), nil, 403, "no_policy"},
		{"name that begins alike", manifest(one.signed()+"-evil", tag), nil, 403, "no_policy"},
		{"name that goes on", manifest(one.signed()+"/evil", tag), nil, 403, "no_policy"},
		{"registry that ends alike", manifest("evil-"+one.signed(), tag), nil, 403, "no_policy"},
	}
	one.hub.counts()
	for _, q := range questions {
		t.Run(q.name, func(t *testing.T) { m.asks(t, q) })
	}
	for _, ns := range unconfigured {
		for _, host := range []string{"mirror.test", one.hubName} {
			var got *refusal
			err := readRefusal(m.send(t, http.MethodGet, line("GET", manifest(repository, tag)+"?ns="+ns, "Host: "+host)))
			if !errors.As(err, &got) || got.status != http.StatusForbidden || got.reason != "no_policy" {
				t.Errorf("ns=%s: %v", ns, err)
			}
		}
	}
	for path, n := range one.hub.counts() {
		if !strings.HasPrefix(path, "/v2/") || n > 1 {
			t.Errorf("for all that, the registry was asked %d times for %s", n, path)
		}
	}
	check(t, m.pull(t.Context(), one.signed(), tag, one.release.Hub))
	m.bounded(t)
}

// asks asserts that the answer is the error that it should be, and the same to HEAD.
func (m *mirror) asks(t *testing.T, q question) {
	t.Helper()
	var got *refusal
	if err := readRefusal(m.send(t, http.MethodGet, line("GET", q.target, q.headers...))); !errors.As(err, &got) {
		t.Fatal(err)
	}
	if got.status != q.status || got.reason != q.reason {
		t.Errorf("got %v, want %d, %s", got, q.status, q.reason)
	}
	if head := m.send(t, http.MethodHead, line("HEAD", q.target, q.headers...)); head.status != q.status || len(head.body) > 0 {
		t.Errorf("HEAD says %d %q, GET %d", head.status, head.body, q.status)
	}
}

func TestAttack27_LongHeaderAndBody(t *testing.T) {
	s := newSite(t, "one")
	m := startMirror(t, s)
	path := lab.ManifestPath(s.signed(), tag)
	long := "X-Long: " + strings.Repeat("a", 1<<20)
	if got := m.send(t, http.MethodGet, line("GET", path, long)); got.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of 1 MB is answered with %d", got.status)
	}
	if got := m.send(t, http.MethodGet, line("GET", "/v2/"+strings.Repeat("a", 1<<20))); got.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a path of 1 MB is answered with %d", got.status)
	}
	// What a body holds is not taken for a request.
	smuggled := line("GET", lab.ManifestPath(s.signed(), "smuggled"))
	for _, header := range []string{fmt.Sprintf("Content-Length: %d", len(smuggled)), "Content-Length: 9999999999"} {
		got := m.send(t, http.MethodGet, line("GET", path, header)+smuggled)
		if got.status != http.StatusOK || !bytes.Equal(got.body, s.release.Hub.Top().Content) {
			t.Errorf("GET with a body: %d", got.status)
		}
	}
	if decided(m.log(t, 0), s.signed()+":smuggled", "unsigned_tag") {
		t.Error("what a body held was taken for a request")
	}
	m.bounded(t)
}

func TestAttack28_NothingButReading(t *testing.T) {
	s := newSite(t, "one")
	m := startMirror(t, s)
	blobs := "/v2/" + s.signed() + "/blobs/"
	layer := s.release.Hub.Images[0].Layers[0].Digest().String()
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "MKCOL"} {
		for _, target := range []string{
			"/v2/", lab.ManifestPath(s.signed(), tag), blobs + "uploads/", blobs + "uploads/?mount=" + layer + "&from=" + repository, blobs + layer,
		} {
			var got *refusal
			if err := readRefusal(m.send(t, method, line(method, target))); !errors.As(err, &got) || got.status != 405 || got.code != "UNSUPPORTED" {
				t.Errorf("%s %s: %v", method, target, err)
			}
		}
	}
	for path, n := range s.hub.counts() {
		t.Errorf("the registry was asked %d times for %s", n, path)
	}
}

func TestAttack30_PageBeyondMemory(t *testing.T) {
	s := newSite(t, "one")
	for i := range 1500 {
		s.signer.sign(fmt.Sprintf("t%04d", i), s.release.Hub.Top())
	}
	s.publish(t)
	m := startMirror(t, s)
	got := m.send(t, http.MethodGet, line("GET", "/v2/"+s.signed()+"/tags/list?n=1099511627776"))
	if got.status != http.StatusOK || bytes.Count(got.body, []byte(`"t`)) > 1001 || got.header.Get("Link") == "" {
		t.Errorf("%d, %d bytes, Link %q", got.status, len(got.body), got.header.Get("Link"))
	}
	m.bounded(t)
}
