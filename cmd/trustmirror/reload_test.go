package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

const (
	tagPath  = "/v2/nicolas/webdis/manifests/0.1.19"
	copyPath = "/v2/public.ecr.aws/nicolas/webdis/manifests/0.1.19"
)

// lockedLog is what a mirror of this process logs.
type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// local is a mirror in this process, where the race detector sees it.
type local struct {
	*mirror
	t   *testing.T
	log *lockedLog
}

func startLocal(t *testing.T, config string) *local {
	t.Helper()
	t.Chdir(filepath.Dir(config))
	c, files, err := readWatched(config)
	if err != nil {
		t.Fatal(err)
	}
	log := &lockedLog{}
	l := &local{mirror: newMirror(config, slog.New(slog.NewTextHandler(log, nil)), time.Minute), t: t, log: log}
	if err := l.build(t.Context(), c); err != nil {
		l.close()
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.run(ctx, files) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		l.close()
	})
	return l
}

func (l *local) get(path string) (int, []byte) {
	l.t.Helper()
	return get(l.t, testClient, "http://"+l.clientsAt.Addr().String()+path)
}

func (l *local) operators(path string) (int, []byte) {
	l.t.Helper()
	return get(l.t, testClient, "http://"+l.adminAt.Addr().String()+path)
}

// wants pulls, and compares status and reason; of a refusal the decision log has to
// have a line.
func (l *local) wants(path string, status int, reason string) {
	l.t.Helper()
	got, body := l.get(path)
	if got != status || reason != "" && !bytes.Contains(body, []byte(`"`+reason+`"`)) {
		l.t.Errorf("%s: %d %s, want %d %s", path, got, body, status, reason)
	}
	decided := false
	for line := range strings.Lines(l.log.String()) {
		decided = decided || strings.Contains(line, "msg=decision verdict=refused") && strings.Contains(line, " reason="+reason+" ")
	}
	if status == http.StatusForbidden && !decided {
		l.t.Errorf("%s: the decision log has no line", path)
	}
}

func replace(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// A configuration that is reloaded in the middle of a pull neither breaks the
// pull nor is mixed into it: the pull asks the old registries to its end, under
// the old pins, and the next request is judged by the new ones alone.
func TestAttack36_ConfigurationReloadedInTheMiddleOfAPull(t *testing.T) {
	l := newLab(t)
	config := l.write(t)
	m := startLocal(t, config)
	other := newLab(t) // the same release, signed by other keys, in other registries
	var asked sync.Map
	for name, registry := range map[string]*verifytest.Registry{"hub": other.hub, "ecr": other.ecr} {
		registry.Intercept(func(http.ResponseWriter, *http.Request) bool {
			asked.Store(name, true)
			return false
		})
	}
	// The pull of the copy's index by its tag hangs at the first manifest; all that
	// it needs beyond that is fetched after the reload.
	reached, gate := make(chan struct{}), make(chan struct{})
	var once, freed sync.Once
	free := func() { freed.Do(func() { close(gate) }) }
	defer free()
	l.ecr.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/manifests/sha256:") {
			once.Do(func() { close(reached) })
			<-gate
		}
		return false
	})
	type answer struct {
		status int
		body   []byte
	}
	pulled := make(chan answer, 1)
	go func() {
		resp, err := testClient.Get("http://" + m.clientsAt.Addr().String() + copyPath)
		if err != nil {
			pulled <- answer{body: []byte(err.Error())}
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			body = []byte(err.Error())
		}
		pulled <- answer{resp.StatusCode, body}
	}()
	<-reached

	// The old pins go. The trust service is as it was, and is still reached: what
	// it has is refused under the new pins.
	pins, others := l.notary.Pins(), other.notary.Pins()
	replace(t, config, l.config(pins.Root[0], others.Root[0], pins.Repository[0], others.Repository[0],
		l.hubURL, other.hubURL, l.ecrURL, other.ecrURL))
	m.reload(t.Context(), true)
	if state := m.reloads.get(); state.FailedSince != nil {
		t.Fatal(state.Error)
	}
	m.wants(tagPath, 403, "key_not_pinned")
	m.wants(copyPath, 403, "key_not_pinned")
	asked.Range(func(name, _ any) bool {
		t.Errorf("%s was asked under pins that nothing satisfies", name)
		return true
	})

	free()
	want := l.ecr.Document("nicolas/webdis", "0.1.19").Raw
	if got := <-pulled; got.status != 200 || !bytes.Equal(got.body, want) {
		t.Errorf("the pull under way: %d %s", got.status, got.body)
	}
	asked.Range(func(name, _ any) bool {
		t.Errorf("the pull under way asked %s of the new configuration", name)
		return true
	})
	// What the old pull had admitted serves nobody under the new pins.
	m.wants(copyPath, 403, "key_not_pinned")
	m.retiring.Wait() // the old parts are closed now that their request is over
}

// An image that is taken out of the configuration is refused from then on, also
// by digest and although all of it is stored.
func TestAttack36_RemovedImage(t *testing.T) {
	l := newLab(t)
	config := l.write(t)
	m := startLocal(t, config)
	blob := "/v2/public.ecr.aws/nicolas/webdis/blobs/" + l.ecrPushed.Configs["linux/amd64"].String()
	m.wants(copyPath, 200, "")
	m.wants(blob, 200, "")
	replace(t, config, l.config("    copies: [public.ecr.aws/nicolas/webdis]\n", "", "  public.ecr.aws: {url: \""+l.ecrURL+"\"}\n", ""))
	m.reload(t.Context(), true)
	m.wants(tagPath, 200, "")
	m.wants(copyPath, 403, "no_policy")
	m.wants(blob, 403, "no_policy")
}

// Many pull while configurations come and go; what is right stays right.
func TestReloadUnderLoad(t *testing.T) {
	l := newLab(t)
	config := l.write(t)
	m := startLocal(t, config)
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for i := range 8 {
		path := []string{tagPath, copyPath}[i%2]
		clients.Go(func() {
			for ctx.Err() == nil {
				m.wants(path, 200, "")
			}
		})
	}
	for i := range 20 {
		replace(t, config, l.config("listen:\n", fmt.Sprintf("# %d\nlisten:\n", i)))
		m.reload(t.Context(), true)
	}
	cancel()
	clients.Wait()
	m.retiring.Wait()
}

// A mirror whose trust service is down keeps serving through a reload: what was
// verified is in storage.
func TestReloadWhileTrustServiceIsDown(t *testing.T) {
	l := newLab(t)
	config := l.write(t)
	m := startLocal(t, config)
	m.wants(tagPath, 200, "")
	l.notaryServer.Close()
	replace(t, config, l.config("trust:\n", "grace: 2h\n    trust:\n"))
	m.reload(t.Context(), true)
	if status, body := m.operators("/readyz"); status != 200 {
		t.Errorf("/readyz: %d %s", status, body)
	}
	m.wants(tagPath, 200, "")
	m.wants(copyPath, 200, "")
}

// Keys that are added to the pins are trusted from then on, and what the log,
// /readyz and the metrics tell of a file with a mistake.
func TestReloadKeepsWhatWorks(t *testing.T) {
	l := newLab(t)
	l.notary.Targets.Keys = append(l.notary.Targets.Keys, notarytest.NewKey(t, "ecdsa"))
	l.notary.Publish("root", "targets")
	pins := l.notary.Pins()
	config := l.write(t, "repository_keys: ["+pins.Repository[0]+"]", "repository_keys: ["+pins.Repository[0]+"] # one")
	m := startLocal(t, config)
	m.wants(tagPath, 403, "key_not_pinned")

	mistakes := l.config("listen:\n", "lisen:\n")
	replace(t, config, mistakes)
	m.reload(t.Context(), true)
	const says = `config.yaml:1: lisen is not a field of the configuration; did you mean listen?`
	if log := m.log.String(); !strings.Contains(log, "the one before stays in force") || !strings.Contains(log, says) {
		t.Errorf("the log doesn't tell: %s", log)
	}
	first := m.reloads.get()
	m.reload(t.Context(), false) // tried again
	if again := m.reloads.get(); first.FailedSince == nil || !again.FailedSince.Equal(*first.FailedSince) {
		t.Errorf("failing since %v, then since %v", first.FailedSince, again.FailedSince)
	}
	if n := strings.Count(m.log.String(), says); n != 1 {
		t.Errorf("told %d times", n)
	}
	// The images' own state makes this mirror not ready: nothing is trusted yet.
	if _, body := m.operators("/readyz"); !bytes.Contains(body, []byte(`"failed_since"`)) || !bytes.Contains(body, []byte(says)) {
		t.Errorf("/readyz: %s", body)
	}
	if _, body := m.operators("/metrics"); !bytes.Contains(body, []byte("trustmirror_config_last_reload_successful 0")) {
		t.Errorf("/metrics: %s", body)
	}

	replace(t, config, l.config("repository_keys: ["+pins.Repository[0]+"]", "repository_keys: ["+strings.Join(pins.Repository, ", ")+"]"))
	m.reload(t.Context(), true)
	m.wants(tagPath, 200, "")
	status, body := m.operators("/readyz")
	if status != 200 || bytes.Contains(body, []byte("failed_since")) {
		t.Errorf("/readyz: %d %s", status, body)
	}
	if _, body := m.operators("/metrics"); !bytes.Contains(body, []byte("trustmirror_config_last_reload_successful 1")) {
		t.Errorf("/metrics: %s", body)
	}
}

// A mirror is ready although its file can't be used any more.
func TestReadyWithABrokenFile(t *testing.T) {
	l := newLab(t)
	config := l.write(t)
	m := startLocal(t, config)
	m.wants(tagPath, 200, "")
	if err := os.Remove(config); err != nil {
		t.Fatal(err)
	}
	m.reload(t.Context(), true)
	if status, body := m.operators("/readyz"); status != 200 || !bytes.Contains(body, []byte("there is no such file")) {
		t.Errorf("/readyz: %d %s", status, body)
	}
	m.wants(tagPath, 200, "")
}

func TestReloadSaysWhatTakesARestart(t *testing.T) {
	l := newLab(t)
	config := l.write(t)
	m := startLocal(t, config)
	replace(t, config, l.config("  address: \"127.0.0.1:0\"\nadmin", "  address: \"127.0.0.1:1\"\nadmin",
		"./data", "./elsewhere", "images:\n", "default_registry: public.ecr.aws\nimages:\n"))
	m.reload(t.Context(), true)
	log := m.log.String()
	for _, want := range []string{
		"listen.address takes a restart to change; all else is in force", "config.yaml:2", `configured=127.0.0.1:1`,
		"storage takes a restart to change; all else is in force", "config.yaml:5",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("%q isn't said: %s", want, log)
		}
	}
	if strings.Contains(log, "admin.address takes") {
		t.Errorf("admin.address wasn't changed: %s", log)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(config), "elsewhere")); err == nil {
		t.Error("the other storage is in use")
	}
	// The rest is in force: a name without a registry is now the copy's.
	if _, body := m.get(tagPath); !bytes.Equal(body, l.ecr.Document("nicolas/webdis", "0.1.19").Raw) {
		t.Errorf("default_registry is as before: %s", body)
	}
}

// The program itself: SIGHUP, and files that change in the way of a Kubernetes
// ConfigMap, a folder that a symbolic link leads to.
func TestServeReloads(t *testing.T) {
	l := newLab(t)
	folder := filepath.Dir(l.write(t))
	version := func(name, config, digests string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(folder, name), 0o700); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"config.yaml": config, "digests.yaml": digests} {
			if err := os.WriteFile(filepath.Join(folder, name, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(name, filepath.Join(folder, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(folder, "..data_tmp"), filepath.Join(folder, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	text := l.config()
	text = text[:strings.Index(text, "      notary:")] + "      digests: {file: digests.yaml}\n"
	pin := func(tag string) string { return fmt.Sprintf("%q: %s\n", tag, l.hubPushed.Root) }
	version("v1", text, pin("0.1.19"))
	config := filepath.Join(folder, "config.yaml")
	for _, file := range []string{"config.yaml", "digests.yaml"} {
		_ = os.Remove(filepath.Join(folder, file)) // of the lab
		if err := os.Symlink("..data/"+file, filepath.Join(folder, file)); err != nil {
			t.Fatal(err)
		}
	}
	s := startServe(t, config)
	latest := "/v2/nicolas/webdis/manifests/latest"
	if status, body := s.get(latest); status != 403 {
		t.Errorf("before: %d %s", status, body)
	}
	version("v2", text, pin("latest"))
	s.line("reading the configuration again", "why", "a file has changed")
	s.line("the configuration was read again and is in force")
	if status, body := s.get(latest); status != 200 {
		t.Errorf("after: %d %s", status, body)
	}
	if status, body := s.get(tagPath); status != 403 {
		t.Errorf("a pin that is gone: %d %s", status, body)
	}
	version("v3", text, "latest: sha256:none\n")
	s.line("the configuration can't be used; the one before stays in force")
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.line("reading the configuration again", "why", "SIGHUP")
	if status, body := s.get(latest); status != 200 {
		t.Errorf("with a bad file: %d %s", status, body)
	}
	if status := s.end(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}
