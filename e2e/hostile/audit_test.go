package hostile

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
)

var askers atomic.Int64

// newAsker is a user agent that no other request has: the decision log names it.
func newAsker() string { return fmt.Sprintf("hostile/%d.", askers.Add(1)) }

// audited holds what a client was told against the decision log: of a verdict there
// is one line, with the client, the same reason and reference; of anything else there
// is none. What isn't so is returned in place of the refusal.
func (m *mirror) audited(asker string, told error) error {
	var refused *refusal
	if !errors.As(told, &refused) {
		return told
	}
	log, err := os.ReadFile(m.Process.LogFile)
	if err != nil {
		return err
	}
	var lines []string
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "msg=decision verdict=refused ") && strings.Contains(line, " user_agent="+asker) {
			lines = append(lines, line)
		}
	}
	switch verdict := refused.status == http.StatusForbidden; {
	case verdict != (len(lines) == 1), len(lines) > 1:
		return fmt.Errorf("the client was told %q, and the decision log has %d lines of it", refused.Error(), len(lines))
	case verdict && !(strings.Contains(lines[0], " reason="+refused.reason+" ") && strings.Contains(lines[0], " ref="+refused.ref)):
		return fmt.Errorf("the client was told %q of %q, and the decision log says %s", refused.Error(), refused.ref, lines[0])
	}
	return told
}

// decided tells whether a log has the refusal of something that begins like ref.
func decided(log, ref, reason string) bool {
	for line := range strings.Lines(log) {
		if strings.Contains(line, "msg=decision verdict=refused ref="+ref) && strings.Contains(line, " reason="+reason+" ") {
			return true
		}
	}
	return false
}
