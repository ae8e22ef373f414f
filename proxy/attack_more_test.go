package proxy_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// A conditional or partial request says nothing of what is stored but not admitted
// in the repository: not its size, not that it's there.
func TestAttack58_ConditionsOnOthersContent(t *testing.T) {
	m := newMirror(t)
	_, ecr := m.signed()
	m.start()
	if a := m.pull(ecrName, "0.1.19"); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	nowhere := digest.FromString("nowhere")
	for _, stored := range []digest.Digest{ecr.Root, ecr.Manifests[amd64], ecr.Layers[amd64][1]} {
		for _, header := range []string{
			"If-None-Match: *", `If-None-Match: "%s"`, `If-None-Match: W/"%s"`, "Range: bytes=0-0", "Range: bytes=99999999-",
			`If-Range: "%s"`, "If-Modified-Since: Sun, 22 Nov 2026 00:00:00 GMT", `If-Match: "%s"`,
		} {
			for _, kind := range []string{"manifests", "blobs"} {
				var answers []string
				for _, d := range []digest.Digest{stored, nowhere} {
					url := m.url + "/v2/" + repo + "/" + kind + "/" + d.String() + "?ns=docker.io"
					line := strings.ReplaceAll(header, "%s", d.String())
					m.do(http.MethodHead, url, line)
					a := m.do(http.MethodGet, url, line)
					if _, _, reason, _ := errorOf(t, a); a.status != http.StatusForbidden || reason != verify.NotAdmitted {
						t.Errorf("%s, %s: %d %s", kind, line, a.status, a.body)
					}
					_, message, _, _ := errorOf(t, a)
					answers = append(answers, strings.ReplaceAll(message, d.String(), ""))
				}
				if answers[0] != answers[1] {
					t.Errorf("%s, %s: what is stored is told apart: %q", kind, header, answers)
				}
			}
		}
	}
}

// A target that is signed without a length, or with 0, is held to its hash all the
// same.
func TestAttack59_TargetWithoutALength(t *testing.T) {
	for name, change := range map[string]func(target map[string]any){
		"none": func(target map[string]any) { delete(target, "length") },
		"zero": func(target map[string]any) { target["length"] = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t)
			hub, _ := m.signed()
			target := notarytest.Target(hub.Root, 0)
			change(target)
			m.repo.Signed["0.1.19"] = target
			m.repo.Publish("targets")
			m.changeHub(hub.Root, func(raw []byte) []byte { return append(raw, bytes.Repeat([]byte{' '}, 1<<20)...) })
			m.start()
			a := m.pull(hubName, "0.1.19")
			if _, _, reason, _ := errorOf(t, a); reason != verify.DigestMismatch {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
}

// What a copy calls a platform ends up in a sentence that Docker prints on a terminal:
// it is cut, and steers nothing.
func TestAttack60_SentenceForATerminal(t *testing.T) {
	m := newMirror(t)
	m.signed()
	evil := "\x1b]0;owned\x07\x1b[2J\r\u009b31m\u202e" + strings.Repeat("long", 500_000)
	verifytest.NewRelease("0.1.19", amd64).Push(m.ecr, repo, verifytest.Format{Tags: []string{"0.1.19"}, Change: func(platform string, doc map[string]any) {
		if platform == "" {
			doc["manifests"].([]any)[0].(map[string]any)["platform"].(map[string]any)["os"] = evil
		}
	}})
	m.start()
	a := m.pull(ecrName, "0.1.19")
	_, message, reason, _ := errorOf(t, a)
	if reason != verify.ExtraPlatform || len(a.body) > 16<<10 || message != verify.Printable(message) || !strings.Contains(message, "owned") {
		t.Errorf("%d, %d bytes: %.200q", a.status, len(a.body), message)
	}
}

// Clients that ask and then don't read hold no connection to a registry, and nothing
// in storage that others wait for.
func TestSlowClientsHoldNothing(t *testing.T) {
	m := newMirror(t)
	store, err := storage.Open(t.Context(), "filesystem", map[string]any{"rootdirectory": t.TempDir(), "maxthreads": 25})
	if err != nil {
		t.Fatal(err)
	}
	m.store = store
	release := verifytest.NewRelease("big", amd64)
	release.Platforms[0].SetLayer(1, bytes.Repeat([]byte("0123456789abcdef"), 1<<20-1)) // not worth parts
	big := release.Push(m.hub, repo, verifytest.Format{Layers: "tar", Tags: []string{"big"}})
	m.repo.Sign("big", big.Root, big.Size)
	m.signed()
	m.start()
	path := "/v2/" + repo + "/blobs/" + big.Layers[amd64][1].String() + "?ns=docker.io"
	for range 80 { // more than the registry's 16 downloads and storage's 25 operations
		conn, err := net.Dial("tcp", strings.TrimPrefix(m.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: mirror.example\r\n\r\n", path)
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := conn.Read(make([]byte, 12)); err != nil { // each is being served
			t.Fatal(err)
		}
	}
	for _, name := range []string{hubName, ecrName} { // cold
		if a := m.pull(name, "0.1.19"); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if n := m.hub.Counts()["GET "+repo+"/blobs/"+big.Layers[amd64][1].String()]; n != 1 {
		t.Errorf("the layer was fetched %d times", n)
	}
}
