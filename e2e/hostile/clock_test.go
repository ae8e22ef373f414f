package hostile

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// TestAttack35_ClockJumpsWhileServing sets the clock of a running mirror back and
// forth. Back changes nothing; forward beyond what is signed for a year nothing is
// served; and when the clock is right again, so is everything else.
func TestAttack35_ClockJumpsWhileServing(t *testing.T) {
	movable, err := lab.BuildMirror(t.Context(), t.TempDir(), "clockoffset")
	check(t, err)
	s := newSite(t, "jumps")
	cold := map[string]lab.Published{"hour-back": {}, "month-on": {}, "year-back": {}}
	for name := range cold {
		cold[name] = release(t, name)
		s.push(t, name, cold[name])
	}
	s.publish(t)

	offset := filepath.Join(t.TempDir(), "offset")
	m := newMirrorOf(t, newLab(t), movable, s)
	m.Env = []string{"TRUSTMIRROR_CLOCK_OFFSET=@" + offset}
	served := func(tag string, want lab.Published) {
		t.Helper()
		check(t, m.pull(t.Context(), s.signed(), tag, want.Hub))
		check(t, m.pull(t.Context(), s.copied(), tag, want.ECR))
	}
	jump := func(by string) { check(t, os.WriteFile(offset, []byte(by), 0o600)) }

	jump("0s")
	check(t, m.Start(t.Context()))
	served(tag, s.release)
	before := m.footprint(t)

	jump("-1h")
	served(tag, s.release)
	served("hour-back", cold["hour-back"])
	jump("720h")
	served(tag, s.release)
	served("month-on", cold["month-on"])

	jump("8784h") // 366 days
	for _, name := range []string{s.signed(), s.copied()} {
		err := m.pull(t.Context(), name, tag, s.release.Hub)
		var refused *refusal
		if !errors.As(err, &refused) || refused.status != http.StatusForbidden || refused.reason != "metadata_expired" {
			t.Errorf("after a year: %v", err)
		}
	}
	m.saysReady(t, http.StatusServiceUnavailable, "expired")

	for _, by := range []string{"0s", "-1h"} {
		jump(by)
		served(tag, s.release)
		m.saysReady(t, http.StatusOK, "")
	}
	served("year-back", cold["year-back"])
	m.nothingPartial(t)
	m.settles(t, before)
}
