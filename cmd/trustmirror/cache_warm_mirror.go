package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/warm"
)

// maxFailure is how much of an error document is read.
const maxFailure = 64 << 10

// mirrorFlags name a mirror, and what is needed to ask it.
type mirrorFlags struct {
	url, ca, user, passwordFile string
}

func (f *mirrorFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.url, "mirror", "", "where clients reach a mirror that runs: https://mirror.example, http://127.0.0.1:5000")
	cmd.Flags().StringVar(&f.ca, "ca", "", "PEM file of the authority that issued the mirror's certificate, besides the system's")
	cmd.Flags().StringVar(&f.user, "user", "", "a user of the mirror, where it asks for one; sent over https and to loopback only")
	cmd.Flags().StringVar(&f.passwordFile, "password-file", "", "file with the user's password")
}

// open makes what asks the mirror; nobody is asked yet.
func (f *mirrorFlags) open() (_ warm.Mirror, done func(), err error) {
	address, err := parseURL(f.url)
	if err != nil {
		return nil, nil, fmt.Errorf("--mirror: %w", err)
	}
	m := &remoteMirror{address: address}
	base, err := url.Parse(address)
	if err != nil {
		return nil, nil, fmt.Errorf("--mirror: %w", err)
	}
	if f.user != "" {
		if base.Scheme == "http" && !isLoopback(base.Hostname()) {
			return nil, nil, fmt.Errorf("--user: the password would cross the network in the clear to %s; write https in --mirror", base.Host)
		}
		text, err := os.ReadFile(f.passwordFile)
		if err != nil {
			return nil, nil, fmt.Errorf("--user needs a password; name the file that holds it with --password-file (%w)", err)
		}
		m.user, m.password = f.user, strings.TrimRight(string(text), "\r\n")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		if config.RootCAs, err = x509.SystemCertPool(); err != nil {
			return nil, nil, err
		}
		text, err := os.ReadFile(f.ca)
		if err != nil || !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, nil, fmt.Errorf("--ca %s: this is no PEM file of certificates that can be read; name the authority that issued the mirror's", f.ca)
		}
	}
	// How long the mirror may take to verify a layer, the mirror knows: there is no
	// timeout but for reaching it.
	transport := &http.Transport{TLSClientConfig: config, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: maxWarmed}
	m.client = &http.Client{Transport: transport}
	return m, transport.CloseIdleConnections, nil
}

// remoteMirror warms a mirror by asking it, as a client does.
type remoteMirror struct {
	address        string // scheme and host
	user, password string // empty: none
	client         *http.Client
}

// Manifest implements warm.Mirror.
func (m *remoteMirror) Manifest(ctx context.Context, ref verify.Ref) ([]byte, digest.Digest, time.Time, error) {
	reference := ref.Tag
	if ref.Digest != "" {
		reference = ref.Digest.String()
	}
	response, err := m.get(ctx, ref, "/manifests/"+reference, http.Header{"Accept": verify.DocumentTypes()})
	if err != nil {
		return nil, "", time.Time{}, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, verify.MaxDocument+1))
	if err != nil {
		return nil, "", time.Time{}, m.unreachable(ctx, err)
	}
	d := digest.FromBytes(raw)
	if ref.Digest != "" {
		d = ref.Digest.Algorithm().FromBytes(raw)
	}
	if ref.Digest != "" && d != ref.Digest { // the mirror can't have sent that
		return nil, "", time.Time{}, verify.Unavailable(verify.UpstreamUnavailable, "%s, or something on the way to it, sent other bytes for %s; name the mirror itself with --mirror", m.address, ref)
	}
	return raw, d, time.Time{}, nil
}

// Blob implements warm.Mirror. It asks for the last byte: whenever the mirror begins
// to send, that comes when all is verified.
func (m *remoteMirror) Blob(ctx context.Context, ref verify.Ref, size int64) (time.Time, error) {
	header := http.Header{}
	if size > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", size-1))
	}
	response, err := m.get(ctx, ref, "/blobs/"+ref.Digest.String(), header)
	if err != nil {
		return time.Time{}, err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return time.Time{}, m.unreachable(ctx, err)
	}
	return time.Time{}, nil
}

// get asks for an object of ref's repository, named with its registry as containerd
// does it: a registry that the mirror doesn't have is refused.
func (m *remoteMirror) get(ctx context.Context, ref verify.Ref, object string, header http.Header) (*http.Response, error) {
	address := m.address + "/v2/" + ref.Repository + object + "?ns=" + url.QueryEscape(ref.Registry)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header = header
	request.Header.Set("User-Agent", userAgent())
	if m.user != "" {
		request.SetBasicAuth(m.user, m.password)
	}
	response, err := m.client.Do(request)
	if err != nil {
		return nil, m.unreachable(ctx, err)
	}
	if response.StatusCode == http.StatusOK || response.StatusCode == http.StatusPartialContent {
		return response, nil
	}
	defer response.Body.Close()
	return nil, m.failure(ref, response)
}

// unreachable is the error of a request without an answer, or with half of one.
func (m *remoteMirror) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var asked *url.Error // which repeats the address
	if errors.As(err, &asked) {
		err = asked.Err
	}
	return verify.Unavailable(verify.UpstreamUnavailable, "the mirror %s can't be asked: %w", m.address, err)
}

// failure reads the mirror's error document (proxy/errors.go).
func (m *remoteMirror) failure(ref verify.Ref, response *http.Response) error {
	var document struct {
		Errors []struct {
			Message string          `json:"message"`
			Detail  json.RawMessage `json:"detail"`
		} `json:"errors"`
	}
	var detail struct {
		Reason verify.Reason `json:"reason"`
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxFailure))
	if err != nil || json.Unmarshal(body, &document) != nil || len(document.Errors) != 1 ||
		json.Unmarshal(document.Errors[0].Detail, &detail) != nil || detail.Reason == "" {
		return verify.Unavailable(verify.UpstreamUnavailable, "%s answered %s, and not as a trustmirror does; name the mirror itself with --mirror", m.address, response.Status)
	}
	reason, message := verify.Reason(verify.Printable(string(detail.Reason))), document.Errors[0].Message
	switch response.StatusCode {
	case http.StatusForbidden:
		refusal := verify.Refuse(reason, "%s", message)
		refusal.Ref = ref
		return refusal
	case http.StatusNotFound:
		return &verify.NotFoundError{Ref: ref, Detail: message}
	case http.StatusUnauthorized:
		return verify.Unavailable(reason, "%s (of trustmirror cache warm it takes a name and a password: --user, --password-file)", message)
	}
	unavailable := verify.Unavailable(reason, "%s", message)
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil {
		unavailable.RetryAfter = time.Duration(seconds) * time.Second
	}
	return unavailable
}
