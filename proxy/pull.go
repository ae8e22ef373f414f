package proxy

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/trustmirror/trustmirror/verify"
)

// Asked is a request, as those are told who record what is decided and served.
// What the client chose is cut to a few hundred bytes.
type Asked struct {
	At        time.Time
	Kind      string // the route: "manifest", "blob" or "tags"; "" if there is none
	Name      string // repository as the path names it
	Reference string // tag or digest as the path names it; "" of tags
	Client    string // address without port
	UserAgent string
	TraceID   string // "" where requests aren't traced
}

// AskedOf returns the request that ctx belongs to; zero if it is none's.
func AskedOf(ctx context.Context) Asked {
	if p, ok := ctx.Value(pullKey{}).(*Pull); ok {
		return p.Asked
	}
	return Asked{}
}

// Pull is a manifest or a blob on its way to a client. All but its numbers is
// immutable.
type Pull struct {
	Asked
	Ref verify.Ref

	sent, size atomic.Int64
}

// Sent is how many bytes of the body were sent so far.
func (p *Pull) Sent() int64 { return p.sent.Load() }

// Size is how many bytes the body has; 0 while the object is still being fetched
// and verified.
func (p *Pull) Size() int64 { return p.size.Load() }

// Pulls is told of pulls as they begin and end, each once. It must not block.
type Pulls interface {
	Begin(*Pull)
	End(*Pull)
}

type pullKey struct{}

// pullContext is the context of a request that knows the request. One allocation
// makes both.
type pullContext struct {
	context.Context
	pull Pull
}

// Value implements context.Context.
func (c *pullContext) Value(key any) any {
	if key == (pullKey{}) {
		return &c.pull
	}
	return c.Context.Value(key)
}

// asked makes the context of a request, once x.ref is known.
func (x *exchange) asked() *pullContext {
	ctx := x.r.Context()
	return &pullContext{Context: ctx, pull: Pull{Ref: x.ref, Asked: Asked{
		At:        x.began,
		Kind:      x.route,
		Name:      owned(x.name),
		Reference: owned(x.reference),
		Client:    addressOf(x.r.RemoteAddr),
		UserAgent: owned(x.r.UserAgent()),
		TraceID:   traceID(ctx),
	}}}
}

// owned cuts a string that the client chose, without keeping the rest in memory, and
// makes it printable.
func owned(s string) string {
	if s = verify.Printable(s); len(s) <= maxLogged {
		return s
	}
	return strings.ToValidUTF8(s[:maxLogged], "") + "…" // in memory of its own
}

// addressOf takes the port off a client's address.
func addressOf(remote string) string {
	if host, _, err := net.SplitHostPort(remote); err == nil {
		return host
	}
	return owned(remote) // a socket's name
}

// noPulls tells nobody.
type noPulls struct{}

func (noPulls) Begin(*Pull) {}
func (noPulls) End(*Pull)   {}

// tellRefusal tells of a refusal for which the Gate wasn't asked: it tells of its
// own.
func (s *server) tellRefusal(x *exchange, err error) {
	if err == nil {
		return
	}
	var refusal *verify.Refusal
	if s.decided == nil || x.ref.Registry != "" || !errors.As(err, &refusal) {
		return
	}
	s.decided(x.asked(), verify.Decision{At: time.Now(), Refusal: refusal})
}
