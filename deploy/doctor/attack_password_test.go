package doctor

import (
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// Who writes a node's files says which hosts are asked, and which certificates are
// trusted for that. None of them gets the password of the operator's mirror.
func TestAttack83_PasswordForANodesMirror(t *testing.T) {
	var got []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		got = append(got, password)
	}))
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	elsewhere := server.Listener.Addr().String()
	node := fstest.MapFS{
		"etc/containerd/config.toml": {Data: []byte("version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n")},
		"etc/containerd/certs.d/docker.io/hosts.toml": {Data: []byte(
			"server = \"https://" + elsewhere + "\"\n[host.\"https://" + elsewhere + "\"]\nca = \"/ca.crt\"\n")},
		"etc/ssl/certs/ca-certificates.crt": {Data: ca},
		"etc/hosts":                         {Data: []byte("127.0.0.1 registry-1.docker.io registry.example\n")},
		"ca.crt":                            {Data: ca},
	}
	for name, test := range map[string]struct {
		mirrors  []string
		registry string
		knows    bool
	}{
		"no mirror is named":      {nil, "docker.io", false},
		"it is the mirror":        {[]string{server.URL}, "docker.io", true},
		"a name that leads there": {[]string{"https://mirror.example"}, "registry.example", false},
		"a name that leads home":  {[]string{"https://127.0.0.1"}, "registry.example", true},
		"by DNS":                  {[]string{"https://home.example"}, "registry.example", true},
	} {
		t.Run(name, func(t *testing.T) {
			got = nil
			_, err := Check(t.Context(), Options{
				Node: node, Tag: "doctor", Mirrors: test.mirrors, Registries: []string{test.registry}, Clients: []string{Containerd},
				Asker: led{&HTTP{Username: "me", Password: "secret", Timeout: 10 * time.Second}, elsewhere},
				Lookup: func(_ context.Context, host string) ([]string, error) {
					return map[string][]string{"home.example": {"127.0.0.1"}, "mirror.example": {"192.0.2.1"}}[host], nil
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(got) == 0 || strings.Contains(strings.Join(got, " "), "secret") != test.knows {
				t.Errorf("passwords that it was sent: %q", got)
			}
		})
	}
}

// led asks at the test's server what it would ask at port 443.
type led struct {
	*HTTP
	to string
}

func (l led) Ask(ctx context.Context, q Question) (Answer, error) {
	if strings.HasSuffix(q.Address, ":443") {
		q.Address, q.URL = "", strings.Replace(q.URL, "https://registry.example/", "https://"+l.to+"/", 1)
	}
	return l.HTTP.Ask(ctx, q)
}
