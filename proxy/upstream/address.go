package upstream

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
)

// reach is how far inside the network an address lies. A server may lead to
// addresses as far inside as its own, and no further: else whoever controls a
// public registry could make trustmirror ask services that only it can reach.
type reach int32

const (
	publicReach    reach = iota
	privateReach         // RFC 1918, RFC 4193, RFC 6598, and what networks use for themselves
	loopbackReach        // RFC 1122, section 3.2.1.3
	forbiddenReach       // link-local (where clouds keep credentials), unspecified, multicast, reserved
)

func (r reach) String() string {
	switch r {
	case publicReach:
		return "a public address"
	case privateReach:
		return "a private address"
	case loopbackReach:
		return "a loopback address"
	default:
		return "a link-local or reserved address"
	}
}

// The address blocks that netip doesn't tell apart.
const (
	sharedSpace = "100.64.0.0/10"  // RFC 6598
	thisNetwork = "0.0.0.0/8"      // RFC 1122
	protocols   = "192.0.0.0/24"   // RFC 6890
	benchmarks  = "198.18.0.0/15"  // RFC 2544
	reserved    = "240.0.0.0/4"    // RFC 1112
	siteLocal   = "fec0::/10"      // RFC 3879
	localNAT64  = "64:ff9b:1::/48" // RFC 8215
	sixToFour   = "2002::/16"      // RFC 3056: an IPv4 address follows
)

// endsInIPv4 tells whether an IPv6 address means the IPv4 address that it ends in:
// RFC 6052, RFC 2765, RFC 4291 section 2.5.5.1.
func endsInIPv4(a netip.Addr) bool {
	return within(a, "64:ff9b::/96") || within(a, "::ffff:0:0:0/96") ||
		within(a, "::/96") && !a.IsUnspecified() && !a.IsLoopback()
}

func within(a netip.Addr, block string) bool { return netip.MustParsePrefix(block).Contains(a) }

// reachOf classifies an address; of one that carries an IPv4 address, that one.
func reachOf(a netip.Addr) reach {
	a = a.WithZone("").Unmap()
	switch {
	case endsInIPv4(a):
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:16]))
	case within(a, sixToFour):
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[2:6]))
	}
	switch {
	case a.IsLoopback():
		return loopbackReach
	case !a.IsValid(), a.IsUnspecified(), a.IsMulticast(), a.IsLinkLocalUnicast(), within(a, thisNetwork), within(a, protocols), within(a, reserved):
		return forbiddenReach
	case a.IsPrivate(), within(a, sharedSpace), within(a, benchmarks), within(a, siteLocal), within(a, localNAT64):
		return privateReach
	}
	return publicReach
}

// refusedError says that the server sent us somewhere we don't go.
type refusedError struct{ detail string }

func (e *refusedError) Error() string { return e.detail }

// permit refuses addresses further inside than the endpoint's own.
func (e *endpoint) permit(a netip.AddrPort) error {
	own, r := reach(e.reach.Load()), e.hooks.classify(a)
	if r == forbiddenReach || r > own {
		return &refusedError{fmt.Sprintf("%s sends us to %s, %s, which is not followed from %s", e.name, a.Addr(), r, own)}
	}
	return nil
}

// dialDirect connects to where the operator said.
func (e *endpoint) dialDirect(ctx context.Context, network, addr string) (net.Conn, error) {
	if addr == hostPort(e.base) && e.route.Address != "" {
		addr = e.route.Address
	}
	return e.dial(ctx, network, addr, nil)
}

// learnReach remembers how far inside the endpoint itself lies, by the connection
// that a request to it uses: one that stands, with TLS where there is any. Else
// whoever answers for its name in DNS could make it seem further inside.
func (e *endpoint) learnReach(ctx context.Context, req *http.Request) context.Context {
	if proxy, err := e.proxy(req); err != nil || proxy != nil || !sameOrigin(req.URL, e.base) {
		return ctx
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if a, err := netip.ParseAddrPort(info.Conn.RemoteAddr().String()); err == nil {
			e.reach.Store(int32(e.hooks.classify(a)))
		}
	}})
}

// dialGuarded connects to where the server said. The check is on the address
// itself, after its name was resolved and before anything is sent.
func (e *endpoint) dialGuarded(ctx context.Context, network, addr string) (net.Conn, error) {
	return e.dial(ctx, network, addr, func(_, address string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			return &refusedError{fmt.Sprintf("%s sends us to %q, which is no IP address", e.name, address)}
		}
		return e.permit(a)
	})
}

func (e *endpoint) dial(ctx context.Context, network, addr string, control func(string, string, syscall.RawConn) error) (net.Conn, error) {
	if e.hooks.dial != nil {
		return e.hooks.dial(ctx, network, addr)
	}
	d := net.Dialer{Timeout: e.opts.Timeouts.Dial, Control: control, Resolver: e.resolver}
	return d.DialContext(ctx, network, addr)
}

// sameOrigin tells whether two URLs have scheme, host and port in common
// (RFC 6454, section 5).
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && hostPort(a) == hostPort(b)
}

// hostPort is a URL's host in lower case with its port, as it is dialled.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// isLoopbackHost tells whether a host is loopback by its name alone
// (RFC 6761, section 6.3, for localhost).
func isLoopbackHost(host string) bool {
	a, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && reachOf(a) == loopbackReach
}

// mayCarryCredentials tells whether secrets may be sent to a URL.
func mayCarryCredentials(u *url.URL) bool {
	return u.Scheme == "https" || isLoopbackHost(u.Hostname())
}

// permitHost refuses a host that is an address further inside than the
// endpoint's own, or one in disguise: some resolvers take "2130706433",
// "0x7f.1" and "127.1" for IPv4 addresses.
func (e *endpoint) permitHost(host string) error {
	if a, err := netip.ParseAddr(host); err == nil {
		return e.permit(netip.AddrPortFrom(a, 0))
	}
	host = strings.TrimSuffix(host, ".")
	if _, err := strconv.ParseUint(host[strings.LastIndexByte(host, '.')+1:], 0, 64); err == nil {
		return &refusedError{fmt.Sprintf("%s sends us to %q, which is an address in disguise", e.name, host)}
	}
	return nil
}
