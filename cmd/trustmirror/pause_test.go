package main

import (
	"context"
	"io"
	"os"
	"syscall"
	"testing"
)

// awaited is a context that does something once somebody waits for its end.
type awaited struct {
	context.Context
	then func()
}

func (a awaited) Done() <-chan struct{} {
	a.then()
	return a.Context.Done()
}

// Pause waits, and ends when it is told to.
func TestPause(t *testing.T) {
	for name, tell := range map[string]func(cancel func()){
		"a context": func(cancel func()) { cancel() },
		"a signal": func(func()) {
			if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		waited := false
		status := run(awaited{ctx, func() { waited = true; tell(cancel) }}, []string{"pause"}, io.Discard, io.Discard)
		if status != statusOK || !waited {
			t.Errorf("told by %s: it ended with %d, after waiting: %v", name, status, waited)
		}
	}
}
