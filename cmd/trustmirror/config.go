package main

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/proxy/activity"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
)

// Config is what a configuration file says: checked, names in their canonical
// form, defaults filled in. Read one with readConfig.
type Config struct {
	Listen Listen
	Admin  Admin

	// DefaultRegistry is the registry of requests that name none, as those of
	// Docker's registry-mirrors. Default: docker.io.
	DefaultRegistry string

	Storage Storage

	// Decisions is the decision log. Default: decisions are in the mirror's log.
	Decisions Decisions

	// Upstreams says how to reach registries, by canonical name. Default: none;
	// a registry is then reached at https://<its name>, Docker Hub at
	// https://registry-1.docker.io, with the credentials of Docker's config.json.
	Upstreams map[string]Upstream

	Telemetry Telemetry

	// Images are the rules for what may be served. Required: nothing else is served.
	Images []Image

	places places
}

// Listen says where clients are served.
type Listen struct {
	// Address is host:port; an empty host means every interface. Default: ":5000".
	Address string
	// TLS makes the server speak https. Default: nil, plain http.
	TLS *TLS
	// HTPasswd is a file of users and bcrypt hashes, as `htpasswd -B` writes it;
	// with it every request needs one of them. Default: "", nobody is asked.
	HTPasswd string
	// RateLimit bounds how often one client address asks. Default: nil, it isn't
	// bounded.
	RateLimit *RateLimit
	// MaxConnections is how many connections there are at once; more wait until one
	// ends. Default: 10000.
	MaxConnections int
}

// TLS names PEM files; they are read again when they change.
type TLS struct {
	// Certificates are the server's. A client gets the one for the name that it asks
	// for (SNI), and the first one if there is none. At least one.
	Certificates []KeyPair
	// ClientCA holds the certificates that have to have signed a client's own.
	// Default: "", clients need none.
	ClientCA string
}

// KeyPair is a certificate with its private key.
type KeyPair struct {
	// Certificate is followed by its intermediates. Required.
	Certificate string
	// Key belongs to it. Required.
	Key string
}

// Admin says where operators are served: the status page, /metrics, /healthz
// and /readyz.
type Admin struct {
	// Address is host:port. Default: "127.0.0.1:5001".
	Address string
}

// Storage is one storage driver of distribution, with its parameters.
type Storage struct {
	// Driver is "filesystem", "s3" or "inmemory". Default: filesystem.
	Driver string
	// RootDirectory is the filesystem driver's folder; it is made if need be.
	// Default: "./data".
	RootDirectory string
	// MaxThreads is how many operations the filesystem driver runs at once, at
	// least 25. Default: 100.
	MaxThreads int
	// S3 is the s3 driver's bucket.
	S3 S3
	// MaxSize is how many bytes of content the filesystem driver's folder may have;
	// what was used least recently is evicted. Default: 0, as many as the disk has room
	// for.
	MaxSize int64
	// Scrub is how long serve takes to read all that is stored once, to find what is
	// damaged; 0: it doesn't. Default: 168h.
	Scrub time.Duration
}

// Upstream says how to reach a registry.
type Upstream struct {
	// URL is where the registry answers, http or https. Default: "", which means
	// https://<the registry's name>, for Docker Hub https://registry-1.docker.io.
	URL string
	// Credentials are sent to this registry and its token realm only.
	// Default: nil, those of Docker's config.json and credential helpers.
	Credentials *Credentials
	// TokenRealm is the one URL besides the registry's own host or registrable
	// domain that may hand out tokens. Default: "", for Docker Hub
	// https://auth.docker.io/token.
	TokenRealm string
	// CA is a PEM file of certificate authorities that are trusted besides the
	// system's. Default: "", the system's alone.
	CA string
	Route
}

// Credentials are a user's name and a file that holds the password.
type Credentials struct {
	// Username is the account's name. Required.
	Username string
	// PasswordFile holds the password or access token; a newline at its end
	// doesn't count. Required.
	PasswordFile string
}

// Image is a rule: which repositories hold an image, and who vouches for it.
type Image struct {
	// Signed is the repository where the publisher signs; one path component may
	// be "*". Required.
	Signed string
	// Copies are unsigned repositories that hold the same images; with a "*"
	// exactly where Signed has one. Default: none.
	Copies []string
	// Trust holds exactly one of these. Required.
	Notary  *Notary
	Archive *Archive
	Digests *Digests
	// RoleOrder says whose word counts where roles sign different digests for one
	// tag: "targets", "targets/releases" or "targets/<signer>", the first one
	// wins. Default: none, such a tag is refused.
	RoleOrder []string
	// Grace is how long what ceased to be signed is still served, so that pulls
	// under way can finish, at most 24h. Default: 1h.
	Grace time.Duration
	// Streaming is "release: streaming": a layer whose digest a verified manifest
	// names is sent while it arrives, all but its end. Default: false, "verified".
	Streaming bool
	// Warm says what is fetched and verified before anybody asks for it. Default: nil,
	// nothing.
	Warm *Warm
}

// Notary is a Notary v1 service and the keys it is held to.
type Notary struct {
	// URL is the service's address, http or https. Required.
	URL string
	// GUN is the name under which the repository is signed. Default: the signed
	// repository's own name.
	GUN string
	// CA is a PEM file of certificate authorities that are trusted besides the
	// system's. Default: "", the system's alone.
	CA string
	Keys
	// Refresh is how often the service is asked for news. Default: 10m.
	Refresh time.Duration
	// TokenRealm is the one URL besides the service's own host or registrable
	// domain that may hand out tokens. Default: "", for notary.docker.io
	// https://auth.docker.io/token.
	TokenRealm string
	// Credentials are sent to this service and its token realm only. Default:
	// nil, none.
	Credentials *Credentials
	Route
}

// Keys are the keys that signed metadata are held to; a key that isn't here makes
// the repository refused.
type Keys struct {
	// RootKeys are the IDs of the root keys, as `docker trust inspect` prints
	// them: 64 lower-case hexadecimal digits. Required.
	RootKeys []string
	// RepositoryKeys are the IDs of the repository's (targets) keys. Required.
	RepositoryKeys []string
	// Signers are the IDs of each signer's keys, by the signer's name. Default:
	// none.
	Signers map[string][]string
}

// Archive is signed metadata that were exported, and the keys that they are held
// to. They are verified as of the moment that the archive names.
type Archive struct {
	// File is the archive, as `trustmirror trust export` wrote it. Required.
	File string
	// SHA256 is the digest of exactly that file: 64 hexadecimal digits. Required.
	SHA256 string
	// GUN is as Notary's.
	GUN string
	Keys

	content *notary.Archive // what is in File; verified
}

// Digests says by hand which digest each tag has. Nothing else is asked.
type Digests struct {
	// File holds the tags, if they are in a file of their own. Default: "".
	File string
	// Tags are the digests by tag. Required.
	Tags map[string]digest.Digest
}

// The defaults of fields that have one.
const (
	defaultListen  = ":5000"
	defaultAdmin   = "127.0.0.1:5001"
	defaultRoot    = "./data"
	defaultThreads = 100
	defaultRefresh = 10 * time.Minute
	defaultScrub   = 7 * 24 * time.Hour
)

// newConfig is the configuration of an empty file, but for images, which has none.
func newConfig() *Config {
	return &Config{
		Listen:          Listen{Address: defaultListen, MaxConnections: defaultConnections},
		Admin:           Admin{Address: defaultAdmin},
		DefaultRegistry: verify.DockerHub,
		Storage:         Storage{Driver: driverFilesystem, RootDirectory: defaultRoot, MaxThreads: defaultThreads, Scrub: defaultScrub},
		Decisions:       Decisions{MaxSize: activity.DefaultMaxSize, Keep: activity.DefaultKeep},
		Upstreams:       make(map[string]Upstream),
	}
}

// The storage drivers of this version.
const (
	driverFilesystem = "filesystem"
	driverInmemory   = "inmemory"
	driverS3         = "s3"
)
