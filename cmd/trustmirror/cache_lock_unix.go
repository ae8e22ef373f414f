//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"errors"
	"os"
	"syscall"
)

// lockFolder locks a folder, alone or shared, until the file is closed:
// errFolderInUse if somebody has it so that it can't be had.
func lockFolder(path string, alone bool) (*os.File, error) {
	folder, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_SH
	if alone {
		how = syscall.LOCK_EX
	}
	err = syscall.Flock(int(folder.Fd()), how|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errFolderInUse
	}
	if err != nil {
		folder.Close()
		return nil, err
	}
	return folder, nil
}
