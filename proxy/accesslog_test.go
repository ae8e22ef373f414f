package proxy

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/verify"
)

// logBuffer collects JSON log lines. Its zero value is ready.
type logBuffer struct {
	mu   sync.Mutex
	data bytes.Buffer // guarded by mu
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

// config makes a Config log here.
func (b *logBuffer) config(c *Config) { c.Log = slog.New(slog.NewJSONHandler(b, nil)) }

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

// lines waits for n lines, since a line is written after its response, and
// returns all there are.
func (b *logBuffer) lines(t *testing.T, n int) []map[string]any {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		text := strings.TrimSuffix(b.String(), "\n")
		lines := strings.Split(text, "\n")
		if text == "" || len(lines) < n {
			if time.Now().After(deadline) {
				t.Fatalf("there are fewer than %d log lines: %s", n, text)
			}
			continue
		}
		var decoded []map[string]any
		for _, line := range lines {
			var m map[string]any
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			decoded = append(decoded, m)
		}
		return decoded
	}
}

func TestAccessLog(t *testing.T) {
	refusal := verify.Refuse(verify.UnsignedTag, "0.1.11 is not signed")
	tests := []struct {
		gate         *fakeGate
		method, path string
		header       []string
		want         map[string]any
	}{
		{&fakeGate{}, "GET", manifestPath, nil, map[string]any{
			"level": "INFO", "msg": "request", "method": "GET", "route": "manifest", "name": "docker.io/nicolas/webdis",
			"reference": "0.1.19", "status": 200.0, "bytes": float64(len(testBody)), "outcome": "served", "reason": nil, "message": nil,
		}},
		{&fakeGate{}, "HEAD", blobPath, nil, map[string]any{
			"method": "HEAD", "route": "blob", "reference": testDigest.String(), "status": 200.0, "bytes": 0.0, "outcome": "served",
		}},
		{&fakeGate{}, "GET", blobPath, []string{"Range", "bytes=0-9"}, map[string]any{"status": 206.0, "bytes": 10.0, "outcome": "served"}},
		{&fakeGate{}, "GET", blobPath, []string{"If-None-Match", "*"}, map[string]any{"status": 304.0, "bytes": 0.0, "outcome": "served"}},
		{&fakeGate{err: refusal}, "GET", manifestPath + "?ns=public.ecr.aws", nil, map[string]any{
			"level": "WARN", "name": "public.ecr.aws/nicolas/webdis", "status": 403.0, "outcome": "refused", "reason": "unsigned_tag",
			"message": "0.1.11 is not signed",
		}},
		{&fakeGate{}, "GET", "/v2/NO/manifests/x", nil, map[string]any{
			"level": "INFO", "route": "manifest", "name": "NO", "reference": "x", "status": 400.0, "outcome": "invalid", "reason": "name_invalid",
		}},
		{&fakeGate{}, "PUT", manifestPath, nil, map[string]any{"method": "PUT", "route": "", "status": 405.0, "reason": "read_only"}},
		{&fakeGate{}, "GET", "/v2/" + strings.Repeat("a", 5000) + "/manifests/x", []string{"User-Agent", strings.Repeat("u", 5000)}, map[string]any{
			"name": strings.Repeat("a", maxLogged) + "…", "user_agent": strings.Repeat("u", maxLogged) + "…",
		}},
	}
	for _, test := range tests {
		log := &logBuffer{}
		server := newTestServer(t, test.gate, log.config)
		get(t, server, test.method, test.path, test.header...)
		lines := log.lines(t, 1)
		if len(lines) != 1 {
			t.Errorf("%s %.60s: %d lines", test.method, test.path, len(lines))
		}
		for name, want := range test.want {
			if got := lines[0][name]; got != want {
				t.Errorf("%s %.60s: %s is %v, want %v", test.method, test.path, name, got, want)
			}
		}
		if d, ok := lines[0]["duration"].(float64); !ok || d <= 0 || !strings.HasPrefix(lines[0]["client"].(string), "127.0.0.1:") {
			t.Errorf("duration %v, client %v", lines[0]["duration"], lines[0]["client"])
		}
	}
}

func TestAccessLogHasNoCredentials(t *testing.T) {
	log := &logBuffer{}
	server := newTestServer(t, &fakeGate{}, log.config)
	raw(t, server, "GET", "GET http://user:secret1@docker.io"+manifestPath+"?ns=docker.io&token=secret2 HTTP/1.1\r\nHost: x\r\n"+
		"Authorization: Bearer secret3\r\nCookie: secret4\r\nReferer: https://secret5/\r\nConnection: close\r\n\r\n")
	if log.lines(t, 1); strings.Contains(log.String(), "secret") {
		t.Errorf("the log has a secret: %s", log)
	}
}
