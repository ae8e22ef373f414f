package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// lookAtFilesEvery is how often it is looked whether the configuration, or a file
// that it names, has changed.
const lookAtFilesEvery = 2 * time.Second

// reloads remembers how reading the configuration again went.
type reloads struct {
	mu    sync.Mutex // guards state
	state reloadState
}

// reloadState is what /readyz tells of the configuration. One that fails leaves
// the mirror ready: the one before stays in force.
type reloadState struct {
	Loaded      time.Time  `json:"loaded"`                 // when what is in force was read
	FailedSince *time.Time `json:"failed_since,omitempty"` // since when the file can't be used
	Error       string     `json:"error,omitempty"`        // why, as FILE:LINE: sentence
}

func (r *reloads) get() reloadState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

func (r *reloads) succeeded(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = reloadState{Loaded: at.UTC()}
}

// failed notes a failure and tells whether it is another one than before.
func (r *reloads) failed(at time.Time, why string) (other bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	other = r.state.Error != why
	if r.state.FailedSince == nil {
		since := at.UTC()
		r.state.FailedSince = &since
	}
	r.state.Error = why
	return other
}

// watch reads the configuration again when it is told to, and when its files
// change, until ctx ends. While what is there can't be used it is tried at every
// look: what is missing may come.
func (m *mirror) watch(ctx context.Context, w *watched, hangups <-chan os.Signal) error {
	ticker := time.NewTicker(lookAtFilesEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangups:
			m.log.Info("reading the configuration again", "why", "SIGHUP")
			w = m.reload(ctx, true)
		case <-ticker.C:
			switch {
			case m.reloads.get().FailedSince != nil:
				w = m.reload(ctx, false)
			case w.changed():
				m.log.Info("reading the configuration again", "why", "a file has changed")
				w = m.reload(ctx, true)
			}
		}
	}
}

// reload brings the configuration into force as it is now, whole or not at all,
// and returns what to watch from then on. A failure that was told before is told
// only if asked for.
func (m *mirror) reload(ctx context.Context, tell bool) *watched {
	c, w, err := readWatched(m.file)
	var p *parts
	if err == nil {
		p, err = m.prepare(ctx, c)
	}
	if err != nil {
		why := strings.ReplaceAll(err.Error(), "\n", "; ")
		if m.reloads.failed(wallClock(), why) || tell {
			m.log.Error("the configuration can't be used; the one before stays in force", "error", why)
		}
		return w
	}
	m.retire(m.current.put(p))
	hint(m.reloaded)
	m.reloads.succeeded(wallClock())
	m.announceImages(c)
	m.log.Info("the configuration was read again and is in force", "images", len(c.Images))
	for i, f := range c.fixed() {
		if running := m.started.fixed()[i].value; running != f.value {
			m.log.Warn(f.path+" takes a restart to change; all else is in force",
				"field", f.path, "at", fmt.Sprintf("%s:%d", m.file, c.places.line(f.path)), "running", running, "configured", f.value)
		}
	}
	return w
}

// fixed is a field that only a restart changes.
type fixed struct{ path, value string }

// fixed are the fields that only a restart changes, with their values.
func (c *Config) fixed() []fixed {
	return []fixed{
		{"listen.address", c.Listen.Address},
		{"listen.max_connections", fmt.Sprint(c.Listen.MaxConnections)},
		{"admin.address", c.Admin.Address},
		{"decisions", fmt.Sprintf("%+v", c.Decisions)},
		{"storage", fmt.Sprint(c.Storage.Driver, " ", c.Storage.parameters())},
		{"storage.scrub", c.Storage.Scrub.String()},
	}
}
