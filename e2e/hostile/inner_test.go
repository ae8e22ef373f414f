package hostile

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
)

// TestAttack23_PublicRegistryLeadsInside puts a registry on the internet, as far
// as trustmirror can tell: it reaches it through the environment's HTTP proxy.
// Whatever address of ours it names, nobody there is asked.
func TestAttack23_PublicRegistryLeadsInside(t *testing.T) {
	s := newSite(t, "inner")
	outside := s.hub
	s.hub = &server{url: "http://registry.public.test"}
	t.Setenv("HTTP_PROXY", outside.url)
	t.Setenv("http_proxy", outside.url)
	t.Setenv("NO_PROXY", "")
	t.Setenv("no_proxy", "")
	m := startMirror(t, s)
	trip := newTripwire(t)

	for _, host := range []string{
		"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0.0.0.0", "127.0.0.1.",
		"10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "169.254.169.254", "[fd00::1]", "[fe80::1]", "[64:ff9b::7f00:1]",
	} {
		address := fmt.Sprintf("http://%s:%s/v2/inside", host, trip.port)
		for name, lie := range map[string]fault{"redirect": at("/manifests/", redirect(address)), "realm": challenge(address)} {
			outside.set(lie)
			err := m.pull(t.Context(), s.signed(), tag, s.release.Hub)
			var refused *refusal
			if !errors.As(err, &refused) || refused.status != http.StatusServiceUnavailable || refused.reason != unavailable {
				t.Errorf("%s to %s: %v", name, address, err)
			}
			for path := range outside.counts() {
				if path == "/v2/inside" {
					t.Errorf("%s to %s: the proxy was asked to go there", name, address)
				}
			}
		}
	}
	trip.untouched(t)
	outside.set(nil)
	m.eventually(t, s.signed(), tag, s.release.Hub)
}
