// Package loop lets a mirror notice that a request is its own, come back: where
// the name of a registry leads to the mirror itself, as in transparent mode. Each
// request to a registry carries the IDs of the mirrors that it came through.
package loop

import (
	"context"
	"crypto/rand"
	"errors"
	"regexp"
	"strings"
)

// Header is the field of a request that has the IDs, the first mirror's first,
// with commas between.
const Header = "Trustmirror-Via"

// MaxHops is how many mirrors a request may have come through.
const MaxHops = 8

// Errors of Check.
var (
	ErrLoop      = errors.New("the request came through this mirror already")
	ErrTooFar    = errors.New("the request came through too many mirrors")
	ErrMalformed = errors.New(Header + " is malformed")
)

// NewID makes the ID of a mirror, of which nobody can guess another's.
func NewID() string { return rand.Text() }

var shape = regexp.MustCompile(`^[A-Z2-7]{26}$`)

type key struct{}

// Check looks at a request's values of Header, and returns a context that has
// them for what is asked further on.
func Check(ctx context.Context, self string, values []string) (context.Context, error) {
	if len(values) == 0 {
		return ctx, nil
	}
	hops := strings.Split(strings.Join(values, ","), ",")
	for i, hop := range hops {
		hops[i] = strings.TrimSpace(hop)
		switch {
		case !shape.MatchString(hops[i]):
			return ctx, ErrMalformed
		case hops[i] == self:
			return ctx, ErrLoop
		}
	}
	if len(hops) >= MaxHops {
		return ctx, ErrTooFar
	}
	return context.WithValue(ctx, key{}, strings.Join(hops, ", ")), nil
}

// Via is the value of Header for a request that a mirror sends.
func Via(ctx context.Context, self string) string {
	if before, ok := ctx.Value(key{}).(string); ok {
		return before + ", " + self
	}
	return self
}
