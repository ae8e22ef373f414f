package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"go.opentelemetry.io/otel/trace"

	"github.com/trustmirror/trustmirror/verify"
)

// Reasons of errors that only this package knows, beside those of package verify.
const (
	reasonName         verify.Reason = "name_invalid"
	reasonTag          verify.Reason = "tag_invalid"
	reasonDigest       verify.Reason = "digest_invalid"
	reasonQuery        verify.Reason = "query_invalid"
	reasonPage         verify.Reason = "page_invalid"
	reasonRange        verify.Reason = "range_invalid"
	reasonPath         verify.Reason = "path_unknown"
	reasonMethod       verify.Reason = "read_only"
	reasonReferrers    verify.Reason = "referrers_unsupported"
	reasonUnauthorized verify.Reason = "unauthorized"
	reasonCertificate  verify.Reason = "client_certificate"
	reasonClientLimit  verify.Reason = "client_rate_limited"
	reasonOverloaded   verify.Reason = "overloaded"
	reasonLoop         verify.Reason = "loop"
	reasonTimeout      verify.Reason = "timeout"
	reasonInterrupted  verify.Reason = "interrupted"
	reasonInternal     verify.Reason = "internal"
)

// outcome says in a log line how a request ended.
type outcome string

const (
	outcomeServed      outcome = "served"
	outcomeRedirected  outcome = "redirected" // to where the content is stored
	outcomeRefused     outcome = "refused"
	outcomeNotFound    outcome = "not_found"
	outcomeInvalid     outcome = "invalid"
	outcomeDenied      outcome = "denied" // no valid credentials
	outcomeRateLimited outcome = "rate_limited"
	outcomeUnavailable outcome = "unavailable"
	outcomeInternal    outcome = "internal"
	outcomeCanceled    outcome = "canceled" // the client left
	outcomeTooSlow     outcome = "too_slow" // the client read too slowly
	outcomeCut         outcome = "cut"      // the content could not be read to its end
)

const (
	// statusClientClosed stands in the log for a request whose client left before
	// there was a response; it is never sent.
	statusClientClosed = 499

	defaultRetryAfter = 30 * time.Second
	maxMessage        = 4 << 10 // bytes of a message, in responses and logs
)

// requestError is a mistake in a request that is found without asking the Gate.
type requestError struct {
	reason  verify.Reason
	message string
	header  http.Header // further headers of the response; may be nil
}

func (e *requestError) Error() string { return string(e.reason) + ": " + e.message }

var (
	errMethod = &requestError{reasonMethod, "this registry is a read-only mirror: only GET and HEAD are possible; push to the registry that it mirrors",
		http.Header{"Allow": {"GET, HEAD"}}}
	errPath         = &requestError{reasonPath, "there is nothing at this path; the registry API of this mirror has /v2/, manifests, blobs, tags/list and _catalog", nil}
	errReferrers    = &requestError{reasonReferrers, "the referrers API is not available: what refers to an image is not covered by its signature", nil}
	errQuery        = &requestError{reasonQuery, "the query string of the request is malformed", nil}
	errPageNumber   = &requestError{reasonPage, "n has to be a whole number from 0 up", nil}
	errUnauthorized = &requestError{reasonUnauthorized, "this mirror asks for a user and a password: use docker login", nil}
	errOverloaded   = &requestError{reasonOverloaded, "this mirror answers as many requests at once as it may (listen.max_connections); ask again", nil}
	errPassword     = &requestError{reasonUnauthorized, "the user or the password is wrong: use docker login again", nil}

	errManyNamespaces = &requestError{reasonName, "the request has more than one ns parameter: name one registry", nil}
)

// errRange is a Range that content of that size doesn't have (RFC 9110, 15.5.17).
func errRange(size int64) error {
	return &requestError{reasonRange, "the Range is malformed or outside of the content",
		http.Header{"Content-Range": {"bytes */" + strconv.FormatInt(size, 10)}}}
}

// answer is how a request ends.
type answer struct {
	status     int
	code       errcode.ErrorCode
	outcome    outcome
	reason     verify.Reason
	message    string // a sentence for people
	ref        verify.Ref
	retryAfter time.Duration // 0: no Retry-After
	header     http.Header

	err   error // for the log only: an internal error, or why a response was cut short
	abort bool  // the connection has to be cut, so that nobody takes the response for whole
}

// answerTo is the table from errors to responses (OCI distribution
// specification, "Error Codes"). What isn't in it is an internal error, of which
// the client learns nothing.
func answerTo(err error, route string) answer {
	var (
		refusal     *verify.Refusal
		notFound    *verify.NotFoundError
		unavailable *verify.UnavailableError
		invalid     *verify.InvalidError
		request     *requestError
		limited     *limitError
	)
	switch {
	case errors.As(err, &refusal):
		return answer{
			status: http.StatusForbidden, code: errcode.ErrorCodeDenied, outcome: outcomeRefused,
			reason: refusal.Reason, message: refusal.Detail, ref: refusal.Ref,
		}
	case errors.As(err, &notFound):
		return answer{
			status: http.StatusNotFound, code: codeNotFound(route), outcome: outcomeNotFound,
			reason: verify.NotFound, message: notFound.Detail, ref: notFound.Ref,
		}
	case errors.As(err, &unavailable) && unavailable.Reason == verify.RateLimited:
		return answer{
			status: http.StatusTooManyRequests, code: errcode.ErrorCodeTooManyRequests, outcome: outcomeRateLimited,
			reason: unavailable.Reason, message: unavailable.Detail, retryAfter: unavailable.RetryAfter,
		}.retriable()
	case errors.As(err, &unavailable):
		return answer{
			status: http.StatusServiceUnavailable, code: errcode.ErrorCodeUnavailable, outcome: outcomeUnavailable,
			reason: unavailable.Reason, message: unavailable.Detail, retryAfter: unavailable.RetryAfter,
		}.retriable()
	case errors.As(err, &invalid):
		return answerInvalid(invalid)
	case errors.As(err, &request):
		return answerRequest(request)
	case errors.As(err, &limited):
		return answer{
			status: http.StatusTooManyRequests, code: errcode.ErrorCodeTooManyRequests, outcome: outcomeRateLimited,
			reason: reasonClientLimit, message: limited.Error(), retryAfter: limited.after,
		}.retriable()
	case errors.Is(err, context.DeadlineExceeded):
		return answer{
			status: http.StatusServiceUnavailable, code: errcode.ErrorCodeUnavailable, outcome: outcomeUnavailable,
			reason: reasonTimeout, message: "verifying this took too long; ask again",
		}.retriable()
	case errors.Is(err, context.Canceled): // by the mirror: clients that leave get no answer
		return answer{
			status: http.StatusServiceUnavailable, code: errcode.ErrorCodeUnavailable, outcome: outcomeUnavailable,
			reason: reasonInterrupted, message: "the mirror was interrupted, it may be shutting down; ask again",
		}.retriable()
	}
	return answer{
		status: http.StatusInternalServerError, code: errcode.ErrorCodeUnknown, outcome: outcomeInternal,
		reason: reasonInternal, message: "the mirror failed; its log says why", err: err,
	}
}

// codeNotFound is what a client of a route understands as "it isn't there".
func codeNotFound(route string) errcode.ErrorCode {
	switch route {
	case routeManifest:
		return errcode.ErrorCodeManifestUnknown
	case routeBlob:
		return errcode.ErrorCodeBlobUnknown
	}
	return errcode.ErrorCodeNameUnknown
}

// answerInvalid is the part of the table for malformed references.
func answerInvalid(e *verify.InvalidError) answer {
	a := answer{status: http.StatusBadRequest, outcome: outcomeInvalid}
	switch e.Part {
	case verify.PartTag:
		a.code, a.reason = errcode.ErrorCodeTagInvalid, reasonTag
		a.message = quote(e.Value) + " is not a tag: at most 128 letters, digits, '_', '.' and '-', not beginning with '.' or '-'"
	case verify.PartDigest:
		a.code, a.reason = errcode.ErrorCodeDigestInvalid, reasonDigest
		a.message = quote(e.Value) + " is not a digest: sha256: and 64 hexadecimal digits in lower case, or sha512: and 128"
	default:
		a.code, a.reason = errcode.ErrorCodeNameInvalid, reasonName
		a.message = quote(e.Value) + " is not the name of a repository: at most 255 lower-case letters and digits, " +
			"with single '.', '_' and '-' in between, in components separated by '/'"
	}
	return a
}

// answerRequest is the part of the table for the other mistakes of a request.
func answerRequest(e *requestError) answer {
	a := answer{outcome: outcomeInvalid, reason: e.reason, message: e.message, header: e.header}
	switch e.reason {
	case reasonMethod:
		a.status, a.code = http.StatusMethodNotAllowed, errcode.ErrorCodeUnsupported
	case reasonPath:
		a.status, a.code = http.StatusNotFound, errcode.ErrorCodeNameUnknown
	case reasonReferrers:
		// Clients take NAME_UNKNOWN here for a missing repository, anything else
		// for a registry without the API.
		a.status, a.code = http.StatusNotFound, errcode.ErrorCodeUnsupported
	case reasonRange:
		a.status, a.code = http.StatusRequestedRangeNotSatisfiable, errcode.ErrorCodeRangeInvalid
	case reasonPage:
		a.status, a.code = http.StatusBadRequest, errcode.ErrorCodePaginationNumberInvalid
	case reasonLoop:
		a.status, a.code, a.outcome = http.StatusLoopDetected, errcode.ErrorCodeUnavailable, outcomeUnavailable
	case reasonOverloaded:
		a.status, a.code, a.outcome = http.StatusServiceUnavailable, errcode.ErrorCodeUnavailable, outcomeUnavailable
		return a.retriable()
	case reasonUnauthorized, reasonCertificate:
		a.status, a.code, a.outcome = http.StatusUnauthorized, errcode.ErrorCodeUnauthorized, outcomeDenied
	default:
		a.status, a.code = http.StatusBadRequest, errcode.ErrorCodeNameInvalid
	}
	return a
}

// retriable makes sure that the client is told when to ask again.
func (a answer) retriable() answer {
	if a.retryAfter <= 0 {
		a.retryAfter = defaultRetryAfter
	}
	return a
}

// errorDetail is the detail of an OCI error document.
type errorDetail struct {
	Reason  verify.Reason `json:"reason"`
	Ref     string        `json:"ref,omitempty"`
	TraceID string        `json:"trace_id,omitempty"`
}

// write sends an error document: to HEAD with the same status and headers. That
// the client may not be there to read it changes nothing any more.
func (a answer) write(x *exchange) {
	body, err := json.Marshal(errcode.Errors{
		a.code.WithMessage(bounded(a.message, maxMessage)).WithDetail(errorDetail{
			Reason:  a.reason,
			Ref:     a.refOf(x),
			TraceID: traceID(x.r.Context()),
		}),
	})
	if err != nil { // cannot be: it is made of strings
		body = []byte(`{"errors":[]}`)
	}
	h := x.w.Header()
	for name, values := range a.header {
		h[name] = values
	}
	h.Set("Cache-Control", "no-store")
	if a.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(a.retryAfter.Seconds()))))
	}
	_ = x.writeBody(a.status, body)
}

// refOf is the reference that the answer is about: the one asked for where the
// error names none.
func (a answer) refOf(x *exchange) string {
	ref := a.ref
	if ref.Registry == "" {
		ref = x.ref
	}
	if ref.Registry == "" {
		return ""
	}
	return ref.String()
}

// traceID is the ID of the request's trace, "" where it isn't traced.
func traceID(ctx context.Context) string {
	if span := trace.SpanContextFromContext(ctx); span.HasTraceID() {
		return span.TraceID().String()
	}
	return ""
}

// bounded cuts a string that somebody else chose.
func bounded(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}

// quote shows in a sentence what a client sent.
func quote(s string) string { return strconv.Quote(bounded(s, 128)) }
