package main

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// maxOperators is how many connections the admin address has at once.
const maxOperators = 256

// limitedListener accepts connections: at most so many at once, and those of clients
// by TLS or not as the configuration in force says.
type limitedListener struct {
	net.Listener
	current *current      // nil: never by TLS
	slots   chan struct{} // holds one for each connection
	closing chan struct{} // closed by Close
	close   func() error
}

func newLimitedListener(l net.Listener, limit int, c *current) *limitedListener {
	closing := make(chan struct{})
	return &limitedListener{
		Listener: l, current: c, slots: make(chan struct{}, limit), closing: closing,
		close: sync.OnceValue(func() error {
			close(closing)
			return l.Close()
		}),
	}
}

// Accept implements net.Listener: it waits until there are less connections than
// there may be.
func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closing:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	if l.current == nil {
		return conn, nil
	}
	if c := l.current.get().certificates; c != nil {
		return tls.Server(conn, c.server()), nil
	}
	return conn, nil
}

// Close implements net.Listener.
func (l *limitedListener) Close() error { return l.close() }

// follow is http.Server.ConnState: it learns when connections end. They aren't
// wrapped for that, since net/http sends files only by connections that it knows.
func (l *limitedListener) follow(_ net.Conn, state http.ConnState) {
	if state == http.StateClosed || state == http.StateHijacked {
		<-l.slots
	}
}
