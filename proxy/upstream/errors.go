package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/trustmirror/trustmirror/verify"
)

// maxErrorBody is how much of an error's body is of interest.
const maxErrorBody = 64 << 10

// hostError says which host a connection failed with.
type hostError struct {
	host string
	err  error
}

func (e *hostError) Error() string { return e.host + ": " + e.err.Error() }

func (e *hostError) Unwrap() error { return e.err }

// failure turns what went wrong without an answer, or in the middle of one, into
// an error for the caller: a *verify.UnavailableError, in a *transientError if
// trying again may help, or that ctx is done.
func (e *endpoint) failure(ctx context.Context, err error) error {
	var (
		unavailable *verify.UnavailableError
		refused     *refusedError
		at          *hostError
	)
	switch {
	case errors.As(err, &unavailable):
		return unavailable
	case ctx.Err() != nil:
		return fmt.Errorf("asking %s: %w", e.name, ctx.Err())
	case errors.As(err, &refused):
		return e.because(err, "%s", refused.detail)
	}
	host := e.base.Host
	if errors.As(err, &at) {
		host = at.host
	}
	words, again := explain(host, err)
	result := e.because(err, "%s can't be used: %s", e.name, words)
	if again {
		return &transientError{result}
	}
	return result
}

// because makes an error that is due to another one, which its sentence needn't tell.
// Servers may have chosen words of the sentence.
func (e *endpoint) because(err error, format string, args ...any) *verify.UnavailableError {
	u := verify.Unavailable(e.unavailable, format, args...)
	u.Err = err
	return u
}

// explain says in words what is wrong with a connection, and whether trying
// again may help. A server that accepts a request and then doesn't begin to
// answer isn't asked again: the wait was long enough.
func explain(host string, err error) (words string, again bool) {
	var (
		dns       *net.DNSError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		verifying *tls.CertificateVerificationError
		record    tls.RecordHeaderError
		alert     tls.AlertError
		op        *net.OpError
		timeout   net.Error
	)
	switch {
	case errors.Is(err, errStalled):
		return host + " stopped sending in the middle of an answer", true
	case errors.Is(err, errTooSlow):
		return host + " sends too slowly", true
	case errors.As(err, &dns) && dns.IsNotFound:
		return host + " isn't found in DNS", false
	case errors.As(err, &dns):
		return "DNS doesn't answer for " + host, true
	case errors.As(err, &authority):
		return "the TLS certificate of " + host + " is signed by an authority that isn't trusted: if it should be, configure its CA file", false
	case errors.As(err, &hostname):
		return "the TLS certificate of " + host + " is for another host", false
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the TLS certificate of " + host + " has expired or isn't valid yet", false
	case errors.As(err, &verifying):
		return "the TLS certificate of " + host + " isn't valid", false
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		return host + " doesn't speak TLS: if that is right, write http:// in its URL", false
	case errors.As(err, &alert):
		return host + " refuses the TLS handshake", false
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens at " + host, true
	case errors.As(err, &timeout) && timeout.Timeout():
		return host + " doesn't answer in time", errors.As(err, &op) && op.Op == "dial"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return host + " broke the connection off", true
	}
	return "the connection to " + host + " failed (" + printable(err.Error()) + ")", true
}

// objectError judges an answer that isn't the object, and ends it.
func (e *endpoint) objectError(resp *http.Response, c call) error {
	page := isWebPage(resp)
	status := readError(resp)
	switch {
	case page:
		return e.pageError(resp)
	case status.StatusCode == http.StatusNotFound, isUnknown(status):
		return &verify.NotFoundError{Ref: c.ref, Err: status, Detail: fmt.Sprintf("%s has no %s", e.name, c.object)}
	case !sameOrigin(resp.Request.URL, e.base):
		return e.because(status, "%s redirects to %s, which answers %s", e.name, resp.Request.URL.Host, statusWords(status))
	case status.StatusCode == http.StatusUnauthorized, status.StatusCode == http.StatusForbidden:
		// Docker Hub and ECR say so of repositories that don't exist, too.
		return e.because(status, "%s answers %s for %s: either there is no such repository, or the credentials for %[1]s don't allow to pull from it, or there are none",
			e.name, statusWords(status), c.object)
	}
	return e.because(status, "%s answers %s for %s", e.name, statusWords(status), c.object)
}

// badStatus judges an answer whose status says that the server itself is in
// trouble, and ends it.
func (e *endpoint) badStatus(resp *http.Response) *verify.UnavailableError {
	after, _ := parseRetryAfter(resp.Header.Get("Retry-After"), e.opts.Now())
	status := readError(resp)
	u := e.because(status, "%s can't be used: %s answers %s", e.name, resp.Request.URL.Host, statusWords(status))
	u.RetryAfter = after
	return u
}

func (e *endpoint) pageError(resp *http.Response) error {
	return verify.Unavailable(e.unavailable, "%s can't be used: %s answers with a web page (%d %s): check the address, and that no portal stands in between",
		e.name, resp.Request.URL.Host, resp.StatusCode, http.StatusText(resp.StatusCode))
}

// readError reads an OCI error document as far as there is one
// (OCI distribution specification, "Error Codes"), and ends the answer.
func readError(resp *http.Response) *transport.Error {
	defer resp.Body.Close()
	var status *transport.Error
	if !errors.As(transport.CheckError(resp), &status) {
		status = &transport.Error{StatusCode: resp.StatusCode, Request: resp.Request} // the body didn't arrive
	}
	return status
}

// isUnknown finds the codes that say an object doesn't exist, whatever the status.
func isUnknown(status *transport.Error) bool {
	if status.StatusCode < 400 || status.StatusCode > 499 || len(status.Errors) == 0 {
		return false
	}
	switch status.Errors[0].Code {
	case transport.ManifestUnknownErrorCode, transport.NameUnknownErrorCode, transport.BlobUnknownErrorCode:
		return true
	}
	return false
}

var errorCode = regexp.MustCompile(`^[A-Z][A-Z_]{1,40}$`)

// statusWords is a status for people, with what the server says about it:
// 403 Forbidden (DENIED "no access").
func statusWords(status *transport.Error) string {
	words := strings.TrimSpace(strconv.Itoa(status.StatusCode) + " " + http.StatusText(status.StatusCode))
	if len(status.Errors) == 0 || !errorCode.MatchString(string(status.Errors[0].Code)) {
		return words
	}
	said := string(status.Errors[0].Code)
	if m := status.Errors[0].Message; m != "" {
		said += " " + strconv.Quote(printable(m))
	}
	return words + " (" + said + ")"
}

// printable shortens a server's words and leaves out what could disturb a log
// or a terminal.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= 200 {
			b.WriteString("…")
			break
		}
		if strconv.IsPrint(r) {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// mediaType is a Content-Type without its parameters. A header that can't be
// read is taken as it is, so that nobody recognises it.
func mediaType(h http.Header) string {
	s := h.Get("Content-Type")
	t, _, err := mime.ParseMediaType(s)
	if err != nil {
		return s
	}
	return t
}

// isWebPage finds answers of portals, proxies and web servers, which say nothing
// about an object.
func isWebPage(resp *http.Response) bool {
	t := mediaType(resp.Header)
	return t == "text/html" || t == "application/xhtml+xml"
}
