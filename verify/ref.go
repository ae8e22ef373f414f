package verify

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// DockerHub is the canonical name of Docker Hub's registry.
const DockerHub = "docker.io"

// Ref names an object in a repository: by tag, by digest, or, with neither,
// the repository itself. Registry and Repository are always canonical: build a
// Ref with ParseRef or NewRef.
type Ref struct {
	Registry   string        // "docker.io", "public.ecr.aws", "127.0.0.1:5000"
	Repository string        // "nicolas/webdis"
	Tag        string        // "0.1.19"
	Digest     digest.Digest // takes precedence over Tag
}

// CanonicalRegistry maps Docker Hub's aliases to docker.io and lowers the case
// of every other registry name.
func CanonicalRegistry(host string) string {
	host = strings.ToLower(host)
	switch host {
	case "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "hub.docker.com":
		return DockerHub
	}
	return host
}

// NewRef builds a Ref from the parts of a request. Docker Hub's aliases and its
// library/ prefix become one name. The reference is a tag, a digest or empty.
// It returns an *InvalidError that names the part that is malformed
// (OCI distribution specification, "Pulling manifests").
func NewRef(registry, repository, ref string) (Ref, error) {
	r := Ref{Registry: CanonicalRegistry(registry), Repository: repository}
	if r.Registry == DockerHub && !strings.Contains(repository, "/") {
		r.Repository = "library/" + repository
	}
	// As others read it: a registry has a dot, a port or is localhost, or it would be
	// the first part of a name on Docker Hub.
	named, err := reference.ParseNormalizedNamed(r.Name())
	if err != nil || reference.Domain(named) != r.Registry || reference.Path(named) != r.Repository {
		return Ref{}, &InvalidError{Part: PartName, Value: registry + "/" + repository, Err: err}
	}
	switch {
	case ref == "":
	case strings.Contains(ref, ":"):
		r.Digest = digest.Digest(ref)
		if err := ValidateDigest(r.Digest); err != nil {
			return Ref{}, err
		}
	default:
		if _, err := reference.WithTag(named, ref); err != nil {
			return Ref{}, &InvalidError{Part: PartTag, Value: ref, Err: err}
		}
		r.Tag = ref
	}
	return r, nil
}

// ParseRef reads an image name as a person writes it: "nicolas/webdis:0.1.19",
// "public.ecr.aws/nicolas/webdis@sha256:…". Names without a registry are Docker
// Hub's. A name with both tag and digest keeps both. It returns an *InvalidError.
func ParseRef(s string) (Ref, error) {
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return Ref{}, &InvalidError{Part: PartName, Value: s, Err: err}
	}
	var tag string
	if tagged, ok := named.(reference.Tagged); ok {
		tag = tagged.Tag()
	}
	r, err := NewRef(reference.Domain(named), reference.Path(named), tag)
	if err != nil {
		return Ref{}, err
	}
	if digested, ok := named.(reference.Digested); ok {
		r.Digest = digested.Digest()
		if err := ValidateDigest(r.Digest); err != nil {
			return Ref{}, err
		}
	}
	return r, nil
}

// ValidateDigest accepts sha256 and sha512 digests in their canonical form
// (OCI image specification, "Digests"); anything else is an *InvalidError.
func ValidateDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return &InvalidError{Part: PartDigest, Value: string(d), Err: err}
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return &InvalidError{Part: PartDigest, Value: string(d), Err: digest.ErrDigestUnsupported}
	}
	return nil
}

// Name is the repository with its registry: "docker.io/nicolas/webdis".
func (r Ref) Name() string { return r.Registry + "/" + r.Repository }

// WithDigest names another object of the same repository.
func (r Ref) WithDigest(d digest.Digest) Ref {
	return Ref{Registry: r.Registry, Repository: r.Repository, Digest: d}
}

// String is the reference as Docker prints it.
func (r Ref) String() string {
	s := r.Name()
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest.String()
	}
	return s
}

// Part says which part of a reference is malformed.
type Part string

// The parts of a reference.
const (
	PartName   Part = "name"
	PartTag    Part = "tag"
	PartDigest Part = "digest"
)

// InvalidError says that a reference is malformed: a mistake of who asks, never
// a verdict about an image.
type InvalidError struct {
	Part  Part
	Value string
	Err   error // may be nil
}

func (e *InvalidError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("invalid %s %q", e.Part, e.Value)
	}
	return fmt.Sprintf("invalid %s %q: %v", e.Part, e.Value, e.Err)
}

func (e *InvalidError) Unwrap() error { return e.Err }
