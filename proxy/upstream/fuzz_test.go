package upstream

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// FuzzHeaders: what servers say in headers is held to what it may mean.
func FuzzHeaders(f *testing.F) {
	for _, s := range []string{
		"bytes 0-9/10", "bytes 5-9/*", "bytes */10", "bytes 9-5/10", "bytes +1-2/3", "bytes 0-9223372036854775807/*", "bytes 0-0/1", "Bytes 0-1/2", "",
		"0", "90", "4294967295", "-1", "Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 GMT",
		"https://hub.example.com/token", "https://auth.example.com", "https://example.com.evil.net", "https://hub.example.com@evil.net",
		"https://evil.net#.example.com", "https://evil.net\\.example.com/", "http://hub.example.com", "https://[::1]/", "https://EXAMPLE.com:1/",
		"/x", "//evil.net/x", "https://evil.net:99", "https://u@evil.net", "file:///x", "?x", "#x", "https:opaque", "https://",
		"a\x1b[31mb\nc\u202e\u0000", strings.Repeat("ä", 500),
	} {
		f.Add(s)
	}
	base := &url.URL{Scheme: "https", Host: "hub.example.com"}
	e := &endpoint{name: "hub.example", base: base}
	f.Fuzz(func(t *testing.T, s string) {
		checkContentRange(t, s)
		if pause, ok := parseRetryAfter(s, time.Unix(1_800_000_000, 0)); ok && (pause < minRest || pause > maxRest) {
			t.Errorf("a Retry-After of %q is %v", s, pause)
		}
		checkRealm(t, e, s)
		to, err := e.redirectTarget(base.JoinPath("v2/x"), s)
		// A redirect that is followed is never less private than what it comes from.
		if err == nil && (to.Scheme != "https" || to.Hostname() == "" || to.User != nil || to.Opaque != "" || to.Fragment != "") {
			t.Errorf("a Location of %q leads to %#v", s, to)
		}
		// What a server says is printed on one line, without control characters.
		p := printable(s)
		if len(p) > 210 || printable(p) != p && len(p) < 200 || strings.ContainsAny(p, "\r\n\x1b\u202e\x00") {
			t.Errorf("%q is printed as %q", s, p)
		}
	})
}

// checkContentRange: one that is accepted can be written back and read as the same,
// and lies within its total.
func checkContentRange(t *testing.T, s string) {
	t.Helper()
	first, last, total, ok := parseContentRange(s)
	if !ok {
		return
	}
	if first < 0 || last < first || last+1 < 0 || total != -1 && last >= total {
		t.Errorf("%q is %d-%d/%d", s, first, last, total)
	}
	of := "*"
	if total >= 0 {
		of = fmt.Sprint(total)
	}
	a, b, c, ok := parseContentRange(fmt.Sprintf("bytes %d-%d/%s", first, last, of))
	if !ok || a != first || b != last || c != total {
		t.Errorf("%q doesn't survive writing back", s)
	}
}

// checkRealm: one that is accepted is on the registry's own domain and as private
// as the registry, however it is written; nobody's name or password is in it.
func checkRealm(t *testing.T, e *endpoint, s string) {
	t.Helper()
	u, err := e.checkRealm(s)
	if err != nil {
		return
	}
	// What is dialled is what net/http makes of it.
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, s, nil)
	if err != nil {
		return
	}
	host := strings.ToLower(req.URL.Hostname())
	if req.URL.Scheme != "https" || req.URL.User != nil || u.User != nil || host != "example.com" && !strings.HasSuffix(host, ".example.com") {
		t.Errorf("the realm %q is accepted: %s", s, req.URL)
	}
}
