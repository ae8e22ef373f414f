package main

import (
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"trustmirror": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup: func(env *testscript.Env) error {
			example, err := os.ReadFile("../../config.example.yaml")
			if err != nil {
				return err
			}
			env.Setenv("TMPDIR", env.WorkDir+"/.tmp")
			return os.WriteFile(env.WorkDir+"/config.example.yaml", example, 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status":    scriptStatus,
			"mistake":   scriptMistake,
			"lab":       func(ts *testscript.TestScript, neg bool, args []string) { scriptLab(t, ts, neg, args) },
			"normalise": scriptNormalise,
		},
	})
}

// scriptStatus runs a program, which has to end with an exit status:
// status 2 trustmirror …
func scriptStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N program args…")
	}
	want := args[0]
	got := "0"
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = strings.TrimPrefix(exit.Error(), "exit status ")
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit status %s, want %s", got, want)
	}
}

// anImage stands for {{images}} in the configurations of scripts.
const anImage = `images:
  - signed: docker.io/nicolas/webdis
    trust: {notary: {url: "https://notary.docker.io", root_keys: [40be21f47831d593892370a8e3fc5bfffb16887c707bd81a6aed2088dc8f4bef], repository_keys: [fed0b56b8a8fd4d156fb2f47c2e8bd3eb61948b72a787c18e2fa3ea3233bba1a]}}
`

// scriptMistake checks NAME.yaml, which has to be refused with the one line in
// NAME.want, and nothing else: mistake NAME…
func scriptMistake(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: mistake name…")
	}
	for _, name := range args {
		file := name + ".yaml"
		text := strings.ReplaceAll(ts.ReadFile(file), "{{images}}\n", anImage)
		text = strings.NewReplacer("{{tab}}", "\t", "{{bom}}", "\ufeff", "{{nul}}", "\x00", "{{latin1}}", "\xe9").Replace(text)
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o600))
		scriptStatus(ts, false, []string{"2", "trustmirror", "config", "check", file})
		want := file + ":" + ts.ReadFile(name+".want")
		switch got := ts.ReadFile("stderr"); {
		case ts.ReadFile("stdout") != "":
			ts.Fatalf("%s: something on stdout: %s", name, ts.ReadFile("stdout"))
		case got != want:
			ts.Fatalf("%s:\n got %swant %s", name, got, want)
		case strings.Count(got, "\n") != 1:
			ts.Fatalf("%s: not one line: %s", name, got)
		}
	}
}

// scriptLabs are the labs of scripts by their working folder.
var scriptLabs sync.Map

// scriptLab starts a lab and writes its config.yaml, or changes it:
//
//	lab start                sets HUB_INDEX, HUB_AMD64, ECR_INDEX and ECR_AMD64 to digests
//	lab config OLD NEW       config.yaml again, with another text
//	lab copy-config          the copy's arm64 image gets another config
//	lab copy-layer           a layer of the copy's amd64 image is replaced
//	lab copy-down            the copy's registry can't be reached
//	lab notary-down          the trust service can't be reached
//	lab expired              the timestamp has expired
//	lab sign TAG             the release is signed as another tag, too
//	lab serve                serve starts, serves 0.1.19 and ends
//	lab pull                 serve starts, all of 0.1.19 is pulled by both names, and it ends
//	lab damage               a bit of a stored layer is changed; DAMAGED is its digest
//	lab docker-trust         what Docker's client would keep goes to docker-trust
//	lab paste FILE           config.yaml gets the trust section that FILE ends with
//	lab flip FILE TEXT       a bit of the last byte of TEXT is changed in FILE
//	lab pin FILE             config.yaml pins FILE as it is now
//	lab delegate             nicolasff and releases sign 0.1.10 and 0.1.9, nicolasff alone signs draft
func scriptLab(t *testing.T, ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: lab action")
	}
	if args[0] == "start" {
		l := newLab(t)
		ts.Defer(l.stop)
		ts.Setenv("HUB_INDEX", l.hubPushed.Root.String())
		ts.Setenv("HUB_AMD64", l.hubPushed.Manifests["linux/amd64"].String())
		ts.Setenv("ECR_INDEX", l.ecrPushed.Root.String())
		ts.Setenv("ECR_AMD64", l.ecrPushed.Manifests["linux/amd64"].String())
		scriptLabs.Store(ts.Getenv("WORK"), l)
		args = []string{"config"}
	}
	found, ok := scriptLabs.Load(ts.Getenv("WORK"))
	if !ok {
		ts.Fatalf("lab start comes first")
	}
	l := found.(*lab)
	switch args[0] {
	case "config":
		ts.Check(os.WriteFile(ts.MkAbs("config.yaml"), []byte(l.config(args[1:]...)), 0o600))
	case "copy-config":
		l.otherConfig()
	case "copy-layer":
		l.otherLayer()
	case "copy-down":
		l.ecrServer.Close()
	case "notary-down":
		l.notaryServer.Close()
	case "expired":
		l.notary.Timestamp.Expires = time.Now().Add(-time.Minute)
		l.notary.PublishTimestamp()
	case "delegate":
		l.delegate(t)
	case "sign":
		l.notary.Sign(args[1], l.hubPushed.Root, l.hubPushed.Size)
		l.notary.Publish("targets")
	case "serve":
		s := startServe(t, ts.MkAbs("config.yaml"))
		if status, body := s.get("/v2/nicolas/webdis/manifests/0.1.19"); status != 200 {
			ts.Fatalf("0.1.19: %d %s", status, body)
		}
		if status := s.end(); status != statusOK {
			ts.Fatalf("serve ended with %d", status)
		}
	case "pull":
		l.pull(t, ts)
	case "damage":
		l.damage(ts)
	case "docker-trust":
		l.dockerTrust(ts, "docker-trust")
	case "paste":
		pasteTrust(ts, args[1])
	case "flip":
		flipBit(ts, args[1], args[2])
	case "pin":
		pinArchive(ts, args[1])
	default:
		ts.Fatalf("unknown action %s", args[0])
	}
}

// scriptNormalise writes what a file has with digests, key IDs, dates and ports
// replaced: normalise stdout name.
func scriptNormalise(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: normalise file name")
	}
	text := withoutDigests(ts.ReadFile(args[0]))
	text = regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(text, "127.0.0.1:PORT")
	text = regexp.MustCompile(`\d{4}-\d\d-\d\d, (in )?\d+ [a-z]+`).ReplaceAllString(text, "DATE, ${1}TIME")
	text = regexp.MustCompile(`"\d{4}-\d\d-\d\dT[^"]*"`).ReplaceAllString(text, `"DATE"`)
	text = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`).ReplaceAllString(text, "DATE")
	text = regexp.MustCompile(`"size": \d+`).ReplaceAllString(text, `"size": 0`)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}
