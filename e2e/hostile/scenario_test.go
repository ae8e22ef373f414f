package hostile

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"testing"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// where is who lies.
type where int

const (
	hub    where = iota // the registry of the signed repository
	copies              // that of the copy; the pull is by the copy's name
	trust               // the trust service
)

// scenario is one way in which a server lies, and what the client must be told.
type scenario struct {
	name   string
	who    where
	fault  fault
	status int
	reason string
	// trip is a server that must not be connected to; nil: there is none.
	trip *tripwire
	// known lets there be a pull that goes well before, of another release.
	known bool
}

// retryAfter are the statuses with which a client is told to come back.
var retryAfter = []int{http.StatusTooManyRequests, http.StatusServiceUnavailable}

// play runs all scenarios at once against one process, each with servers and a
// repository of its own. In each, the first pull fails as it should; once the
// server is good again, it goes well. Meanwhile a repository whose servers are
// good is served.
func play(t *testing.T, scenarios []scenario) {
	t.Helper()
	good := newSite(t, "good")
	sites := []*site{good}
	for _, sc := range scenarios {
		s := newSite(t, sc.name)
		if !sc.known { // the mirror asks the trust service soon, whether or not anybody pulls
			server, _, _ := sc.against(s)
			server.set(sc.fault)
		}
		sites = append(sites, s)
	}
	m := startMirror(t, sites...)
	t.Run("all", func(t *testing.T) {
		for i, sc := range scenarios {
			t.Run(sc.name, func(t *testing.T) {
				t.Parallel()
				sc.run(t, m, sites[i+1])
			})
		}
		t.Run("good", func(t *testing.T) {
			t.Parallel()
			check(t, m.pull(t.Context(), good.signed(), tag, good.release.Hub))
			check(t, m.pull(t.Context(), good.copied(), tag, good.release.ECR))
		})
	})
	m.bounded(t)
}

// against is the server that is at fault, and what is pulled.
func (sc scenario) against(s *site) (*server, string, lab.Release) {
	switch sc.who {
	case copies:
		return s.copy, s.copied(), s.release.ECR
	case trust:
		return s.notary, s.signed(), s.release.Hub
	}
	return s.hub, s.signed(), s.release.Hub
}

func (sc scenario) run(t *testing.T, m *mirror, s *site) {
	t.Helper()
	server, name, want := sc.against(s)
	pulled := tag
	if sc.known {
		check(t, m.pull(t.Context(), name, tag, want))
		pulled, want = "0.1.20", release(t, "second "+sc.name).Hub
		put(s.hub, pulled, want)
		s.signer.sign(pulled, want.Top())
		s.publish(t)
	}
	server.set(sc.fault)
	err := m.pull(t.Context(), name, pulled, want)
	var refused *refusal
	if !errors.As(err, &refused) {
		t.Fatalf("the client got no refusal, but %v", err)
	}
	if refused.status != sc.status || refused.reason != sc.reason || refused.message == "" {
		t.Errorf("the client was told %v; it should be %d, %s", refused, sc.status, sc.reason)
	}
	if seconds, _ := strconv.Atoi(refused.retryAfter); (seconds > 0) != slices.Contains(retryAfter, sc.status) {
		t.Errorf("%d has the Retry-After %q", refused.status, refused.retryAfter)
	}
	if sc.known { // what was served goes on being served
		check(t, m.pull(t.Context(), name, tag, s.release.Hub))
	}
	server.set(nil)
	m.eventually(t, name, pulled, want)
	if sc.trip != nil {
		sc.trip.untouched(t)
	}
}
