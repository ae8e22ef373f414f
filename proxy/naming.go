package proxy

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify"
)

// naming knows which registries a request may mean. It is a closed world: no
// name that a client makes up ever becomes a Ref's registry.
type naming struct {
	registries map[string]bool // canonical names, the default among them
	fallback   string          // for requests that name none
}

func newNaming(registries []string, fallback string) (naming, error) {
	n := naming{registries: make(map[string]bool), fallback: fallback}
	if fallback == "" {
		return naming{}, errors.New("proxy: no default registry is given")
	}
	for _, registry := range append([]string{fallback}, registries...) {
		// The name has to be one that also a client's image name can start with.
		ref, err := verify.ParseRef(registry + "/any/name")
		if err != nil {
			return naming{}, fmt.Errorf("proxy: %q is not the name of a registry: %w", registry, err)
		}
		if ref.Registry != registry {
			return naming{}, fmt.Errorf("proxy: %q is not the canonical name of a registry: "+
				"it has to have a dot or a port, be in lower case and not be an alias of docker.io", registry)
		}
		n.registries[registry] = true
	}
	return n, nil
}

// ref reads which object a request means; reference is the tag or digest of the
// path, or "" for the repository. It returns a *verify.InvalidError for what is
// malformed, and a *verify.Refusal (no_policy) for a registry that isn't
// configured.
func (n naming) ref(x *exchange, reference string) (verify.Ref, error) {
	registry, repository, err := n.registry(x.query["ns"], x.r.Host, x.name)
	if err != nil {
		return verify.Ref{}, err
	}
	// In memory of its own: whoever remembers it must not keep the line of the request,
	// of which it is a part.
	return verify.NewRef(strings.Clone(registry), strings.Clone(repository), strings.Clone(reference))
}

// manifestRef is ref for a manifest, which a tag or a digest names.
func (n naming) manifestRef(x *exchange) (verify.Ref, error) { return n.ref(x, x.reference) }

// blobRef is ref for a blob, which only a digest can name.
func (n naming) blobRef(x *exchange) (verify.Ref, error) {
	repository, err := n.ref(x, "")
	if err != nil {
		return verify.Ref{}, err
	}
	d := digest.Digest(strings.Clone(x.reference))
	if err := verify.ValidateDigest(d); err != nil {
		return verify.Ref{}, err
	}
	return repository.WithDigest(d), nil
}

// registry decides which registry is meant and what is left of the name. The
// first of these that names one decides, whatever the others say:
//
//  1. ?ns=, as containerd sends it to a mirror. It was put there to name a
//     registry, so one that isn't configured is refused.
//  2. The Host, with or without a port, when it is a configured registry's: the
//     registry's own name leads here. Any other Host is the mirror's own name.
//  3. The first component of the path, when it is a configured registry.
//  4. The default registry.
func (n naming) registry(ns []string, host, name string) (registry, repository string, err error) {
	switch len(ns) {
	case 0:
	case 1:
		registry := verify.CanonicalRegistry(ns[0])
		if !n.registries[registry] {
			return "", "", verify.Refuse(verify.NoPolicy,
				"the registry %s, which ?ns= names, is not configured here; these are: %s",
				quote(ns[0]), strings.Join(slices.Sorted(maps.Keys(n.registries)), ", "))
		}
		return registry, name, nil
	default:
		return "", "", errManyNamespaces
	}
	if registry, ok := n.ofHost(host); ok {
		return registry, name, nil
	}
	if first, rest, found := strings.Cut(name, "/"); found {
		if registry := verify.CanonicalRegistry(first); n.registries[registry] {
			return registry, rest, nil
		}
	}
	return n.fallback, name, nil
}

// ofHost finds the configured registry that a Host header names. A dot at the end
// says that the name is whole, and changes nothing about whose it is.
func (n naming) ofHost(host string) (string, bool) {
	bare, _, err := net.SplitHostPort(host)
	if err != nil {
		bare = host // no port
	}
	for _, name := range []string{host, strings.TrimSuffix(bare, ".")} {
		if registry := verify.CanonicalRegistry(name); n.registries[registry] {
			return registry, true
		}
	}
	return "", false
}
