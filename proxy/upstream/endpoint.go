package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trustmirror/trustmirror/proxy/loop"
	"github.com/trustmirror/trustmirror/verify"
)

// hooks are what tests replace; production code uses their zero value.
type hooks struct {
	dial     func(ctx context.Context, network, addr string) (net.Conn, error) // nil: the network
	classify func(netip.AddrPort) reach                                        // nil: reachOf
	proxy    func(*http.Request) (*url.URL, error)                             // nil: from the environment
	backoff  time.Duration                                                     // 0: firstBackoff
}

// endpoint is one server that the operator trusts to be asked: a registry or a
// trust service.
type endpoint struct {
	name       string   // how messages and events call it
	base       *url.URL // scheme, host and port
	tokenRealm *url.URL // nil: none but its own
	opts       Options  // defaults filled in
	hooks      hooks
	route      Route
	setting    string        // as messages call where the route is configured
	resolver   *net.Resolver // nil: the system's

	unavailable verify.Reason // the reason code when it can't be asked
	limited     verify.Reason // and when it answers 429

	direct  *http.Transport // to base and to what the operator named
	guarded *http.Transport // to what the server names: dials nothing further inside
	auth    *authenticator
	open    chan struct{} // bodies open here
	first   chan struct{} // one of them, that doesn't count among all: others can't take it
	total   chan struct{} // bodies open everywhere, without those

	reach atomic.Int32 // of the address that base turned out to have; publicReach until known

	mu        sync.Mutex
	restUntil time.Time // the server asked to be left alone until then
}

// endpointConfig is what makes one endpoint differ from another.
type endpointConfig struct {
	name        string
	url         string
	caFile      string
	tokenRealm  string
	credentials Credentials
	route       Route
	setting     string // where the configuration says how to get there, for messages
	unavailable verify.Reason
	limited     verify.Reason
	// account names the registry, and the repository in it, under which the
	// keychain may have credentials.
	account func(repository string) (registry, repo string)
}

func newEndpoint(ctx context.Context, c endpointConfig, opts Options, h hooks, total chan struct{}) (*endpoint, error) {
	base, err := parseBase(c.url)
	if err != nil {
		return nil, err
	}
	if err := c.credentials.check(base); err != nil {
		return nil, err
	}
	cas, err := loadCAs(c.caFile)
	if err != nil {
		return nil, err
	}
	e := &endpoint{
		name: c.name, base: base, opts: opts, hooks: h.withDefaults(), route: c.route, setting: c.setting,
		unavailable: c.unavailable, limited: c.limited,
		open: make(chan struct{}, opts.Limits.PerRegistry), first: make(chan struct{}, 1), total: total,
	}
	if e.resolver, err = c.route.resolver(opts.Timeouts.Dial); err != nil {
		return nil, err
	}
	if c.tokenRealm != "" {
		if e.tokenRealm, err = parseTokenRealm(c.tokenRealm, base); err != nil {
			return nil, err
		}
	}
	e.direct = e.newTransport(cas, e.dialDirect)
	e.guarded = e.newTransport(cas, e.dialGuarded)
	e.auth = newAuthenticator(ctx, e, c.credentials, c.account)
	return e, nil
}

func (h hooks) withDefaults() hooks {
	if h.classify == nil {
		h.classify = func(a netip.AddrPort) reach { return reachOf(a.Addr()) }
	}
	if h.proxy == nil {
		h.proxy = http.ProxyFromEnvironment
	}
	if h.backoff == 0 {
		h.backoff = firstBackoff
	}
	return h
}

func (e *endpoint) newTransport(cas *x509.CertPool, dial func(context.Context, string, string) (net.Conn, error)) *http.Transport {
	// HTTP/1.1, so that the parts of a blob come over connections of their own.
	return &http.Transport{
		Proxy:                  e.proxy,
		DialContext:            dial,
		TLSClientConfig:        &tls.Config{RootCAs: cas, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    e.opts.Timeouts.Dial,
		ResponseHeaderTimeout:  e.opts.Timeouts.Header,
		MaxResponseHeaderBytes: 256 << 10,
		DisableCompression:     true, // what arrives must be the bytes that were hashed
		MaxIdleConns:           e.opts.Limits.PerRegistry,
		MaxIdleConnsPerHost:    e.opts.Limits.PerRegistry,
		IdleConnTimeout:        90 * time.Second,
	}
}

func (e *endpoint) closeIdle() {
	e.direct.CloseIdleConnections()
	e.guarded.CloseIdleConnections()
}

// call is one thing to ask for.
type call struct {
	kind       Kind
	ref        verify.Ref // zero but for a registry's objects
	repository string     // or GUN
	object     string     // as messages call it
	path       string
	header     http.Header // Accept, Range; without Authorization
	again      bool        // one before it failed
	atOnce     bool        // or not at all, if it would have to wait for a free download
}

// exchange sends one request and returns whatever answer comes. Its body is
// bounded in time and reports to the observer when it is closed. A 429 is
// remembered and is an error already, for whichever server of the endpoint's
// it came from.
func (e *endpoint) exchange(req *http.Request, c call) (*http.Response, error) {
	if err := e.resting(); err != nil {
		return nil, err
	}
	transport, err := e.transportFor(req)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", e.opts.UserAgent)
	if e.opts.Via != "" {
		req.Header.Set(loop.Header, loop.Via(req.Context(), e.opts.Via))
	}
	req.Header.Set("Accept-Encoding", "identity")
	ctx, cancel := context.WithCancelCause(req.Context())
	started := time.Now()
	resp, err := e.traced(transport, c).RoundTrip(req.WithContext(e.learnReach(ctx, req)))
	event := Event{Registry: e.name, Repository: c.repository, Kind: c.kind, Again: c.again}
	if err != nil {
		cancel(nil)
		event.Duration, event.Err = time.Since(started), err
		e.observe(event)
		return nil, &hostError{req.URL.Host, err}
	}
	event.Status = resp.StatusCode
	b := newBody(ctx, resp.Body, cancel, e.opts.Timeouts)
	b.onClose = func(n int64, err error) {
		event.Bytes, event.Duration, event.Err = n, time.Since(started), err
		e.observe(event)
	}
	resp.Body = b
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		event.RestUntil, err = e.rest(resp.Header.Get("Retry-After"))
		discard(resp)
		return nil, err
	case http.StatusLoopDetected:
		discard(resp)
		return nil, e.looped(req.URL.Host)
	}
	return resp, nil
}

// transportFor picks the connections that a request may use.
func (e *endpoint) transportFor(req *http.Request) (*http.Transport, error) {
	if sameOrigin(req.URL, e.base) || e.tokenRealm != nil && sameOrigin(req.URL, e.tokenRealm) {
		return e.direct, nil
	}
	proxy, err := e.proxy(req)
	if err != nil {
		return nil, fmt.Errorf("the proxy of the environment can't be used: %w", err)
	}
	if proxy == nil {
		return e.guarded, nil
	}
	// A proxy resolves names itself, in a network of its own: what can be judged
	// from here is an address.
	return e.direct, e.permitHost(req.URL.Hostname())
}

func (e *endpoint) observe(event Event) {
	if e.opts.Observe != nil {
		e.opts.Observe(event)
	}
}

// errBusy says that a call would have had to wait that had better not.
var errBusy = errors.New("as many downloads are open as may be")

// acquire waits for the right to hold a body open. A call that had better not wait
// gets errBusy instead.
func (e *endpoint) acquire(ctx context.Context, c call) (release func(), err error) {
	here, err := take(ctx, c.atOnce, e.open, nil)
	if err != nil {
		return nil, fmt.Errorf("waiting for a free download at %s: %w", e.name, err)
	}
	counted, err := take(ctx, c.atOnce, e.first, e.total)
	if err != nil {
		<-here
		return nil, fmt.Errorf("waiting for a free download at %s: %w", e.name, err)
	}
	return sync.OnceFunc(func() {
		<-counted
		<-here
	}), nil
}

// take takes a slot of one of two, the first if it can, and returns whose; nil has none.
func take(ctx context.Context, atOnce bool, a, b chan struct{}) (taken chan struct{}, err error) {
	for _, s := range []chan struct{}{a, b} {
		select {
		case s <- struct{}{}:
			return s, nil
		default:
		}
	}
	if atOnce {
		return nil, errBusy
	}
	select {
	case a <- struct{}{}:
		return a, nil
	case b <- struct{}{}:
		return b, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
