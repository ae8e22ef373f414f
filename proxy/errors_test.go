package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"go.opentelemetry.io/otel/trace"

	"github.com/trustmirror/trustmirror/verify"
)

const (
	manifestPath = "/v2/nicolas/webdis/manifests/0.1.19"
	tagsPath     = "/v2/nicolas/webdis/tags/list"
)

var blobPath = "/v2/nicolas/webdis/blobs/" + testDigest.String()

// TestEveryError has a line for each kind of error that a Gate may return.
func TestEveryError(t *testing.T) {
	type want struct {
		status       int
		manifestCode string
		blobCode     string
		tagsCode     string
		reason       string
		message      string
		retryAfter   string
	}
	same := func(status int, code, reason, message, retryAfter string) want {
		return want{status, code, code, code, reason, message, retryAfter}
	}
	secret := errors.New("dial tcp 10.1.2.3: password hunter2")
	tests := map[string]struct {
		err  error
		want want
	}{
		"wrapped refusal": {fmt.Errorf("gate: %w", verify.Refuse(verify.RolesDisagree, "they disagree")),
			same(403, "DENIED", "roles_disagree", "they disagree", "")},
		"refusal with a cause": {verify.Refuse(verify.DigestMismatch, "it is not that: %w", io.ErrUnexpectedEOF),
			same(403, "DENIED", "digest_mismatch", "it is not that: unexpected EOF", "")},
		"gone upstream": {&verify.NotFoundError{Detail: "docker.io no longer has it"},
			want{404, "MANIFEST_UNKNOWN", "BLOB_UNKNOWN", "NAME_UNKNOWN", "not_found", "docker.io no longer has it", ""}},
		"rate limited": {verify.Unavailable(verify.RateLimited, "docker.io asks to wait"),
			same(429, "TOOMANYREQUESTS", "rate_limited", "docker.io asks to wait", "30")},
		"rate limited for a time": {&verify.UnavailableError{Reason: verify.RateLimited, Detail: "wait", RetryAfter: 90*time.Second + 1},
			same(429, "TOOMANYREQUESTS", "rate_limited", "wait", "91")},
		"trust service": {verify.Unavailable(verify.TrustUnavailable, "the notary can't be reached"),
			same(503, "UNAVAILABLE", "trust_unavailable", "the notary can't be reached", "30")},
		"upstream": {verify.Unavailable(verify.UpstreamUnavailable, "docker.io can't be reached: %w", context.DeadlineExceeded),
			same(503, "UNAVAILABLE", "upstream_unavailable", "docker.io can't be reached: context deadline exceeded", "30")},
		"upstream, back in a moment": {&verify.UnavailableError{Reason: verify.UpstreamUnavailable, Detail: "soon", RetryAfter: time.Millisecond},
			same(503, "UNAVAILABLE", "upstream_unavailable", "soon", "1")},
		"storage": {verify.Unavailable(verify.StorageUnavailable, "the disk is full"),
			same(503, "UNAVAILABLE", "storage_unavailable", "the disk is full", "30")},
		"name": {&verify.InvalidError{Part: verify.PartName, Value: "A"},
			same(400, "NAME_INVALID", "name_invalid", `"A" is not the name of a repository`, "")},
		"tag": {&verify.InvalidError{Part: verify.PartTag, Value: ".a"},
			same(400, "TAG_INVALID", "tag_invalid", `".a" is not a tag`, "")},
		"digest": {&verify.InvalidError{Part: verify.PartDigest, Value: "sha256:1"},
			same(400, "DIGEST_INVALID", "digest_invalid", `"sha256:1" is not a digest`, "")},
		"deadline": {fmt.Errorf("wait: %w", context.DeadlineExceeded),
			same(503, "UNAVAILABLE", "timeout", "verifying this took too long", "30")},
		"canceled by the mirror": {fmt.Errorf("wait: %w", context.Canceled),
			same(503, "UNAVAILABLE", "interrupted", "the mirror was interrupted", "30")},
		"anything else": {secret, same(500, "UNKNOWN", "internal", "the mirror failed; its log says why", "")},
	}
	for _, reason := range []verify.Reason{
		verify.NoPolicy, verify.UnsignedTag, verify.Malformed, verify.SignatureInvalid, verify.KeyNotPinned, verify.Rollback,
		verify.MetadataExpired, verify.RolesDisagree, verify.DigestMismatch, verify.SizeMismatch, verify.AmbiguousDoc,
		verify.MediaType, verify.BadDescriptor, verify.PlatformMismatch, verify.ConfigMismatch, verify.ExtraPlatform,
		verify.LayerMismatch, verify.Annotation, verify.NotAdmitted, verify.Superseded,
	} {
		tests[string(reason)] = struct {
			err  error
			want want
		}{verify.Refuse(reason, "do this"), same(403, "DENIED", string(reason), "do this", "")}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server := newTestServer(t, &fakeGate{err: test.err, tags: []string{"0.1.19"}})
			for _, at := range []struct{ path, code, ref string }{
				{manifestPath, test.want.manifestCode, "docker.io/nicolas/webdis:0.1.19"},
				{blobPath, test.want.blobCode, "docker.io/nicolas/webdis@" + testDigest.String()},
				{tagsPath, test.want.tagsCode, "docker.io/nicolas/webdis"},
			} {
				got := getAndHead(t, server, at.path)
				if got.status != test.want.status {
					t.Errorf("%s: status %d, want %d", at.path, got.status, test.want.status)
				}
				e := errorOf(t, got)
				if e.Code != at.code || e.Detail.Reason != test.want.reason || e.Detail.Ref != at.ref {
					t.Errorf("%s: code %s, reason %s, ref %s, want %s, %s, %s",
						at.path, e.Code, e.Detail.Reason, e.Detail.Ref, at.code, test.want.reason, at.ref)
				}
				if !strings.HasPrefix(e.Message, test.want.message) {
					t.Errorf("%s: message %q, want %q", at.path, e.Message, test.want.message)
				}
				if retry := got.header.Get("Retry-After"); retry != test.want.retryAfter {
					t.Errorf("%s: Retry-After %q, want %q", at.path, retry, test.want.retryAfter)
				}
				if strings.Contains(got.body, "hunter2") || strings.Contains(got.body, string(testBody)) {
					t.Errorf("%s: the error leaks: %s", at.path, got.body)
				}
				for name, want := range map[string]string{
					"Cache-Control":                   "no-store",
					"X-Content-Type-Options":          "nosniff",
					"Docker-Distribution-Api-Version": "registry/2.0",
					"Docker-Content-Digest":           "",
					"Etag":                            "",
				} {
					if v := got.header.Get(name); v != want {
						t.Errorf("%s: %s is %q, want %q", at.path, name, v, want)
					}
				}
			}
		})
	}
}

func TestErrorNamesTheRefusalsRef(t *testing.T) {
	refusal := verify.Refuse(verify.ConfigMismatch, "no")
	refusal.Ref = verify.Ref{Registry: "public.ecr.aws", Repository: "nicolas/webdis", Tag: "0.1.18"}
	server := newTestServer(t, &fakeGate{err: refusal})
	e := errorOf(t, getAndHead(t, server, manifestPath))
	if want := "public.ecr.aws/nicolas/webdis:0.1.18"; e.Detail.Ref != want {
		t.Errorf("ref is %q, want %q", e.Detail.Ref, want)
	}
}

func TestErrorHasTraceID(t *testing.T) {
	handler := newHandler(t, &fakeGate{err: verify.Refuse(verify.NotAdmitted, "no")})
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, 2, 3}, SpanID: trace.SpanID{1}})
	for _, test := range []struct {
		ctx  context.Context
		want string
	}{
		{trace.ContextWithSpanContext(t.Context(), span), span.TraceID().String()},
		{t.Context(), ""},
	} {
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, httptest.NewRequestWithContext(test.ctx, http.MethodGet, manifestPath, nil))
		e := errorOf(t, response{rec.Code, rec.Header(), rec.Body.String()})
		if e.Detail.TraceID != test.want {
			t.Errorf("trace_id is %q, want %q", e.Detail.TraceID, test.want)
		}
		if has := strings.Contains(rec.Body.String(), "trace_id"); has != (test.want != "") {
			t.Errorf("trace_id is in the document: %v: %s", has, rec.Body)
		}
	}
}

// A message that somebody else determines stays of a size.
func TestErrorMessageIsBounded(t *testing.T) {
	server := newTestServer(t, &fakeGate{err: verify.Refuse(verify.Malformed, "%s", strings.Repeat("a", 1<<20))})
	if got := getAndHead(t, server, manifestPath); len(got.body) > 2*maxMessage {
		t.Errorf("the error document has %d bytes", len(got.body))
	}
}

// A gate that opens something else than was asked for is a bug, and nothing of it is sent.
func TestGateOpensSomethingElse(t *testing.T) {
	closed := 0
	gate := &fakeGate{
		digest: digest.FromString("something else"),
		open: func() io.ReadSeekCloser {
			return closer{strings.NewReader("something else"), func() { closed++ }}
		},
	}
	server := newTestServer(t, gate)
	got := getAndHead(t, server, blobPath)
	if e := errorOf(t, got); got.status != 500 || e.Detail.Reason != "internal" {
		t.Errorf("status %d, reason %s", got.status, e.Detail.Reason)
	}
	if closed != 2 {
		t.Errorf("the content was closed %d times in 2 requests", closed)
	}
}

type closer struct {
	io.ReadSeeker
	closed func()
}

func (c closer) Close() error { c.closed(); return nil }

func TestPanicIsAnInternalError(t *testing.T) {
	log := &logBuffer{}
	gate := &fakeGate{hook: func(context.Context) error { panic("a secret") }}
	server := newTestServer(t, gate, log.config)
	got := getAndHead(t, server, manifestPath)
	if e := errorOf(t, got); got.status != 500 || e.Code != "UNKNOWN" || strings.Contains(got.body, "secret") {
		t.Errorf("status %d, %s", got.status, got.body)
	}
	line := log.lines(t, 2)[0]
	if line["outcome"] != "internal" || !strings.Contains(fmt.Sprint(line["stack"]), "errors_test.go") {
		t.Errorf("the log line tells nothing: %v", line)
	}
}
