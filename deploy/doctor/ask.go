package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/trustmirror/trustmirror/verify"
)

// Asker asks a mirror as a client would.
type Asker interface {
	// Ask makes one GET request and follows no redirect. It returns ErrUntrusted if
	// the server's certificate isn't trusted; any other error means that there is no
	// answer.
	Ask(ctx context.Context, q Question) (Answer, error)
}

// ErrUntrusted is for a certificate that the asker doesn't trust.
var ErrUntrusted = errors.New("the certificate isn't trusted")

// Question is a request.
type Question struct {
	URL string
	// Address is where to connect to. Default: "", the URL's host.
	Address string
	// Roots are trusted certificates in PEM. Default: nil, the asker's own system's.
	Roots []byte
	// CAs are trusted too.
	CAs []byte
	// Pair is the client's own certificate and its key, in PEM. Default: none.
	Pair [2][]byte
	// SkipVerify is for clients that trust any certificate.
	SkipVerify bool
	// Own is true for a mirror that the operator named, which may know a password of
	// the operator's. All others are named by the node's files.
	Own bool
}

// Answer is what came back.
type Answer struct {
	Status int
	Body   []byte // at most the first 64 KiB
}

// trust is what a client trusts when it asks a host.
type trust struct {
	cas        []byte
	pair       [2][]byte
	skipVerify bool
}

// verdict is what asking led to.
type verdict struct {
	state    State
	trap     Trap
	sentence string
}

// endpoint is where a client sends requests to.
type endpoint struct {
	scheme, host string
	path         string // "/v2", or what stands in for it
	below        string // the repositories that path stands for; "" for all
	address      string // to connect to, if it isn't the host's
}

// parseEndpoint reads an http or https URL.
func parseEndpoint(s string) (endpoint, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return endpoint{}, errors.New("it is no URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return endpoint{}, errors.New("it has to begin with https:// or http://")
	case u.Host == "":
		return endpoint{}, errors.New("it names no host")
	}
	return endpoint{scheme: u.Scheme, host: strings.ToLower(u.Host), path: "/v2"}, nil
}

func (e endpoint) String() string { return e.scheme + "://" + e.host }

// same compares hosts and ports.
func (e endpoint) same(other endpoint) bool {
	port := func(e endpoint) string {
		host, port, err := net.SplitHostPort(e.host)
		if err != nil {
			return e.host + map[string]string{"https": ":443", "http": ":80"}[e.scheme]
		}
		return host + ":" + port
	}
	return port(e) == port(other)
}

// originOf is the host that a registry's own name means.
func originOf(registry string) string {
	if registry == dockerHub {
		return dockerHubHost
	}
	return registry
}

// isOrigin is true for a host that is the registry itself.
func (e endpoint) isOrigin(registry string) bool {
	host := strings.TrimSuffix(e.host, ":443")
	return host == registry || verify.CanonicalRegistry(host) == dockerHub && verify.CanonicalRegistry(registry) == dockerHub
}

// isMirror is true unless other hosts were named as the mirrors.
func (c *checker) isMirror(e endpoint) bool {
	return len(c.Mirrors) == 0 || slices.ContainsFunc(c.Mirrors, func(mirror string) bool {
		m, err := parseEndpoint(mirror)
		return err == nil && m.same(e)
	})
}

// isOwn tells whether an endpoint is a mirror that was named, or a registry's name
// that leads to the address of one.
func (c *checker) isOwn(ctx context.Context, e endpoint) bool {
	at, _, _ := net.SplitHostPort(e.address) // "" if it isn't asked at an address
	return slices.ContainsFunc(c.Mirrors, func(mirror string) bool {
		m, err := parseEndpoint(mirror)
		if err != nil || at == "" {
			return err == nil && m.same(e)
		}
		host, _, err := net.SplitHostPort(m.host)
		if err != nil {
			host = strings.Trim(m.host, "[]") // no port
		}
		if host == at || c.Lookup == nil {
			return host == at
		}
		addresses, err := c.Lookup(ctx, host)
		return err == nil && slices.Contains(addresses, at)
	})
}

// form is how a client names a registry to a mirror.
type form int

const (
	byQuery form = iota // ?ns=docker.io
	byPath              // the endpoint's path has it
	byHost              // the registry's own name leads here
)

// ask asks an endpoint for what must be refused, as a client with that trust would.
// It must be a mirror of the operator's, and refuse.
func (c *checker) ask(ctx context.Context, e endpoint, registry string, f form, t trust) verdict {
	if f != byHost && !c.isMirror(e) {
		return verdict{Open, NotTheMirror, fmt.Sprintf("%s is asked, which isn't the mirror (%s).", e, strings.Join(c.Mirrors, ", "))}
	}
	if c.Asker == nil {
		return verdict{Unknown, NotAsked, fmt.Sprintf("Nobody asked %s whether it refuses.", e)}
	}
	var repositories []string
	for _, repository := range c.Images[verify.CanonicalRegistry(registry)] {
		if _, ok := e.within(repository); ok {
			repositories = append(repositories, repository)
		}
	}
	if len(repositories) == 0 {
		repositories = []string{strings.TrimPrefix(e.below+"/"+nobodysRepository, "/")}
	}
	worst := verdict{state: Closed}
	for _, repository := range repositories {
		if v := c.askOnce(ctx, e, registry, repository, f, t); worst.sentence == "" || v.state.worse(worst.state) != worst.state {
			worst = v
		}
	}
	return worst
}

// within is what is left of a repository's name behind the endpoint's path.
func (e endpoint) within(repository string) (rest string, ok bool) {
	if e.below == "" {
		return "/" + repository, true
	}
	rest, ok = strings.CutPrefix(repository, e.below)
	return rest, ok && (rest == "" || rest[0] == '/')
}

// nobodysRepository is one that no policy names.
const nobodysRepository = "trustmirror-doctor/nobodys"

func (c *checker) askOnce(ctx context.Context, e endpoint, registry, repository string, f form, t trust) verdict {
	ref, err := verify.NewRef(registry, repository, c.Tag)
	if err != nil {
		return verdict{Unknown, NotAsked, fmt.Sprintf("%s/%s is no name of a repository, so nobody was asked.", registry, repository)}
	}
	rest, _ := e.within(ref.Repository)
	q := Question{Address: e.address, Roots: c.roots, CAs: t.cas, Pair: t.pair, SkipVerify: t.skipVerify,
		URL: e.String() + e.path + rest + "/manifests/" + c.Tag, Own: c.isOwn(ctx, e)}
	if f == byQuery {
		q.URL += "?ns=" + url.QueryEscape(registry)
	}
	key := fmt.Sprintf("%q %q %t %s %s", q.URL, q.Address, q.SkipVerify, q.CAs, q.Pair)
	v, ok := c.answers[key]
	if !ok {
		v = judgeAnswer(c.Asker.Ask(ctx, q))(e, ref)
		c.answers[key] = v
	}
	return v
}

// judgeAnswer understands what a mirror said when it was asked for something that
// it must refuse.
func judgeAnswer(a Answer, err error) func(endpoint, verify.Ref) verdict {
	return func(e endpoint, ref verify.Ref) verdict {
		switch {
		case errors.Is(err, ErrUntrusted):
			cause := strings.TrimPrefix(err.Error(), ErrUntrusted.Error()+": ")
			return verdict{Unknown, CAUntrusted, fmt.Sprintf("The certificate of %s isn't trusted (%s), so nothing can be pulled from there.", e, cause)}
		case err != nil:
			return verdict{Unknown, Unreachable, fmt.Sprintf("%s doesn't answer (%v).", e, err)}
		}
		reason, named := readError(a.Body)
		switch {
		case a.Status == http.StatusOK:
			return verdict{Open, ServesAll, fmt.Sprintf("%s served a tag of %s that nobody signed.", e, ref.Name())}
		case a.Status == http.StatusUnauthorized:
			return verdict{Unknown, Unauthorized, fmt.Sprintf("%s wants a name and a password from doctor.", e)}
		case reason == "":
			return verdict{Open, NotTheMirror, fmt.Sprintf("%s is asked, which is no trustmirror: it answered with status %d and no reason.", e, a.Status)}
		case a.Status != http.StatusForbidden || !isRefusal(reason):
			return verdict{Unknown, NotReady, fmt.Sprintf("%s can't tell yet what it serves (%s).", e, reason)}
		case named != "" && named != ref.String():
			return verdict{Unknown, WrongName, fmt.Sprintf("%s was asked for %s, but understood %s.", e, ref.Name(), cutTag(named))}
		}
		return verdict{state: Closed, sentence: fmt.Sprintf("%s refused %s (%s).", e, ref.Name(), reason)}
	}
}

// only is the sentence for a client that asks nobody else.
func (v verdict) only() string {
	if v.state == Closed {
		return "Only the mirror is asked: " + v.sentence
	}
	return v.sentence
}

// readError reads trustmirror's error document; the reason is "" if it isn't one.
func readError(body []byte) (reason verify.Reason, ref string) {
	var document struct {
		Errors []struct {
			Detail json.RawMessage `json:"detail"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &document) != nil || len(document.Errors) != 1 {
		return "", ""
	}
	var detail struct {
		Reason verify.Reason `json:"reason"`
		Ref    string        `json:"ref"`
	}
	if json.Unmarshal(document.Errors[0].Detail, &detail) != nil {
		return "", ""
	}
	return detail.Reason, detail.Ref
}

// isRefusal is true for the reasons with which trustmirror denies.
func isRefusal(reason verify.Reason) bool {
	switch reason {
	case verify.NoPolicy, verify.UnsignedTag, verify.Malformed, verify.SignatureInvalid, verify.KeyNotPinned,
		verify.Rollback, verify.MetadataExpired, verify.RolesDisagree:
		return true
	}
	return false // the others are about content, which a tag that nobody signed doesn't lead to
}

func cutTag(ref string) string {
	if at := strings.LastIndex(ref, ":"); at > strings.LastIndex(ref, "/") {
		return ref[:at]
	}
	return ref
}

// checkMirror asks a mirror that was named, with what the operator trusts.
func (c *checker) checkMirror(ctx context.Context, mirror string) MirrorFinding {
	m := MirrorFinding{URL: mirror, State: Unknown, Trap: NotAsked, Sentence: "Nobody asked it."}
	e, err := parseEndpoint(mirror)
	if err != nil || c.Asker == nil {
		return m
	}
	v := c.ask(ctx, e, c.Registries[0], byQuery, trust{cas: c.MirrorCA})
	return MirrorFinding{URL: mirror, State: v.state, Trap: v.trap, Sentence: v.sentence}
}
