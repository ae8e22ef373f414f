//go:build clockoffset

package main

import (
	"os"
	"time"
)

// wallClock is the clock of everything in this program: the machine's, moved by
// the duration in TRUSTMIRROR_CLOCK_OFFSET ("8760h"). It exists in programs that
// are built for tests with the tag clockoffset, and in no others.
func wallClock() time.Time {
	offset, err := time.ParseDuration(os.Getenv("TRUSTMIRROR_CLOCK_OFFSET"))
	if err != nil {
		return time.Now()
	}
	return time.Now().Add(offset)
}
