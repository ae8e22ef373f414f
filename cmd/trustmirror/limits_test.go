package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// A registry whose name leads to the mirror itself is noticed by the first
// request, and the answer says what to do. Given its address, it is reached.
func TestLoopIsExplained(t *testing.T) {
	l := newLab(t)
	config := l.write(t)
	m := startLocal(t, config)
	own := "http://" + m.clientsAt.Addr().String()
	replace(t, config, l.config(l.hubURL, own))
	m.reload(t.Context(), true)
	status, body := m.get(tagPath)
	for _, want := range []string{"docker.io leads back to this mirror", "upstreams.docker.io.address", `"upstream_unavailable"`} {
		if !bytes.Contains(body, []byte(want)) {
			t.Errorf("%q isn't in %d %s", want, status, body)
		}
	}
	if n := strings.Count(m.log.String(), "reason=loop"); status != http.StatusServiceUnavailable || n != 1 {
		t.Errorf("status %d, came back %d times", status, n)
	}
	hub, err := netip.ParseAddrPort(strings.TrimPrefix(l.hubURL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	replace(t, config, l.config("url: \""+l.hubURL+"\"", fmt.Sprintf("url: %q, address: %q", own, hub)))
	m.reload(t.Context(), true)
	m.wants(tagPath, 200, "")
}

// Two mirrors that ask each other end, too, and a chain that is none is served.
func TestLoopOfTwo(t *testing.T) {
	l := newLab(t)
	const onDisk, inMemory = "filesystem: {rootdirectory: ./data}", "inmemory: {}"
	first := l.write(t, onDisk, inMemory)
	a := startLocal(t, first)
	b := startLocal(t, l.write(t, onDisk, inMemory, l.hubURL, "http://"+a.clientsAt.Addr().String()))
	b.wants(tagPath, 200, "")
	replace(t, first, l.config(onDisk, inMemory, l.hubURL, "http://"+b.clientsAt.Addr().String()))
	a.reload(t.Context(), true)
	// Nobody has it any more: what both need next isn't stored.
	path := "/v2/nicolas/webdis/blobs/" + l.hubPushed.Layers["linux/amd64"][0].String()
	l.ecrServer.Close()
	status, body := b.get(path)
	if status != http.StatusServiceUnavailable || !bytes.Contains(body, []byte("leads back to this mirror")) {
		t.Errorf("%d %s", status, body)
	}
}

// Of clients that connect only so many are served at once; the others wait.
func TestMaxConnections(t *testing.T) {
	l := newLab(t)
	m := startLocal(t, l.write(t, "  address: \"127.0.0.1:0\"\nadmin", "  address: \"127.0.0.1:0\"\n  max_connections: 2\nadmin"))
	connect := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", m.clientsAt.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		fmt.Fprintf(conn, "GET /v2/ HTTP/1.1\r\nHost: mirror\r\n\r\n")
		return conn
	}
	answered := func(conn net.Conn, patience time.Duration) error {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		_, err := conn.Read(make([]byte, 1))
		return err
	}
	held := []net.Conn{connect(), connect()}
	for _, conn := range held {
		if err := answered(conn, 20*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	third := connect()
	if err := answered(third, 200*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a third connection: %v", err)
	}
	held[0].Close()
	if err := answered(third, 20*time.Second); err != nil {
		t.Errorf("once another has ended: %v", err)
	}
}

// Connections to the admin address are limited, too, and answers that nobody reads end.
func TestAttack84_ConnectionsToTheAdminAddress(t *testing.T) {
	m := startLocal(t, newLab(t).write(t))
	connect := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", m.adminAt.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		return conn
	}
	answered := func(conn net.Conn, patience time.Duration) error {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		_, err := conn.Read(make([]byte, 1))
		return err
	}
	var last net.Conn
	for range maxOperators {
		last = connect()
		if err := answered(last, 20*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	more := connect()
	if err := answered(more, 200*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one more: %v", err)
	}
	m.wants(tagPath, 200, "") // clients notice nothing
	last.Close()
	if err := answered(more, 20*time.Second); err != nil {
		t.Errorf("once another has ended: %v", err)
	}
	if got := m.mirror.operators.WriteTimeout; got != operatorTimeout {
		t.Errorf("an answer may take %v", got)
	}
}

// The limit of the configuration is in force, by client address.
func TestRateLimitIsWired(t *testing.T) {
	l := newLab(t)
	m := startLocal(t, l.write(t, "  address: \"127.0.0.1:0\"\nadmin", "  address: \"127.0.0.1:0\"\n  rate_limit: {requests_per_second: 0.001, burst: 2}\nadmin"))
	m.wants(tagPath, 200, "")
	m.wants(tagPath, 200, "")
	m.wants(tagPath, 429, "client_rate_limited")
}

// A password is asked for where clients pull, and not where operators look.
func TestHtpasswdIsWired(t *testing.T) {
	l := newLab(t)
	config := l.write(t, "  address: \"127.0.0.1:0\"\nadmin", "  address: \"127.0.0.1:0\"\n  htpasswd: users\nadmin")
	password := rand.Text()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, filepath.Join(filepath.Dir(config), "users"), "fleet:"+string(hash)+"\n")
	m := startLocal(t, config)
	m.wants(tagPath, 401, "unauthorized")
	with := "http://fleet:" + password + "@" + m.clientsAt.Addr().String()
	if status, body := get(t, testClient, with+tagPath); status != 200 {
		t.Errorf("with the password: %d %s", status, body)
	}
	if status, body := m.operators("/readyz"); status != 200 {
		t.Errorf("/readyz: %d %s", status, body)
	}
}
