package main

import (
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify"
)

// What a mirror answers is understood by status and reason; what isn't a mirror's
// answer is no verdict.
func TestRemoteMirrorAnswers(t *testing.T) {
	document := func(reason, message string) string {
		return fmt.Sprintf(`{"errors":[{"code":"DENIED","message":%q,"detail":{"reason":%q}}]}`, message, reason)
	}
	const content = `{"schemaVersion": 2}`
	for name, tc := range map[string]struct {
		status  int
		body    string
		reason  verify.Reason // "": it succeeds
		verdict verdict
	}{
		"there":               {200, content, "", verified},
		"refused":             {403, document("layer_mismatch", "it is something else"), verify.LayerMismatch, refused},
		"gone":                {404, document("not_found", "it is gone"), verify.NotFound, unclear},
		"a password":          {401, document("unauthorized", "who are you"), "unauthorized", unclear},
		"too often":           {429, document("client_rate_limited", "slow down"), "client_rate_limited", unclear},
		"storage":             {503, document("storage_unavailable", "the disk is full"), verify.StorageUnavailable, unclear},
		"other bytes":         {200, "something else", verify.UpstreamUnavailable, unclear},
		"not a mirror's 403":  {403, "<html>go away</html>", verify.UpstreamUnavailable, unclear},
		"another registry's":  {403, `{"errors":[{"code":"DENIED","message":"no"}]}`, verify.UpstreamUnavailable, unclear},
		"a gateway's timeout": {504, "", verify.UpstreamUnavailable, unclear},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/v2/nicolas/webdis/manifests/"+digest.FromString(content).String() || r.URL.Query().Get("ns") != "docker.io" {
					t.Errorf("%s was asked for", r.URL)
				}
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			}))
			defer server.Close()
			m, done, err := (&mirrorFlags{url: server.URL}).open()
			if err != nil {
				t.Fatal(err)
			}
			defer done()
			raw, _, _, err := m.Manifest(t.Context(), signedRef.WithDigest(digest.FromString(content)))
			if o := outcomeOf(err); verify.ReasonOf(err) != tc.reason || o.Verdict != tc.verdict || tc.reason == "" && string(raw) != content {
				t.Errorf("%q, %v: %+v", raw, err, o)
			}
		})
	}
}

// A mirror with a certificate of one's own, which asks for a password.
func TestRemoteMirrorOverTLS(t *testing.T) {
	secret := rand.Text()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user != "me" || password != secret {
			w.WriteHeader(http.StatusUnauthorized)
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader("a layer"))
	}))
	defer server.Close()
	folder := t.TempDir()
	ca, password := filepath.Join(folder, "ca.crt"), filepath.Join(folder, "password")
	for file, text := range map[string][]byte{
		ca:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		password: []byte(secret + "\n"),
	} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	layer := signedRef.WithDigest(digest.FromString("a layer"))
	for name, tc := range map[string]struct {
		flags mirrorFlags
		works bool
	}{
		"right":       {mirrorFlags{url: server.URL, ca: ca, user: "me", passwordFile: password}, true},
		"no CA":       {mirrorFlags{url: server.URL, user: "me", passwordFile: password}, false},
		"no password": {mirrorFlags{url: server.URL, ca: ca}, false},
	} {
		m, done, err := tc.flags.open()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Blob(t.Context(), layer, 7); (err == nil) != tc.works {
			t.Errorf("%s: %v", name, err)
		}
		done()
	}
	for name, flags := range map[string]mirrorFlags{
		"no such CA":            {url: server.URL, ca: filepath.Join(folder, "none")},
		"no certificates":       {url: server.URL, ca: password},
		"no password file":      {url: server.URL, user: "me"},
		"password in the clear": {url: "http://mirror.example", user: "me", passwordFile: password},
	} {
		if _, _, err := flags.open(); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}
