package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/verify/notary"
)

// decisionLine is what the test reads of a line of the decision log.
type decisionLine struct {
	Time                                                time.Time
	Verdict, Image, Ref, Kind, Digest, Reason, Sentence string
	Client, Tag, Signed, Name                           string
	UserAgent                                           string `json:"user_agent"`
	Signers                                             []string
	Chain                                               []struct{ Kind, Digest, Proof string }
	Repeated                                            int
}

func readDecisions(t *testing.T, file string) []decisionLine {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []decisionLine
	for line := range bytes.Lines(raw) {
		var d decisionLine
		if err := json.Unmarshal(line, &d); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, d)
	}
	return all
}

// The decision log has each admission with its chain of trust, and each refusal,
// also those for which the Gate isn't asked; none is in the other log.
func TestDecisionLog(t *testing.T) {
	l := newLab(t)
	config := l.write(t, "storage:\n", "decisions: {file: decisions.jsonl}\nstorage:\n")
	file := filepath.Join(filepath.Dir(config), "decisions.jsonl")
	s := startServe(t, config)
	amd64 := l.hubPushed.Manifests["linux/amd64"].String()
	theConfig := l.hubPushed.Configs["linux/amd64"].String()
	for path, want := range map[string]int{
		"/v2/nicolas/webdis/blobs/" + theConfig:                    200, // finds the rest
		"/v2/nicolas/webdis/manifests/latest":                      403,
		"/v2/nicolas/other/manifests/latest":                       403,
		"/v2/nicolas/webdis/manifests/0.1.19?ns=quay.example":      403,
		"/v2/nicolas/webdis/manifests/" + strings.Repeat("x", 200): 400, // a mistake, not a decision
	} {
		for range 2 {
			if status, body := s.get(path); status != want {
				t.Errorf("%s: %d %s", path, status, body)
			}
		}
	}
	if status := s.end(); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	count := map[string]int{}
	var blob decisionLine
	for _, d := range readDecisions(t, file) {
		if d.Time.IsZero() || d.Client != "127.0.0.1" || !strings.HasPrefix(d.UserAgent, "Go-http-client") {
			t.Errorf("%+v", d)
		}
		count[strings.Join([]string{d.Verdict, d.Reason, d.Ref, d.Name, map[bool]string{true: "again"}[d.Repeated == 1]}, " ")]++
		if d.Digest == theConfig {
			blob = d
		}
	}
	for _, refusal := range []string{
		"unsigned_tag docker.io/nicolas/webdis:latest ", "no_policy docker.io/nicolas/other:latest ", "no_policy  nicolas/webdis",
	} {
		if count["refused "+refusal+" "] != 1 || count["refused "+refusal+" again"] != 1 {
			t.Errorf("not one line of %q and one that it came again: %v", refusal, count)
		}
	}
	if len(count) != 7 { // and the config's admission
		t.Errorf("lines %v", count)
	}
	want := []string{"config " + theConfig + " listed", "manifest " + amd64 + " listed", "index " + l.hubPushed.Root.String() + " signed"}
	var chain []string
	for _, edge := range blob.Chain {
		chain = append(chain, edge.Kind+" "+edge.Digest+" "+edge.Proof)
	}
	if strings.Join(chain, "\n") != strings.Join(want, "\n") || blob.Signed != l.hubPushed.Root.String() || blob.Tag != "0.1.19" ||
		len(blob.Signers) != 1 || blob.Verdict != "admitted" || blob.Image != "docker.io/nicolas/webdis" || blob.Kind != "config" {
		t.Errorf("admission of the config: %+v; want the chain %q", blob, want)
	}
	for _, line := range s.lines {
		if line["msg"] == "decision" {
			t.Errorf("in the other log, too: %v", line)
		}
	}
}

// The log goes on in a new file when another program renames it, and after the
// configuration was read again.
func TestDecisionLogRenamed(t *testing.T) {
	l := newLab(t)
	config := l.write(t, "storage:\n", "decisions: {file: decisions.jsonl}\nstorage:\n")
	file := filepath.Join(filepath.Dir(config), "decisions.jsonl")
	s := startServe(t, config)
	refuse := func(tag string) {
		t.Helper()
		if status, body := s.get("/v2/nicolas/webdis/manifests/" + tag); status != 403 {
			t.Errorf("%s: %d %s", tag, status, body)
		}
	}
	refuse("one")
	for { // until it is written: nobody waits for it but this test
		if info, err := os.Stat(file); err == nil && info.Size() > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := os.Rename(file, file+".old"); err != nil {
		t.Fatal(err)
	}
	text := l.config("storage:\n", "decisions: {file: elsewhere.jsonl}\nstorage:\n")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.line("decisions takes a restart to change; all else is in force")
	refuse("two")
	if status := s.end(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	for name, tag := range map[string]string{file + ".old": "one", file: "two"} {
		if all := readDecisions(t, name); len(all) != 1 || all[0].Ref != "docker.io/nicolas/webdis:"+tag {
			t.Errorf("%s: %+v", filepath.Base(name), all)
		}
	}
}

func TestDecisionLogCannotBeOpened(t *testing.T) {
	l := newLab(t)
	config := l.write(t, "storage:\n", "decisions:\n  file: loop\nstorage:\n")
	if err := os.Symlink("loop", filepath.Join(filepath.Dir(config), "loop")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("trustmirror", "serve", "-c", "config.yaml")
	cmd.Dir = filepath.Dir(config)
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != statusUnclear || !bytes.HasPrefix(out, []byte("config.yaml:6: decisions.file: loop can't be written")) ||
		bytes.Count(out, []byte("\n")) != 1 {
		t.Errorf("%v: %s", err, out)
	}
}

// One image whose trust service can't be reached leaves the mirror ready, and the
// answer says which it is; storage that can't be written doesn't.
func TestReadyTellsOfEachImage(t *testing.T) {
	l := newLab(t)
	l.notaryServer.Close()
	config := l.write(t, "images:\n", `images:
  - signed: docker.io/nicolas/pinned
    trust: {digests: {"1": sha256:5de58646bae3ee52e05a65672532120b094682b79823291031ccb41533c21667}}
`)
	s := startServe(t, config)
	s.line("trust not refreshed; what was verified before holds until it expires")
	var body struct {
		Ready  bool
		Checks map[string]string
		Images map[string]string
	}
	status, raw := s.ready()
	if err := json.Unmarshal(raw, &body); err != nil || status != 200 || !body.Ready || len(body.Images) != 2 ||
		body.Images["docker.io/nicolas/pinned"] != "ok" || !strings.Contains(body.Images["docker.io/nicolas/webdis"], "trust_unavailable") {
		t.Errorf("/readyz: %d %s, error %v", status, raw, err)
	}

	if status := s.end(); status != 0 { // or it would write what is being removed
		t.Errorf("exit status %d", status)
	}
	again := startServe(t, config)
	for { // it may be writing itself, until its folder is gone
		err := os.RemoveAll(filepath.Join(filepath.Dir(config), "data"))
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.ENOTEMPTY) {
			t.Fatal(err)
		}
	}
	if status, raw := again.ready(); status != http.StatusServiceUnavailable || !bytes.Contains(raw, []byte(`"storage":"storage can't be written`)) {
		t.Errorf("/readyz without its folder: %d %s", status, raw)
	}
}

func TestStanding(t *testing.T) {
	now := time.Now()
	known := map[string]int64{"root": 1}
	for _, tc := range []struct {
		status notary.Status
		says   string
	}{
		{notary.Status{}, "its trust service wasn't asked yet"},
		{notary.Status{Err: errors.New("nobody answers")}, "nobody answers"},
		{notary.Status{Versions: known, Expires: now.Add(time.Second)}, "ok"},
		{notary.Status{Versions: known, Expires: now.Add(time.Second), Err: errors.New("nobody answers")}, "ok"},
		{notary.Status{Versions: known, Expires: now, ExpiresRole: "timestamp", Err: errors.New("nobody answers")},
			"its signed metadata expired: the timestamp on " + now.UTC().Format(time.RFC3339) + "; the trust service has none that is newer (nobody answers)"},
	} {
		if got := standing(tc.status, now); got != tc.says {
			t.Errorf("%+v: %q, want %q", tc.status, got, tc.says)
		}
	}
}

// What distribution logs doesn't get among the mirror's own lines.
func TestWrongPasswordLeavesOneLine(t *testing.T) {
	l := newLab(t)
	config := l.write(t, "admin:\n", "  htpasswd: users\nadmin:\n")
	if err := os.WriteFile(filepath.Join(filepath.Dir(config), "users"), []byte("me:$2y$04$abcdefghijklmnopqrstuuWv9yS4FRnQOzjQBuBdWxqWvCMCSWYm2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startServe(t, config)
	if status, _ := get(t, testClient, "http://me:wrong@"+s.address+"/v2/"); status != http.StatusUnauthorized {
		t.Errorf("status %d", status)
	}
	s.end()
	for _, line := range s.lines {
		if line["level"] == nil {
			t.Errorf("no line of the mirror's log: %v", line)
		}
	}
}
