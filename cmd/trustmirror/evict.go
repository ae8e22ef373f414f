package main

import (
	"context"

	"github.com/trustmirror/trustmirror/storage"
)

// evictBy has the mirror's storage evict, if it is a folder.
func (m *mirror) evictBy(s Storage) {
	if s.Driver == driverFilesystem {
		m.store.EvictBy(storage.Eviction{MaxSize: s.MaxSize, Free: storage.DiskFree(s.RootDirectory), Told: m.evicted, Clock: wallClock})
	}
}

// evict keeps storage below storage.max_size until ctx ends.
func (m *mirror) evict(ctx context.Context) error {
	m.store.EvictAlways(ctx)
	return nil
}

// evicted tells what storage evicted, and what it couldn't.
func (m *mirror) evicted(e storage.Evicted) {
	m.telemetry.counted().evicted(e)
	limit := m.started.Storage.MaxSize
	switch {
	case e.TooLarge != "":
		m.log.Warn("an object is larger than storage.max_size; it will be evicted first, and fetched again each time it's pulled: raise storage.max_size", "digest", e.TooLarge, "bytes", e.Bytes, "max_size", limit)
		return
	case e.Err != nil:
		m.log.Warn("storage can't be kept below a limit as it should; it is tried again", "error", e.Err)
	case e.Excess > 0:
		m.log.Warn("storage is above storage.max_size by what was just pulled or is being read, which isn't evicted yet: if this comes often, raise storage.max_size", "excess", e.Excess, "max_size", limit)
	}
	if e.DiskFull {
		m.log.Warn("the disk is full; what was used least recently was evicted to make room: set storage.max_size below what the disk has", "objects", e.Objects, "bytes", e.Bytes)
	} else if e.Objects > 0 {
		m.log.Info("evicted what was used least recently", "objects", e.Objects, "bytes", e.Bytes, "max_size", limit)
	}
}
