// Package proxy is the HTTP server of the mirror: the pull half of the OCI
// distribution specification, read only.
//
// The way of a request: ServeHTTP (proxy.go) matches a route (routes.go), reads
// from the request which object of which registry is meant (naming.go), asks the
// Gate for it (handlers.go) and sends what it gets (content.go). Whatever fails on
// the way is an error that one table turns into a response (errors.go). Nothing
// here decides whether something may be served.
package proxy

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"time"

	"github.com/distribution/distribution/v3/registry/auth"
	"github.com/gorilla/mux"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
)

// Gate is what the server gets its content from: it returns only what is
// verified, stored and admitted in the repository that the Ref names.
//
// Errors: *verify.Refusal, *verify.NotFoundError, *verify.UnavailableError,
// *verify.InvalidError, and the context's own; anything else is answered as an
// internal error.
type Gate interface {
	// Manifest opens a manifest or an index by tag or digest. The caller closes
	// the content.
	Manifest(ctx context.Context, ref verify.Ref) (*storage.Content, storage.Admission, error)
	// Blob opens a config or a layer by digest. The caller closes the content.
	Blob(ctx context.Context, ref verify.Ref) (*storage.Content, storage.Admission, error)
	// Tags returns the signed tags of a repository, sorted by bytes.
	Tags(ctx context.Context, ref verify.Ref) ([]string, error)
	// Repositories returns the configured repositories with their registries,
	// "docker.io/nicolas/webdis", sorted by bytes.
	Repositories() []string
}

var _ Gate = (*verify.Gate)(nil)

// Config is what New needs.
type Config struct {
	Gate Gate // required

	// Registries are the registries that a request may name, in canonical form:
	// "docker.io", "public.ecr.aws", "127.0.0.1:5000".
	Registries []string
	// DefaultRegistry is meant by requests that name none; required. It need not
	// be among Registries.
	DefaultRegistry string

	// Htpasswd is a file of users with bcrypt hashes, read again when it changes.
	// Empty: anybody may pull.
	Htpasswd string

	// ClientCAs are those that clients' certificates have to be from, at the time of
	// each request. nil, or nil returned: clients need none.
	ClientCAs func() *x509.CertPool
	// RateLimit bounds how often one client address asks. Zero: it isn't bounded.
	RateLimit RateLimit
	// MaxRequests is how many requests are answered at once; further ones are told to
	// ask again. 0: any number.
	MaxRequests int
	// Via is this mirror's loop.ID: a request that has it came back to where it
	// was sent from, and is refused. Empty: no request is.
	Via string

	// WriteTimeout is how long a client may take to accept each MiB of a response;
	// one that is slower is cut off. 0: one minute.
	WriteTimeout time.Duration

	// Decided is told each refusal for which the Gate wasn't asked, as of a registry
	// that isn't configured. nil: nobody is. It must not block. AskedOf its context
	// is the request, as it is of what the Gate is asked.
	Decided func(context.Context, verify.Decision)
	// Pulls is told of the manifests and blobs that clients ask for. nil: nobody is.
	Pulls Pulls

	// Tracing says how requests are traced. Zero: they aren't.
	Tracing Tracing
	// Observe is told of each request once it is over. nil: nobody is. It must not
	// block.
	Observe func(Event)

	// Log gets one line for each request. nil: nothing is logged.
	Log *slog.Logger
}

// New makes the handler of the registry API. The error names the field of the
// configuration that is missing or wrong.
func New(c Config) (http.Handler, error) {
	if c.Gate == nil {
		return nil, errors.New("proxy: no gate is given")
	}
	naming, err := newNaming(c.Registries, c.DefaultRegistry)
	if err != nil {
		return nil, err
	}
	users, err := newUsers(c.Htpasswd)
	if err != nil {
		return nil, err
	}
	limiter, err := newLimiter(c.RateLimit, time.Now)
	if err != nil {
		return nil, err
	}
	known, err := lru.New[wording, meaning](maxMeanings)
	if err != nil {
		return nil, err
	}
	if c.ClientCAs == nil {
		c.ClientCAs = func() *x509.CertPool { return nil }
	}
	if c.WriteTimeout < 0 {
		return nil, fmt.Errorf("proxy: the write timeout is %v: it must not be negative", c.WriteTimeout)
	}
	if c.MaxRequests < 0 {
		return nil, fmt.Errorf("proxy: %d requests at once lets nobody pull", c.MaxRequests)
	}
	var answering chan struct{}
	if c.MaxRequests > 0 {
		answering = make(chan struct{}, c.MaxRequests)
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = defaultWriteTimeout
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Pulls == nil {
		c.Pulls = noPulls{}
	}
	return c.Tracing.wrap(&server{
		gate:         c.Gate,
		naming:       naming,
		users:        users,
		clientCAs:    c.ClientCAs,
		limiter:      limiter,
		answering:    answering,
		via:          c.Via,
		router:       newRouter(),
		meanings:     known,
		writeTimeout: c.WriteTimeout,
		log:          c.Log,
		decided:      c.Decided,
		pulls:        c.Pulls,
		observe:      c.Observe,
	}), nil
}

// server is immutable once made, but for what it remembers.
type server struct {
	gate         Gate
	naming       naming
	users        auth.AccessController // nil: anybody may pull
	clientCAs    func() *x509.CertPool // returns nil where clients need no certificate
	limiter      *limiter              // nil: clients may ask as often as they like
	answering    chan struct{}         // holds one for each request; nil: any number is answered at once
	via          string
	router       *mux.Router
	meanings     *meanings
	writeTimeout time.Duration
	log          *slog.Logger
	decided      func(context.Context, verify.Decision) // nil: nobody is told
	pulls        Pulls                                  // never nil
	observe      func(Event)                            // nil: nobody is told
}

// exchange is one request and its response; its handler's goroutine owns it.
type exchange struct {
	w     *responseWriter
	r     *http.Request
	query url.Values // nil where the meaning was remembered
	began time.Time
	meaning
}

// ServeHTTP answers one request and logs it.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{w: newResponseWriter(w, s.writeTimeout), r: r, began: time.Now()}
	a := s.answer(x)
	took := time.Since(x.began)
	s.noteSpan(x, a)
	s.logAccess(x, a, took)
	s.tell(x, a, took)
	if a.abort {
		// Returning would end the response as if it were whole.
		panic(http.ErrAbortHandler) //nolint:forbidigo // how net/http is told to cut the connection
	}
}

// answer runs the handler and, where it fails, writes the error.
func (s *server) answer(x *exchange) answer {
	err := s.serveRecovering(x)
	s.tellRefusal(x, err)
	switch {
	case err == nil && x.w.status == http.StatusTemporaryRedirect:
		return answer{status: x.w.status, outcome: outcomeRedirected}
	case err == nil:
		return answer{status: x.w.status, outcome: outcomeServed}
	case x.w.status != 0:
		return cutShort(x.r.Context(), x.w.status, err)
	case errors.Is(err, context.Canceled) && x.r.Context().Err() != nil:
		return answer{status: statusClientClosed, outcome: outcomeCanceled, abort: true}
	}
	a := answerTo(err, x.route)
	a.write(x)
	return a
}

// panicError is a bug that was caught; it is never shown to a client.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

func (s *server) serveRecovering(x *exchange) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{value: v, stack: debug.Stack()}
		}
	}()
	return s.serve(x)
}

// serve is the way of every request; only its handler writes to the client.
func (s *server) serve(x *exchange) error {
	h := x.w.Header()
	values := [...]string{"registry/2.0", "nosniff"} // one allocation, as Set would make two or more
	h["Docker-Distribution-Api-Version"], h["X-Content-Type-Options"] = values[:1:1], values[1:]
	x.w.refuseBody(x.r)
	if x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
		return errMethod
	}
	end, err := s.begin()
	if err != nil {
		return err
	}
	defer end()
	if err := s.enter(x); err != nil {
		return err
	}
	handle, err := s.handlerOf(x)
	if err != nil {
		return err
	}
	return handle(x)
}
