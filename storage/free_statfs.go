//go:build linux || darwin

package storage

import (
	"errors"
	"syscall"
)

// errUntold says that a file system says nothing of its size.
var errUntold = errors.New("the file system has no size")

// DiskFree tells how many bytes the disk has left that a folder is on, for users
// other than root; nil where systems don't say.
func DiskFree(folder string) func() (int64, error) {
	return func() (int64, error) {
		var s syscall.Statfs_t
		if err := syscall.Statfs(folder, &s); err != nil {
			return 0, err
		}
		if s.Blocks == 0 { // as some in user space say, which aren't full
			return 0, errUntold
		}
		return int64(s.Bavail) * int64(s.Bsize), nil //nolint:gosec,unconvert // no disk has 2^63 bytes; the types differ between systems
	}
}
