package proxy

import (
	"fmt"
	"net/http"
	"net/netip"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// RateLimit bounds how often one client asks. Zero: it isn't bounded.
type RateLimit struct {
	// PerSecond is how many requests a second a client has in the long run.
	PerSecond float64
	// Burst is how many it has at once, when it was quiet before; at least 1.
	Burst int
}

// maxLimited bounds how many clients are remembered. One that was forgotten
// begins anew.
const maxLimited = 65536

// limiter knows how often each client has asked lately.
type limiter struct {
	limit   RateLimit
	now     func() time.Time
	clients *lru.Cache[netip.Prefix, *rate.Limiter]
}

// newLimiter returns nil for no limit.
func newLimiter(limit RateLimit, now func() time.Time) (*limiter, error) {
	if limit == (RateLimit{}) {
		return nil, nil
	}
	if limit.PerSecond <= 0 || limit.Burst < 1 {
		return nil, fmt.Errorf("proxy: a rate limit of %v requests a second and %d at once lets nobody pull", limit.PerSecond, limit.Burst)
	}
	clients, err := lru.New[netip.Prefix, *rate.Limiter](maxLimited)
	return &limiter{limit: limit, now: now, clients: clients}, err
}

// limitError says that a client asks too often.
type limitError struct {
	limit RateLimit
	after time.Duration // when it may ask again
}

func (e *limitError) Error() string {
	return fmt.Sprintf("this mirror takes %v requests a second from one client, and %d at once (listen.rate_limit); ask again in %v",
		e.limit.PerSecond, e.limit.Burst, e.after.Round(time.Millisecond))
}

// allow counts a request; the error is a *limitError. A nil limiter allows all.
func (l *limiter) allow(r *http.Request) error {
	if l == nil {
		return nil
	}
	client := clientOf(r.RemoteAddr)
	bucket, known := l.clients.Get(client)
	if !known {
		bucket = rate.NewLimiter(rate.Limit(l.limit.PerSecond), l.limit.Burst)
		if before, there, _ := l.clients.PeekOrAdd(client, bucket); there { // another request's, meanwhile
			bucket = before
		}
	}
	now := l.now()
	if bucket.AllowN(now, 1) {
		return nil
	}
	missing := 1 - bucket.TokensAt(now)
	return &limitError{limit: l.limit, after: time.Duration(missing / l.limit.PerSecond * float64(time.Second))}
}

// clientOf is the address that a client is known by: an IPv6 network of 64 bits,
// of which a client has all addresses, or one IPv4 address. What is no address
// counts as one client.
func clientOf(remote string) netip.Prefix {
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	bits := 64
	addr := a.Addr().WithZone("").Unmap()
	if addr.Is4() {
		bits = 32
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
