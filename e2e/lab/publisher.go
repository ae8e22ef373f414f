package lab

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
)

// releasesRole is the delegation into which Docker's signers sign what is
// released, besides their own.
const releasesRole = "targets/releases"

// Publisher signs releases with the reference notary client: it has a root key,
// a repository key for each repository, and the keys of its signers.
type Publisher struct {
	notary   *Notary
	trustDir string
	keyDir   string
	env      []string // the passphrases
}

// NewPublisher makes a publisher with no keys yet.
func (n *Notary) NewPublisher() (*Publisher, error) {
	trustDir, err := n.lab.folder("publisher")
	if err != nil {
		return nil, err
	}
	keyDir, err := n.lab.folder("signers")
	if err != nil {
		return nil, err
	}
	p := &Publisher{notary: n, trustDir: trustDir, keyDir: keyDir}
	for _, kind := range []string{"ROOT", "TARGETS", "SNAPSHOT", "DELEGATION"} {
		p.env = append(p.env, "NOTARY_"+kind+"_PASSPHRASE="+passphrase())
	}
	return p, nil
}

// Run runs the notary client with the publisher's keys.
func (p *Publisher) Run(ctx context.Context, args ...string) error {
	command := p.command(args)
	_, err := Run(ctx, p.env, command[0], command[1:]...)
	return err
}

func (p *Publisher) command(args []string) []string {
	program := filepath.Join(p.notary.programs, "notary")
	return append([]string{program, "-s", p.notary.URL, "--tlscacert", p.notary.lab.CA.Path, "-d", p.trustDir}, args...)
}

// RotateRoot gives the repository a new root key, which the old one signs.
func (p *Publisher) RotateRoot(ctx context.Context, gun string) error {
	const confirmed = `echo yes | "$@"` // without that, the client does nothing and succeeds
	args := append([]string{"-c", confirmed, "sh"}, p.command([]string{"key", "rotate", gun, "root"})...)
	_, err := Run(ctx, p.env, "sh", args...)
	return err
}

// Init makes the keys of a repository, in the publisher's root of trust, and
// leaves the snapshot key to the server, as Docker does.
func (p *Publisher) Init(ctx context.Context, gun string) error {
	if err := p.Run(ctx, "init", gun); err != nil {
		return err
	}
	return p.Run(ctx, "key", "rotate", gun, "snapshot", "-r")
}

// AddSigner gives the signer, whose key is made at first use, a delegation of
// its own and a share in targets/releases, as "docker trust signer add" does, and
// publishes that: the server takes delegations before what they sign.
func (p *Publisher) AddSigner(ctx context.Context, gun, signer string) error {
	return p.AddKey(ctx, gun, signer, signer)
}

// AddKey gives the signer another key, which is called key and made at first use.
func (p *Publisher) AddKey(ctx context.Context, gun, signer, key string) error {
	public, err := p.signerKey(ctx, key)
	if err != nil {
		return err
	}
	for _, role := range []string{path.Join("targets", signer), releasesRole} {
		if err := p.Run(ctx, "delegation", "add", gun, role, public, "--all-paths"); err != nil {
			return err
		}
	}
	return p.Publish(ctx, gun)
}

// signerKey returns the path of the signer's public key.
func (p *Publisher) signerKey(ctx context.Context, signer string) (string, error) {
	public := filepath.Join(p.keyDir, signer+".pub")
	if _, err := os.Stat(public); err == nil {
		return public, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	privateDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return "", err
	}
	publicDER, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", err
	}
	private := filepath.Join(p.keyDir, signer+".key")
	if err := writePEM(private, "EC PRIVATE KEY", privateDER, 0o600); err != nil {
		return "", err
	}
	if err := p.Run(ctx, "key", "import", private, "--role", signer); err != nil {
		return "", err
	}
	return public, writePEM(public, "PUBLIC KEY", publicDER, 0o644)
}

// Sign stages a tag's digest for the roles, or, without roles, for the
// repository key. Publish makes it known.
func (p *Publisher) Sign(ctx context.Context, gun, tag string, top Blob, roles ...string) error {
	args := []string{"addhash", gun, tag, strconv.Itoa(len(top.Content)), "--sha256", top.Digest().Encoded()}
	for _, role := range roles {
		args = append(args, "--roles", role)
	}
	return p.Run(ctx, args...)
}

// SignAs stages a tag as Docker's client does for a signer: in the signer's own
// delegation and in targets/releases.
func (p *Publisher) SignAs(ctx context.Context, gun, tag string, top Blob, signer string) error {
	return p.Sign(ctx, gun, tag, top, path.Join("targets", signer), releasesRole)
}

// Publish signs what was staged and sends it to the notary server.
func (p *Publisher) Publish(ctx context.Context, gun string) error {
	return p.Run(ctx, "publish", gun)
}

// Pins are the key IDs that a publisher publishes for a repository, and that
// trustmirror's configuration pins.
type Pins struct {
	Root       []string
	Repository []string
	Signers    map[string][]string
}

// Pins reads the key IDs from the publisher's own copy of the metadata.
func (p *Publisher) Pins(gun string) (Pins, error) {
	var root, targets struct {
		Signed struct {
			Roles       map[string]role `json:"roles"`
			Delegations struct {
				Roles []role `json:"roles"`
			} `json:"delegations"`
		} `json:"signed"`
	}
	metadata := filepath.Join(p.trustDir, "tuf", filepath.FromSlash(gun), "metadata")
	if err := readJSON(filepath.Join(metadata, "root.json"), &root); err != nil {
		return Pins{}, err
	}
	if err := readJSON(filepath.Join(metadata, "targets.json"), &targets); err != nil {
		return Pins{}, err
	}
	pins := Pins{
		Root:       root.Signed.Roles["root"].KeyIDs,
		Repository: root.Signed.Roles["targets"].KeyIDs,
		Signers:    map[string][]string{},
	}
	for _, delegation := range targets.Signed.Delegations.Roles {
		if delegation.Name != releasesRole {
			pins.Signers[path.Base(delegation.Name)] = delegation.KeyIDs
		}
	}
	return pins, nil
}

type role struct {
	Name   string   `json:"name"`
	KeyIDs []string `json:"keyids"`
}

func readJSON(file string, into any) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, into); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}
