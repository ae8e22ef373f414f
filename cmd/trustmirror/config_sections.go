package main

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/trustmirror/trustmirror/verify"
)

// config reads the whole file.
func (d *decoder) config(n *yaml.Node, c *Config) {
	var images []string // their paths, in the order of c.Images
	seen := d.mapping("", n, fields{
		"listen": func(path string, n *yaml.Node) { d.listen(path, n, &c.Listen) },
		"admin": func(path string, n *yaml.Node) {
			d.mapping(path, n, fields{"address": scalar(d, &c.Admin.Address, parseAddress)})
		},
		"default_registry": scalar(d, &c.DefaultRegistry, parseRegistry),
		"storage":          func(path string, n *yaml.Node) { d.storage(path, n, &c.Storage) },
		"decisions":        func(path string, n *yaml.Node) { d.decisions(path, n, &c.Decisions) },
		"telemetry":        func(path string, n *yaml.Node) { d.telemetry(path, n, &c.Telemetry) },
		"upstreams":        func(path string, n *yaml.Node) { d.upstreams(path, n, c.Upstreams) },
		"images": func(path string, n *yaml.Node) {
			d.items(path, n, func(path string, n *yaml.Node) {
				c.Images = append(c.Images, d.image(path, n))
				images = append(images, path)
			})
		},
	})
	d.require("", seen, "images", "a list of what may be served, as in config.example.yaml; nothing else ever is")
	if len(d.mistakes) > 0 {
		return // what follows compares values with one another, which has to wait until each is right
	}
	if c.Listen.Address == c.Admin.Address && !strings.HasSuffix(c.Admin.Address, ":0") {
		path := "admin.address"
		if _, written := d.lines[path]; !written {
			path = "listen.address"
		}
		d.blame(path, "clients and operators can't both be served at %s; choose another port for one of them (listen.address, admin.address)", c.Admin.Address)
	}
	d.names(c, images)
	d.rules(c, images)
	d.unusedUpstreams(c)
	for i, image := range c.Images {
		if image.Streaming && c.Storage.Driver != driverFilesystem {
			d.blame(images[i]+".release", "streaming reads what is being stored, which only files allow; write verified, or use storage.filesystem")
		}
	}
}

// blame adds a mistake of the value at path.
func (d *decoder) blame(path, format string, args ...any) {
	d.mistakes = append(d.mistakes, d.mistake(path, "%s: %s", path, fmt.Sprintf(format, args...)))
}

func (d *decoder) listen(path string, n *yaml.Node, to *Listen) {
	d.mapping(path, n, fields{
		"address":  scalar(d, &to.Address, parseAddress),
		"htpasswd": scalar(d, &to.HTPasswd, parseHTPasswd),

		"rate_limit":      d.rateLimit(&to.RateLimit),
		"max_connections": scalar(d, &to.MaxConnections, parseCount),
		"tls": func(path string, n *yaml.Node) {
			to.TLS = &TLS{}
			d.tls(path, n, to.TLS)
		},
	})
}

// tls reads one certificate with its key, or a list of them.
func (d *decoder) tls(path string, n *yaml.Node, to *TLS) {
	var one KeyPair
	pair := d.keyPair(&one)
	pair["client_ca"] = scalar(d, &to.ClientCA, parseCAFile)
	pair["certificates"] = func(path string, n *yaml.Node) {
		d.items(path, n, func(path string, n *yaml.Node) {
			var p KeyPair
			d.wholePair(path, d.mapping(path, n, d.keyPair(&p)), p)
			to.Certificates = append(to.Certificates, p)
		})
	}
	seen := d.mapping(path, n, pair)
	switch {
	case !slices.Contains(seen, "certificates"):
		d.wholePair(path, seen, one)
		to.Certificates = []KeyPair{one}
	case one != KeyPair{}:
		d.blame(path, "there is a certificate or a key besides certificates; move it into that list, as {certificate: FILE, key: FILE}")
	}
}

func (d *decoder) keyPair(to *KeyPair) fields {
	return fields{"certificate": scalar(d, &to.Certificate, parseFile), "key": scalar(d, &to.Key, parseFile)}
}

// wholePair insists on a certificate that is in date, with its own key.
func (d *decoder) wholePair(path string, seen []string, p KeyPair) {
	d.require(path, seen, "certificate", "certificate: FILE, the server's certificate in PEM form")
	d.require(path, seen, "key", "key: FILE, the certificate's private key in PEM form")
	if p.Certificate == "" || p.Key == "" {
		return // said already
	}
	if _, err := p.load(); err != nil {
		d.blame(path, "%v", err)
	}
}

func (d *decoder) storage(path string, n *yaml.Node, to *Storage) {
	var drivers []string
	chosen := func(name string) {
		drivers = append(drivers, name)
		to.Driver = name
	}
	driver := func(name string, parameters fields) reader {
		return func(path string, n *yaml.Node) {
			chosen(name)
			if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
				return // "inmemory:" is the driver without parameters
			}
			d.mapping(path, n, parameters)
		}
	}
	d.mapping(path, n, fields{
		driverFilesystem: driver(driverFilesystem, fields{
			"rootdirectory": scalar(d, &to.RootDirectory, parseText),
			"maxthreads":    scalar(d, &to.MaxThreads, parseThreads),
		}),
		driverInmemory: driver(driverInmemory, fields{}),
		"scrub":        scalar(d, &to.Scrub, parseScrub),
		driverS3: func(path string, n *yaml.Node) {
			chosen(driverS3)
			d.s3(path, n, &to.S3)
		},
		"max_size": scalar(d, &to.MaxSize, parseMaxSize),
	})
	switch {
	case to.MaxSize > 0 && to.Driver == driverS3:
		d.blame(path+".max_size", "nothing is evicted from a bucket, since several mirrors may rely on it; remove the field, and give the bucket a lifecycle rule for what is below content/")
	case to.MaxSize > 0 && to.Driver == driverInmemory:
		d.blame(path+".max_size", "nothing is evicted from memory, where storage is for trying out; remove the field, or use filesystem")
	}
	if len(drivers) > 1 {
		d.blame(path+"."+drivers[1], "storage has one driver, and %s is there already; keep one of the two", drivers[0])
	}
}

func (d *decoder) upstreams(path string, n *yaml.Node, to map[string]Upstream) {
	d.entries(path, n, func(name string, key, value *yaml.Node) {
		registry, err := parseRegistry(name)
		switch _, repeated := to[registry]; {
		case err != nil:
			d.wrong(key, "%s: %v", path, err)
			return
		case repeated:
			d.wrong(key, "%s: %s and a name above mean the same registry, %s; keep one", path, name, registry)
			return
		case registry != name:
			d.lines[join(path, registry)] = key.Line
		}
		to[registry] = d.upstream(join(path, name), value)
	})
}

func (d *decoder) upstream(path string, n *yaml.Node) Upstream {
	var u Upstream
	d.mapping(path, n, d.route(&u.Route, fields{
		"url":         scalar(d, &u.URL, parseURL),
		"credentials": d.credentials(&u.Credentials),
		"token_realm": scalar(d, &u.TokenRealm, parseRealm),
		"ca":          scalar(d, &u.CA, parseCAFile),
	}))
	d.secrecy(path, u.URL, u.Credentials)
	d.realm(path, u.URL, u.TokenRealm)
	return u
}

func (d *decoder) credentials(to **Credentials) reader {
	return func(path string, n *yaml.Node) {
		c := &Credentials{}
		seen := d.mapping(path, n, fields{
			"username":      scalar(d, &c.Username, parseUsername),
			"password_file": scalar(d, &c.PasswordFile, parsePasswordFile),
		})
		d.require(path, seen, "username", "username: NAME")
		d.require(path, seen, "password_file", "password_file: FILE, a file that holds the password alone")
		*to = c
	}
}

// secrecy keeps credentials off the network in the clear.
func (d *decoder) secrecy(path, address string, c *Credentials) {
	if u, err := url.Parse(address); err == nil && c != nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
		d.blame(path+".credentials", "the password would cross the network in the clear to %s; write https in the url, or remove the credentials", u.Host)
	}
}

// realm refuses a token realm that is less protected than what the token is for.
func (d *decoder) realm(path, address, realm string) {
	if strings.HasPrefix(realm, "http:") && !strings.HasPrefix(address, "http:") {
		d.blame(path+".token_realm", "tokens would cross the network in the clear; write https://%s", strings.TrimPrefix(realm, "http://"))
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// unusedUpstreams finds registries that nothing is ever fetched from, which are
// misspelt more often than not.
func (d *decoder) unusedUpstreams(c *Config) {
	var named []string
	for _, image := range c.Images {
		for _, name := range append([]string{image.Signed}, image.Copies...) {
			registry, _, _ := strings.Cut(name, "/")
			named = append(named, registry)
		}
	}
	slices.Sort(named)
	named = slices.Compact(named)
	for registry := range c.Upstreams {
		if !slices.Contains(named, registry) {
			d.blame("upstreams."+registry, "no image is on %s; the images are on %s", registry, strings.Join(named, ", "))
		}
	}
}

// names finds repositories that are named twice.
func (d *decoder) names(c *Config, images []string) {
	first := make(map[string]string) // path by name
	for i, image := range c.Images {
		path := images[i] + ".signed"
		for j, name := range append([]string{image.Signed}, image.Copies...) {
			if j > 0 {
				path = fmt.Sprintf("%s.copies[%d]", images[i], j-1)
			}
			switch other, ok := first[name]; {
			case ok && other == images[i]+".signed":
				d.blame(path, "%s is the signed repository itself; copies are other repositories, so remove it", name)
			case ok:
				d.blame(path, "%s is named already as %s, on line %d; give each repository one place in one rule", name, other, d.line(other))
			default:
				first[name] = path
			}
		}
	}
}

// rules lets the policy itself check the rules, and finds the first image that
// it objects to.
func (d *decoder) rules(c *Config, images []string) {
	if len(d.mistakes) > 0 {
		return
	}
	var rules []verify.ImageRule
	for _, image := range c.Images {
		rules = append(rules, verify.ImageRule{
			Signed: image.Signed, Copies: image.Copies, Grace: image.Grace,
			Source: func(verify.Ref) (verify.Source, error) { return nil, fmt.Errorf("%s is only checked", image.Signed) },
		})
	}
	if _, err := verify.NewPolicy(rules); err == nil {
		return
	}
	for i := range rules {
		if _, err := verify.NewPolicy(rules[:i+1]); err != nil {
			d.blame(images[i], "%v", err)
			return
		}
	}
}
