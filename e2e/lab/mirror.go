package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/opencontainers/go-digest"
)

// BuildMirror builds trustmirror from the tree that this module is in, with Go's
// build tags if there are any, and returns the path of the program in dir.
func BuildMirror(ctx context.Context, dir string, tags ...string) (string, error) {
	out, err := Run(ctx, nil, "go", "env", "GOMOD")
	if err != nil {
		return "", err
	}
	root := filepath.Dir(filepath.Dir(strings.TrimSpace(string(out))))
	program := filepath.Join(dir, "trustmirror")
	_, err = Run(ctx, nil, "go", "build", "-C", root, "-tags", strings.Join(tags, ","), "-o", program, "./cmd/trustmirror")
	return program, err
}

// MirrorConfig is what the lab needs of trustmirror's configuration.
type MirrorConfig struct {
	Address string // where clients are served; a free loopback address if empty
	// Names are the host names of the TLS certificate; without names, plain http.
	Names []string
	// Upstreams gives the URL of each registry; those that no rule names are left out.
	Upstreams map[string]string
	Addresses map[string]string // where connections to a registry go, if not where its URL's name leads
	Rules     []Rule
	ClientCA  string        // file with the authority of clients' certificates; none if empty
	HTPasswd  string        // file with users; nobody is asked for a password if empty
	Refresh   time.Duration // how often the notary server is asked for news; 0: trustmirror's default
	Storage   string        // "s3: {…}"; a folder of the mirror's own if empty
}

// Rule is one image rule of the configuration.
type Rule struct {
	Signed    string   // "docker.io/nicolas/webdis"
	Copies    []string // "public.ecr.aws/nicolas/webdis"
	Notary    string   // the notary server's URL
	Pins      Pins
	Digests   map[string]digest.Digest // of tags, pinned by hand, in place of a notary server
	RoleOrder []string
	Release   string // "streaming"; trustmirror's default if empty
}

// Mirror is trustmirror, run as a process with a configuration file.
type Mirror struct {
	URL        string // "http://127.0.0.1:5000"
	Address    string // "127.0.0.1:5000"
	AdminURL   string // "http://127.0.0.1:5001": the status page
	ConfigFile string
	Env        []string // of the program, besides the lab's: "NAME=value"
	Process    *Process

	lab     *Lab
	program string
	client  *http.Client
	ready   string // the URL that answers when it serves
}

// NewMirror writes a configuration with an empty storage folder of its own, for
// program, which BuildMirror made. Start starts it.
func (l *Lab) NewMirror(program string, config MirrorConfig) (*Mirror, error) {
	dir, err := l.folder("mirror")
	if err != nil {
		return nil, err
	}
	if config.Address == "" {
		if config.Address, err = FreeAddress(); err != nil {
			return nil, err
		}
	}
	admin, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	values := struct {
		MirrorConfig
		Admin, Certificate, Key, Data, CA string
	}{MirrorConfig: config.withoutUnused(), Admin: admin, Data: filepath.Join(dir, "data"), CA: l.CA.Path}

	m := &Mirror{
		lab: l, program: program, Address: config.Address, URL: "http://" + config.Address, AdminURL: "http://" + admin, client: http.DefaultClient,
	}
	if len(config.Names) > 0 {
		if values.Certificate, values.Key, err = l.MirrorCA.IssueFor(mirrorCertificate, config.Names...); err != nil {
			return nil, err
		}
		if m.client, err = l.Client(config.Names[0]); err != nil {
			return nil, err
		}
		m.URL = "https://" + config.Address
	}
	m.ready = m.URL + "/v2/"
	if config.ClientCA != "" { // which the lab has no certificate from
		m.ready = m.AdminURL + "/healthz"
	}
	m.ConfigFile = filepath.Join(dir, "config.yaml")
	file, err := os.Create(m.ConfigFile)
	if err != nil {
		return nil, err
	}
	return m, errors.Join(configTemplate().Execute(file, values), file.Close())
}

// withoutUnused leaves out upstreams that no rule names: trustmirror takes them
// for misspelt.
func (c MirrorConfig) withoutUnused() MirrorConfig {
	used := map[string]string{}
	for _, rule := range c.Rules {
		for _, name := range append([]string{rule.Signed}, rule.Copies...) {
			registry, _, _ := strings.Cut(name, "/")
			if address, ok := c.Upstreams[registry]; ok {
				used[registry] = address
			}
		}
	}
	c.Upstreams = used
	return c
}

// Client returns one that trusts mirrors, and expects them to be called name, whatever
// address it asks.
func (l *Lab) Client(name string) (*http.Client, error) {
	pem, err := os.ReadFile(l.MirrorCA.Path)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12},
	}}, nil
}

// mirrorCertificate is for how long mirrors' certificates are valid: also for one whose
// clock is years ahead.
const mirrorCertificate = 10 * 365 * 24 * time.Hour

// Start runs "trustmirror serve", in the configuration's folder, until it answers.
func (m *Mirror) Start(ctx context.Context) error {
	cmd := exec.Command(m.program, "serve", "-c", m.ConfigFile)
	cmd.Dir, cmd.Env = filepath.Dir(m.ConfigFile), append(os.Environ(), m.Env...)
	var err error
	if m.Process, err = m.lab.Start("trustmirror", cmd); err != nil {
		return err
	}
	return m.Process.WaitUntil(ctx, answers(m.client, m.ready))
}

// Run runs another subcommand of trustmirror with the same configuration, and
// returns its output, and its exit status even where that isn't 0.
func (m *Mirror) Run(ctx context.Context, subcommand string, args ...string) (output string, status int, err error) {
	args = append([]string{subcommand, "-c", m.ConfigFile}, args...)
	out, err := Run(ctx, m.Env, m.program, args...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(out), exit.ExitCode(), err
	}
	return string(out), 0, err
}

// CommandLine is what to type for the same.
func (m *Mirror) CommandLine(subcommand string, args ...string) string {
	return strings.Join(append([]string{m.program, subcommand, "-c", m.ConfigFile}, args...), " ")
}

func list(items []string) string { return strings.Join(items, ", ") }

func configTemplate() *template.Template {
	return template.Must(template.New("config.yaml").Funcs(template.FuncMap{"list": list}).Parse(`listen:
  address: "{{.Address}}"
{{- if .Certificate}}
  tls: {certificate: "{{.Certificate}}", key: "{{.Key}}"{{if .ClientCA}}, client_ca: "{{.ClientCA}}"{{end}}}
{{- end}}
{{- if .HTPasswd}}
  htpasswd: "{{.HTPasswd}}"
{{- end}}
admin:
  address: "{{.Admin}}"
storage:
  {{with .Storage}}{{.}}{{else}}filesystem: {rootdirectory: "{{.Data}}"}{{end}}
upstreams:
{{- range $registry, $url := .Upstreams}}
  {{$registry}}: {url: "{{$url}}"{{with index $.Addresses $registry}}, address: "{{.}}"{{end}}}
{{- end}}
images:
{{- range .Rules}}
  - signed: {{.Signed}}
{{- if .Copies}}
    copies: [{{list .Copies}}]
{{- end}}
{{- if .RoleOrder}}
    role_order: [{{list .RoleOrder}}]
{{- end}}
{{- if .Release}}
    release: {{.Release}}
{{- end}}
    trust:
{{- if .Digests}}
      digests:
{{- range $tag, $digest := .Digests}}
        "{{$tag}}": {{$digest}}
{{- end}}
{{- else}}
      notary:
        url: "{{.Notary}}"
        ca: "{{$.CA}}"
{{- if $.Refresh}}
        refresh: {{$.Refresh}}
{{- end}}
        root_keys: [{{list .Pins.Root}}]
        repository_keys: [{{list .Pins.Repository}}]
{{- if .Pins.Signers}}
        signers:
{{- range $name, $ids := .Pins.Signers}}
          {{$name}}: [{{list $ids}}]
{{- end}}
{{- end}}
{{- end}}
{{- end}}
`))
}
