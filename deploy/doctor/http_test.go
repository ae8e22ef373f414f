package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// newCA is a certificate of an authority, in PEM.
func newCA(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a CA"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	var last *http.Request
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last = r
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
			return
		}
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, strings.Repeat("x", maxAnswer+1))
	}))
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	h := &HTTP{Username: "me", Password: "secret", Timeout: 10 * time.Second}

	answer, err := h.Ask(t.Context(), Question{URL: server.URL + "/v2/", Roots: []byte{}, CAs: ca, Own: true})
	if err != nil || answer.Status != http.StatusForbidden || len(answer.Body) != maxAnswer {
		t.Errorf("%d, %d bytes, %v", answer.Status, len(answer.Body), err)
	}
	if user, password, ok := last.BasicAuth(); !ok || user != "me" || password != "secret" {
		t.Error("the credentials weren't sent")
	}
	if answer, err = h.Ask(t.Context(), Question{URL: server.URL + "/moved", CAs: ca}); err != nil || answer.Status != http.StatusTemporaryRedirect {
		t.Errorf("a redirect was followed: %d %v", answer.Status, err)
	}
	if _, err = h.Ask(t.Context(), Question{URL: server.URL + "/v2/", Roots: []byte{}, CAs: newCA(t)}); !errors.Is(err, ErrUntrusted) {
		t.Errorf("another CA: %v", err)
	}
	if _, err = h.Ask(t.Context(), Question{URL: server.URL + "/v2/", Roots: []byte{}, SkipVerify: true, Own: true}); err != nil {
		t.Errorf("unverified: %v", err)
	}
	if _, _, ok := last.BasicAuth(); ok {
		t.Error("credentials went to a server that wasn't verified")
	}
	// The registry's own name, at another address; the test certificate has example.com.
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = h.Ask(t.Context(), Question{URL: "https://example.com/v2/", Address: u.Host, CAs: ca}); err != nil || last.Host != "example.com" {
		t.Errorf("by address: %v", err)
	}
	if _, err = h.Ask(t.Context(), Question{URL: "https://registry-1.docker.io/v2/", Address: u.Host, CAs: ca}); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a certificate for another name: %v", err)
	}
	plain := httptest.NewServer(server.Config.Handler)
	defer plain.Close()
	if _, err = h.Ask(t.Context(), Question{URL: plain.URL + "/v2/", Own: true}); err != nil {
		t.Error(err)
	}
	if _, _, ok := last.BasicAuth(); ok {
		t.Error("credentials were sent in the clear")
	}
	plain.Close()
	if _, err = h.Ask(t.Context(), Question{URL: plain.URL + "/v2/", Own: true}); err == nil || errors.Is(err, ErrUntrusted) {
		t.Errorf("nobody there: %v", err)
	}
}
