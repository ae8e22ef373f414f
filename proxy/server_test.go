package proxy

import (
	"net/http"
	"testing"
)

// A server with a limit on the whole request or response would cut long pulls; one
// without the others could be held for ever.
func TestNewServerLimits(t *testing.T) {
	s := NewServer("127.0.0.1:0", http.NotFoundHandler())
	if s.ReadHeaderTimeout <= 0 || s.IdleTimeout <= 0 || s.MaxHeaderBytes <= 0 || s.HTTP2.WriteByteTimeout <= 0 {
		t.Errorf("a limit is missing: %+v", s)
	}
	if s.ReadTimeout != 0 || s.WriteTimeout != 0 {
		t.Errorf("long pulls are cut after %v, %v", s.ReadTimeout, s.WriteTimeout)
	}
}
