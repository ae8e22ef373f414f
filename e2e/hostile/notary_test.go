package hostile

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"testing"
)

// anotherMethod changes a signature's method, to one as long.
func anotherMethod(b []byte) []byte {
	return bytes.Replace(b, []byte(`"ecdsa","sig"`), []byte(`"eddsa","sig"`), 1)
}

func TestAttack6And13_TrustServiceLies(t *testing.T) {
	t.Parallel()
	trip := newTripwire(t)
	var scenarios []scenario
	for _, known := range []bool{false, true} {
		// Whoever has seen nothing can't tell what is signed. Whoever has knows of
		// the new tag only that nobody has vouched for it.
		suffix, status, reason := "", http.StatusServiceUnavailable, noTrust
		refused := "malformed"
		if known {
			suffix, status, reason, refused = "-later", http.StatusForbidden, "unsigned_tag", "unsigned_tag"
		}
		add := func(name string, f fault) {
			scenarios = append(scenarios, scenario{name: name + suffix, who: trust, fault: f, status: status, reason: reason, trip: trip, known: known})
		}
		addRefused := func(name string, f fault) {
			scenarios = append(scenarios, scenario{name: name + suffix, who: trust, fault: f, status: http.StatusForbidden, reason: refused, known: known})
		}
		addRefused("page", at("_trust", answer(200, page, "Content-Type", "text/html")))
		addRefused("empty", at("_trust", bytesOf(nothing)))
		addRefused("longer-than-it-says", at("_trust", part(-20, 1)))
		addRefused("endless", at("_trust", endless("\r\n", "[")))
		addRefused("huge-by-its-length", at("_trust", endless("Content-Length: 9000000000000000000\r\n\r\n", "{")))
		addRefused("followed-by-another", at("_trust", bytesOf(func(b []byte) []byte { return append(b, b...) })))
		add("cut", at("_trust", part(0, 0.99)))
		add("endless-header", at("_trust", endless("", "X-More: and more\r\n")))
		add("401", at("_trust", answer(401, "")))
		add("401-again-and-again", challenge(""))
		add("realm-elsewhere", challenge("http://localhost:"+trip.port+"/token"))
		add("403", at("_trust", answer(403, "")))
		add("429", at("_trust", answer(429, "", "Retry-After", "2")))
		add("429-without-a-time", at("_trust", answer(429, "")))
		add("500", at("_trust", answer(500, page)))
		add("503", at("_trust", answer(503, "", "Retry-After", "3")))
		add("redirect-loop", at("_trust", redirect("%s")))
		add("redirect-to-the-clouds-secrets", at("_trust", redirect("http://169.254.169.254/")))
		add("reset", raw(func(net.Conn, file) {}))
		add("silent", at("_trust", hang))
	}
	scenarios = append(scenarios,
		scenario{name: "404", who: trust, fault: at("_trust", answer(404, "")), status: 403, reason: "unsigned_tag"},
		scenario{name: "a-part-only", who: trust, fault: at("snapshot", answer(404, "")), status: 503, reason: noTrust},
		scenario{name: "one-letter", who: trust, fault: at("targets", bytesOf(anotherMethod)), status: 403, reason: "digest_mismatch"},
	)
	play(t, scenarios)
}

// TestAttack13_Gone has everybody gone before the first pull, and after it.
func TestAttack13_Gone(t *testing.T) {
	t.Parallel()
	s := newSite(t, "gone")
	servers := []*server{s.hub, s.copy, s.notary}
	stop := func() {
		for _, server := range servers {
			server.stop()
		}
	}
	stop()
	m := startMirror(t, s)
	pullBoth := func() error {
		return errors.Join(m.pull(t.Context(), s.signed(), tag, s.release.Hub), m.pull(t.Context(), s.copied(), tag, s.release.ECR))
	}
	var refused *refusal
	if err := pullBoth(); !errors.As(err, &refused) || refused.status != http.StatusServiceUnavailable || refused.reason != noTrust {
		t.Errorf("before the first pull: %v", err)
	}
	for _, server := range servers {
		server.start(t)
	}
	m.eventually(t, s.signed(), tag, s.release.Hub)
	second := release(t, "second")
	s.push(t, "0.1.20", second)
	s.publish(t)
	check(t, pullBoth())

	stop()
	check(t, pullBoth())
	if err := m.pull(t.Context(), s.signed(), "0.1.20", second.Hub); !errors.As(err, &refused) || refused.reason != "unsigned_tag" {
		t.Errorf("a tag that became known while all were gone: %v", err)
	}
	check(t, m.Process.Kill())
	m.client.CloseIdleConnections()
	check(t, m.Start(t.Context()))
	check(t, pullBoth())
	for _, server := range servers {
		server.start(t)
	}
	m.eventually(t, s.signed(), "0.1.20", second.Hub)
}
