package proxy

import (
	"errors"
	"log/slog"
	"time"
)

// maxLogged is how many bytes of a value that a client chose go into a log line.
const maxLogged = 300

// logAccess writes the one line that each request gets. It holds nothing of the
// query, of the headers only the user agent, and no credentials.
func (s *server) logAccess(x *exchange, a answer, took time.Duration) {
	name, reference := x.name, x.reference
	if x.ref.Registry != "" {
		name = x.ref.Name()
	}
	attrs := []slog.Attr{
		slog.String("method", bounded(x.r.Method, maxLogged)),
		slog.String("route", x.route),
		slog.String("name", owned(name)),
		slog.String("reference", owned(reference)),
		slog.Int("status", a.status),
		slog.Int64("bytes", x.w.bytes),
		slog.Duration("duration", took),
		slog.String("outcome", string(a.outcome)),
		slog.String("client", x.r.RemoteAddr),
		slog.String("user_agent", owned(x.r.UserAgent())),
	}
	if a.reason != "" {
		attrs = append(attrs, slog.String("reason", string(a.reason)), slog.String("message", bounded(a.message, maxMessage)))
	}
	if id := traceID(x.r.Context()); id != "" {
		attrs = append(attrs, slog.String("trace_id", id))
	}
	if a.err != nil {
		attrs = append(attrs, slog.String("error", a.err.Error()))
	}
	var bug *panicError
	if errors.As(a.err, &bug) {
		attrs = append(attrs, slog.String("stack", string(bug.stack)))
	}
	s.log.LogAttrs(x.r.Context(), level(a.outcome), "request", attrs...)
}

// level is Info for what clients do, Warn for what somebody may want to look
// into, Error for what is broken here.
func level(o outcome) slog.Level {
	switch o {
	case outcomeInternal, outcomeCut:
		return slog.LevelError
	case outcomeRefused, outcomeUnavailable, outcomeRateLimited, outcomeDenied, outcomeTooSlow:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}
