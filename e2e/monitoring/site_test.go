package monitoring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/trustmirror/trustmirror/e2e/lab"
	"github.com/trustmirror/trustmirror/e2e/tools"
)

const (
	deploy     = "../../deploy"
	mirrorName = "mirror.test"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// program finds a program of Debian's package prometheus.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") == "" {
		t.Skipf("SKIPPED: alert rules and dashboard aren't loaded: there is no %s; e2e/install.sh installs it", name)
	}
	check(t, err)
	return path
}

// startMirror starts a mirror that serves TLS and has a decision log, before registries
// with a good release and wrong ones.
func startMirror(t *testing.T) (*lab.Mirror, *http.Client, []lab.Wrong) {
	t.Helper()
	l, err := lab.New()
	check(t, err)
	t.Cleanup(func() { check(t, l.Remove()) })
	notary, err := tools.Dir(t.Context(), "notary", os.Stdout)
	check(t, err)
	world, err := l.StartWorld(t.Context(), notary)
	check(t, err)
	release, err := lab.NewRelease("0.1.19")
	check(t, err)
	check(t, errors.Join(world.Push(t.Context(), "0.1.19", release), world.Sign(t.Context(), "0.1.19", release)))
	wrong, err := world.PublishWrong(t.Context())
	check(t, err)
	binary, err := lab.BuildMirror(t.Context(), l.Dir)
	check(t, err)
	rule, err := world.Rule()
	check(t, err)
	m, err := l.NewMirror(binary, lab.MirrorConfig{Names: []string{mirrorName}, Upstreams: world.Upstreams(), Rules: []lab.Rule{rule}})
	check(t, err)
	config, err := os.ReadFile(m.ConfigFile)
	check(t, err)
	config = fmt.Appendf(config, "decisions: {file: %q}\n", filepath.Join(l.Dir, "decisions.log"))
	check(t, os.WriteFile(m.ConfigFile, config, 0o600))
	check(t, m.Start(t.Context()))
	client, err := l.Client(mirrorName)
	check(t, err)
	return m, client, wrong
}

// get returns the body and the status of the answer.
func get(ctx context.Context, client *http.Client, address string) ([]byte, int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, 0, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return body, response.StatusCode, err
}
