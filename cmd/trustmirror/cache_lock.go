package main

import (
	"errors"
	"net"
	"os"
)

// A Gate writes what leads to a layer only after comparing that with what is
// recorded of the layer already, under one mutex (verify.GateConfig). Two processes
// have no mutex in common: one could admit a copy's manifest while the other admits
// a layer that contradicts it, and neither would notice. So what writes beside serve
// has to have the folder to itself. serve holds a lock that it shares with other
// serves, as it always could; the lock ends with the process.

var errFolderInUse = errors.New("the folder is in use")

// shareFolder takes a mirror's lock on its storage folder; nil where there is no
// folder, or its file system knows no locks. An error is a *mistake.
func (c *Config) shareFolder() (*os.File, error) {
	if c.Storage.Driver != driverFilesystem {
		return nil, nil
	}
	lock, err := lockFolder(c.Storage.RootDirectory, false)
	if errors.Is(err, errFolderInUse) {
		return nil, c.places.mistake("storage.filesystem.rootdirectory",
			"storage.filesystem.rootdirectory: trustmirror cache warm is writing to %s; wait until it has ended, or end it", c.Storage.RootDirectory)
	}
	return lock, nil // pulls need no lock
}

// ownFolder takes a lock that no mirror shares. An error is a *mistake.
func (c *Config) ownFolder() (*os.File, error) {
	const path = "storage.filesystem.rootdirectory"
	lock, err := lockFolder(c.Storage.RootDirectory, true)
	switch {
	case errors.Is(err, errFolderInUse):
		return nil, c.places.mistake(path, "%s: a mirror is running on %s; leave -c out and warm through it, with --mirror %s", path, c.Storage.RootDirectory, c.Listen.url())
	case err != nil:
		return nil, c.places.mistake(path, "%s: it can't be told whether a mirror is running on %s (%v); leave -c out, and warm through a mirror with --mirror URL", path, c.Storage.RootDirectory, err)
	}
	return lock, nil
}

// url is where the mirror can be asked on its own machine, as far as the
// configuration tells.
func (l Listen) url() string {
	scheme := "http"
	if l.TLS != nil {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(l.Address)
	if err != nil || port == "0" {
		return scheme + "://ITS-ADDRESS"
	}
	return scheme + "://" + net.JoinHostPort(reachable(host), port)
}
