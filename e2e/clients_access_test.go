package e2e

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

const signedTag = "0.1.19"

// TestWhoMayPull has a client pull with certificates and passwords, good and bad.
func TestWhoMayPull(t *testing.T) {
	s := newSite(t)
	s.push(t, signedTag, multi(t, signedTag))
	rule, err := s.world.Rule()
	check(t, err)
	t.Run("client certificates", func(t *testing.T) {
		ours, others := clientCA(t), clientCA(t)
		config := s.mirrorConfig(rule)
		config.ClientCA = filepath.Join(ours, "ca.crt")
		s.serveAs(t, program(), config)
		for _, test := range []struct{ name, ca, sentence string }{
			{"of the right CA", ours, ""},
			{"none", "", "the client has to have a certificate from listen.tls.client_ca; give it one"},
			{"of another CA", others, "the client's certificate is not from listen.tls.client_ca, or not in date; give it another"},
		} {
			t.Run(test.name, func(t *testing.T) {
				client := s.skopeo(t)
				if test.ca != "" {
					node := filepath.Join(test.ca, "node")
					_, err := lab.Run(t.Context(), nil, program(), "ca", "issue", "--dir", test.ca, "--client", "node-1", "--out", node)
					check(t, err)
					folder := filepath.Join(client.machine.Root, "etc/containers/certs.d", mirrorName)
					check(t, os.Rename(node+".crt", filepath.Join(folder, "client.cert")))
					check(t, os.Rename(node+".key", filepath.Join(folder, "client.key")))
				}
				s.pulls(t, client, test.sentence == "", "tls: ")
				if test.sentence != "" {
					s.logs(t, test.sentence)
				}
			})
		}
	})
	t.Run("passwords", func(t *testing.T) {
		password := rand.Text()
		users := filepath.Join(s.lab.Dir, "users")
		check(t, os.WriteFile(users, htpasswd(t, "somebody", password), 0o600))
		config := s.mirrorConfig(rule)
		config.HTPasswd = users
		s.serveAs(t, program(), config)
		for _, test := range []struct{ name, password, sentence string }{
			{"right", password, ""},
			{"none", "", "use docker login"}, // this client sends an empty one then
			{"wrong", rand.Text(), "the user or the password is wrong: use docker login again"},
		} {
			t.Run(test.name, func(t *testing.T) {
				client := s.skopeo(t)
				client.machine.Home = "/home/somebody"
				if test.password != "" {
					folder := filepath.Join(client.machine.Root, client.machine.Home, ".docker")
					check(t, os.MkdirAll(folder, 0o755))
					auth := base64.StdEncoding.EncodeToString([]byte("somebody:" + test.password))
					check(t, os.WriteFile(filepath.Join(folder, "config.json"), fmt.Appendf(nil, `{"auths": {%q: {"auth": %q}}}`, mirrorName, auth), 0o600))
				}
				s.pulls(t, client, test.sentence == "", test.sentence)
			})
		}
	})
}

// TestExpiredCertificate serves with a certificate that expires: a client refuses it and
// the mirror says why, and no mirror starts with it.
func TestExpiredCertificate(t *testing.T) {
	s := newSite(t)
	s.push(t, signedTag, multi(t, signedTag))
	rule, err := s.world.Rule()
	check(t, err)
	config := s.mirrorConfig(rule)
	s.serve(t)
	client := s.skopeo(t)
	s.pulls(t, client, true, "")
	// This one takes what expired in the last year for valid, as one does that has served since.
	s.serveAs(t, filepath.Join(os.Getenv(isolated), movable, "trustmirror"), config, clockOffset+"=-8760h")
	_, _, err = s.lab.MirrorCA.IssueFor(-time.Hour, config.Names...)
	check(t, err)
	s.pulls(t, client, false, "certificate has expired")
	s.logs(t, "the client refuses this mirror's certificate; give it the CA, or the mirror a certificate for the name that the client asks for, in date")
	found, _ := diagnose(t, client.machine, "--client", "podman", "--registry", "docker.io")
	if f := found.of("docker.io"); f.State != "unknown" || f.Trap != "ca_untrusted" || !strings.Contains(f.Sentence, "expired") {
		t.Errorf("doctor found %+v", f)
	}
	s.mirror.Process.Stop()
	_, err = lab.Run(t.Context(), nil, program(), "serve", "-c", s.mirror.ConfigFile)
	if err == nil || !strings.Contains(err.Error(), "so clients refuse it; put a new certificate in its place") {
		t.Errorf("trustmirror with an expired certificate: %v", err)
	}
}

// TestLoop has the registry's name lead to the mirror on the mirror's own machine too, so
// that it asks itself; and then does what it says.
func TestLoop(t *testing.T) {
	s := newSite(t)
	s.push(t, signedTag, multi(t, signedTag))
	hosts, err := os.ReadFile("/etc/hosts")
	check(t, err)
	check(t, os.WriteFile("/etc/hosts", fmt.Appendf(hosts, "%s registry-1.docker.io\n", mirrorAddress), 0o644))
	t.Cleanup(func() { check(t, os.WriteFile("/etc/hosts", hosts, 0o644)) })
	roots := filepath.Join(s.lab.Dir, "roots.crt")
	authorities, err := lab.Run(t.Context(), nil, "cat", s.lab.CA.Path, s.lab.MirrorCA.Path)
	check(t, err)
	check(t, os.WriteFile(roots, authorities, 0o600))
	rule, err := s.world.Rule()
	check(t, err)
	config := s.mirrorConfig(rule)
	config.Upstreams["docker.io"] = "https://registry-1.docker.io"
	s.serveAs(t, program(), config, "SSL_CERT_FILE="+roots)
	client := s.skopeo(t)
	s.pulls(t, client, false, "503") // it doesn't show what else is answered
	s.nobodyAskedOrigin(t)
	answer := s.askManifest(t, lab.HubName, signedTag)
	if !strings.Contains(answer.message, "docker.io leads back to this mirror") || !strings.Contains(answer.message, "give the server's real address as upstreams.docker.io.address") {
		t.Errorf("the mirror that asks itself answered %+v", answer)
	}
	s.logs(t, "reason=loop")

	config.Addresses = map[string]string{"docker.io": originAddress + ":443"}
	s.serveAs(t, program(), config, "SSL_CERT_FILE="+roots)
	s.pulls(t, client, true, "")
}

// pulls has a client pull what is signed: it gets it, or is refused with a sentence.
func (s *site) pulls(t *testing.T, c client, may bool, sentence string) {
	t.Helper()
	check(t, c.Clear(t.Context()))
	err := c.Pull(t.Context(), lab.HubName+":"+signedTag)
	switch {
	case may && err != nil:
		t.Errorf("it was refused: %v", err)
	case !may && (err == nil || !strings.Contains(err.Error(), sentence)):
		t.Errorf("want a refusal with %q, got: %v", sentence, err)
	}
	images, err := c.Images(t.Context())
	check(t, err)
	if may != (len(images) > 0) {
		t.Errorf("the node has images: %q", images)
	}
}

// logs waits until the mirror has logged a sentence.
func (s *site) logs(t *testing.T, sentence string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	check(t, s.mirror.Process.WaitUntil(ctx, func(context.Context) error {
		log, err := os.ReadFile(s.mirror.Process.LogFile)
		if err == nil && !strings.Contains(string(log), sentence) {
			err = fmt.Errorf("the log doesn't say %q", sentence)
		}
		return err
	}))
}

// clientCA makes an authority of clients' certificates, with trustmirror's own command.
func clientCA(t *testing.T) (folder string) {
	t.Helper()
	folder = t.TempDir()
	_, err := lab.Run(t.Context(), nil, program(), "ca", "init", "--dir", folder)
	check(t, err)
	return folder
}

// htpasswd is a file of users with one user.
func htpasswd(t *testing.T, user, password string) []byte {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	check(t, err)
	return slices.Concat([]byte(user+":"), hash, []byte("\n"))
}
