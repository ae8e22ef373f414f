package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// HTTP asks over the network. It goes through no proxy.
type HTTP struct {
	// Username and Password are sent over https only, and to the operator's own mirrors
	// only. Default: none.
	Username, Password string
	// Timeout bounds each question. Required.
	Timeout time.Duration
}

const maxAnswer = 64 << 10

// Ask implements Asker.
func (h *HTTP) Ask(ctx context.Context, q Question) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	roots, err := rootsOf(q)
	if err != nil {
		return Answer{}, err
	}
	config := &tls.Config{RootCAs: roots, InsecureSkipVerify: q.SkipVerify} //nolint:gosec // as the client that is judged has it; no secret is sent then
	if q.Pair[0] != nil {
		pair, err := tls.X509KeyPair(q.Pair[0], q.Pair[1])
		if err != nil {
			return Answer{}, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{
		TLSClientConfig: config,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if q.Address != "" {
				address = q.Address
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, q.URL, nil)
	if err != nil {
		return Answer{}, err
	}
	r.Header.Set("User-Agent", "trustmirror-doctor")
	if h.Username != "" && q.Own && r.URL.Scheme == "https" && !q.SkipVerify {
		r.SetBasicAuth(h.Username, h.Password)
	}
	response, err := client.Do(r)
	if err != nil {
		return Answer{}, withoutURL(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return Answer{}, err
	}
	return Answer{Status: response.StatusCode, Body: body}, nil
}

func rootsOf(q Question) (*x509.CertPool, error) {
	roots := x509.NewCertPool()
	if q.Roots == nil {
		system, err := x509.SystemCertPool()
		if err != nil {
			return nil, err
		}
		roots = system
	}
	roots.AppendCertsFromPEM(q.Roots)
	roots.AppendCertsFromPEM(q.CAs)
	return roots, nil
}

// withoutURL takes what was asked out of an error, and says if it is about trust.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		return fmt.Errorf("%w: %w", ErrUntrusted, untrusted.Err)
	}
	return err
}
