package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"go.yaml.in/yaml/v4"

	"github.com/trustmirror/trustmirror/proxy/activity"
)

// Decisions says where the decision log is written.
type Decisions struct {
	// File gets a line of JSON for each admission and refusal. Default: "", they
	// are in the mirror's own log.
	File string
	// MaxSize is how many bytes the file has before it is renamed to File.1, at
	// least 1 MiB. Default: 100 MiB.
	MaxSize int64
	// Keep is how many such older files there are at most, at least 1. Default: 5.
	Keep int
}

const maxKept = 1000

func (d *decoder) decisions(path string, n *yaml.Node, to *Decisions) {
	seen := d.mapping(path, n, fields{
		"file":     scalar(d, &to.File, parseLogFile),
		"max_size": scalar(d, &to.MaxSize, parseLogSize),
		"keep":     scalar(d, &to.Keep, parseKept),
	})
	d.require(path, seen, "file", "file: FILE, which gets a line for each decision")
}

// parseLogFile insists on a place where a file can be; whether it can be written
// shows when it is opened.
func parseLogFile(s string) (string, error) {
	folder := filepath.Dir(s)
	info, err := os.Stat(folder)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("there is no folder %s; make it, or name another file", folder)
	case err != nil:
		return "", fmt.Errorf("the folder %s can't be used (%w); name a file elsewhere", folder, err)
	case !info.IsDir():
		return "", fmt.Errorf("%s is no folder; name a file elsewhere", folder)
	}
	if info, err := os.Stat(s); err == nil && !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is no file that can be written to; name another, or leave decisions out and have them in the log", s)
	}
	return s, nil
}

func parseLogSize(s string) (int64, error) {
	size, err := parseSize(s)
	if err == nil && size < 1<<20 {
		return 0, fmt.Errorf("%s is too small for a log; write 1MiB or more", s)
	}
	return size, err
}

func parseKept(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxKept {
		return 0, fmt.Errorf("%q is no number of files; write one from 1 to %d", s, maxKept)
	}
	return n, nil
}

// newActivity opens the decision log; an error is a *mistake.
func (m *mirror) newActivity(c *Config) (*activity.Recorder, error) {
	r, err := activity.New(activity.Config{File: c.Decisions.File, MaxSize: c.Decisions.MaxSize, Keep: c.Decisions.Keep, Log: m.log})
	if err != nil {
		return nil, c.places.mistake("decisions.file", "decisions.file: %v", err)
	}
	return r, nil
}
