package main

import (
	"os"
	"slices"
	"time"
)

// stamp tells whether a file was changed, through symbolic links too. Zero: there
// is no such file.
type stamp struct {
	info     os.FileInfo // for which file it is
	modified time.Time
	size     int64
}

func stampOf(file string) stamp {
	info, err := os.Stat(file)
	if err != nil {
		return stamp{}
	}
	return stamp{info: info, modified: info.ModTime(), size: info.Size()}
}

func stampsOf(files []string) []stamp {
	var all []stamp
	for _, file := range files {
		all = append(all, stampOf(file))
	}
	return all
}

func sameStamps(a, b []stamp) bool {
	return slices.EqualFunc(a, b, func(a, b stamp) bool {
		if a.info == nil || b.info == nil {
			return a.info == nil && b.info == nil
		}
		return a.size == b.size && a.modified.Equal(b.modified) && os.SameFile(a.info, b.info)
	})
}

// watched are files that are looked at now and then.
type watched struct {
	files  []string
	read   []stamp // when they were read
	before []stamp // at the look before
}

// changed tells whether the files aren't those that were read, and stayed the
// same from one look to the next: so nothing half-written is taken for whole.
func (w *watched) changed() bool {
	now := stampsOf(w.files)
	settled := sameStamps(now, w.before)
	w.before = now
	return settled && !sameStamps(now, w.read)
}

// readWatched reads a configuration, and tells the files that it rests on as they
// were before it was read. What is to be watched is right whatever the error says.
func readWatched(file string) (*Config, *watched, error) {
	w := &watched{files: []string{file}}
	w.read = stampsOf(w.files)
	c, err := readConfig(file) // tells which other files there are
	if err == nil {
		w.files = c.files(file)
		w.read = stampsOf(w.files)
		c, err = readConfig(file)
	}
	return c, w, err
}

// files are those that the configuration in a file rests on. Certificates, users
// and passwords are read again whenever they are used, and aren't among them.
func (c *Config) files(file string) []string {
	files := []string{file}
	for _, u := range c.Upstreams {
		files = append(files, u.CA)
	}
	for _, i := range c.Images {
		switch {
		case i.Notary != nil:
			files = append(files, i.Notary.CA)
		case i.Archive != nil:
			files = append(files, i.Archive.File)
		case i.Digests != nil:
			files = append(files, i.Digests.File)
		}
	}
	slices.Sort(files)
	return slices.DeleteFunc(slices.Compact(files), func(s string) bool { return s == "" })
}
