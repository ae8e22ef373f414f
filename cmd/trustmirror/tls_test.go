package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// labCA is a CA that trustmirror ca made, in a folder.
type labCA struct {
	t   *testing.T
	dir string
}

func newLabCA(t *testing.T, dir string) labCA {
	t.Helper()
	c := labCA{t: t, dir: dir}
	c.run("ca", "init", "--dir", dir)
	return c
}

func (c labCA) run(args ...string) {
	c.t.Helper()
	var stderr bytes.Buffer
	if status := run(c.t.Context(), args, io.Discard, &stderr); status != statusOK {
		c.t.Fatalf("%s: status %d, %s", args, status, &stderr)
	}
}

// server issues a certificate and returns it as it stands in a configuration.
func (c labCA) server(out string, names string) string {
	c.t.Helper()
	out = filepath.Join(c.dir, out)
	c.run("ca", "issue", "--dir", c.dir, "--server", names, "--out", out)
	return fmt.Sprintf("{certificate: %s.crt, key: %[1]s.key}", out)
}

func (c labCA) client(name string) tls.Certificate {
	c.t.Helper()
	c.run("ca", "issue", "--dir", c.dir, "--client", name)
	pair, err := tls.LoadX509KeyPair(filepath.Join(c.dir, name+".crt"), filepath.Join(c.dir, name+".key"))
	if err != nil {
		c.t.Fatal(err)
	}
	return pair
}

func (c labCA) roots() *x509.CertPool {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, "ca.crt"))
	if err != nil {
		c.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return pool
}

// listenTLS changes a lab's configuration: the listener speaks TLS.
func listenTLS(fields string) []string {
	return []string{"  address: \"127.0.0.1:0\"\nadmin:\n", "  address: \"127.0.0.1:0\"\n  tls: {" + fields + "}\nadmin:\n"}
}

// transparent is a client of whose names some lead to the mirror.
func (l *local) transparent(config *tls.Config, protocols ...string) *http.Client {
	config.NextProtos = protocols
	transport := &http.Transport{
		TLSClientConfig: config, ForceAttemptHTTP2: len(protocols) == 0,
	}
	dialer := &net.Dialer{}
	address := l.clientsAt.Addr().String()
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, address)
	}
	l.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// One mirror answers as several registries, each by a certificate of its own, in
// HTTP/2 and 1.1.
func TestCertificatesBySNI(t *testing.T) {
	l := newLab(t)
	config := filepath.Join(t.TempDir(), "config.yaml")
	ca := newLabCA(t, filepath.Join(filepath.Dir(config), "ca"))
	certificates := "certificates: [" + ca.server("hub", "registry-1.docker.io,mirror.example") + ", " + ca.server("ecr", "public.ecr.aws") + "]"
	replace(t, config, l.config(listenTLS(certificates)...))
	m := startLocal(t, config)
	hub, ecr := l.hub.Document("nicolas/webdis", "0.1.19").Raw, l.ecr.Document("nicolas/webdis", "0.1.19").Raw
	for _, test := range []struct {
		url   string
		names string // in the certificate
		want  []byte
	}{
		{"https://registry-1.docker.io" + tagPath, "registry-1.docker.io", hub},
		{"https://public.ecr.aws" + tagPath, "public.ecr.aws", ecr},
		{"https://mirror.example" + tagPath, "registry-1.docker.io", hub},
	} {
		for major, protocols := range map[int][]string{2: nil, 1: {"http/1.1"}} {
			resp, err := m.transparent(&tls.Config{RootCAs: ca.roots()}, protocols...).Get(test.url)
			if err != nil {
				t.Errorf("%s: %v", test.url, err)
				continue
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(body, test.want) || resp.ProtoMajor != major || resp.TLS.PeerCertificates[0].DNSNames[0] != test.names {
				t.Errorf("%s: %s %s %s, by %s: %v", test.url, resp.Proto, resp.Status, body, resp.TLS.PeerCertificates[0].DNSNames, err)
			}
		}
	}
	// A name that no certificate is for, and none at all, get the first one.
	for _, name := range []string{"other.example", ""} {
		conn, err := tls.Dial("tcp", m.clientsAt.Addr().String(), &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.ConnectionState().PeerCertificates[0].DNSNames[0]; got != "registry-1.docker.io" {
			t.Errorf("for the name %q: %s", name, got)
		}
		conn.Close()
	}
}

// A certificate and a key beside a list of them can't be meant.
func TestCertificatesTwice(t *testing.T) {
	folder := t.TempDir()
	ca := newLabCA(t, folder)
	pair := ca.server("a", "a.example")
	fields := strings.TrimSuffix(strings.TrimPrefix(pair, "{"), "}")
	_, err := parseConfig("config.yaml", []byte("listen:\n  tls:\n    {"+fields+", certificates: ["+pair+"]}\n"+anImage))
	if err == nil || err.Error() != "config.yaml:2: listen.tls: there is a certificate or a key besides certificates; move it into that list, as {certificate: FILE, key: FILE}" {
		t.Errorf("said %v", err)
	}
}

// issued writes a certificate that is valid for a time that begins at from.
func issued(t *testing.T, out string, until time.Duration) string {
	t.Helper()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "mirror.example"}, DNSNames: []string{"mirror.example"}, NotAfter: time.Now().Add(until)}
	if err := issueTo(io.Discard, out, template, nil); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("certificate: %s.crt, key: %[1]s.key", out)
}

// A certificate that clients refuse is refused at start, in a changed
// configuration, and in the place of one that is in date.
func TestExpiredCertificate(t *testing.T) {
	folder := t.TempDir()
	expired := issued(t, filepath.Join(folder, "expired"), -time.Minute)
	_, err := parseConfig("config.yaml", []byte("listen:\n  tls: {"+expired+"}\n"+anImage))
	if want := "config.yaml:2: listen.tls: " + folder + "/expired.crt expired on "; err == nil || !strings.HasPrefix(err.Error(), want) ||
		!strings.HasSuffix(err.Error(), "so clients refuse it; put a new certificate in its place") {
		t.Errorf("said %v", err)
	}

	l := newLab(t)
	fine := issued(t, filepath.Join(folder, "fine"), 24*time.Hour)
	config := l.write(t, listenTLS(fine)...)
	m := startLocal(t, config)
	for _, name := range []string{"crt", "key"} {
		text, err := os.ReadFile(filepath.Join(folder, "expired."+name))
		if err != nil {
			t.Fatal(err)
		}
		replace(t, filepath.Join(folder, "fine."+name), string(text))
	}
	conn, err := tls.Dial("tcp", m.clientsAt.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if left := time.Until(conn.ConnectionState().PeerCertificates[0].NotAfter); left < 0 {
		t.Error("the expired certificate is in use")
	}
	if !strings.Contains(m.log.String(), "the changed certificate can't be used; the one before stays") {
		t.Errorf("the log doesn't tell: %s", m.log)
	}
	// It is told of in time: the log, /readyz and the metrics.
	m.waitFor("the certificate that clients are shown expires soon")
	if _, body := m.operators("/readyz"); !bytes.Contains(body, []byte(`"source":"certificate","file":"`+folder+`/fine.crt"`)) {
		t.Errorf("/readyz: %s", body)
	}
	if _, body := m.operators("/metrics"); !bytes.Contains(body, []byte(`trustmirror_certificate_expiry_seconds{file="`+folder+`/fine.crt"} 8`)) {
		t.Errorf("/metrics: %s", body)
	}
}

// waitFor waits for the log to say something.
func (l *local) waitFor(what string) {
	l.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(l.log.String(), what); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("the log doesn't say %q: %s", what, l.log)
		}
	}
}

// A client that may not connect is told of by its address, with the reason and
// what to do.
func TestClientCertificates(t *testing.T) {
	l := newLab(t)
	config := filepath.Join(t.TempDir(), "config.yaml")
	ca, others := newLabCA(t, filepath.Join(filepath.Dir(config), "ca")), newLabCA(t, t.TempDir())
	fields := "certificates: [" + ca.server("mirror", "mirror.example") + "], client_ca: " + filepath.Join(ca.dir, "ca.crt")
	replace(t, config, l.config(listenTLS(fields)...))
	m := startLocal(t, config)
	node := ca.client("node-1")
	const url = "https://mirror.example" + tagPath
	known := m.transparent(&tls.Config{RootCAs: ca.roots(), Certificates: []tls.Certificate{node}})
	if status, body := get(t, known, url); status != 200 {
		t.Errorf("with a certificate: %d %s", status, body)
	}
	for name, test := range map[string]struct {
		config *tls.Config
		error  string
		advice string
	}{
		"none":            {&tls.Config{RootCAs: ca.roots()}, "didn't provide a certificate", "the client has to have a certificate from listen.tls.client_ca"},
		"another CA's":    {&tls.Config{RootCAs: ca.roots(), GetClientCertificate: always(others.client("node-2"))}, "failed to verify certificate", "the client's certificate is not from listen.tls.client_ca"},
		"a wrong CA here": {&tls.Config{RootCAs: others.roots(), Certificates: []tls.Certificate{node}}, "remote error: tls: ", "the client refuses this mirror's certificate"},
	} {
		resp, err := m.transparent(test.config).Get(url)
		if err == nil {
			resp.Body.Close()
			t.Errorf("%s: served with %s", name, resp.Status)
		}
		m.waitFor(test.advice)
		for line := range strings.Lines(m.log.String()) {
			if strings.Contains(line, test.advice) && (!strings.Contains(line, "level=WARN") || !strings.Contains(line, `msg="a client could not connect" client=127.0.0.1:`) || !strings.Contains(line, test.error)) {
				t.Errorf("%s: %s", name, line)
			}
		}
	}
	// The admin address asks for nothing: it is separate.
	if status, body := m.operators("/healthz"); status != 200 {
		t.Errorf("/healthz: %d %s", status, body)
	}

	// Another CA for clients: connections of before are held to it, too.
	text, err := os.ReadFile(filepath.Join(others.dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	replace(t, config, l.config(listenTLS(strings.Replace(fields, filepath.Join(ca.dir, "ca.crt"), "clients.crt", 1))...))
	replace(t, filepath.Join(filepath.Dir(config), "clients.crt"), string(text))
	m.reload(t.Context(), true)
	if status, body := get(t, known, url); status != 401 || !bytes.Contains(body, []byte(`"client_certificate"`)) {
		t.Errorf("on a connection of before: %d %s", status, body)
	}
	if resp, err := known.Get(url); err == nil {
		resp.Body.Close()
		t.Errorf("on another connection: %s", resp.Status)
	}
}

// always sends a certificate, also where the server would take no such one.
func always(c tls.Certificate) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }
}

// Plain http becomes https by a reload, and a connection of before doesn't go round
// the certificate that clients need from then on.
func TestReloadTurnsTLSOn(t *testing.T) {
	l := newLab(t)
	config := l.write(t)
	m := startLocal(t, config)
	m.wants(tagPath, 200, "")
	ca := newLabCA(t, filepath.Join(filepath.Dir(config), "ca"))
	fields := "certificates: [" + ca.server("mirror", "mirror.example") + "], client_ca: " + filepath.Join(ca.dir, "ca.crt")
	replace(t, config, l.config(listenTLS(fields)...))
	m.reload(t.Context(), true)
	m.wants(tagPath, 401, "client_certificate")
	client := m.transparent(&tls.Config{RootCAs: ca.roots(), Certificates: []tls.Certificate{ca.client("node")}})
	if status, body := get(t, client, "https://mirror.example"+tagPath); status != 200 {
		t.Errorf("by https: %d %s", status, body)
	}
}
