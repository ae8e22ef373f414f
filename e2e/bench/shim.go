package main

import (
	"errors"
	"net"
	"sync"
	"time"
)

// link is how far away and how wide the way to an upstream is.
type link struct {
	RTT       time.Duration `json:"rtt_ns"`                     // round-trip time
	Bandwidth int64         `json:"bandwidth_bytes_per_second"` // bytes a second, each connection, each way; 0: what there is
}

// shim stands before a server on loopback and makes each connection to it like one
// through a network. Opening it takes a round trip; TLS and slow start aren't there.
type shim struct {
	link
	target   string // "127.0.0.1:5000"
	listener net.Listener

	wait   sync.WaitGroup
	mu     sync.Mutex // guards what follows
	closed bool
	open   map[net.Conn]struct{}
}

// shimPiece is how many bytes travel at once: few timers, and 3 ms at 20 MB/s.
const shimPiece = 64 << 10

// startShim listens on a loopback port until Close.
func startShim(target string, through link) (*shim, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &shim{link: through, target: target, listener: listener, open: map[net.Conn]struct{}{}}
	s.wait.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			s.wait.Go(func() { s.connect(client) })
		}
	})
	return s, nil
}

// URL is where clients find it.
func (s *shim) URL() string { return "http://" + s.listener.Addr().String() }

// Close ends every connection and returns when all is quiet.
func (s *shim) Close() {
	_ = s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for connection := range s.open {
		_ = connection.Close()
	}
	s.mu.Unlock()
	s.wait.Wait()
}

// keep notes a connection, so that Close finds it.
func (s *shim) keep(connection net.Conn) (forget func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.Join(net.ErrClosed, connection.Close())
	}
	s.open[connection] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, connection)
		_ = connection.Close()
	}, nil
}

func (s *shim) connect(client net.Conn) {
	forget, err := s.keep(client)
	if err != nil {
		return
	}
	defer forget()
	opened := time.Now().Add(s.RTT)
	server, err := net.Dial("tcp", s.target)
	if err != nil {
		return
	}
	forget, err = s.keep(server)
	if err != nil {
		return
	}
	defer forget()
	var both sync.WaitGroup
	both.Go(func() { s.carry(server, client, opened) })
	both.Go(func() { s.carry(client, server, opened) })
	both.Wait()
}

// piece is on its way and arrives when it is due.
type piece struct {
	bytes []byte
	due   time.Time
}

// carry copies one way until there is no more or either end is gone. Nothing leaves
// before the connection counts as opened.
func (s *shim) carry(to, from net.Conn, opened time.Time) {
	// As many as are under way in half a round trip, and some to read into meanwhile.
	depth := int(s.RTT.Seconds()/2*float64(s.Bandwidth))/shimPiece + 4
	free, travelling := make(chan []byte, depth), make(chan piece, depth)
	for range depth {
		free <- make([]byte, shimPiece)
	}
	go func() {
		defer close(travelling)
		for buffer := range free {
			n, err := from.Read(buffer)
			if n > 0 {
				travelling <- piece{buffer[:n], later(time.Now(), opened).Add(s.RTT / 2)}
			}
			if err != nil {
				return
			}
		}
	}()
	var next time.Time // when there is room for more bytes
	for p := range travelling {
		at := later(p.due, next)
		time.Sleep(time.Until(at))
		if s.Bandwidth > 0 { // reckoned from when it should have left, which makes up for late timers
			next = at.Add(time.Duration(float64(len(p.bytes)) / float64(s.Bandwidth) * float64(time.Second)))
		}
		if _, err := to.Write(p.bytes); err != nil {
			_ = from.Close() // the reader ends, and what it has read is dropped
		}
		free <- p.bytes[:shimPiece]
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
