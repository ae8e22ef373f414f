package upstream

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/trustmirror/trustmirror/verify"
)

// resolver makes what asks the route's DNS server; nil: the system's is asked.
func (r Route) resolver(timeout time.Duration) (*net.Resolver, error) {
	if r.Address != "" {
		host, port, err := net.SplitHostPort(r.Address)
		if n, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || host == "" || n == 0 {
			return nil, fmt.Errorf("the address %q must be a host and a port: write it as 192.0.2.1:443", r.Address)
		}
	}
	if r.Resolver == "" {
		return nil, nil
	}
	if _, err := netip.ParseAddrPort(r.Resolver); err != nil {
		return nil, fmt.Errorf("the resolver %q must be an IP address and a port: write it as 192.0.2.53:53", r.Resolver)
	}
	dialer := net.Dialer{Timeout: timeout}
	return &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, r.Resolver)
		},
	}, nil
}

// proxy is the environment's, but for a server whose address is given.
func (e *endpoint) proxy(req *http.Request) (*url.URL, error) {
	if e.route.Address != "" && sameOrigin(req.URL, e.base) {
		return nil, nil
	}
	return e.hooks.proxy(req)
}

// looped says that a request came back to this mirror, or to one that asks it.
func (e *endpoint) looped(host string) error {
	return verify.Unavailable(e.unavailable, "%s leads back to this mirror: where it runs, the name %s is the mirror's own, or that of a mirror which asks this one; "+
		"give the server's real address as %[3]s.address, or a DNS server that knows it as %[3]s.resolver", e.name, host, e.setting)
}
