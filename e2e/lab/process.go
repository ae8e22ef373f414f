package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// stopPatience is how long a process gets between SIGTERM and SIGKILL.
const stopPatience = 20 * time.Second

// Process is a program that the lab runs in the background, in a process group
// of its own, with its output in a log file.
type Process struct {
	LogFile string

	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

// Start runs cmd in the background.
func (l *Lab) Start(name string, cmd *exec.Cmd) (*Process, error) {
	logFile, err := os.CreateTemp(l.Dir, name+"-*.log")
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := errors.Join(cmd.Start(), logFile.Close()); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &Process{LogFile: logFile.Name(), name: name, cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // how it ended is in the log
	}()
	l.onClose(p.Stop)
	return p, nil
}

// Stop ends the process: gently at first, and with its whole group if it won't go.
func (p *Process) Stop() {
	select {
	case <-p.done:
		return
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopPatience):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
}

// WaitUntil asks ready again and again until it says so, the process ends or
// ctx does. Both failures come with the end of the log.
func (p *Process) WaitUntil(ctx context.Context, ready func(context.Context) error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended before it was ready; its log ends with:\n%s", p.name, p.LogTail())
		case <-ctx.Done():
			return fmt.Errorf("%s isn't ready: %w; its log ends with:\n%s", p.name, errors.Join(ctx.Err(), err), p.LogTail())
		case <-tick.C:
		}
	}
}

// LogTail is the end of the process's log.
func (p *Process) LogTail() string {
	const most = 4000
	log, err := os.ReadFile(p.LogFile)
	if err != nil {
		return err.Error()
	}
	if len(log) > most {
		log = log[len(log)-most:]
	}
	return string(log)
}

// answers returns a readiness check: does anybody speak HTTP at address?
func answers(client *http.Client, address string) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		return response.Body.Close()
	}
}

// Run runs a program to its end and returns what it wrote to standard output.
// The error of a program that failed is an *exec.ExitError, with what it wrote
// in its message.
func Run(ctx context.Context, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("%s %q: %w\n%s%s", filepath.Base(name), args, err, &stdout, &stderr)
	}
	return stdout.Bytes(), nil
}
