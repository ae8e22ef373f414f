package proxy

import (
	"net/http"
	"testing"
	"time"
)

// A server with a limit on the whole request or response would cut long pulls; one
// without the others could be held for ever.
func TestNewServerLimits(t *testing.T) {
	s := NewServer("127.0.0.1:0", http.NotFoundHandler())
	if s.ReadHeaderTimeout != 10*time.Second || s.IdleTimeout != 2*time.Minute || s.MaxHeaderBytes != 64<<10 || s.HTTP2.WriteByteTimeout != time.Minute {
		t.Errorf("not the limits that are documented: %+v", s)
	}
	if s.ReadTimeout != 0 || s.WriteTimeout != 0 {
		t.Errorf("long pulls are cut after %v, %v", s.ReadTimeout, s.WriteTimeout)
	}
}
