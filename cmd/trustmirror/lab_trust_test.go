package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// dockerTrust writes what Docker's client keeps of the repository below a folder
// like ~/.docker/trust.
func (l *lab) dockerTrust(ts *testscript.TestScript, folder string) {
	metadata := filepath.Join(ts.MkAbs(folder), "tuf", filepath.FromSlash(l.notary.GUN), "metadata")
	for name, raw := range l.notary.Service().Files(l.notary.GUN) {
		if strings.Contains(name, ".") {
			continue // by version or hash
		}
		file := filepath.Join(metadata, filepath.FromSlash(name)+".json")
		ts.Check(os.MkdirAll(filepath.Dir(file), 0o700))
		ts.Check(os.WriteFile(file, raw, 0o600))
	}
}

// pasteTrust does with a configuration what trust export tells to do.
func pasteTrust(ts *testscript.TestScript, printed string) {
	const section = "    trust:\n"
	_, trust, ok := strings.Cut(ts.ReadFile(printed), section)
	before, _, found := strings.Cut(ts.ReadFile("config.yaml"), section)
	if !ok || !found {
		ts.Fatalf("no trust section in %s or config.yaml", printed)
	}
	ts.Check(os.WriteFile(ts.MkAbs("config.yaml"), []byte(before+section+trust), 0o600))
}

// flipBit changes a file.
func flipBit(ts *testscript.TestScript, file, text string) {
	raw := []byte(ts.ReadFile(file))
	at := bytes.Index(raw, []byte(text))
	if at < 0 {
		ts.Fatalf("%s has no %s", file, text)
	}
	raw[at+len(text)-1] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(file), raw, 0o600))
}

// pinArchive writes a file's SHA-256 into config.yaml, and the file's name.
func pinArchive(ts *testscript.TestScript, file string) {
	text := ts.ReadFile("config.yaml")
	text = regexp.MustCompile(`sha256: "[0-9a-f]*"`).ReplaceAllString(text, `sha256: "`+sha256Hex([]byte(ts.ReadFile(file)))+`"`)
	text = regexp.MustCompile(`(?m)^( *)file: .*$`).ReplaceAllString(text, `${1}file: `+file)
	ts.Check(os.WriteFile(ts.MkAbs("config.yaml"), []byte(text), 0o600))
}
