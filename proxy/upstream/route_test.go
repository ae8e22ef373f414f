package upstream

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/trustmirror/trustmirror/proxy/loop"
	"github.com/trustmirror/trustmirror/verify"
)

// dnsServer leads every name to 127.0.0.1.
func dnsServer(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buffer := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buffer[:n]) != nil {
				continue
			}
			m.Response, m.Additionals = true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60},
					Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
				}}
			}
			if packed, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(packed, from)
			}
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-ended
	})
	return conn.LocalAddr().String()
}

func aManifest(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
	_, _ = io.WriteString(w, `{"schemaVersion":2}`)
}

const manifestOf = "/v2/nicolas/webdis/manifests/0.1.19"

// The address is dialled whatever the name resolves to, and TLS holds it to the
// name: that of the URL.
func TestAddress(t *testing.T) {
	s := serveTLS(t, script{manifestOf: aManifest})
	for name, test := range map[string]struct{ url, says string }{
		"its name":     {"https://example.com", ""},
		"another name": {"https://registry.invalid", "is for another host"},
	} {
		t.Run(name, func(t *testing.T) {
			config := Config{Registries: map[string]Registry{"hub.example": {URL: test.url, CAFile: s.caFile(t), Route: Route{Address: s.host()}}}}
			c := client(t, config, func(h *hooks) {
				h.proxy = func(*http.Request) (*url.URL, error) { return url.Parse("http://" + unusedAddress(t)) } // not used
			})
			err := manifest(t, c)
			if test.says == "" {
				must(t, err)
				return
			}
			wantReason(t, err, verify.UpstreamUnavailable, test.says)
		})
	}
}

// The resolver is asked for the server's name, and for where it redirects to.
func TestResolver(t *testing.T) {
	content := "a layer"
	ref, path := blobRef(t, content)
	var port string
	s := serve(t, script{
		"/cdn": answer(200, content),
		path: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://cdn.invalid:"+port+"/cdn", http.StatusTemporaryRedirect)
		},
	})
	_, port, err := net.SplitHostPort(s.host())
	must(t, err)
	c := client(t, Config{Registries: map[string]Registry{"hub.example": {URL: "http://registry.invalid:" + port, Route: Route{Resolver: dnsServer(t)}}}})
	got, err := readBlob(t, c, ref)
	must(t, err)
	if got != content {
		t.Errorf("got %q", got)
	}
	c = client(t, Config{Registries: map[string]Registry{"hub.example": {URL: "http://registry.invalid:" + port}}})
	if _, err := readBlob(t, c, ref); err == nil {
		t.Error("the name is known without the resolver")
	}
}

func TestRouteMistakes(t *testing.T) {
	for _, r := range []Route{{Address: "192.0.2.1"}, {Address: ":443"}, {Address: "a:0"}, {Resolver: "dns.example:53"}, {Resolver: "192.0.2.1"}} {
		if _, err := New(Config{Registries: map[string]Registry{"docker.io": {Route: r}}}); err == nil || !strings.Contains(err.Error(), "write it as") {
			t.Errorf("%+v: %v", r, err)
		}
		if _, err := NewNotary(NotaryConfig{URL: "https://notary.example", Route: r}); err == nil {
			t.Errorf("%+v is accepted for a notary", r)
		}
	}
}

// Every request says through which mirrors it came, and one that comes back isn't
// sent again.
func TestLoop(t *testing.T) {
	s := serve(t, script{manifestOf: answer(508, "")})
	config := at(s)
	config.Via = loop.NewID()
	c := client(t, config)
	err := manifest(t, c)
	wantReason(t, err, verify.UpstreamUnavailable, "hub.example leads back to this mirror")
	wantReason(t, err, verify.UpstreamUnavailable, "upstreams.hub.example.address")
	s.wantAsked(t, "GET /v2/", "GET "+manifestOf)

	other := loop.NewID()
	ctx, err := loop.Check(t.Context(), config.Via, []string{other})
	must(t, err)
	_, _, _ = c.Manifest(ctx, image(t, "0.1.19"))
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, want := range []string{config.Via, config.Via, other + ", " + config.Via} {
		if got := s.headers[i].Get(loop.Header); got != want {
			t.Errorf("request %d has %q, want %q", i, got, want)
		}
	}
}
