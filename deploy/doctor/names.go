package doctor

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
)

const hostsFileName = "/etc/hosts"

// throughNames takes into account that a registry's own name may lead to the
// mirror (transparent mode): then it does no harm to ask the registry itself.
// A standalone BuildKit usually runs in a container, with a hosts file of its own.
func (c *checker) throughNames(ctx context.Context, f Finding, client, registry string) Finding {
	if f.State != Open || !f.origin || client == BuildKit {
		return f
	}
	host := originOf(registry)
	addresses, line := c.inHosts(host)
	file := hostsFileName
	if len(addresses) == 0 {
		addresses, file = c.resolve(ctx, host), ""
	}
	if len(addresses) == 0 {
		return f
	}
	v, ok := c.names[registry]
	if !ok {
		v = c.askName(ctx, registry, addresses)
		c.names[registry] = v
	}
	leads := Finding{State: v.state, Trap: v.trap, File: file, Line: line,
		Sentence: fmt.Sprintf("The name %s leads to %s. %s", host, strings.Join(addresses, ", "), v.sentence)}
	switch {
	case v.state == Closed:
		return leads
	case v.state == Open && v.trap == NotTheMirror:
		leads.Trap = TransparentElsewhere
	case v.trap == Unreachable:
		leads.Trap = TransparentUnreachable
	}
	leads.Fix = fmt.Sprintf("Run `%s`, which writes the names with the mirror's address, and let the mirror answer there by TLS as %s.", c.command("docker-transparent"), host)
	return leads
}

// askName asks what the registry's name leads to; all addresses have to be the mirror's.
func (c *checker) askName(ctx context.Context, registry string, addresses []string) verdict {
	worst := verdict{state: Closed}
	for _, address := range addresses {
		e := endpoint{scheme: "https", host: originOf(registry), path: "/v2", address: net.JoinHostPort(address, "443")}
		v := c.ask(ctx, e, registry, byHost, trust{})
		if ip := net.ParseIP(address); ip == nil || isPublic(ip) && v.state == Unknown {
			v = verdict{Open, NotTheMirror, "That is an address of the public network, and wasn't seen to refuse."}
		}
		if worst.sentence == "" || v.state.worse(worst.state) != worst.state {
			worst = v
		}
	}
	return worst
}

// resolve asks DNS. Public addresses are the registry's own, and nobody's who
// leads its name elsewhere; they count as none.
func (c *checker) resolve(ctx context.Context, host string) []string {
	if c.Lookup == nil {
		return nil
	}
	addresses, err := c.Lookup(ctx, host)
	if err != nil {
		return nil
	}
	for _, address := range addresses {
		if ip := net.ParseIP(address); ip == nil || isPublic(ip) {
			return nil
		}
	}
	return addresses
}

// isPublic is true for addresses that aren't of the operator's own network.
func isPublic(ip net.IP) bool {
	return !ip.IsLoopback() && !ip.IsPrivate() && !ip.IsLinkLocalUnicast()
}

// inHosts looks a name up in the node's hosts file; the line is the first.
func (c *checker) inHosts(host string) (addresses []string, line int) {
	text, err := c.read(hostsFileName)
	if err != nil {
		return nil, 0
	}
	for i, entry := range bytes.Split(text, []byte("\n")) {
		entry, _, _ = bytes.Cut(entry, []byte("#"))
		fields := strings.Fields(string(entry))
		for _, name := range fields[min(1, len(fields)):] {
			if !strings.EqualFold(strings.TrimSuffix(name, "."), host) {
				continue
			}
			addresses = append(addresses, fields[0])
			if line == 0 {
				line = i + 1
			}
		}
	}
	return addresses, line
}
