package main

import (
	"fmt"
	"net/netip"

	"go.yaml.in/yaml/v4"
)

// Telemetry says how far clients are believed in traces. What is sent, and where,
// the standard OTEL_* variables of the environment say.
type Telemetry struct {
	// TrustedPeers are the addresses of clients whose requests continue their own
	// traces. Default: none; what clients say of traces becomes a link.
	TrustedPeers []netip.Prefix
}

func (d *decoder) telemetry(path string, n *yaml.Node, to *Telemetry) {
	d.mapping(path, n, fields{
		"trusted_peers": func(path string, n *yaml.Node) {
			d.items(path, n, func(path string, n *yaml.Node) {
				if peer, ok := scalarOf(d, path, n, parsePeer); ok {
					to.TrustedPeers = append(to.TrustedPeers, peer)
				}
			})
		},
	})
}

// parsePeer reads a block of addresses, or one address.
func parsePeer(s string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(s); err == nil && address.Zone() == "" && !address.Is4In6() {
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	peer, err := netip.ParsePrefix(s)
	switch {
	case err != nil || peer.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%q is no block of IP addresses; write one such as 10.0.0.0/8, fd00::/8 or 192.0.2.7", s)
	case peer != peer.Masked():
		return netip.Prefix{}, fmt.Errorf("%s has bits beyond its length; write %s", s, peer.Masked())
	}
	return peer, nil
}
