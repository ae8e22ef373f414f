package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestServeEvicts has more in storage than may be, which nobody used for an hour.
func TestServeEvicts(t *testing.T) {
	config := newLab(t).write(t, "storage:\n", "storage:\n  max_size: 1MiB\n  scrub: 0\n") // scrubbing would set it aside
	name := strings.Repeat("0", 64)
	file := filepath.Join(filepath.Dir(config), "data", "content", "sha256", "00", name)
	hourAgo := time.Now().Add(-time.Hour)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o750), os.WriteFile(file, make([]byte, 2<<20), 0o600), os.Chtimes(file, hourAgo, hourAgo)); err != nil {
		t.Fatal(err)
	}
	s := startServe(t, config)
	s.line("evicted what was used least recently")
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	_, metrics := get(t, testClient, "http://"+s.admin+"/metrics")
	for _, line := range []string{
		`trustmirror_cache_evictions_total{cause="max_size"} 1`, `trustmirror_cache_evicted_bytes_total{cause="max_size"} 2.097152e+06`,
	} {
		if !strings.Contains(string(metrics), "\n"+line+"\n") {
			t.Errorf("/metrics has no line %s", line)
		}
	}
	if _, cache := get(t, testClient, "http://"+s.admin+"/api/v1/cache"); !strings.Contains(string(cache), `"max_size":1048576,"last_eviction":"`) {
		t.Errorf("/api/v1/cache says %s", cache)
	}
}
