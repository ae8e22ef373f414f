package proxy_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/trustmirror/trustmirror/proxy"
	"github.com/trustmirror/trustmirror/proxy/activity"
	"github.com/trustmirror/trustmirror/verify"
)

// audit holds every answer of a mirror against what it has decided: a refusal is
// an OCI error and nothing else, of which the decision log has a line with the same
// reference, reason and trace; nothing else has one. The trace of each request is
// chosen here, so that answers to HEAD, which say nothing, can be found too.
type audit struct {
	tb       testing.TB
	file     string
	recorder *activity.Recorder

	mu      sync.Mutex // guards what follows
	refused map[string][]refused
}

// refused is a refusal, as decisions tell it.
type refused struct {
	ref    string // "": the request named no configured registry
	reason verify.Reason
}

func newAudit(t *testing.T) *audit {
	t.Helper()
	a := &audit{tb: t, file: filepath.Join(t.TempDir(), "decisions.jsonl"), refused: map[string][]refused{}}
	var err error
	if a.recorder, err = activity.New(activity.Config{File: a.file}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.checkLog)
	return a
}

// tracing continues the traces of the tests' requests; nobody gets spans.
func (a *audit) tracing() proxy.Tracing {
	return proxy.Tracing{Provider: sdktrace.NewTracerProvider(), TrustedPeers: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
}

// decided is told each decision.
func (a *audit) decided(ctx context.Context, d verify.Decision) {
	a.recorder.Decided(ctx, d)
	if d.Refusal == nil {
		return
	}
	r := refused{reason: d.Refusal.Reason}
	if d.Ref.Registry != "" {
		r.ref = d.Ref.String()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	id := proxy.AskedOf(ctx).TraceID
	a.refused[id] = append(a.refused[id], r)
}

// trace puts a request into a trace of its own.
func (a *audit) trace(req *http.Request) (id string) {
	var raw [24]byte
	_, _ = rand.Read(raw[:]) // never fails
	id = hex.EncodeToString(raw[:16])
	req.Header.Set("Traceparent", "00-"+id+"-"+hex.EncodeToString(raw[16:])+"-01")
	return id
}

// check holds the answer to a request against the decisions of its trace.
func (a *audit) check(req *http.Request, id string, got answer) {
	a.tb.Helper()
	a.mu.Lock()
	decided := a.refused[id]
	a.mu.Unlock()
	if verdict := got.status == http.StatusForbidden; (len(decided) == 1) != verdict || len(decided) > 1 {
		a.tb.Errorf("%s %s is answered with %d, and there are %d refusals: %v", req.Method, req.URL, got.status, len(decided), decided)
		return
	}
	if got.status < 400 {
		return
	}
	if served := got.header.Get("Docker-Content-Digest") + got.header.Get("ETag"); served != "" || got.header.Get("Content-Type") != "application/json" {
		a.tb.Errorf("%s %s: an error has the header %v", req.Method, req.URL, got.header)
	}
	if req.Method == http.MethodHead {
		return
	}
	var document struct {
		Errors []struct {
			Code, Message string
			Detail        struct {
				Reason  verify.Reason
				Ref     string
				TraceID string `json:"trace_id"`
			}
		}
	}
	d := json.NewDecoder(bytes.NewReader(got.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&document); err != nil || len(document.Errors) != 1 {
		a.tb.Fatalf("%s: %d isn't one OCI error and nothing else: %q", req.URL, got.status, got.body)
	}
	if rest, err := io.ReadAll(d.Buffered()); err != nil || len(bytes.TrimSpace(rest)) > 0 {
		a.tb.Errorf("%s: after the error there is %q", req.URL, rest)
	}
	told := document.Errors[0].Detail
	if told.TraceID != id {
		a.tb.Errorf("%s: the client is told of trace %q, not %s", req.URL, told.TraceID, id)
	}
	if len(decided) == 1 && decided[0] != (refused{told.Ref, told.Reason}) {
		a.tb.Errorf("%s: the client is told %+v, the decision is %+v", req.URL, told, decided[0])
	}
}

// checkLog holds the decision log against the decisions: each is there, once or as
// having come again.
func (a *audit) checkLog() {
	if err := a.recorder.Close(); err != nil {
		a.tb.Error(err)
	}
	raw, err := os.ReadFile(a.file)
	if err != nil {
		a.tb.Fatal(err)
	}
	lines := map[refused]int{}
	for line := range bytes.Lines(raw) {
		var l struct {
			Verdict, Ref, Client, Sentence string
			Reason                         verify.Reason
			Repeated                       int
		}
		if err := json.Unmarshal(line, &l); err != nil {
			a.tb.Fatalf("%s: %v", line, err)
		}
		if l.Client != "127.0.0.1" {
			a.tb.Errorf("no client: %s", line)
		}
		if l.Verdict == "refused" {
			lines[refused{l.Ref, l.Reason}] += max(1, l.Repeated)
			if l.Sentence == "" {
				a.tb.Errorf("no sentence: %s", line)
			}
		}
	}
	want := map[refused]int{}
	for _, all := range a.refused {
		for _, r := range all {
			want[r]++
		}
	}
	for r, n := range want {
		if lines[r] != n {
			a.tb.Errorf("the decision log tells %d times of %+v, which was decided %d times", lines[r], r, n)
		}
		delete(lines, r)
	}
	if len(lines) > 0 {
		a.tb.Errorf("the decision log has what wasn't decided: %v", lines)
	}
}
