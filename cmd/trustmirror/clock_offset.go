//go:build clockoffset

package main

import (
	"os"
	"strings"
	"time"
)

// wallClock is the clock of everything in this program: the machine's, moved by
// the duration in TRUSTMIRROR_CLOCK_OFFSET ("8760h"), or by the one that the file
// has which it names ("@/tmp/offset"), at each look. It exists in programs that are
// built for tests with the tag clockoffset, and in no others.
func wallClock() time.Time {
	text := os.Getenv("TRUSTMIRROR_CLOCK_OFFSET")
	if file, ok := strings.CutPrefix(text, "@"); ok {
		raw, err := os.ReadFile(file) //nolint:gosec // who starts the program names it
		if err != nil {
			return time.Now()
		}
		text = strings.TrimSpace(string(raw))
	}
	offset, err := time.ParseDuration(text)
	if err != nil {
		return time.Now()
	}
	return time.Now().Add(offset)
}
