package proxy

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"

	"github.com/trustmirror/trustmirror/proxy/loop"
)

// begin makes a request one of those that are answered at once, until end. By HTTP/2
// there may be more of them than connections.
func (s *server) begin() (end func(), err error) {
	if s.answering == nil {
		return func() {}, nil
	}
	select {
	case s.answering <- struct{}{}:
		return func() { <-s.answering }, nil
	default:
		return nil, errOverloaded
	}
}

// enter lets a request pass that may be answered: not one too many, not this
// mirror's own, and from somebody who may pull.
func (s *server) enter(x *exchange) error {
	if err := s.limiter.allow(x.r); err != nil { // first, since a password costs time to check
		return err
	}
	if hops := x.r.Header.Values(loop.Header); len(hops) > 0 { // seldom, and it takes a copy of the request
		ctx, err := loop.Check(x.r.Context(), s.via, hops)
		switch {
		case errors.Is(err, loop.ErrLoop):
			return errLooped(x.r.Host)
		case err != nil:
			return errVia(err)
		}
		x.r = x.r.WithContext(ctx)
	}
	if err := s.certified(x); err != nil {
		return err
	}
	return s.authenticate(x)
}

func errLooped(host string) error {
	return &requestError{reasonLoop, fmt.Sprintf("the request for %s comes from this very mirror, since that name leads here; "+
		"give the registry's real address to the mirror as upstreams.REGISTRY.address, or a resolver that knows it", quote(host)), nil}
}

func errVia(err error) error {
	return &requestError{reasonLoop, fmt.Sprintf("%v (at most %d); see which mirror asks which (upstreams.REGISTRY.url)", err, loop.MaxHops), nil}
}

// certified insists on a client certificate where one is needed. A connection was
// held to it when it was made, perhaps under another configuration.
func (s *server) certified(x *exchange) error {
	cas := s.clientCAs()
	if cas == nil {
		return nil
	}
	state := x.r.TLS
	if state == nil || len(state.PeerCertificates) == 0 {
		return errCertificate(errors.New("there is none"))
	}
	options := x509.VerifyOptions{
		Roots: cas, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, c := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	if _, err := state.PeerCertificates[0].Verify(options); err != nil {
		return errCertificate(err)
	}
	return nil
}

func errCertificate(err error) error {
	return &requestError{reasonCertificate, fmt.Sprintf("this mirror asks for a certificate that its client_ca has signed, and this connection's doesn't do (%v); "+
		"connect again with one that does", err), http.Header{"Connection": {"close"}}}
}
