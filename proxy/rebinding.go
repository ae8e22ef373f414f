package proxy

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// onlyByOwnName answers what arrives at a loopback address only if it is asked for
// as an IP address or localhost. Any other name that leads there is one that a web
// page's owner has made to mean this machine, so that a browser here reads for the
// page what only this machine may (DNS rebinding).
func onlyByOwnName(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		if at != nil && at.IP.IsLoopback() && !isOwnName(r.Host) {
			http.Error(w, "This is the admin address of a trustmirror, at a loopback address: ask for it as 127.0.0.1 or localhost.", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isOwnName tells whether a Host is an IP address or localhost (RFC 6761, section
// 6.3), which no page can have for a name. Browsers always send one.
func isOwnName(host string) bool {
	if bare, _, err := net.SplitHostPort(host); err == nil {
		host = bare
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	_, err := netip.ParseAddr(host)
	return err == nil || host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost")
}
