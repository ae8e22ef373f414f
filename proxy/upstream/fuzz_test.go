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

// A Content-Range that is accepted is one that can be written back and read as
// the same, and lies within its total.
func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/10", "bytes 5-9/*", "bytes */10", "bytes 9-5/10", "bytes +1-2/3", "bytes 0-9223372036854775807/*", "bytes 0-0/1", "Bytes 0-1/2", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, last, total, ok := parseContentRange(s)
		if !ok {
			return
		}
		if first < 0 || last < first || last+1 < 0 || total != -1 && last >= total {
			t.Fatalf("%q is %d-%d/%d", s, first, last, total)
		}
		of := "*"
		if total >= 0 {
			of = fmt.Sprint(total)
		}
		a, b, c, ok := parseContentRange(fmt.Sprintf("bytes %d-%d/%s", first, last, of))
		if !ok || a != first || b != last || c != total {
			t.Fatalf("%q doesn't survive writing back", s)
		}
	})
}

// A Retry-After that is accepted is bounded.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"0", "90", "4294967295", "-1", "Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if pause, ok := parseRetryAfter(s, time.Unix(1_800_000_000, 0)); ok && (pause < minRest || pause > maxRest) {
			t.Fatalf("%q is %v", s, pause)
		}
	})
}

// A realm that is accepted is on the registry's own domain and as private as
// the registry, however it is written; nobody's name or password is in it.
func FuzzRealm(f *testing.F) {
	for _, s := range []string{"https://hub.example.com/token", "https://auth.example.com", "https://example.com.evil.net", "https://hub.example.com@evil.net",
		"https://evil.net#.example.com", "https://evil.net\\.example.com/", "http://hub.example.com", "https://[::1]/", "https://EXAMPLE.com:1/"} {
		f.Add(s)
	}
	base := &url.URL{Scheme: "https", Host: "hub.example.com"}
	e := &endpoint{name: "hub.example", base: base}
	f.Fuzz(func(t *testing.T, s string) {
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
			t.Fatalf("%q is accepted: %s", s, req.URL)
		}
	})
}

// A redirect that is followed is never less private than what it comes from.
func FuzzRedirectTarget(f *testing.F) {
	for _, s := range []string{"/x", "//evil.net/x", "http://evil.net", "https://evil.net:99", "https://u@evil.net", "file:///x", "?x", "#x", "https:opaque", "https://"} {
		f.Add(s)
	}
	e := &endpoint{name: "hub.example"}
	from := &url.URL{Scheme: "https", Host: "hub.example.com", Path: "/v2/x"}
	f.Fuzz(func(t *testing.T, s string) {
		to, err := e.redirectTarget(from, s)
		if err == nil && (to.Scheme != "https" || to.Hostname() == "" || to.User != nil || to.Opaque != "" || to.Fragment != "") {
			t.Fatalf("%q leads to %#v", s, to)
		}
	})
}

// What a server says is printed on one line, without control characters.
func FuzzPrintable(f *testing.F) {
	f.Add("a\x1b[31mb\nc\u202e\u0000")
	f.Add(strings.Repeat("ä", 500))
	f.Fuzz(func(t *testing.T, s string) {
		p := printable(s)
		if len(p) > 210 || printable(p) != p && len(p) < 200 || strings.ContainsAny(p, "\r\n\x1b\u202e\x00") {
			t.Fatalf("%q is printed as %q", s, p)
		}
	})
}
