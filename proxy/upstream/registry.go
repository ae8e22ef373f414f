package upstream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/trustmirror/trustmirror/verify"
)

// manifestTypes are the documents that are asked for: Docker's and OCI's, and no
// others.
const manifestTypes = ocispec.MediaTypeImageIndex + ", " +
	ocispec.MediaTypeImageManifest + ", " +
	"application/vnd.docker.distribution.manifest.list.v2+json, " +
	"application/vnd.docker.distribution.manifest.v2+json"

// Client gets objects from registries. It is safe for concurrent use.
type Client struct {
	opts   Options
	hooks  hooks
	ctx    context.Context // of work that callers share
	cancel context.CancelFunc
	total  chan struct{} // bodies open at all registries, besides one of each
	parts  *partBuffers

	mu        sync.Mutex
	endpoints map[string]*endpoint // by the registry's name
}

var _ verify.Fetcher = (*Client)(nil)

// New checks the configuration and asks nobody anything. Close ends the Client.
func New(config Config) (*Client, error) { return newClient(config, hooks{}) }

func newClient(config Config, h hooks) (*Client, error) {
	opts, err := config.Options.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{opts: opts, hooks: h, total: make(chan struct{}, opts.Limits.Total), parts: newPartBuffers(), endpoints: make(map[string]*endpoint)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	for _, name := range slices.Sorted(maps.Keys(config.Registries)) {
		if err := checkRegistryName(name); err != nil {
			return nil, err
		}
		if c.endpoints[name], err = c.newEndpoint(name, config.Registries[name]); err != nil {
			return nil, fmt.Errorf("registry %s: %w", name, err)
		}
	}
	return c, nil
}

// Close ends idle connections and whatever waits for authentication. Bodies
// that are open stay so.
func (c *Client) Close() {
	c.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.endpoints {
		e.closeIdle()
	}
}

func (c *Client) newEndpoint(name string, r Registry) (*endpoint, error) {
	config := endpointConfig{
		name: name, url: r.URL, caFile: r.CAFile, tokenRealm: r.TokenRealm, credentials: r.Credentials,
		unavailable: verify.UpstreamUnavailable, limited: verify.RateLimited,
		route: r.Route, setting: "upstreams." + name,
		account: func(repository string) (string, string) { return name, repository },
	}
	if name == verify.DockerHub && config.tokenRealm == "" {
		config.tokenRealm = hubRealm
	}
	if config.url == "" {
		config.url = "https://" + name
		if name == verify.DockerHub {
			config.url = hubURL
		}
	}
	return newEndpoint(c.ctx, config, c.opts, c.hooks, c.total)
}

// endpoint returns how a registry is asked, at first use if it isn't configured.
func (c *Client) endpoint(ref verify.Ref) (*endpoint, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.endpoints[ref.Registry]; ok {
		return e, nil
	}
	if err := checkRegistryName(ref.Registry); err != nil {
		return nil, err
	}
	e, err := c.newEndpoint(ref.Registry, Registry{})
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", ref.Registry, err)
	}
	c.endpoints[ref.Registry] = e
	return e, nil
}

// Manifest implements verify.Fetcher. The media type is the Content-Type as it
// came, the digest is computed with the algorithm of ref's.
func (c *Client) Manifest(ctx context.Context, ref verify.Ref) (ocispec.Descriptor, []byte, error) {
	var none ocispec.Descriptor
	if err := checkRef(ref); err != nil {
		return none, nil, err
	}
	e, err := c.endpoint(ref)
	if err != nil {
		return none, nil, err
	}
	algorithm, reference := digest.Canonical, ref.Tag
	if ref.Digest != "" {
		algorithm, reference = ref.Digest.Algorithm(), ref.Digest.String()
	}
	header, b, err := e.document(ctx, call{
		kind: KindManifest, ref: ref, repository: ref.Repository, object: "manifest " + ref.String(),
		path:   "/v2/" + ref.Repository + "/manifests/" + reference,
		header: http.Header{"Accept": {manifestTypes}},
	}, verify.MaxDocument)
	switch {
	case errors.Is(err, errTooLarge):
		refusal := verify.Refuse(verify.SizeMismatch, "the manifest %s at %s is larger than a manifest may be (%d bytes)", ref, e.name, verify.MaxDocument)
		refusal.Ref = ref
		return none, nil, refusal
	case err != nil:
		return none, nil, err
	case len(b) == 0:
		return none, nil, verify.Unavailable(e.unavailable, "%s answers with nothing for manifest %s", e.name, ref)
	}
	return ocispec.Descriptor{MediaType: mediaType(header), Digest: algorithm.FromBytes(b), Size: int64(len(b))}, b, nil
}

// checkRef makes sure that a reference becomes nothing but what it says when it
// is part of a URL.
func checkRef(ref verify.Ref) error {
	checked, err := verify.NewRef(ref.Registry, ref.Repository, ref.Tag)
	if err != nil {
		return err
	}
	if checked.Name() != ref.Name() || checked.Tag != ref.Tag {
		return &verify.InvalidError{Part: verify.PartName, Value: ref.String(), Err: errors.New("it isn't canonical")}
	}
	if ref.Digest != "" {
		return verify.ValidateDigest(ref.Digest)
	}
	if ref.Tag == "" {
		return &verify.InvalidError{Part: verify.PartTag, Value: ref.String(), Err: errors.New("it names no tag and no digest")}
	}
	return nil
}
