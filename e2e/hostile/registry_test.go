package hostile

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// What clients are told.
const (
	unavailable = "upstream_unavailable"
	noTrust     = "trust_unavailable"
)

// changes of a file's bytes.
func flipped(b []byte) []byte { b[len(b)/2] ^= 1; return b }
func longer(b []byte) []byte  { return append(b, '\n') }
func shorter(b []byte) []byte { return b[:len(b)-1] }
func nothing([]byte) []byte   { return nil }

// challenge is a fault that answers 401 to everything but the token server.
func challenge(realm string) fault {
	return func(w http.ResponseWriter, r *http.Request, _ file) bool {
		if r.URL.Path == "/token" {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"token": "as good as any"}`)
			return true
		}
		if realm == "" {
			realm = "http://" + r.Host + "/token"
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm+`",service="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
}

// redirect is a fault that sends everybody to location; %s in it is the server itself.
func redirect(location string) fault {
	return func(w http.ResponseWriter, r *http.Request, _ file) bool {
		w.Header().Set("Location", strings.ReplaceAll(location, "%s", "http://"+r.Host+r.URL.Path))
		w.WriteHeader(http.StatusTemporaryRedirect)
		return true
	}
}

// otherPart cuts a file, and answers the question for the rest with another part.
func otherPart(w http.ResponseWriter, r *http.Request, good file) bool {
	if r.Header.Get("Range") == "" {
		return part(0, 0.5)(w, r, good)
	}
	w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-9/%d", len(good.body)))
	w.WriteHeader(http.StatusPartialContent)
	_, _ = w.Write(good.body[:10])
	return true
}

// on makes a scenario's fault apply to paths with a part only.
func on(part string, all []scenario) []scenario {
	for i := range all {
		all[i].name, all[i].fault = part+"-"+all[i].name, at("/"+part+"/", all[i].fault)
	}
	return all
}

const page = "<!DOCTYPE html><html><body>Please log in to this network</body></html>"

func TestAttack14To23_RegistryLies(t *testing.T) {
	t.Parallel()
	rate := answer(http.StatusTooManyRequests, "", "Retry-After", "2")
	scenarios := on("manifests", []scenario{
		{name: "page", fault: answer(200, page, "Content-Type", "text/html"), status: 503, reason: unavailable},
		{name: "empty", fault: bytesOf(nothing), status: 503, reason: unavailable},
		{name: "cut", fault: part(0, 0.99), status: 503, reason: unavailable},
		{name: "longer-than-it-says", fault: part(-20, 1), status: 403, reason: "size_mismatch"},
		{name: "shorter-than-it-says", fault: part(20, 1), status: 503, reason: unavailable},
		{name: "endless", fault: endless("\r\n", "{"), status: 403, reason: "size_mismatch"},
		{name: "huge-by-its-length", fault: endless("Content-Length: 9000000000000000000\r\n\r\n", "{"), status: 403, reason: "size_mismatch"},
		{name: "endless-header", fault: endless("", "X-More: and more\r\n"), status: 503, reason: unavailable},
		{name: "one-bit", fault: bytesOf(flipped), status: 403, reason: "digest_mismatch"},
		{name: "newline", fault: bytesOf(longer), status: 403, reason: "size_mismatch"},
		{name: "one-byte-less", fault: bytesOf(shorter), status: 403, reason: "size_mismatch"},
		{name: "schema-1", fault: typed("application/vnd.docker.distribution.manifest.v1+prettyjws"), status: 403, reason: "media_type"},
		{name: "another-type", fault: typed("application/vnd.oci.image.manifest.v1+json"), status: 403, reason: "ambiguous_document"},
		{name: "two-types", fault: answer(200, "{}", "Content-Type", "a/b", "Content-Type", "c/d"), status: 503, reason: unavailable},
		{name: "compressed", fault: answer(200, "x", "Content-Encoding", "gzip"), status: 503, reason: unavailable},
		{name: "401", fault: answer(401, ""), status: 503, reason: unavailable},
		{name: "403", fault: answer(403, `{"errors":[{"code":"DENIED"}]}`), status: 503, reason: unavailable},
		{name: "404", fault: answer(404, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`), status: 404, reason: "not_found"},
		{name: "429", fault: rate, status: 429, reason: "rate_limited"},
		{name: "429-without-a-time", fault: answer(429, ""), status: 429, reason: "rate_limited"},
		{name: "500", fault: answer(500, page), status: 503, reason: unavailable},
		{name: "503", fault: answer(503, "", "Retry-After", "3"), status: 503, reason: unavailable},
		{name: "599", fault: answer(599, ""), status: 503, reason: unavailable},
		{name: "204", fault: answer(204, ""), status: 503, reason: unavailable},
		{name: "206", fault: answer(206, "{}"), status: 503, reason: unavailable},
		{name: "reset", fault: raw(func(net.Conn, file) {}), status: 503, reason: unavailable},
		{name: "no-http", fault: raw(func(c net.Conn, _ file) { _, _ = io.WriteString(c, "220 mail ready\r\n") }), status: 503, reason: unavailable},
		{name: "redirect-loop", fault: redirect("%s"), status: 503, reason: unavailable},
		{name: "redirect-to-the-clouds-secrets", fault: redirect("http://169.254.169.254/latest/meta-data/"), status: 503, reason: unavailable},
		{name: "redirect-to-a-file", fault: redirect("file:///etc/passwd"), status: 503, reason: unavailable},
		{name: "redirect-with-a-user", fault: redirect("http://me:secret@127.0.0.1/"), status: 503, reason: unavailable},
		{name: "redirect-nowhere", fault: redirect(""), status: 503, reason: unavailable},
		{name: "silent", fault: hang, status: 503, reason: unavailable},
	})
	scenarios = append(scenarios, on("blobs", []scenario{
		{name: "page", fault: answer(200, page, "Content-Type", "text/html"), status: 503, reason: unavailable},
		{name: "empty", fault: bytesOf(nothing), status: 403, reason: "size_mismatch"},
		{name: "cut", fault: part(0, 0.99), status: 503, reason: unavailable},
		{name: "shorter-than-it-says", fault: part(20, 1), status: 503, reason: unavailable},
		{name: "another-part", fault: otherPart, status: 503, reason: unavailable},
		{name: "endless", fault: endless("\r\n", "0123456789abcdef"), status: 403, reason: "size_mismatch"},
		{name: "huge-by-its-length", fault: endless("Content-Length: 9000000000000000000\r\n\r\n", "x"), status: 403, reason: "size_mismatch"},
		{name: "one-bit", fault: bytesOf(flipped), status: 403, reason: "digest_mismatch"},
		{name: "newline", fault: bytesOf(longer), status: 403, reason: "size_mismatch"},
		{name: "404", fault: answer(404, ""), status: 404, reason: "not_found"},
		{name: "429", fault: rate, status: 429, reason: "rate_limited"},
		{name: "500", fault: answer(500, ""), status: 503, reason: unavailable},
		{name: "redirect-to-the-clouds-secrets", fault: redirect("http://[fe80::1]/"), status: 503, reason: unavailable},
	})...)
	scenarios = append(scenarios, scenario{name: "401-again-and-again", fault: challenge(""), status: 503, reason: unavailable})
	trip := newTripwire(t)
	for _, host := range []string{"localhost", "127.0.0.2", "127.0.0.1.nip.test", "[::1]"} {
		scenarios = append(scenarios, scenario{name: fmt.Sprint("realm-", len(scenarios)), trip: trip, status: 503, reason: unavailable,
			fault: challenge("http://" + host + ":" + trip.port + "/token")})
	}
	play(t, scenarios)
}

// typed is a fault that gives the good file another type.
func typed(contentType string) fault {
	return func(w http.ResponseWriter, _ *http.Request, good file) bool {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(good.body)
		return true
	}
}

// The registry of a copy lies; by its own name, none but it is asked for the tag.
func TestAttack22_CopyLies(t *testing.T) {
	t.Parallel()
	play(t, on("manifests", []scenario{
		{name: "page", who: copies, fault: answer(200, page, "Content-Type", "text/html"), status: 503, reason: unavailable},
		{name: "empty", who: copies, fault: bytesOf(nothing), status: 503, reason: unavailable},
		{name: "endless", who: copies, fault: endless("\r\n", "["), status: 403, reason: "size_mismatch"},
		{name: "newline", who: copies, fault: bytesOf(func(b []byte) []byte { return append(b, "{}"...) }), status: 403, reason: "malformed"},
		{name: "500", who: copies, fault: answer(500, ""), status: 503, reason: unavailable},
		{name: "404", who: copies, fault: answer(404, ""), status: 404, reason: "not_found"},
		{name: "429", who: copies, fault: answer(429, "", "Retry-After", "1"), status: 429, reason: "rate_limited"},
		{name: "redirect-loop", who: copies, fault: redirect("%s"), status: 503, reason: unavailable},
	}))
}
