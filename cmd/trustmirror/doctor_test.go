package main

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/deploy/doctor"
)

// TestDoctorOfClients writes what `trustmirror client` writes, with a mirror that
// serves https with a private CA, and has doctor find it closed; then it takes
// something of it away.
func TestDoctorOfClients(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	dir := t.TempDir()
	c := newCertificate(t, "127.0.0.1")
	for name, text := range map[string][]byte{"server.crt": c.certPEM, "server.key": c.keyPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := l.write(t, "admin:", "  tls: {certificate: "+filepath.Join(dir, "server.crt")+", key: "+filepath.Join(dir, "server.key")+"}\nadmin:")
	s := startServe(t, config)
	mirror := "https://" + s.address
	ca := filepath.Join(dir, "server.crt")

	for _, test := range []struct {
		client string
		write  string // the kind for `trustmirror client`
		needed string // a file without which it is open
	}{
		{doctor.Containerd, "containerd", "etc/containerd/certs.d/docker.io/hosts.toml"},
		{doctor.Docker, "docker", "etc/docker/certs.d/docker.io/hosts.toml"},
		{doctor.Podman, "podman", "etc/containers/registries.conf.d/zz-trustmirror.conf"},
		{doctor.CRIO, "crio", "etc/containers/registries.conf.d/zz-trustmirror.conf"},
	} {
		t.Run(test.client, func(t *testing.T) {
			root := t.TempDir()
			runOK(t, "client", test.write, "-c", config, "--mirror", mirror, "--ca", ca, "--write", "--root", root)
			args := []string{"doctor", "-c", config, "--mirror", mirror, "--ca", ca, "--root", root, "--client", test.client, "--docker-store", "containerd", "-o", "json"}
			status, report := runDoctor(t, args...)
			if status != statusOK || report.State != doctor.Closed || len(report.Findings) != 4 {
				t.Errorf("status %d: %+v", status, report)
			}
			for _, f := range report.Findings {
				if !strings.Contains(f.Sentence, "nicolas/webdis (unsigned_tag)") {
					t.Errorf("%s: %s", f.Registry, f.Sentence)
				}
			}
			if len(report.Mirrors) != 1 || report.Mirrors[0].State != doctor.Closed {
				t.Errorf("%+v", report.Mirrors)
			}
			if err := os.Remove(filepath.Join(root, test.needed)); err != nil {
				t.Fatal(err)
			}
			if status, report := runDoctor(t, args...); status != statusRefused || report.State != doctor.Open {
				t.Errorf("without %s: status %d: %+v", test.needed, status, report)
			}
		})
	}

	t.Run("no CA", func(t *testing.T) {
		root := t.TempDir()
		runOK(t, "client", "containerd", "-c", config, "--mirror", mirror, "--write", "--root", root)
		status, report := runDoctor(t, "doctor", "-c", config, "--mirror", mirror, "--ca", ca, "--root", root, "--client", "containerd", "-o", "json")
		if status != statusUnclear || report.Findings[0].Trap != doctor.CAUntrusted || report.Mirrors[0].State != doctor.Closed {
			t.Errorf("status %d: %+v", status, report)
		}
	})

	t.Run("another server", func(t *testing.T) {
		root := t.TempDir()
		other := strings.TrimPrefix(l.hubURL, "http://")
		runOK(t, "client", "containerd", "-c", config, "--mirror", "http://"+other, "--write", "--root", root)
		status, report := runDoctor(t, "doctor", "-c", config, "--root", root, "--client", "containerd", "-o", "json")
		if status != statusRefused || report.Findings[0].Trap != doctor.NotTheMirror {
			t.Errorf("status %d: %+v", status, report)
		}
	})

	if host, _, err := net.SplitHostPort(s.address); err != nil || host != "127.0.0.1" {
		t.Errorf("the mirror is at %s", s.address)
	}
}

func runOK(t *testing.T, args ...string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if status := run(t.Context(), args, &stdout, &stderr); status != statusOK {
		t.Fatalf("%q: status %d\n%s%s", args, status, &stdout, &stderr)
	}
}

func runDoctor(t *testing.T, args ...string) (status int, report doctor.Report) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status = run(t.Context(), args, &stdout, &stderr)
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
		t.Fatalf("%q: status %d: %v\n%s%s", args, status, err, &stdout, &stderr)
	}
	return status, report
}
