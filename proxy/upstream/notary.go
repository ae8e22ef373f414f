package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"

	"github.com/trustmirror/trustmirror/verify"
)

// Notary gets metadata from one Notary v1 service. It is safe for concurrent use.
type Notary struct {
	e      *endpoint
	cancel context.CancelFunc
}

// NewNotary checks the configuration and asks nobody anything. Close ends the
// Notary.
func NewNotary(config NotaryConfig) (*Notary, error) { return newNotary(config, hooks{}) }

func newNotary(config NotaryConfig, h hooks) (*Notary, error) {
	opts, err := config.Options.withDefaults()
	if err != nil {
		return nil, err
	}
	if config.URL == "" {
		return nil, errors.New("the trust service has no URL: write its address, such as https://notary.docker.io")
	}
	base, err := parseBase(config.URL)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	e, err := newEndpoint(ctx, endpointConfig{
		name: "trust service " + base.Host, url: config.URL, caFile: config.CAFile, tokenRealm: config.TokenRealm, credentials: config.Credentials,
		unavailable: verify.TrustUnavailable, limited: verify.TrustUnavailable,
		route: config.Route, setting: "trust.notary",
		// Docker's client authenticates with what it has for the image's registry.
		account: func(gun string) (string, string) {
			registry, repo, _ := strings.Cut(gun, "/")
			return registry, repo
		},
	}, opts, h, make(chan struct{}, opts.Limits.Total))
	if err != nil {
		cancel()
		return nil, err
	}
	return &Notary{e: e, cancel: cancel}, nil
}

// Close ends idle connections and whatever waits for authentication.
func (n *Notary) Close() {
	n.cancel()
	n.e.closeIdle()
}

var (
	gunShape  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$`)
	nameShape = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$`)
)

// Fetch gets the file below /v2/<gun>/_trust/tuf/ of the service; name is without
// ".json": "root", "2.root", "timestamp", "snapshot.<hex>",
// "targets/releases.<hex>". At most limit bytes are accepted.
//
// Errors: *verify.NotFoundError when the service has no such file,
// *verify.UnavailableError (trust_unavailable) when it can't be asked or answers
// with an error, *verify.Refusal (malformed) when what it answers with is too
// large or not JSON, or when gun or name can't be part of a URL.
func (n *Notary) Fetch(ctx context.Context, gun, name string, limit int64) ([]byte, error) {
	if !gunShape.MatchString(gun) || !nameShape.MatchString(name) {
		return nil, verify.Refuse(verify.Malformed, "%q of %q can't be the name of signed metadata", name, gun)
	}
	object := name + ".json of " + gun
	_, b, err := n.e.document(ctx, call{
		kind: KindMetadata, repository: gun, object: object,
		path:   "/v2/" + gun + "/_trust/tuf/" + name + ".json",
		header: http.Header{"Accept": {"application/json"}},
	}, limit)
	switch {
	case errors.Is(err, errTooLarge):
		return nil, verify.Refuse(verify.Malformed, "%s at %s is larger than the %d bytes it may have", object, n.e.name, limit)
	case err != nil:
		return nil, err
	case !json.Valid(b):
		return nil, verify.Refuse(verify.Malformed, "%s at %s isn't JSON: check that the address is that of a Notary service", object, n.e.name)
	}
	return b, nil
}
