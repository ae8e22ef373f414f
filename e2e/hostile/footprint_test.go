package hostile

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
)

// footprint is what a process holds.
type footprint struct{ goroutines, files, unfinished int }

func (m *mirror) footprint(t *testing.T) footprint {
	t.Helper()
	response, err := m.client.Get(m.AdminURL + "/metrics")
	check(t, err)
	defer response.Body.Close()
	f := footprint{goroutines: -1, unfinished: len(staged(t, m))}
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if n, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			_, err := fmt.Sscan(n, &f.goroutines)
			check(t, err)
		}
	}
	if f.goroutines < 0 {
		t.Fatal("/metrics doesn't count goroutines")
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", m.Process.PID()))
	check(t, err)
	f.files = len(open)
	return f
}

// idle is how much more a process may hold for the connections to registries that
// it keeps for a while: two goroutines and a file for each.
const idle = 8

// settles waits until the process holds no more than before.
func (m *mirror) settles(t *testing.T, before footprint) {
	t.Helper()
	var now footprint
	defer func() { t.Logf("goroutines, open files, unfinished writes: %v before, %v after", before, now) }()
	waitFor(t, "the process to hold no more than before", func() bool {
		m.client.CloseIdleConnections()
		now = m.footprint(t)
		return now.goroutines <= before.goroutines+2*idle && now.files <= before.files+idle && now.unfinished <= before.unfinished
	})
}
