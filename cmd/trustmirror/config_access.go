package main

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"

	"go.yaml.in/yaml/v4"

	"github.com/trustmirror/trustmirror/proxy"
)

// defaultConnections is how many clients may be connected at once.
const defaultConnections = 10_000

// RateLimit bounds how often one client may ask: one IPv4 address, or one IPv6
// network of 64 bits.
type RateLimit struct {
	// RequestsPerSecond is how many it has in the long run; a pull makes one for
	// each manifest and blob, and one or two more. Required.
	RequestsPerSecond float64
	// Burst is how many it has at once when it was quiet before. Required.
	Burst int
}

// Route says how to get to a server whose name leads elsewhere, as to this mirror
// itself in transparent mode.
type Route struct {
	// Address is host:port to connect to; TLS still insists on the name in the URL.
	// Default: "", what the name resolves to.
	Address string
	// Resolver is the IP:port of a DNS server to ask for this server's name, and for
	// the names that it sends us to. Default: "", the system's.
	Resolver string
}

// route adds the fields of a Route.
func (d *decoder) route(to *Route, others fields) fields {
	others["address"] = scalar(d, &to.Address, parseRemote)
	others["resolver"] = scalar(d, &to.Resolver, parseResolver)
	return others
}

func (d *decoder) rateLimit(to **RateLimit) reader {
	return func(path string, n *yaml.Node) {
		l := &RateLimit{}
		seen := d.mapping(path, n, fields{
			"requests_per_second": scalar(d, &l.RequestsPerSecond, parseRate),
			"burst":               scalar(d, &l.Burst, parseCount),
		})
		d.require(path, seen, "requests_per_second", "requests_per_second: NUMBER, as in 20")
		d.require(path, seen, "burst", "burst: NUMBER, how many requests a client has at once, as in 200")
		*to = l
	}
}

// rateLimit is the limit as the server takes it.
func (l Listen) rateLimit() proxy.RateLimit {
	if l.RateLimit == nil {
		return proxy.RateLimit{}
	}
	return proxy.RateLimit{PerSecond: l.RateLimit.RequestsPerSecond, Burst: l.RateLimit.Burst}
}

func parseRate(s string) (float64, error) {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || !(n > 0) || math.IsInf(n, 0) {
		return 0, fmt.Errorf("%q is no number of requests; write one above 0, as in 20 or 0.5", s)
	}
	return n, nil
}

// parseCount reads a number of things, of which there is at least one.
func parseCount(s string) (int, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q is no such number; write a whole one from 1 up", s)
	}
	return int(n), nil
}

// parseRemote reads the host and port of somebody else's server.
func parseRemote(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || host == "" || n == 0 {
		return "", fmt.Errorf("%q is no address of a server; write host and port, as in 192.0.2.1:443", s)
	}
	return s, nil
}

func parseResolver(s string) (string, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Port() == 0 {
		return "", fmt.Errorf("%q is no address of a DNS server; write its IP address and port, as in 192.0.2.53:53", s)
	}
	return s, nil
}
