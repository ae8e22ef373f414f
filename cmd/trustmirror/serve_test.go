package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// testClient gives up on a server that hangs in time to say so.
var testClient = &http.Client{Timeout: 20 * time.Second}

// served is a running trustmirror, a process of its own.
type served struct {
	t              testing.TB
	cmd            *exec.Cmd
	address, admin string

	mu    sync.Mutex // guards what follows
	lines []map[string]any
	grown *sync.Cond
	ended bool
}

// startServe runs trustmirror serve in the configuration's folder until it says
// that it serves.
func startServe(t testing.TB, config string, flags ...string) *served {
	t.Helper()
	s := &served{t: t, cmd: exec.Command("trustmirror", append([]string{"serve", "-c", config, "--log-format", "json"}, flags...)...)}
	s.grown = sync.NewCond(&s.mu)
	s.cmd.Dir = filepath.Dir(config)
	s.cmd.Env = append(os.Environ(), "HOME="+s.cmd.Dir, "DOCKER_CONFIG="+s.cmd.Dir)
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // no harm if it has ended
		_ = s.cmd.Wait()
	})
	go s.read(stderr)
	serving := s.line("serving")
	s.address, s.admin = serving["address"].(string), serving["admin"].(string)
	return s
}

func (s *served) read(stderr io.Reader) {
	for scanner := bufio.NewScanner(stderr); scanner.Scan(); {
		var line map[string]any
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			line = map[string]any{"msg": scanner.Text()}
		}
		s.mu.Lock()
		s.lines = append(s.lines, line)
		s.mu.Unlock()
		s.grown.Broadcast()
	}
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.grown.Broadcast()
}

// line waits for a log line with a message and with values: key, value…
func (s *served) line(message string, values ...string) map[string]any {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for _, line := range s.lines {
			if matches(line, message, values) {
				return line
			}
		}
		if s.ended {
			s.t.Fatalf("trustmirror ended without saying %q %q: %v", message, values, s.lines)
		}
		s.grown.Wait()
	}
}

func matches(line map[string]any, message string, values []string) bool {
	if line["msg"] != message {
		return false
	}
	for i := 0; i < len(values); i += 2 {
		if line[values[i]] != values[i+1] {
			return false
		}
	}
	return true
}

// end sends SIGTERM and returns the exit status.
func (s *served) end() int {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	return s.wait()
}

func (s *served) wait() int {
	s.t.Helper()
	s.mu.Lock()
	for !s.ended { // Wait may only be called once everything was read
		s.grown.Wait()
	}
	s.mu.Unlock()
	err := s.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return s.cmd.ProcessState.ExitCode()
}

func get(t testing.TB, client *http.Client, url string) (status int, body []byte) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

func (s *served) get(path string) (int, []byte) {
	s.t.Helper()
	return get(s.t, testClient, "http://"+s.address+path)
}

func (s *served) ready() (int, []byte) {
	s.t.Helper()
	return get(s.t, testClient, "http://"+s.admin+"/readyz")
}

func TestServePullsBothNames(t *testing.T) {
	l := newLab(t)
	s := startServe(t, l.write(t))
	if image := s.line("image"); image["signed"] != "docker.io/nicolas/webdis" || !strings.Contains(toJSON(t, image), l.notary.Pins().Root[0]) {
		t.Errorf("what is pinned isn't said: %v", image)
	}
	for path, want := range map[string][]byte{
		"/v2/nicolas/webdis/manifests/0.1.19":                                     l.hub.Document("nicolas/webdis", "0.1.19").Raw,
		"/v2/nicolas/webdis/manifests/0.1.19?ns=docker.io":                        l.hub.Document("nicolas/webdis", "0.1.19").Raw,
		"/v2/nicolas/webdis/manifests/0.1.19?ns=public.ecr.aws":                   l.ecr.Document("nicolas/webdis", "0.1.19").Raw,
		"/v2/public.ecr.aws/nicolas/webdis/manifests/0.1.19":                      l.ecr.Document("nicolas/webdis", "0.1.19").Raw,
		"/v2/nicolas/webdis/blobs/" + l.hubPushed.Configs["linux/amd64"].String(): l.release.Platforms[0].Config,
	} {
		if status, body := s.get(path); status != 200 || !bytes.Equal(body, want) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	// latest is pushed, but not signed.
	status, body := s.get("/v2/nicolas/webdis/manifests/latest")
	if status != 403 || !bytes.Contains(body, []byte(`"unsigned_tag"`)) {
		t.Errorf("an unsigned tag: %d %s", status, body)
	}
	s.line("decision", "verdict", "refused", "reason", "unsigned_tag", "ref", "docker.io/nicolas/webdis:latest")
	s.line("decision", "verdict", "admitted", "proof", "same_config", "tag", "0.1.19")
	if status, body := s.ready(); status != 200 {
		t.Errorf("/readyz: %d %s", status, body)
	}
	if status := s.end(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	s.line("ended")
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// What was verified once is served after a restart with everything else gone.
func TestServeAfterRestartWithAllElseDown(t *testing.T) {
	l := newLab(t)
	config := l.write(t)
	const path = "/v2/nicolas/webdis/manifests/0.1.19"
	first := startServe(t, config)
	_, want := first.get(path)
	if status := first.end(); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	l.stop()
	second := startServe(t, config)
	if status, body := second.get(path); status != 200 || !bytes.Equal(body, want) {
		t.Errorf("after the restart: %d %s", status, body)
	}
}

// block makes the Hub hold back a config until free is called; reached is closed
// once somebody asks for it.
func (l *lab) block(t *testing.T) (path string, reached chan struct{}, free func()) {
	reached, gate := make(chan struct{}), make(chan struct{})
	var once, freed sync.Once
	free = func() { freed.Do(func() { close(gate) }) }
	t.Cleanup(free)
	path = "/v2/nicolas/webdis/blobs/" + l.hubPushed.Layers["linux/amd64"][0].String()
	l.hub.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == path {
			once.Do(func() { close(reached) })
			<-gate
		}
		return false
	})
	return path, reached, free
}

func TestShutdownLetsPullsFinish(t *testing.T) {
	l := newLab(t)
	s := startServe(t, l.write(t))
	path, reached, free := l.block(t)
	type answer struct {
		status int
		size   int
		err    error
	}
	pulled := make(chan answer, 1)
	go func() {
		resp, err := testClient.Get("http://" + s.address + path)
		if err != nil {
			pulled <- answer{err: err}
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		pulled <- answer{resp.StatusCode, len(body), err}
	}()
	<-reached
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.line("ending: pulls under way may finish")
	for { // the socket is closed right after the line
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			break
		}
		conn.Close()
	}
	if status, body := s.ready(); status != http.StatusServiceUnavailable || !bytes.Contains(body, []byte("ending")) {
		t.Errorf("/readyz while ending: %d %s", status, body)
	}
	free()
	if a := <-pulled; a.err != nil || a.status != 200 || a.size == 0 {
		t.Errorf("the pull under way: %+v", a)
	}
	if status := s.wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	l := newLab(t)
	s := startServe(t, l.write(t))
	path, reached, _ := l.block(t)
	failed := make(chan error, 1)
	go func() {
		resp, err := testClient.Get("http://" + s.address + path)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		failed <- err
	}()
	<-reached
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.line("ending: pulls under way may finish")
	if status := s.end(); status != statusRefused {
		t.Errorf("exit status %d", status)
	}
	if err := <-failed; err == nil {
		t.Error("the pull under way wasn't cut off")
	}
}

func TestShutdownTimeout(t *testing.T) {
	l := newLab(t)
	s := startServe(t, l.write(t), "--shutdown-timeout", "1ms")
	path, reached, _ := l.block(t)
	go func() {
		if resp, err := testClient.Get("http://" + s.address + path); err == nil {
			resp.Body.Close()
		}
	}()
	<-reached
	if status := s.end(); status != statusRefused {
		t.Errorf("exit status %d", status)
	}
}

// A pattern covers what its publishers sign, and nothing else; nobody has to be
// asked before somebody pulls.
func TestServePattern(t *testing.T) {
	l := newLab(t)
	s := startServe(t, l.write(t, "docker.io/nicolas/webdis", "docker.io/nicolas/*", "public.ecr.aws/nicolas/webdis", "public.ecr.aws/nicolas/*"))
	if status, body := s.ready(); status != 200 {
		t.Errorf("/readyz: %d %s", status, body)
	}
	if requests := l.notary.Service().Requests(); len(requests) != 0 {
		t.Errorf("the trust service was asked for %q before anybody pulled", requests)
	}
	for path, want := range map[string]int{
		"/v2/nicolas/webdis/manifests/0.1.19":                200,
		"/v2/public.ecr.aws/nicolas/webdis/manifests/0.1.19": 200,
		"/v2/nicolas/unsigned/manifests/0.1.19":              403,
		"/v2/nicolas/webdis/sub/manifests/0.1.19":            403,
		"/v2/other/webdis/manifests/0.1.19":                  403,
	} {
		if status, body := s.get(path); status != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status := s.end(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// A trust service that was never reached makes the mirror not ready, and pulls
// unavailable rather than refused.
func TestServeWithoutTrustService(t *testing.T) {
	l := newLab(t)
	l.notaryServer.Close()
	s := startServe(t, l.write(t))
	if status, body := s.get("/v2/nicolas/webdis/manifests/0.1.19"); status != http.StatusServiceUnavailable || !bytes.Contains(body, []byte("trust_unavailable")) {
		t.Errorf("a pull: %d %s", status, body)
	}
	if status, body := s.ready(); status != http.StatusServiceUnavailable || !bytes.Contains(body, []byte("docker.io/nicolas/webdis")) {
		t.Errorf("/readyz: %d %s", status, body)
	}
}

func TestServeTLS(t *testing.T) {
	l := newLab(t)
	old, renewed, client := newCertificate(t, "old"), newCertificate(t, "new"), newCertificate(t, "client")
	config := l.write(t, "admin:\n", "  tls: {certificate: server.crt, key: server.key, client_ca: clients.crt}\nadmin:\n")
	folder := filepath.Dir(config)
	put := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("server.crt", old.certPEM)
	put("server.key", old.keyPEM)
	put("clients.crt", client.certPEM)
	s := startServe(t, config)

	pair, err := tls.X509KeyPair(client.certPEM, client.keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	pull := func(roots *x509.CertPool, certificates ...tls.Certificate) error {
		transport := &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: roots, Certificates: certificates},
			DisableKeepAlives: true, ForceAttemptHTTP2: true,
		}
		resp, err := (&http.Client{Transport: transport}).Get("https://" + s.address + "/v2/nicolas/webdis/manifests/0.1.19")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
			t.Errorf("%s %s", resp.Proto, resp.Status)
		}
		return nil
	}
	if err := pull(pool(old), pair); err != nil {
		t.Errorf("with the client's certificate: %v", err)
	}
	if err := pull(pool(old)); err == nil {
		t.Error("a client without a certificate was served")
	}
	put("server.crt", renewed.certPEM)
	if err := pull(pool(old), pair); err != nil {
		t.Errorf("with half of the new files: %v", err)
	}
	s.line("the changed certificate can't be used; the one before stays")
	put("server.key", renewed.keyPEM)
	if err := pull(pool(renewed), pair); err != nil {
		t.Errorf("after the change: %v", err)
	}
	if err := pull(pool(old), pair); err == nil {
		t.Error("the old certificate is still there")
	}
}

func TestServeSaysWhatIsInTheWay(t *testing.T) {
	l := newLab(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	in := func(change ...string) string { return l.write(t, change...) }
	notAFolder := in("./data", "./config.yaml/data")
	for name, tc := range map[string]struct{ config, line, contains, remedy string }{
		"port":       {in("  address: \"127.0.0.1:0\"\nadmin", "  address: \""+taken.Addr().String()+"\"\nadmin"), ":2: listen.address", "another program uses", "choose another port"},
		"admin port": {in("admin:\n  address: \"127.0.0.1:0\"", "admin:\n  address: \""+taken.Addr().String()+"\""), ":4: admin.address", "another program uses", "choose another port"},
		"address":    {in("  address: \"127.0.0.1:0\"\nadmin", "  address: \"192.0.2.1:5000\"\nadmin"), ":2: listen.address", "can't listen at 192.0.2.1:5000", "an address of this machine"},
		"folder":     {notAFolder, ":6: ", "can't be used", "make it a folder"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("trustmirror", "serve", "-c", "config.yaml")
			cmd.Dir = filepath.Dir(tc.config)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			_ = cmd.Run() // the status tells
			got := stderr.String()
			if status := cmd.ProcessState.ExitCode(); status != statusUnclear {
				t.Errorf("exit status %d", status)
			}
			if !strings.HasPrefix(got, "config.yaml"+tc.line) || strings.Count(got, "\n") != 1 || !strings.Contains(got, tc.contains) || !strings.Contains(got, tc.remedy) {
				t.Errorf("said %q", got)
			}
		})
	}
}

func TestReadOnlyFolder(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere; TestServeSaysWhatIsInTheWay covers the message")
	}
	l := newLab(t)
	config := l.write(t)
	if err := os.Mkdir(filepath.Join(filepath.Dir(config), "data"), 0o500); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("trustmirror", "serve", "-c", "config.yaml")
	cmd.Dir = filepath.Dir(config)
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != statusUnclear || !bytes.HasPrefix(out, []byte("config.yaml:6: ")) {
		t.Errorf("%v: %s", err, out)
	}
}
