package proxy

import (
	"net/http"
	"time"
)

const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
)

// NewServer makes the HTTP server for a handler that New made. Of a client it
// accepts a header of at most 64 KiB within 10 s (else 431, or the connection
// ends), and keeps an idle connection for 2 minutes. There is no limit on how
// long a response takes, since a cold pull waits for its upstream and a layer may
// be large: how slowly a client may read is the handler's to limit (WriteTimeout).
func NewServer(addr string, handler http.Handler) *http.Server {
	return &http.Server{
		Addr:              addr,
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		// The handler answers OPTIONS too: with 405.
		DisableGeneralOptionsHandler: true,
		HTTP2:                        &http.HTTP2Config{WriteByteTimeout: defaultWriteTimeout},
	}
}
