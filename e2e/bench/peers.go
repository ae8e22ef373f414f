package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// The names of those who are compared.
const (
	ours       = "trustmirror"
	proxyPeer  = "distribution"
	filesPeer  = "nginx"
	directPeer = "direct"
)

// server is trustmirror or a peer, run as a process.
type server struct {
	name    string
	url     string // "http://127.0.0.1:5000"
	process *lab.Process
	dir     string // what it stores and logs; emptied by end
}

func (s *server) address() string { return strings.TrimPrefix(s.url, "http://") }

// end stops the server and removes all that it stored, so that nobody after it pays
// for writing that to the disk.
func (s *server) end() error {
	s.process.Stop()
	return errors.Join(os.RemoveAll(s.dir), os.RemoveAll(s.process.LogFile))
}

// mirror is trustmirror as the rows need it.
type mirror struct {
	release string // of layers; trustmirror's default if empty
	storage string // as in the configuration; a folder of its own if empty
	env     []string
}

// newMirror configures trustmirror for images whose digests are pinned, with an empty
// folder to store in.
func (b *bench) newMirror(m mirror, images ...image) (*lab.Mirror, error) {
	digests := map[string]digest.Digest{}
	for _, img := range images {
		digests[img.tag] = img.signed.Top().Digest()
	}
	configured, err := b.lab.NewMirror(b.program, lab.MirrorConfig{
		Upstreams: map[string]string{signedRegistry: b.upstream.shim.URL(), copyRegistry: b.upstream.shim.URL()},
		Rules: []lab.Rule{{
			Signed: signedRegistry + "/" + signedRepository, Copies: []string{copyRegistry + "/" + copyRepository},
			Digests: digests, Release: m.release,
		}},
		Storage: m.storage,
	})
	if err == nil {
		configured.Env = m.env
	}
	return configured, err
}

// startMirror starts trustmirror.
func (b *bench) startMirror(ctx context.Context, m mirror, images ...image) (*server, error) {
	configured, err := b.newMirror(m, images...)
	if err != nil {
		return nil, err
	}
	if err := configured.Start(ctx); err != nil {
		return nil, err
	}
	return &server{ours, configured.URL, configured.Process, filepath.Dir(configured.ConfigFile)}, nil
}

// startProxy starts distribution's registry as a pull-through proxy, configured as its
// own example is.
func (b *bench) startProxy(ctx context.Context) (*server, error) {
	dir, address, err := b.place("distribution")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "config.yml")
	err = os.WriteFile(config, fmt.Appendf(nil, `version: 0.1
storage:
  cache: {blobdescriptor: inmemory}
  filesystem: {rootdirectory: %q}
http: {addr: %q, secret: %q}
proxy: {remoteurl: %q, ttl: 168h}
`, filepath.Join(dir, "data"), address, rand.Text(), b.upstream.shim.URL()), 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(b.registry, "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none") // it would send to port 4318 otherwise
	return b.start(ctx, proxyPeer, dir, address, cmd)
}

// startFiles starts nginx over the files of an image, configured as Debian's is, but
// for what it serves.
func (b *bench) startFiles(ctx context.Context, img image) (*server, error) {
	dir, address, err := b.place("nginx")
	if err != nil {
		return nil, err
	}
	var types strings.Builder // of documents; nginx can't know them
	put := func(path string, blob lab.Blob, document bool) error {
		file := filepath.Join(dir, "www", path)
		if document {
			fmt.Fprintf(&types, "    location = %s { default_type %s; }\n", path, blob.MediaType)
		}
		return errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, blob.Content, 0o644))
	}
	packed := img.signed.Images[0]
	err = errors.Join(
		put("/v2/index.html", lab.Blob{}, false),
		put(lab.ManifestPath(signedRepository, img.tag), img.signed.Top(), true),
		put(lab.ManifestPath(signedRepository, img.signed.Top().Digest().String()), img.signed.Top(), true),
		put(lab.ManifestPath(signedRepository, packed.Manifest.Digest().String()), packed.Manifest, true),
	)
	for _, blob := range append([]lab.Blob{packed.Config}, packed.Layers...) {
		err = errors.Join(err, put(lab.BlobPath(signedRepository, blob.Digest()), blob, false))
	}
	if err != nil {
		return nil, err
	}
	user := ""
	if os.Geteuid() == 0 { // its workers read the same folder, which is nobody else's
		user = "user root;\n"
	}
	config := filepath.Join(dir, "nginx.conf")
	err = os.WriteFile(config, fmt.Appendf(nil, `%sdaemon off;
worker_processes auto;
pid nginx.pid;
error_log error.log;
events { worker_connections 768; }
http {
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000000;
  access_log access.log;
  client_body_temp_path tmp;
  proxy_temp_path tmp;
  fastcgi_temp_path tmp;
  uwsgi_temp_path tmp;
  scgi_temp_path tmp;
  default_type application/octet-stream;
  server {
    listen %s;
    root www;
%s  }
}
`, user, address, types.String()), 0o600)
	if err != nil {
		return nil, err
	}
	return b.start(ctx, filesPeer, dir, address, exec.Command(b.nginx, "-p", dir, "-c", config, "-e", filepath.Join(dir, "error.log")))
}

// place makes a folder and finds an address for a server.
func (b *bench) place(name string) (dir, address string, err error) {
	if dir, err = os.MkdirTemp(b.lab.Dir, name+"-"); err != nil {
		return "", "", err
	}
	address, err = lab.FreeAddress()
	return dir, address, err
}

// start runs a server until it answers.
func (b *bench) start(ctx context.Context, name, dir, address string, cmd *exec.Cmd) (*server, error) {
	process, err := b.lab.Start(name, cmd)
	if err != nil {
		return nil, err
	}
	s := &server{name, "http://" + address, process, dir}
	return s, process.WaitUntil(ctx, answersWell(s.url+"/v2/"))
}

// answersWell returns a check whether a server answers 200.
func answersWell(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s answered %s", address, response.Status)
		}
		return errors.Join(err, response.Body.Close())
	}
}
