package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ticks is how many units of CPU time in /proc are a second: USER_HZ, which is 100 on
// every Linux.
const ticks = 100

// cpuSeconds is the CPU time that a process has used, with those of its group: nginx
// has workers.
func cpuSeconds(pid int) (float64, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	used := 0
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil { // it has ended meanwhile
			continue
		}
		// The name, in brackets, may hold anything; after it come state, parent, group
		// (proc(5)).
		fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
		if len(fields) < 13 || fields[2] != strconv.Itoa(pid) {
			continue
		}
		user, err := strconv.Atoi(fields[11])
		system, err2 := strconv.Atoi(fields[12])
		if err := errors.Join(err, err2); err != nil {
			return 0, err
		}
		used += user + system
	}
	return float64(used) / ticks, nil
}

// memory is a process's "VmRSS" (what it holds now) or "VmHWM" (the most it held) in
// MiB.
func memory(pid int, what string) (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if value, ok := strings.CutPrefix(line, what+":"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			return float64(kib) / 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no %s", pid, what)
}
