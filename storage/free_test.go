//go:build linux

package storage

import "testing"

// A file system that says it has no blocks at all, as some in user space do, doesn't
// say that it's full.
func TestAttack76_FileSystemThatTellsNothing(t *testing.T) {
	if free, err := DiskFree("/proc")(); err == nil {
		t.Errorf("/proc has %d bytes left", free)
	}
	if free, err := DiskFree(t.TempDir())(); err != nil || free <= 0 {
		t.Errorf("a folder: %d, %v", free, err)
	}
}
