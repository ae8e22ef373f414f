package proxy

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// htpasswd writes a file with one user and returns the user's password.
func htpasswd(t *testing.T, file, user string) string {
	t.Helper()
	password := rand.Text()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, fmt.Appendf(nil, "# users\n%s:%s\n", user, hash), 0o600); err != nil {
		t.Fatal(err)
	}
	return password
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestHtpasswd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "htpasswd")
	password := htpasswd(t, file, "fleet")
	log := &logBuffer{}
	gate := &fakeGate{tags: []string{"0.1.19"}}
	server := newTestServer(t, gate, log.config, func(c *Config) { c.Htpasswd = file })
	paths := []string{"/v2/", manifestPath, blobPath, tagsPath, "/v2/_catalog", "/", "/v2/NO/manifests/x"}
	for name, header := range map[string]string{
		"nothing":          "",
		"another user":     basic("other", password),
		"another password": basic("fleet", "x"+password),
		"no password":      basic("fleet", ""),
		"not basic":        "Bearer " + password,
		"not base64":       "Basic §",
		"nobody":           basic("", ""),
	} {
		for _, path := range paths {
			got := getAndHead(t, server, path, "Authorization", header)
			e := errorOf(t, got)
			if got.status != 401 || e.Code != "UNAUTHORIZED" || got.header.Get("Www-Authenticate") != `Basic realm="trustmirror"` {
				t.Errorf("%s, %s: %d %s %v", name, path, got.status, e.Code, got.header)
			}
		}
	}
	if asked := gate.askedFor(); len(asked) > 0 {
		t.Errorf("the gate was asked for %v", asked)
	}
	for _, path := range paths[:5] {
		if got := getAndHead(t, server, path, "Authorization", basic("fleet", password)); got.status != 200 {
			t.Errorf("with the password, %s: %d %s", path, got.status, got.body)
		}
	}
	if strings.Contains(log.String(), password) || strings.Contains(log.String(), basic("fleet", password)[6:]) {
		t.Error("the log has the password")
	}
}

// A file that goes away locks everybody out.
func TestHtpasswdGoesAway(t *testing.T) {
	file := filepath.Join(t.TempDir(), "htpasswd")
	password := htpasswd(t, file, "fleet")
	gate := &fakeGate{}
	server := newTestServer(t, gate, func(c *Config) { c.Htpasswd = file })
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	got := getAndHead(t, server, manifestPath, "Authorization", basic("fleet", password))
	if got.status != 500 || len(gate.askedFor()) > 0 || strings.Contains(got.body, file) {
		t.Errorf("status %d: %s", got.status, got.body)
	}
}

func TestHtpasswdMistakesShowAtStart(t *testing.T) {
	folder := t.TempDir()
	bad := filepath.Join(folder, "bad")
	if err := os.WriteFile(bad, []byte("fleet\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(folder, "missing")
	for _, file := range []string{bad, missing} {
		_, err := New(Config{Gate: &fakeGate{}, DefaultRegistry: "docker.io", Htpasswd: file})
		if err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", file, err)
		}
	}
	if _, err := os.Stat(missing); !os.IsNotExist(err) {
		t.Errorf("the missing file was made: %v", err)
	}
}
