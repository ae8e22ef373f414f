package upstream

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// maxRedirects is how many redirects are followed for one answer.
const maxRedirects = 5

// follow asks for something and goes where the server redirects to. The
// authorization is for the server alone: it isn't sent to any other scheme, host
// or port, nor once one was involved. No Referer is sent.
func (e *endpoint) follow(ctx context.Context, c call, authorization string) (*http.Response, error) {
	u := &url.URL{Scheme: e.base.Scheme, Host: e.base.Host, Path: c.path}
	for range maxRedirects + 1 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return nil, err
		}
		for name, values := range c.header {
			req.Header[name] = values
		}
		if !sameOrigin(u, e.base) {
			authorization = ""
		}
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		resp, err := e.exchange(req, c)
		if err != nil || !isRedirect(resp.StatusCode) {
			return resp, err
		}
		u, err = e.redirectTarget(u, resp.Header.Get("Location"))
		discard(resp)
		if err != nil {
			return nil, err
		}
	}
	return nil, &refusedError{fmt.Sprintf("%s redirects more than %d times", e.name, maxRedirects)}
}

// isRedirect names the statuses of RFC 9110, section 15.4, that lead elsewhere.
func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// redirectTarget reads a Location header. What it leads to must be no less
// private than what it comes from; the address is judged when it is dialled.
func (e *endpoint) redirectTarget(from *url.URL, location string) (*url.URL, error) {
	to, err := from.Parse(location)
	switch {
	case location == "" || err != nil:
		return nil, &refusedError{fmt.Sprintf("%s redirects to nowhere in particular", e.name)}
	case to.Scheme != "https" && to.Scheme != "http" || to.Hostname() == "":
		return nil, &refusedError{fmt.Sprintf("%s redirects to something that isn't an HTTP address", e.name)}
	case from.Scheme == "https" && to.Scheme == "http":
		return nil, &refusedError{fmt.Sprintf("%s redirects from https to plain http, at %s", e.name, to.Host)}
	case to.User != nil:
		return nil, &refusedError{fmt.Sprintf("%s redirects to an address with a user name in it, at %s", e.name, to.Host)}
	}
	to.Fragment, to.RawFragment = "", ""
	return to, nil
}
