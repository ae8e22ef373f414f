package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// tally is what a load did.
type tally struct {
	requests int // answered in full
	bytes    int64
	took     time.Duration
}

// latency asks on one connection, for some time, and returns how many milliseconds half
// of the requests took at most.
func latency(ctx context.Context, address, path string, long time.Duration) (float64, error) {
	a, err := newAsker(ctx, address, path)
	if err != nil {
		return 0, err
	}
	defer a.connection.Close()
	defer context.AfterFunc(ctx, func() { _ = a.connection.Close() })()
	var took []float64
	for started := time.Now(); time.Since(started) < long; {
		asked := time.Now()
		if err := a.ask(&tally{}); err != nil {
			return 0, err
		}
		took = append(took, time.Since(asked).Seconds()*1000)
	}
	return spreadOf("", took).Median, nil
}

// load asks a server for one path again and again, on so many connections that stay
// open, for some time. It is spared what net/http costs, which would be measured, too.
func load(ctx context.Context, address, path string, connections int, long time.Duration) (tally, error) {
	var (
		wait    sync.WaitGroup
		askers  = make([]*asker, connections)
		tallies = make([]tally, connections)
		errs    = make([]error, connections)
	)
	for i := range askers {
		var err error
		if askers[i], err = newAsker(ctx, address, path); err != nil {
			return tally{}, err
		}
		defer askers[i].connection.Close()
		defer context.AfterFunc(ctx, func() { _ = askers[i].connection.Close() })()
		if err := askers[i].ask(&tally{}); err != nil { // the connection is warm, too
			return tally{}, err
		}
	}
	started := time.Now()
	for i, a := range askers {
		wait.Go(func() {
			if errs[i] = a.connection.SetDeadline(started.Add(long)); errs[i] != nil {
				return
			}
			for errs[i] == nil {
				errs[i] = a.ask(&tallies[i])
			}
			if errors.Is(errs[i], os.ErrDeadlineExceeded) {
				errs[i] = nil
			}
		})
	}
	wait.Wait()
	sum := tally{took: time.Since(started)}
	for _, t := range tallies {
		sum.requests += t.requests
		sum.bytes += t.bytes
	}
	return sum, errors.Join(append(errs, ctx.Err())...)
}

// asker makes the same request over and over.
type asker struct {
	connection net.Conn
	request    []byte
	reader     *bufio.Reader
	body       []byte // of which nobody looks at what is read
}

func newAsker(ctx context.Context, address, path string) (*asker, error) {
	connection, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &asker{
		connection: connection,
		request:    fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: %s\r\n\r\n", path, address, accept()),
		reader:     bufio.NewReaderSize(connection, 4<<10),
		body:       make([]byte, 256<<10),
	}, nil
}

// ask makes one request and reads its answer.
func (a *asker) ask(t *tally) error {
	if _, err := a.connection.Write(a.request); err != nil {
		return err
	}
	length, err := a.header()
	if err != nil {
		return err
	}
	for length > 0 {
		n, err := a.reader.Read(a.body[:min(length, int64(len(a.body)))])
		t.bytes += int64(n)
		length -= int64(n)
		if err != nil {
			return err
		}
	}
	t.requests++
	return nil
}

// header reads a status line that has to be 200 and the header, and returns how long
// the body is.
func (a *asker) header() (length int64, err error) {
	status, err := a.reader.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(status) < 12 || string(status[9:12]) != "200" {
		rest, _ := io.ReadAll(io.LimitReader(a.reader, int64(a.reader.Buffered()))) // whatever came with it
		return 0, fmt.Errorf("answered %s%s", status, rest)
	}
	length = -1
	for {
		line, err := a.reader.ReadSlice('\n')
		switch {
		case err != nil:
			return 0, err
		case len(line) <= 2 && length < 0:
			return 0, errors.New("answered without a Content-Length")
		case len(line) <= 2:
			return length, nil
		case len(line) > 16 && strings.EqualFold(string(line[:16]), "Content-Length: "):
			if length, err = strconv.ParseInt(strings.TrimSpace(string(line[16:])), 10, 64); err != nil {
				return 0, err
			}
		}
	}
}
