package notary_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
)

func TestNewRefusesConfigurations(t *testing.T) {
	w := newWorld(t)
	good := func() notary.Config {
		return notary.Config{GUN: gun, Pins: w.Pins(), Fetcher: w.service, Store: w.store}
	}
	if _, err := notary.New(good()); err != nil {
		t.Fatal(err)
	}
	id := w.Root.Keys[0].ID
	for name, change := range map[string]func(*notary.Config){
		"no GUN":               func(c *notary.Config) { c.GUN = "" },
		"GUN with ..":          func(c *notary.Config) { c.GUN = "docker.io/../x" },
		"GUN with a query":     func(c *notary.Config) { c.GUN = "docker.io/x?y" },
		"GUN that begins with": func(c *notary.Config) { c.GUN = "/docker.io/x" },
		"no root key":          func(c *notary.Config) { c.Pins.Root = nil },
		"no repository key":    func(c *notary.Config) { c.Pins.Repository = nil },
		"short key ID":         func(c *notary.Config) { c.Pins.Root = []string{id[:63]} },
		"upper-case key ID":    func(c *notary.Config) { c.Pins.Repository = []string{strings.ToUpper(id)} },
		"signer's key ID":      func(c *notary.Config) { c.Pins.Signers = map[string][]string{"alice": {"x"}} },
		"signer without a key": func(c *notary.Config) { c.Pins.Signers = map[string][]string{"alice": nil} },
		"signer's name":        func(c *notary.Config) { c.Pins.Signers = map[string][]string{"a/b": {id}} },
		"role order":           func(c *notary.Config) { c.RoleOrder = []string{"releases"} },
		"role order, repeated": func(c *notary.Config) { c.RoleOrder = []string{"targets", "targets"} },
		"refresh":              func(c *notary.Config) { c.Refresh = -1 },
		"no fetcher":           func(c *notary.Config) { c.Fetcher = nil },
		"no store":             func(c *notary.Config) { c.Store = nil },
	} {
		c := good()
		change(&c)
		if _, err := notary.New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestFirstQuestionFetchesEachFileOnce(t *testing.T) {
	w := newWorld(t, func(r *notarytest.Repository) {
		r.Delegate("alice").Sign("0.1.19", digestA, 772)
		r.Delegate("bob")
	})
	s := w.source()
	if got := w.service.Requests(); len(got) > 0 {
		t.Fatalf("New asked for %q", got)
	}
	wantTarget(t, s, "0.1.19", digestA, "alice")
	var names []string
	for _, name := range w.service.Requests() {
		role, _, _ := strings.Cut(name, ".")
		names = append(names, role)
	}
	if got := strings.Join(names, " "); got != "root timestamp snapshot targets targets/alice" {
		t.Errorf("asked for %s", got)
	}

	refresh(t, s)
	if got := fmt.Sprint(w.service.Requests()); got != "[root timestamp]" {
		t.Errorf("a refresh without news asked for %s", got)
	}
	w.PublishTimestamp()
	refresh(t, s)
	if got := fmt.Sprint(w.service.Requests()); got != "[root timestamp]" {
		t.Errorf("a refresh with a new timestamp asked for %s", got)
	}
}

func TestRestartAnswersWithoutTheService(t *testing.T) {
	w := newWorld(t)
	wantTarget(t, w.source(), "0.1.19", digestA)
	w.service.Requests()
	s := w.source()
	wantTarget(t, s, "0.1.19", digestA, notary.RepoAdmin)
	if _, err := s.Targets(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := w.service.Requests(); len(got) > 0 {
		t.Errorf("asked for %q", got)
	}
}

func TestUnknownTagAsksAtMostEvery30Seconds(t *testing.T) {
	w := newWorld(t)
	s := w.source()
	wantTarget(t, s, "0.1.19", digestA)
	w.service.Requests()

	unknown := func() {
		t.Helper()
		_, err := s.Target(context.Background(), "0.2")
		wantReason(t, err, verify.UnsignedTag, gun, "0.2")
	}
	unknown()
	if got := w.service.Requests(); len(got) > 0 {
		t.Errorf("asked for %q, though it was asked a moment ago", got)
	}
	w.clock.Advance(29 * time.Second)
	unknown()
	if got := w.service.Requests(); len(got) > 0 {
		t.Errorf("asked for %q after 29 seconds", got)
	}
	w.clock.Advance(time.Second)
	unknown()
	if got := w.service.Requests(); len(got) != 2 {
		t.Errorf("asked for %q after 30 seconds", got)
	}
	w.Sign("0.2", digestB, 5)
	w.Publish("targets")
	w.clock.Advance(30 * time.Second)
	wantTarget(t, s, "0.2", digestB)

	// A clock that is put back doesn't stop questions.
	w.Sign("0.3", digestB, 5)
	w.Publish("targets")
	w.clock.Advance(-time.Hour)
	wantTarget(t, s, "0.3", digestB)
}

func TestServiceWithoutTheRepository(t *testing.T) {
	w := newWorld(t)
	w.service.Serve(gun, nil)
	w.wantRefused(verify.UnsignedTag, gun, "no trust data")
}

func TestServiceThatLosesTheRepository(t *testing.T) {
	w := newWorld(t)
	s := w.source()
	wantTarget(t, s, "0.1.19", digestA)
	w.service.Serve(gun, nil)
	wantReason(t, s.Refresh(context.Background()), verify.TrustUnavailable)
	wantTarget(t, s, "0.1.19", digestA)
}

func TestServiceWithAPartOnly(t *testing.T) {
	for _, role := range []string{"timestamp", "snapshot", "targets"} {
		w := newWorld(t)
		files := w.service.Files(gun)
		for name := range files {
			if strings.HasPrefix(name, role) {
				delete(files, name)
			}
		}
		w.service.Serve(gun, files)
		w.wantRefused(verify.TrustUnavailable, "a part of the metadata only")
	}
}

func TestServiceDown(t *testing.T) {
	w := newWorld(t)
	w.service.Down()
	s := w.source()
	_, err := s.Target(context.Background(), "0.1.19")
	wantReason(t, err, verify.TrustUnavailable, "connection refused")

	// The failure isn't remembered for longer than the pace.
	w.service.Fail(nil)
	_, err = s.Target(context.Background(), "0.1.19")
	wantReason(t, err, verify.TrustUnavailable)
	w.clock.Advance(30 * time.Second)
	wantTarget(t, s, "0.1.19", digestA)

	// Down again, it changes nothing until something expires (T6).
	w.service.Down()
	wantReason(t, s.Refresh(context.Background()), verify.TrustUnavailable)
	wantTarget(t, s, "0.1.19", digestA)
	_, err = s.Target(context.Background(), "0.2")
	wantReason(t, err, verify.UnsignedTag, "connection refused")
	wantTarget(t, w.source(), "0.1.19", digestA)

	w.clock.Advance(w.Timestamp.Expires.Sub(w.clock.Now()) - time.Nanosecond)
	wantTarget(t, s, "0.1.19", digestA)
	w.clock.Advance(time.Nanosecond)
	for _, s := range []*notary.Source{s, w.source()} {
		_, err = s.Target(context.Background(), "0.1.19")
		wantReason(t, err, verify.MetadataExpired, "timestamp", w.Timestamp.Expires.Format(time.RFC3339), "connection refused")
		_, err = s.Targets(context.Background())
		wantReason(t, err, verify.MetadataExpired)
	}

	// And it recovers by itself.
	w.service.Fail(nil)
	w.Timestamp.Expires = w.clock.Now().Add(day(14))
	w.Publish()
	w.clock.Advance(30 * time.Second)
	wantTarget(t, s, "0.1.19", digestA)
}

func TestBadNewsLeaveTheGood(t *testing.T) {
	w := newWorld(t)
	s := w.source()
	wantTarget(t, s, "0.1.19", digestA)
	good := w.service.Files(gun)
	w.service.Set(gun, "timestamp", []byte("<html>maintenance</html>"))
	w.wantRefreshRefused(s, verify.Malformed)
	w.service.Serve(gun, good)
	refresh(t, s)
	if status := s.Status(); status.Err != nil || !status.Succeeded.Equal(w.clock.Now()) {
		t.Errorf("status after recovery: %+v", status)
	}
}

func TestStatusAndEvents(t *testing.T) {
	w := newWorld(t)
	var events []notary.Refreshed
	s, err := notary.New(notary.Config{
		GUN: gun, Pins: w.pins, Fetcher: w.service, Store: w.store, Clock: w.clock.Now,
		OnRefresh: func(e notary.Refreshed) { events = append(events, e) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if status := s.Status(); !status.Tried.IsZero() || status.Versions != nil || status.GUN != gun {
		t.Errorf("status before: %+v", status)
	}
	refresh(t, s)
	refresh(t, s)
	w.service.Down()
	_ = s.Refresh(context.Background())
	status := s.Status()
	if !status.Expires.Equal(w.Timestamp.Expires) || status.ExpiresRole != "timestamp" || status.Versions["targets"] != 1 {
		t.Errorf("status: %+v", status)
	}
	wantReason(t, status.Err, verify.TrustUnavailable)
	if len(events) != 3 || !events[0].Changed || events[1].Changed || events[1].Err != nil || events[2].Err == nil {
		t.Fatalf("events: %+v", events)
	}
	if events[0].GUN != gun || events[2].Versions["timestamp"] != 1 {
		t.Errorf("events: %+v", events)
	}
}

func TestRefusalsAreNotShared(t *testing.T) {
	w := newWorld(t)
	w.service.Serve(gun, nil)
	s := w.source()
	var first, second *verify.Refusal
	_, err := s.Target(context.Background(), "a")
	errors.As(err, &first)
	_, err = s.Target(context.Background(), "b")
	errors.As(err, &second)
	if first == nil || second == nil || first == second {
		t.Errorf("two askers got %p and %p", first, second)
	}
}
