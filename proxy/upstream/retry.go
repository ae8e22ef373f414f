package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/trustmirror/trustmirror/verify"
)

const (
	// maxTries is how often something is tried that fails without progress.
	maxTries = 3
	// firstBackoff is the pause after the first failure; after each further one it
	// is four times as long. All are varied by up to a half.
	firstBackoff = 200 * time.Millisecond

	// How long a server that answers 429 is left alone: as its Retry-After says
	// within these bounds, or defaultRest where it says nothing sensible.
	minRest     = time.Second
	defaultRest = 30 * time.Second
	maxRest     = 5 * time.Minute
)

// transientError is a failure after which trying again may help; err is what
// the caller gets once it no longer does.
type transientError struct{ err error }

func (e *transientError) Error() string { return e.err.Error() }

func (e *transientError) Unwrap() error { return e.err }

// tries counts failures in a row.
type tries struct {
	failed int
	first  time.Duration // pause after the first
}

func (e *endpoint) newTries() *tries { return &tries{first: e.hooks.backoff} }

// next waits until it's time to try again after err and returns nil, or returns
// why not to: err itself, or that ctx is done.
func (t *tries) next(ctx context.Context, err error) error {
	var transient *transientError
	if !errors.As(err, &transient) {
		return err
	}
	t.failed++
	if t.failed >= maxTries {
		return transient.err
	}
	pause := t.first << (2 * (t.failed - 1))
	timer := time.NewTimer(pause/2 + rand.N(pause)) //nolint:gosec // nobody gains by guessing a pause
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting to try again: %w", ctx.Err())
	}
}

// retry sends a call until it is answered with anything but 5xx or 408, as often
// as t allows. Errors: *verify.UnavailableError, or that ctx is done.
func (e *endpoint) retry(ctx context.Context, t *tries, c call, send func(call) (*http.Response, error)) (*http.Response, error) {
	for {
		c.again = t.failed > 0
		resp, err := send(c)
		switch {
		case err != nil:
			err = e.failure(ctx, err)
		case resp.StatusCode >= 500 || resp.StatusCode == http.StatusRequestTimeout:
			err = &transientError{e.badStatus(resp)}
		default:
			return resp, nil
		}
		if err := t.next(ctx, err); err != nil {
			return nil, err
		}
	}
}

// rest remembers that the server asked to be left alone, and until when.
func (e *endpoint) rest(retryAfter string) (until time.Time, err error) {
	pause, ok := parseRetryAfter(retryAfter, e.opts.Now())
	if !ok {
		pause = defaultRest
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if until := e.opts.Now().Add(pause); until.After(e.restUntil) {
		e.restUntil = until
	}
	return e.restUntil, e.limitedError(pause)
}

// resting is an error while the server is to be left alone.
func (e *endpoint) resting() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if left := e.restUntil.Sub(e.opts.Now()); left > 0 {
		return e.limitedError(left)
	}
	return nil
}

func (e *endpoint) limitedError(pause time.Duration) error {
	return &verify.UnavailableError{
		Reason:     e.limited,
		Detail:     fmt.Sprintf("%s limits how often it is asked: it is left alone for %v; credentials may raise the limit", e.name, pause.Round(time.Second)),
		RetryAfter: pause,
	}
}

// parseRetryAfter reads a Retry-After header, seconds or a date
// (RFC 9110, section 10.2.3), and bounds it.
func parseRetryAfter(s string, now time.Time) (time.Duration, bool) {
	var pause time.Duration
	if seconds, err := strconv.ParseUint(s, 10, 32); err == nil {
		pause = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(s); err == nil {
		pause = at.Sub(now)
	} else {
		return 0, false
	}
	return min(max(pause, minRest), maxRest), true
}
