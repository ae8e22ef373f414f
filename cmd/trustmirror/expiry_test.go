package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify/notary"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
)

// expiryWorld is a source that is refreshed by hand, with a clock and a log.
type expiryWorld struct {
	repo    *notarytest.Repository
	clock   *notarytest.Clock
	source  *notary.Source
	sources *sources
	log     bytes.Buffer
	tell    *expiryLog
}

func newExpiryWorld(t *testing.T) *expiryWorld {
	t.Helper()
	w := &expiryWorld{repo: notarytest.New(t, signedRef.Name()), clock: &notarytest.Clock{}}
	w.repo.Delegate("nicolasff").Sign("0.1.19", digest.FromString("an index"), 772)
	w.repo.Publish()
	var err error
	w.source, err = notary.New(notary.Config{
		GUN: w.repo.GUN, Pins: w.repo.Pins(), Fetcher: w.repo.Service(), Store: notarytest.NewStore(), Clock: w.clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.sources = &sources{clock: w.clock.Now, running: make(map[string]*source)}
	w.sources.running[w.repo.GUN] = &source{Source: w.source, notary: &Notary{}, repo: w.repo.GUN, owner: w.sources}
	w.tell = newExpiryLog(w.sources.expiries, w.clock.Now, slog.New(slog.NewTextHandler(&w.log, nil)))
	return w
}

// told lets time pass and returns what the log says then.
func (w *expiryWorld) told(after time.Duration) string {
	w.clock.Advance(after)
	w.log.Reset()
	w.tell.tell()
	return w.log.String()
}

func TestExpiryIsToldOnceADay(t *testing.T) {
	w := newExpiryWorld(t)
	if got := w.told(0); got != "" {
		t.Errorf("before anything is known: %s", got)
	}
	if err := w.source.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after time.Duration
		says  string // "" means nothing
	}{
		{0, `level=INFO msg="trust is in date" image=docker.io/nicolas/webdis first_role=timestamp`},
		{23 * time.Hour, ""},
		{time.Hour, `level=INFO msg="trust is in date"`},
		{time.Hour, ""},
		{-48 * time.Hour, `msg="trust is in date"`}, // the clock was put back
	} {
		got := w.told(step.after)
		if step.says == "" && got != "" || !strings.Contains(got, step.says) || strings.Count(got, "\n") > 1 {
			t.Errorf("%s later: %q, want %q", step.after, got, step.says)
		}
	}
}

// The service renews a timestamp when it expires: a healthy one is warned of at
// the end of its life only, one that nobody renews 14 days before.
func TestExpiryWarnings(t *testing.T) {
	const day = 24 * time.Hour
	tests := map[string]struct {
		change func(*notarytest.Repository)
		after  time.Duration // that the clock passes without a word from the service
		down   bool          // the service is asked in vain then
		warned []string      // roles
		says   string
	}{
		"fresh":               {after: 0},
		"half of its life":    {after: 7 * day},
		"before the tenth":    {after: 14*day - 34*time.Hour},
		"the last tenth":      {after: 14*day - 33*time.Hour, warned: []string{"timestamp"}, says: "trust expires soon"},
		"the service is gone": {after: day, down: true, warned: []string{"timestamp"}, says: "trust expires soon"},
		"expired":             {after: 14 * day, warned: []string{"timestamp"}, says: "trust has expired"},
		"targets in 15 days":  {change: func(r *notarytest.Repository) { r.Targets.Expires = notarytest.Epoch.Add(15 * day) }},
		"targets in 14 days": {change: func(r *notarytest.Repository) { r.Targets.Expires = notarytest.Epoch.Add(14 * day) },
			warned: []string{"targets"}, says: "trust expires soon"},
		"a delegation": {change: func(r *notarytest.Repository) {
			r.Delegations[0].Expires = notarytest.Epoch.Add(13 * day)
		}, warned: []string{"targets/nicolasff"}, says: "trust expires soon"},
		"the certificate": {change: func(r *notarytest.Repository) {
			r.Root.Keys = []*notarytest.Key{notarytest.NewKey(t, "ecdsa").Certified(t, notarytest.Certificate{
				CommonName: r.GUN, NotBefore: notarytest.Epoch, NotAfter: notarytest.Epoch.Add(3 * day),
			})}
		}, warned: []string{`"root certificate"`}, says: "trust expires soon"},
		"a timestamp that lasts for years": {change: func(r *notarytest.Repository) {
			r.Timestamp.Expires = notarytest.Epoch.Add(1000 * day)
		}, after: 985 * day},
		"its last 14 days": {change: func(r *notarytest.Repository) {
			r.Timestamp.Expires = notarytest.Epoch.Add(1000 * day)
		}, after: 986 * day, warned: []string{"timestamp"}, says: "trust expires soon"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newExpiryWorld(t)
			if test.change != nil {
				test.change(w.repo)
				w.repo.Publish("root", "targets", "targets/nicolasff")
				made, err := notary.New(notary.Config{
					GUN: w.repo.GUN, Pins: w.repo.Pins(), Fetcher: w.repo.Service(), Store: notarytest.NewStore(), Clock: w.clock.Now,
				})
				if err != nil {
					t.Fatal(err)
				}
				w.source = made
				w.sources.running[w.repo.GUN].Source = made
			}
			if err := w.source.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.clock.Advance(test.after)
			if test.down {
				w.repo.Service().Down()
				_ = w.source.Refresh(t.Context()) // fails, as it has to
			}
			got := w.told(0)
			if n := strings.Count(got, "level=WARN"); n != len(test.warned) || !strings.Contains(got, test.says) {
				t.Errorf("told %q, want %q of %q", got, test.says, test.warned)
			}
			for _, role := range test.warned {
				if !strings.Contains(got, "role="+role+" ") || !strings.Contains(got, "trustmirror trust export") {
					t.Errorf("told %q, which isn't of %s", got, role)
				}
			}
		})
	}
}

func TestExpiryMetrics(t *testing.T) {
	w := newExpiryWorld(t)
	m, err := newMetrics()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.watch(states{expiries: w.sources.expiries}); err != nil {
		t.Fatal(err)
	}
	handler := m.handler()
	scrape := func() string {
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
		if rec.Code != 200 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
		return rec.Body.String()
	}
	if got := scrape(); strings.Contains(got, "trustmirror_trust_expiry_seconds{") {
		t.Errorf("before anything is known: %s", got)
	}
	if err := w.source.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, hour := range []int64{0, 1, 15 * 24} {
		w.clock.Advance(time.Duration(hour) * time.Hour)
		got := scrape()
		for role, expires := range map[string]time.Time{
			"timestamp": w.repo.Timestamp.Expires, "snapshot": w.repo.Snapshot.Expires, "targets": w.repo.Targets.Expires,
			"root": w.repo.Root.Expires, "targets/nicolasff": w.repo.Delegations[0].Expires, "root certificate": notarytest.Epoch.AddDate(10, 0, 0),
		} {
			want := fmt.Sprintf("trustmirror_trust_expiry_seconds{image=%q,role=%q} %v\n", w.repo.GUN, role, expires.Sub(w.clock.Now()).Seconds())
			if !strings.Contains(got, want) {
				t.Errorf("no line %s in %s", want, got)
			}
		}
	}
}

// A running mirror tells in the log, as a metric and in the body of /readyz.
func TestServeTellsExpiry(t *testing.T) {
	l := newLab(t)
	config := l.write(t)
	first := startServe(t, config)
	if status, body := first.get("/v2/nicolas/webdis/manifests/0.1.19"); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	first.line("trust is in date")
	first.end()
	s := startServe(t, config) // it knows from the start
	line := s.line("trust is in date", "image", "docker.io/nicolas/webdis", "first_role", "timestamp")
	if line["left"] == "" {
		t.Errorf("line: %v", line)
	}
	status, body := s.ready()
	var ready struct{ Expiry []trustExpiry }
	if err := json.Unmarshal(body, &ready); err != nil || status != 200 || len(ready.Expiry) != 1 || ready.Expiry[0].Roles[0].Role != "timestamp" {
		t.Errorf("/readyz: %d %s", status, body)
	}
	resp, err := testClient.Get("http://" + s.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil || !strings.Contains(text.String(), `trustmirror_trust_expiry_seconds{image="docker.io/nicolas/webdis",role="timestamp"} 1.2`) {
		t.Errorf("/metrics: %v %s", err, &text)
	}
}

// The clock of the program that is shipped can't be moved.
func TestClockCannotBeMoved(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	variable := strings.Join([]string{"TRUSTMIRROR", "CLOCK", "OFFSET"}, "_") // so that this test doesn't contain it
	offset := bytes.Contains(raw, []byte(variable))
	t.Setenv(variable, "8760h")
	if moved := time.Until(wallClock()) > time.Hour; moved != offset || moved != clockMovable {
		t.Errorf("the clock is moved: %t; the program has the variable: %t", moved, offset)
	}
}
