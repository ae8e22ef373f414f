package upstream

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// checkRealm decides whether a token server that was named in a challenge may be
// asked: the one that the operator named, or one on the server's own host or
// registrable domain, and by https if the server itself is.
func (e *endpoint) checkRealm(realm string) (*url.URL, error) {
	u, err := url.Parse(realm)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, &refusedError{fmt.Sprintf("%s names no usable token server in its challenge", e.name)}
	case e.tokenRealm != nil && sameOrigin(u, e.tokenRealm) && u.EscapedPath() == e.tokenRealm.EscapedPath() && u.RawQuery == e.tokenRealm.RawQuery:
		return u, nil
	case u.Scheme == "http" && e.base.Scheme == "https":
		return nil, &refusedError{fmt.Sprintf("%s wants us to authenticate over plain http at %s, which isn't asked", e.name, u.Host)}
	case !sameSite(e.base.Hostname(), u.Hostname()):
		return nil, &refusedError{fmt.Sprintf("%s wants us to authenticate at %s, which is neither its own host nor on its domain, and isn't asked: "+
			"if that is right, configure it as its token realm", e.name, u.Host)}
	}
	return u, nil
}

// sameSite tells whether two hosts are one, or on one registrable domain of the
// public suffix list. Addresses, single labels and names under suffixes that the
// list doesn't know are only ever the same as themselves.
func sameSite(a, b string) bool {
	a, b = strings.ToLower(a), strings.ToLower(b)
	if a == b {
		return a != ""
	}
	siteA, siteB := site(a), site(b)
	return siteA != "" && siteA == siteB
}

func site(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	suffix, icann := publicsuffix.PublicSuffix(host)
	if !icann && !strings.Contains(suffix, ".") {
		return "" // the list's default rule, not an entry of it
	}
	s, err := publicsuffix.EffectiveTLDPlusOne(host)
	if err != nil {
		return ""
	}
	return s
}
