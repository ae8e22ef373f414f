package verify

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// DefaultGrace is how long what ceased to be signed is served on, so that a
// pull under way can finish.
const DefaultGrace = time.Hour

// MaxGrace is the longest that it can be: trust sources remember no longer what
// ceased to be signed.
const MaxGrace = 24 * time.Hour

// maxImages bounds how many repositories that patterns cover are kept in memory.
const maxImages = 4096

// ImageRule says which repositories hold one image, and who vouches for it.
type ImageRule struct {
	// Signed is the repository where the publisher signs:
	// "docker.io/nicolas/webdis". One path component may be "*", which stands
	// for exactly one component.
	Signed string
	// Copies are unsigned repositories that hold the same images. Where Signed
	// has a "*", each copy has one, which stands for the same component.
	Copies []string
	// Source makes the trust source of a signed repository; it is called once
	// for each repository that the rule turns out to cover. Never nil.
	Source func(signed Ref) (Source, error)
	// Grace is how long what ceased to be signed is served on; 0 means not at all.
	Grace time.Duration
	// Streaming is whether a blob whose digest a verified manifest names is sent
	// while it arrives; its end is held back until all of it is verified (S3).
	Streaming bool
}

// Image is a rule applied to one signed repository.
type Image struct {
	Signed    Ref
	Copies    []Ref
	Source    Source
	Grace     time.Duration
	Streaming bool
}

// repositories lists where equal digests may be fetched, first the one asked (C5).
func (i *Image) repositories(first Ref) []Ref {
	all := []Ref{{Registry: first.Registry, Repository: first.Repository}}
	for _, r := range append([]Ref{i.Signed}, i.Copies...) {
		if r.Name() != first.Name() {
			all = append(all, r)
		}
	}
	return all
}

// Policy finds the rule that covers a repository. The world is closed: what no
// rule covers is refused.
type Policy struct {
	patterns []pattern
	signed   map[string]Ref // of the rules that name one in full, by that name

	covers *lru.Cache[repository, cover] // what was asked for lately

	mu     sync.Mutex // guards making an Image, so that it is made once
	images *lru.Cache[string, *Image]
}

type repository struct{ registry, name string }

// cover is the rule that covers a repository.
type cover struct {
	rule   *ImageRule
	star   string // what its "*" stands for
	signed Ref
}

// pattern is one repository name of a rule.
type pattern struct {
	rule       *ImageRule
	components []string // the registry first
}

// NewPolicy checks the rules. It refuses patterns that aren't anchored or that
// tie with another one, and rules that name no trust source.
func NewPolicy(rules []ImageRule) (*Policy, error) {
	if len(rules) == 0 {
		return nil, fmt.Errorf("no images: name at least one signed repository, or nothing can be served")
	}
	images, err := lru.New[string, *Image](maxImages)
	if err != nil {
		return nil, err
	}
	covers, err := lru.New[repository, cover](maxImages)
	if err != nil {
		return nil, err
	}
	p := &Policy{images: images, covers: covers, signed: make(map[string]Ref)}
	for _, rule := range rules {
		if rule.Source == nil {
			return nil, fmt.Errorf("%s: no trust source", rule.Signed)
		}
		if rule.Grace < 0 || rule.Grace > MaxGrace {
			return nil, fmt.Errorf("%s: a grace of %v is not between 0 and %v", rule.Signed, rule.Grace, MaxGrace)
		}
		rule.Copies = slices.Clone(rule.Copies)
		for i, name := range append([]string{rule.Signed}, rule.Copies...) {
			components, err := parsePattern(name)
			if err != nil {
				return nil, err
			}
			canonical := strings.Join(components, "/")
			if i == 0 {
				rule.Signed = canonical
			} else {
				rule.Copies[i-1] = canonical
				if slices.Contains(components, "*") != strings.Contains(rule.Signed, "*") {
					return nil, fmt.Errorf("%s: a copy has a * exactly where its signed repository %s has one", name, rule.Signed)
				}
			}
			for _, other := range p.patterns {
				if ties(components, other.components) {
					return nil, fmt.Errorf("%s and %s can mean the same repository; give each repository one rule", canonical, strings.Join(other.components, "/"))
				}
			}
			p.patterns = append(p.patterns, pattern{rule: &rule, components: components})
			if i == 0 && !slices.Contains(components, "*") {
				if p.signed[canonical], err = refOf(canonical, ""); err != nil {
					return nil, err
				}
			}
		}
	}
	return p, nil
}

// parsePattern splits a name whose components are literal, but for at most one "*".
func parsePattern(name string) ([]string, error) {
	registry, repository, ok := strings.Cut(name, "/")
	stars := strings.Count(name, "*")
	ref, err := NewRef(registry, strings.Replace(repository, "*", "any", 1), "")
	switch {
	case !ok || registry == "" || !strings.ContainsAny(registry, ".:") && registry != "localhost":
		return nil, fmt.Errorf("%s: write the whole name with its registry, like docker.io/nicolas/webdis", name)
	case stars > 1 || strings.Contains(registry, "*") || stars == 1 && !slices.Contains(strings.Split(repository, "/"), "*"):
		return nil, fmt.Errorf("%s: * stands for one whole path component, once, like docker.io/myorg/*", name)
	case err != nil:
		return nil, fmt.Errorf("%s is not a repository name: %w", name, err)
	case stars == 1 && ref.Registry == DockerHub && repository == "*":
		return []string{DockerHub, "library", "*"}, nil
	case stars == 1:
		return append([]string{ref.Registry}, strings.Split(repository, "/")...), nil
	}
	return append([]string{ref.Registry}, strings.Split(ref.Repository, "/")...), nil
}

// ties tells whether two patterns cover a common name and neither is more specific.
func ties(a, b []string) bool {
	if len(a) != len(b) || slices.Contains(a, "*") != slices.Contains(b, "*") {
		return false
	}
	for i := range a {
		if a[i] != b[i] && a[i] != "*" && b[i] != "*" {
			return false
		}
	}
	return true
}

// match returns what the pattern's "*" stands for in name.
func (p pattern) match(name []string) (star string, ok bool) {
	if len(name) != len(p.components) {
		return "", false
	}
	for i, c := range p.components {
		switch {
		case c == "*":
			star = name[i]
		case c != name[i]:
			return "", false
		}
	}
	return star, true
}

// Image finds the image that ref's repository belongs to. Errors: *Refusal
// (NoPolicy), or what the rule's Source function returns.
func (p *Policy) Image(ref Ref) (*Image, error) {
	key := repository{ref.Registry, ref.Repository}
	found, known := p.covers.Get(key)
	if !known {
		var err error
		if found, err = p.cover(ref); err != nil {
			return nil, err
		}
		p.covers.Add(key, found)
	}
	signed := found.signed.Name()
	p.mu.Lock()
	defer p.mu.Unlock()
	if image, ok := p.images.Get(signed); ok {
		return image, nil
	}
	image := &Image{Signed: found.signed, Grace: found.rule.Grace, Streaming: found.rule.Streaming}
	for _, c := range found.rule.Copies {
		ref, err := refOf(c, found.star)
		if err != nil {
			return nil, err
		}
		image.Copies = append(image.Copies, ref)
	}
	var err error
	if image.Source, err = found.rule.Source(found.signed); err != nil {
		return nil, err
	}
	p.images.Add(signed, image)
	return image, nil
}

// cover finds the rule that covers ref's repository: *Refusal (NoPolicy) if none does.
func (p *Policy) cover(ref Ref) (cover, error) {
	found, star := p.rule(ref)
	if found == nil {
		return cover{}, Refuse(NoPolicy, "no image rule covers %s; add it to images in the configuration, as signed or as a copy", ref.Name())
	}
	signed, known := p.signed[found.Signed]
	if !known {
		var err error
		if signed, err = refOf(found.Signed, star); err != nil {
			return cover{}, err
		}
	}
	if most, _ := p.rule(signed); most != found { // whoever vouches for signed isn't asked by this rule
		return cover{}, Refuse(NoPolicy, "%s would be a copy of %s, for which there is a rule of its own; add it to the copies there", ref.Name(), signed.Name())
	}
	return cover{rule: found, star: star, signed: signed}, nil
}

// Rule names the rule that covers ref's repository, by its signed repository as the
// rule has it: with a "*" where it has one. It is "" if no rule does.
func (p *Policy) Rule(ref Ref) string {
	if found, _ := p.rule(ref); found != nil {
		return found.Signed
	}
	return ""
}

// rule finds the most specific rule that covers ref's repository, and what its
// "*" stands for; nil if there is none.
func (p *Policy) rule(ref Ref) (found *ImageRule, star string) {
	name := strings.Split(ref.Name(), "/")
	for _, pattern := range p.patterns {
		if s, ok := pattern.match(name); ok && (found == nil || s == "") { // a literal beats a *
			found, star = pattern.rule, s
		}
	}
	return found, star
}

func refOf(pattern, star string) (Ref, error) {
	registry, repository, _ := strings.Cut(strings.Replace(pattern, "*", star, 1), "/")
	return NewRef(registry, repository, "")
}

// Registries lists the registries that rules name, sorted.
func (p *Policy) Registries() []string {
	var all []string
	for _, pattern := range p.patterns {
		all = append(all, pattern.components[0])
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Repositories lists the repositories that rules name in full, sorted.
func (p *Policy) Repositories() []string {
	var all []string
	for _, pattern := range p.patterns {
		if !slices.Contains(pattern.components, "*") {
			all = append(all, strings.Join(pattern.components, "/"))
		}
	}
	slices.Sort(all)
	return all
}
