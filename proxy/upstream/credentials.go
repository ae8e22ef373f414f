package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// check returns what is wrong with the credentials.
func (c Credentials) check(base *url.URL) error {
	if c == (Credentials{}) {
		return nil
	}
	if c.Username == "" || c.PasswordFile == "" {
		return errors.New("credentials need both a username and a password file")
	}
	if strings.Contains(c.Username, ":") {
		// RFC 7617, section 2.
		return fmt.Errorf("the username %q contains a colon, which Basic authentication can't carry", c.Username)
	}
	if !mayCarryCredentials(base) {
		return fmt.Errorf("credentials would cross the network in the clear to %s: write https:// in its URL, or drop the credentials", base.Host)
	}
	_, err := c.password()
	return err
}

// password reads the password file.
func (c Credentials) password() (string, error) {
	b, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("the password file can't be read: %w", err)
	}
	password := strings.TrimRight(string(b), "\r\n")
	if password == "" {
		return "", fmt.Errorf("the password file %s is empty", c.PasswordFile)
	}
	return password, nil
}

// config finds the credentials to send to target: none where they would cross
// the network in the clear, then or later as a token.
func (a *authenticator) config(ctx context.Context, repository string, target *url.URL) (authn.AuthConfig, error) {
	if !mayCarryCredentials(a.e.base) || !mayCarryCredentials(target) {
		return authn.AuthConfig{}, nil
	}
	config, err := a.lookUp(ctx, repository)
	if err != nil {
		return authn.AuthConfig{}, a.e.because(err, "the credentials for %s can't be had: %v", a.e.name, err)
	}
	return config, nil
}

func (a *authenticator) lookUp(ctx context.Context, repository string) (authn.AuthConfig, error) {
	if a.credentials != (Credentials{}) {
		password, err := a.credentials.password()
		return authn.AuthConfig{Username: a.credentials.Username, Password: password}, err
	}
	registry, repo := a.account(repository)
	registry, repo = account(registry, repo, a.e.base)
	target, err := name.NewRegistry(registry)
	if err != nil {
		return authn.AuthConfig{}, err
	}
	resource := authn.Resource(target)
	if repo != "" {
		resource = target.Repo(repo)
	}
	held, err := authn.Resolve(ctx, a.e.opts.Keychain, resource)
	if err != nil {
		return authn.AuthConfig{}, err
	}
	config, err := authn.Authorization(ctx, held)
	if err != nil {
		return authn.AuthConfig{}, err
	}
	return *config, nil
}

func authenticatorOf(config authn.AuthConfig) authn.Authenticator {
	if config == (authn.AuthConfig{}) {
		return authn.Anonymous
	}
	return authn.FromConfig(config)
}

// account names the registry, and the repository in it, whose credentials in the
// keychain are meant for the server at base: what they are stored under, if that
// is the same host or on the same registrable domain, else base itself. So a
// mirror that was put in a registry's place doesn't get the registry's password.
func account(registry, repository string, base *url.URL) (string, string) {
	named, err := url.Parse("//" + registry)
	if err != nil || !sameSite(named.Hostname(), base.Hostname()) {
		return base.Host, ""
	}
	return registry, repository
}
