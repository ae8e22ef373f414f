package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// warmed is a change of a lab's configuration.
func warmed(warm string) []string {
	return []string{"    trust:\n", "    warm: " + warm + "\n    trust:\n"}
}

// What is signed at the start is fetched, and what is signed later as soon as the
// trust service says so: all of it is served with every registry gone.
func TestServeWarms(t *testing.T) {
	l := newLab(t)
	s := startServe(t, l.write(t, append(warmed(`{tags: ["0.1.*"]}`), "        root_keys", "        refresh: 1s\n        root_keys")...))
	for _, name := range []string{signedRef.Name(), copyRef.Name()} {
		s.line("warmed", "ref", name+":0.1.19")
	}
	next := verifytest.NewRelease("next", "linux/amd64")
	pushed := next.Push(l.hub, signedRef.Repository, verifytest.Format{Tags: []string{"0.1.20"}})
	next.Push(l.ecr, copyRef.Repository, verifytest.Format{Tags: []string{"0.1.20"}, OCI: true, Level: 1})
	l.notary.Sign("0.1.20", pushed.Root, pushed.Size)
	l.notary.Publish("targets")
	for _, name := range []string{signedRef.Name(), copyRef.Name()} {
		if line := s.line("warmed", "ref", name+":0.1.20"); line["objects"] != 5.0 || line["new_objects"] != 4.0 { // one layer is the other release's
			t.Errorf("the log says %v", line)
		}
	}
	s.line("decision", "verdict", "admitted", "tag", "0.1.20", "kind", "layer")
	l.stop()
	for _, tag := range []string{"0.1.19", "0.1.20"} {
		for _, name := range []string{signedRef.Name(), copyRef.Name()} {
			s.pull(name, tag)
		}
	}
	if status := s.end(); status != statusOK {
		t.Errorf("exit status %d", status)
	}
}

// A copy that is refused is told of, and the signed repository's image is warm.
func TestServeTellsWhatItCantWarm(t *testing.T) {
	l := newLab(t)
	l.otherLayer()
	s := startServe(t, l.write(t, warmed(`{tags: ["*"], platforms: [linux/amd64, linux/s390x]}`)...))
	s.line("not warmed", "ref", copyRef.Name()+":0.1.19", "kind", "layer", "reason", "layer_mismatch")
	s.line("warmed in part only", "ref", copyRef.Name()+":0.1.19")
	s.line("warmed, but for platforms that it doesn't have", "ref", signedRef.Name()+":0.1.19", "missing", "its index lists nothing for linux/s390x")
	s.line("decision", "verdict", "refused", "reason", "layer_mismatch")
	if _, metrics := get(t, testClient, "http://"+s.admin+"/metrics"); !strings.Contains(string(metrics), `trustmirror_warm_missing{image="docker.io/nicolas/webdis"} 1`) {
		t.Errorf("it isn't counted: %s", metrics)
	}
}

// Warming begins with the configuration that asks for it, and the one before ends
// though its download hangs.
func TestReloadWarms(t *testing.T) {
	l := newLab(t)
	config := l.write(t, warmed(`{tags: ["0.1.*"], platforms: [linux/amd64]}`)...)
	_, reached, free := l.block(t)
	m := startLocal(t, config)
	<-reached
	before := m.current.get().keeper
	replace(t, config, l.config(warmed(`{tags: ["0.1.*"], platforms: [linux/arm64]}`)...))
	m.reload(t.Context(), true)
	m.retiring.Wait() // the old parts are closed, though nobody freed the download
	if m.current.get().keeper == before {
		t.Error("the keeper is the one before")
	}
	free()
	replace(t, config, l.config())
	m.reload(t.Context(), true)
	if m.current.get().keeper != nil {
		t.Error("something is kept warm that nobody asks for any more")
	}
	m.retiring.Wait()
}

// Told to end, a mirror ends, though what it warms hangs.
func TestServeEndsWhileWarming(t *testing.T) {
	l := newLab(t)
	_, reached, _ := l.block(t)
	s := startServe(t, l.write(t, warmed(`{tags: ["*"]}`)...))
	<-reached
	if status := s.end(); status != statusOK {
		t.Errorf("exit status %d", status)
	}
	s.line("ended")
}

// A mirror that runs is warmed through it, by whoever can reach it; nobody else
// writes to its folder meanwhile.
func TestCacheWarmAndServe(t *testing.T) {
	l := newLab(t)
	config := l.write(t)
	s := startServe(t, config)
	t.Chdir(filepath.Dir(config))
	cache := func(want int, contains string, args ...string) {
		t.Helper()
		var stdout, stderr strings.Builder
		status := run(t.Context(), append([]string{"cache", "warm"}, args...), &stdout, &stderr)
		if status != want || !strings.Contains(stdout.String()+stderr.String(), contains) {
			t.Errorf("%q: %d, want %d and %q: %s%s", args, status, want, contains, stdout.String(), stderr.String())
		}
	}
	mirror := "http://" + s.address
	cache(statusUnclear, "config.yaml:6: storage.filesystem.rootdirectory: a mirror is running on ./data; leave -c out and warm through it, with --mirror http://ITS-ADDRESS", "-c", "config.yaml", "nicolas/webdis:0.1.19")
	cache(statusOK, "9 objects, 3.8 KiB\n", "--mirror", mirror, "nicolas/webdis:0.1.19")
	cache(statusOK, "9 objects, 4.1 KiB\n", "--mirror", mirror, copyRef.Name()+"@"+l.ecrPushed.Root.String())
	cache(statusRefused, "✘ docker.io/nicolas/webdis:latest: 0 objects, 0 B\n  ✘ docker.io/nicolas/webdis:latest\n    unsigned_tag: docker.io/nicolas/webdis has no signed tag latest\n", "--mirror", mirror, "nicolas/webdis")
	cache(statusRefused, "no_policy: the registry \"registry.example\", which ?ns= names, is not configured here", "--mirror", mirror, "registry.example/nicolas/webdis:0.1.19")
	layer := s.line("request", "outcome", "served", "reference", l.hubPushed.Layers["linux/amd64"][1].String())
	if layer["bytes"] != 1.0 {
		t.Errorf("of a layer more than the last byte was sent: %v", layer)
	}
	l.stop()
	s.pull(signedRef.Name(), "0.1.19")
	if status := s.end(); status != statusOK {
		t.Fatalf("exit status %d", status)
	}
	cache(statusOK, "(new: 0, 0 B)", "-c", "config.yaml", "nicolas/webdis:0.1.19")

	lock, err := lockFolder("data", true)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	var stderr strings.Builder
	if status := run(t.Context(), []string{"serve", "-c", "config.yaml"}, &strings.Builder{}, &stderr); status != statusUnclear ||
		stderr.String() != "config.yaml:6: storage.filesystem.rootdirectory: trustmirror cache warm is writing to ./data; wait until it has ended, or end it\n" {
		t.Errorf("serve beside cache warm: %d %s", status, stderr.String())
	}
}

// What is admitted before a mirror runs is in its decision log.
func TestCacheWarmIsInTheDecisionLog(t *testing.T) {
	config := newLab(t).write(t, "images:\n", "decisions: {file: decisions.jsonl}\nimages:\n")
	t.Chdir(filepath.Dir(config))
	if status := run(t.Context(), []string{"cache", "warm", "-c", "config.yaml", "nicolas/webdis:0.1.19"}, &strings.Builder{}, &strings.Builder{}); status != statusOK {
		t.Fatalf("exit status %d", status)
	}
	text, err := os.ReadFile("decisions.jsonl")
	if n := strings.Count(string(text), `"verdict":"admitted"`); err != nil || n != 9 {
		t.Errorf("%d decisions: %v %s", n, err, text)
	}
}
