//go:build !clockoffset

package main

import "time"

// wallClock is the clock of everything in this program.
func wallClock() time.Time { return time.Now() }
