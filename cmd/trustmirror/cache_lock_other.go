//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package main

import (
	"errors"
	"os"
)

// lockFolder is for systems on which folders can't be locked.
func lockFolder(string, bool) (*os.File, error) { return nil, errors.ErrUnsupported }
