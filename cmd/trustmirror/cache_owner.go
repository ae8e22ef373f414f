//go:build unix

package main

import (
	"io/fs"
	"os"
	"syscall"
)

// ownedByAnother tells whether this is root, and who owns a folder is not.
func ownedByAnother(info fs.FileInfo) (owner int, other bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return 0, false
	}
	return int(stat.Uid), stat.Uid != 0
}
