// Package deploy checks what is shipped for running trustmirror, with the tools that
// read it: systemd's, Helm, Kubernetes's own types and policies, and Compose's loader.
// It needs neither root nor a cluster.
package deploy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// shipped is the project's folder of what is shipped for running it.
const shipped = "../../deploy"

// program is the built trustmirror; TestMain sets it.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "trustmirror-deploy-")
	if err == nil {
		program, err = lab.BuildMirror(context.Background(), dir)
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e/deploy:", err)
	} else {
		code = m.Run()
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, "e2e/deploy:", err)
		code = 1
	}
	os.Exit(code)
}

// said runs a program and returns all that it wrote, and its exit status.
func said(t *testing.T, env []string, name string, args ...string) (output string, status int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		t.Fatalf("%s is missing: run e2e/install.sh as root", name)
	case err != nil && !errors.As(err, &exit):
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// checkConfig holds a configuration against "trustmirror config check". Files that
// it names below the folders of files are looked for there.
func checkConfig(t *testing.T, text string, folders map[string]string) {
	t.Helper()
	for mounted, folder := range folders {
		text = strings.ReplaceAll(text, mounted, folder)
	}
	file := filepath.Join(t.TempDir(), "config.yaml")
	write(t, file, text)
	if out, status := said(t, nil, program, "config", "check", file); status != 0 {
		t.Errorf("config check ended with %d:\n%s\nof\n%s", status, out, text)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(file), 0o755))
	check(t, os.WriteFile(file, []byte(text), 0o644))
}

// read returns a file that is shipped.
func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(shipped, name))
	check(t, err)
	return string(content)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
