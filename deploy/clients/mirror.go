package clients

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Mirror is what clients are told of.
type Mirror struct {
	// Registries are those that the mirror stands for, by their canonical names:
	// docker.io, public.ecr.aws, registry.example:5000. Required.
	Registries []string
	// URL is where the clients reach the mirror: http or https, host, and a port if it
	// isn't the usual one; no path. Required.
	URL string
	// CA are the certificates, in PEM, of the authority that issued the mirror's. The
	// client gets a copy. Default: nil, one that the client's machine trusts already.
	CA []byte
	// Addresses are the mirror's IP addresses. Default: the host of URL, if that is one.
	// Needed by docker-transparent and for egress rules.
	Addresses []netip.Addr
	// Egress adds egress rules for a client that fails closed without them, too.
	Egress bool
}

// egress tells whether a plan has egress rules: those clients don't fail closed by
// their configuration, or not in every version.
func (m Mirror) egress(kind string) bool {
	return m.Egress || slices.Contains([]string{"docker", "k3s", "buildkit"}, kind)
}

// check finds mistakes.
func (m Mirror) check(kind string) error {
	u, err := parseURL(m.URL)
	if err != nil {
		return err
	}
	if len(m.Registries) == 0 {
		return errors.New("no registry is configured; add an image to the configuration")
	}
	for _, n := range named(m.Registries) {
		if n.Name == strings.ToLower(u.Host) {
			return fmt.Errorf("%s is a registry that the mirror stands for, not the mirror; write the mirror's own name, or its address", m.URL)
		}
	}
	if err := m.checkCA(u); err != nil {
		return err
	}
	if kind == "docker-transparent" && (u.Scheme != "https" || portOf(u) != 443) {
		return fmt.Errorf("%s: clients ask a registry at port 443, by https, so the mirror has to answer there; "+
			"write https://%s", m.URL, u.Hostname())
	}
	if (kind == "docker-transparent" || m.egress(kind)) && len(m.addresses()) == 0 {
		what := "egress rules are written"
		if kind == "docker-transparent" {
			what = "names are led"
		}
		return fmt.Errorf("%s is a name, and %s to IP addresses; add the mirror's with --address", u.Hostname(), what)
	}
	return nil
}

// checkCA finds mistakes in the CA.
func (m Mirror) checkCA(u *url.URL) error {
	if m.CA == nil {
		return nil
	}
	if u.Scheme != "https" {
		return fmt.Errorf("%s has no certificate for a CA to vouch for; write https://, or leave the CA out", m.URL)
	}
	found := false
	for rest := m.CA; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("the CA file holds a %s besides certificates; every client gets a copy of it, so leave only certificates in it", block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("the CA file holds a certificate that can't be read: %w", err)
		}
		found = true
	}
	if !found {
		return errors.New("the CA file holds no certificate; it has to be PEM, with -----BEGIN CERTIFICATE-----")
	}
	return nil
}

// nameForm is the form of host names; what is in files needs no quoting then.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)

// parseURL reads a mirror's URL.
func parseURL(text string) (*url.URL, error) {
	const example = "as in https://mirror.example or http://127.0.0.1:5000"
	u, err := url.Parse(text)
	switch {
	case text == "":
		return nil, fmt.Errorf("the mirror is missing; write where clients reach it with --mirror, %s", example)
	case !strings.Contains(text, "://"):
		return nil, fmt.Errorf("%q says neither http nor https; write the mirror %s", text, example)
	case err != nil:
		return nil, fmt.Errorf("%q is no URL; write the mirror %s", text, example)
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("clients don't speak %s; write the mirror %s", u.Scheme, example)
	case u.User != nil:
		return nil, errors.New("the mirror's URL holds a user; leave that to the client's own login")
	case u.Path != "" || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(text, "?") || strings.HasSuffix(text, "#"):
		return nil, fmt.Errorf("%q has something after the host; the mirror answers at the top only: write %s://%s", text, u.Scheme, u.Host)
	}
	if address, err := netip.ParseAddr(u.Hostname()); address.Zone() != "" || err != nil && !nameForm.MatchString(u.Hostname()) {
		return nil, fmt.Errorf("%q is no host; write the mirror %s", u.Host, example)
	}
	if strings.HasSuffix(u.Host, ":") || u.Port() != "" && (portOf(u) < 1 || portOf(u) > 65535) {
		return nil, fmt.Errorf("%q has no port from 1 to 65535; write the mirror %s", u.Host, example)
	}
	return u, nil
}

// portOf is the port that a URL leads to, or 0.
func portOf(u *url.URL) int {
	switch {
	case u.Port() != "":
		port, err := strconv.Atoi(u.Port())
		if err != nil {
			return 0
		}
		return port
	case u.Scheme == "https":
		return 443
	}
	return 80
}

// addresses are the mirror's, given or in its URL.
func (m Mirror) addresses() []netip.Addr {
	if len(m.Addresses) > 0 {
		return m.Addresses
	}
	if u, err := url.Parse(m.URL); err == nil {
		if address, err := netip.ParseAddr(u.Hostname()); err == nil {
			return []netip.Addr{address}
		}
	}
	return nil
}

// name is one by which a registry is known.
type name struct {
	Name     string // "docker.io", "index.docker.io", "registry.example:5000"
	Registry string // the canonical one: "docker.io", "registry.example:5000"
	Host     string // what a client connects to, without the port; "" if it never does, or has an address for it
}

// named are all names of the registries: Docker Hub answers under several.
func named(registries []string) []name {
	var all []name
	for _, registry := range registries {
		if registry == "docker.io" {
			all = append(all, name{Name: "docker.io", Registry: registry})
			for _, alias := range []string{"registry-1.docker.io", "index.docker.io", "registry.hub.docker.com"} {
				all = append(all, name{Name: alias, Registry: registry, Host: alias})
			}
			continue
		}
		n := name{Name: registry, Registry: registry}
		if host, _ := split(registry); !isAddress(host) {
			n.Host = host
		}
		all = append(all, n)
	}
	return all
}

// split parts a registry's name from its port, which may be "".
func split(registry string) (host, port string) {
	if host, port, err := net.SplitHostPort(registry); err == nil {
		return host, port
	}
	return registry, ""
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// data is what the templates are filled with.
type data struct {
	Kind       string
	URL        string   // "https://mirror.example:5000"
	Host       string   // "mirror.example:5000", without a port if the URL has none
	Name       string   // "mirror.example"
	Port       int      // the URL's or the scheme's
	Plain      bool     // http
	IsAddress  bool     // Name is an IP address
	CA         []byte   // nil if the machine trusts the mirror already
	CAFile     string   // where CA is on the client's machine
	Registries []string // canonical names
	Named      []name
	Hosts      []string // of Named, those that clients connect to
	Addressed  []string // of Registries, those without a name
	Ported     []string // of Registries, those with a port of their own
	Registry   string   // the name that a hosts.toml is for
	Ports      []string // where registries answer: 80, 443 and their own

	Addresses, Addresses4, Addresses6 []netip.Addr
	Prefixes                          []netip.Prefix
	AddressRecord                     string // in a zone: "A 192.0.2.1"

	EgressNFT, NetworkPolicy, CiliumPolicy string
}

// data fills what check has found right.
func (m Mirror) data(kind string) data {
	d := data{
		Kind: kind, CA: bytes.Clone(m.CA), Registries: m.Registries, Named: named(m.Registries), Addresses: m.addresses(),
		Ports: []string{"80", "443"}, EgressNFT: egressNFT, NetworkPolicy: networkPolicy, CiliumPolicy: ciliumPolicy,
	}
	if u, err := parseURL(m.URL); err == nil {
		d.Host, d.Name, d.Port, d.Plain = strings.ToLower(u.Host), strings.ToLower(u.Hostname()), portOf(u), u.Scheme == "http"
		d.URL = u.Scheme + "://" + d.Host
	}
	d.IsAddress = isAddress(d.Name)
	for _, a := range d.Addresses {
		d.Prefixes = append(d.Prefixes, netip.PrefixFrom(a, a.BitLen()))
		if a.Is4() {
			d.Addresses4 = append(d.Addresses4, a)
		} else {
			d.Addresses6 = append(d.Addresses6, a)
		}
	}
	switch {
	case len(d.Addresses4) > 0:
		d.AddressRecord = "A " + d.Addresses4[0].String()
	case len(d.Addresses6) > 0:
		d.AddressRecord = "AAAA " + d.Addresses6[0].String()
	}
	for _, n := range d.Named {
		if n.Host != "" && !slices.Contains(d.Hosts, n.Host) {
			d.Hosts = append(d.Hosts, n.Host)
		}
	}
	for _, registry := range m.Registries {
		host, port := split(registry)
		if port != "" && !slices.Contains(d.Ports, port) {
			d.Ports = append(d.Ports, port)
		}
		if isAddress(host) {
			d.Addressed = append(d.Addressed, registry)
		} else if port != "" {
			d.Ported = append(d.Ported, registry)
		}
	}
	return d
}
