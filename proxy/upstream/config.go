package upstream

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/trustmirror/trustmirror/verify"
	"go.opentelemetry.io/otel/trace"
)

// Config says which registries are asked, and how. The zero Config asks every
// registry at https://<name>, Docker Hub at its real address.
type Config struct {
	// Registries by canonical name: "docker.io", "public.ecr.aws",
	// "127.0.0.1:5000". One that isn't listed is asked as if by a zero Registry.
	Registries map[string]Registry
	Options
}

// Registry says how one registry is asked. The zero Registry is asked at
// https://<name> with the credentials of Docker's own configuration.
type Registry struct {
	// URL is the registry's address without a path: "https://registry.example",
	// "http://127.0.0.1:5000". Empty: https://<name>, and
	// https://registry-1.docker.io for docker.io.
	URL string
	// Credentials to use instead of what the keychain has.
	Credentials Credentials
	// CAFile holds PEM certificates to trust besides the system's, for the
	// registry, its token realm and where it redirects to. Empty: the system's only.
	CAFile string
	// TokenRealm is a token server to accept that isn't on the registry's own
	// host or registrable domain, exactly as the registry names it. Empty: none,
	// and https://auth.docker.io/token for docker.io.
	TokenRealm string
	Route
}

// Route says how to get to a server where its name doesn't lead to it, as when the
// name leads to trustmirror itself.
type Route struct {
	// Address is dialled for the server's URL, host and port; TLS still holds the
	// server to its name. No proxy of the environment is used then. Empty: what the
	// name resolves to.
	Address string
	// Resolver is a DNS server, IP address and port, that is asked for all names
	// that lead to the server and to where it sends us. Empty: the system's.
	Resolver string
}

// NotaryConfig says how a Notary v1 service is asked.
type NotaryConfig struct {
	// URL is the service's address without a path: "https://notary.docker.io".
	// Required.
	URL string
	// Credentials to use instead of what the keychain has for the service's host
	// or, where that is on the same registrable domain, the GUN's registry.
	Credentials Credentials
	// CAFile holds PEM certificates to trust besides the system's. Empty: the
	// system's only.
	CAFile string
	// TokenRealm is as in Registry. That of notary.docker.io is on its own domain.
	TokenRealm string
	Route
	Options
}

// Credentials are a user's name and the file that holds the password. Zero: ask
// the keychain.
type Credentials struct {
	Username     string
	PasswordFile string // read whenever the password is used; a newline at its end is ignored
}

// Options are what registries and trust services have in common.
type Options struct {
	// UserAgent is sent with every request. Empty: "trustmirror".
	UserAgent string
	// Via is the loop.ID that is sent with every request, for this process to know
	// those that come back to it. Empty: none is sent.
	Via string
	// Keychain has the credentials of servers without explicit ones.
	// Nil: Docker's config.json and credential helpers.
	Keychain authn.Keychain
	Timeouts Timeouts
	Limits   Limits
	// Observe is told of every request once it is over; it must be quick and safe
	// for concurrent use. Nil: nobody is told.
	Observe func(Event)
	// TracerProvider makes a span of every request, without what could be secret in
	// its URL. Nil: none.
	TracerProvider trace.TracerProvider
	// Now is the clock that tokens and pauses go by. Nil: time.Now.
	Now func() time.Time
}

// Timeouts bound how long a server may take. Zero means the default.
type Timeouts struct {
	Dial   time.Duration // to connect, and once more for the TLS handshake; default 10s
	Header time.Duration // until an answer begins; default 30s
	Stall  time.Duration // without a single byte of a body; default 30s

	// Window and MinRate end a body that drips: it has to bring MinRate bytes a
	// second on average over each Window of waiting for it (time in which nobody
	// reads doesn't count). Defaults: 30s and 4096. A negative MinRate allows any.
	Window  time.Duration
	MinRate int64
}

// Limits bound what is asked for at once. Zero means the default. Whoever holds
// a body open while asking for another object may have to wait for itself.
type Limits struct {
	PerRegistry int // bodies open at one server; default 16
	Total       int // bodies open at all of a Client's servers, besides one of each; default 64
}

const (
	hubURL   = "https://registry-1.docker.io"
	hubRealm = "https://auth.docker.io/token"
)

// withDefaults fills in what is zero and rejects what makes no sense.
func (o Options) withDefaults() (Options, error) {
	if o.UserAgent == "" {
		o.UserAgent = "trustmirror"
	}
	if strings.ContainsAny(o.UserAgent, "\r\n") {
		return o, errors.New("the user agent contains a line break: write one line, such as \"trustmirror/1.0\"")
	}
	if o.Keychain == nil {
		o.Keychain = authn.DefaultKeychain
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{
		{"dial", &o.Timeouts.Dial, 10 * time.Second},
		{"header", &o.Timeouts.Header, 30 * time.Second},
		{"stall", &o.Timeouts.Stall, 30 * time.Second},
		{"window", &o.Timeouts.Window, 30 * time.Second},
	} {
		if *d.value < 0 {
			return o, fmt.Errorf("the %s timeout %v is negative: write a duration such as %v, or nothing for this default", d.name, *d.value, d.def)
		}
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	if o.Timeouts.MinRate == 0 {
		o.Timeouts.MinRate = 4096
	}
	if o.Limits.PerRegistry == 0 {
		o.Limits.PerRegistry = 16
	}
	if o.Limits.Total == 0 {
		o.Limits.Total = 64
	}
	if o.Limits.PerRegistry < 0 || o.Limits.Total < 0 {
		return o, errors.New("a limit on open downloads is negative: write how many there may be, or 0 for the default")
	}
	return o, nil
}

// parseBase reads the address of a server: scheme, host and port, no more.
func parseBase(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the URL %q can't be read: write it as https://registry.example", s)
	case u.Scheme != "https" && u.Scheme != "http", u.Hostname() == "":
		return nil, fmt.Errorf("the URL %q must begin with https:// (or http://) and name a host: write it as https://registry.example", s)
	case u.User != nil:
		return nil, fmt.Errorf("the URL of %s contains a user name: write credentials as username and password file instead", u.Host)
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.Fragment != "":
		return nil, fmt.Errorf("the URL %q has more than scheme, host and port: write %s://%s", s, u.Scheme, u.Host)
	}
	return &url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host)}, nil
}

// parseTokenRealm reads the realm that an operator accepts for base.
func parseTokenRealm(s string, base *url.URL) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("the token realm %q must be a whole URL: write it as the registry names it, such as https://auth.example/token", s)
	}
	if u.Scheme == "http" && base.Scheme == "https" {
		return nil, fmt.Errorf("the token realm %q is http, but %s is https: write https://%s%s", s, base, u.Host, u.Path)
	}
	return u, nil
}

// loadCAs returns the system's certificates and those of a PEM file.
func loadCAs(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil // crypto/tls takes the system's
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("the CA file can't be read: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("the system's certificates can't be read: %w", err)
	}
	if !pool.AppendCertsFromPEM(bytes.TrimSpace(pem)) {
		return nil, fmt.Errorf("the CA file %s holds no certificate: it must be PEM, beginning with -----BEGIN CERTIFICATE-----", file)
	}
	return pool, nil
}

// checkRegistryName insists on the canonical form, which requests are made with.
func checkRegistryName(name string) error {
	if canonical := verify.CanonicalRegistry(name); canonical != name {
		return fmt.Errorf("%q is not a registry's canonical name: write %s", name, canonical)
	}
	if _, err := verify.NewRef(name, "name/name", ""); err != nil {
		return fmt.Errorf("%q is not a registry's name: write a host such as registry.example or 127.0.0.1:5000", name)
	}
	return nil
}
