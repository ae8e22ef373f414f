package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/trustmirror/trustmirror/verify"
)

var errTooLarge = errors.New("the document is larger than allowed")

// get asks for an object and returns the answer that holds it: 200, or 206 if
// the call has a Range. Closing its body makes room for the next. Errors are as
// in verify.Fetcher.
func (e *endpoint) get(ctx context.Context, c call, t *tries) (*http.Response, error) {
	authorization, err := e.auth.header(ctx, c.repository)
	if err != nil {
		return nil, err
	}
	release, err := e.acquire(ctx, c)
	if err != nil {
		return nil, err
	}
	resp, err := e.authorized(ctx, c, t, authorization)
	if err == nil {
		err = e.checkAnswer(resp, c)
	}
	if err != nil {
		release()
		return nil, err
	}
	resp.Body = &releasing{ReadCloser: resp.Body, release: release}
	return resp, nil
}

// authorized sends a call, and once more if the authorization has worn out.
func (e *endpoint) authorized(ctx context.Context, c call, t *tries, authorization string) (*http.Response, error) {
	resp, err := e.retry(ctx, t, c, func(c call) (*http.Response, error) { return e.follow(ctx, c, authorization) })
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !sameOrigin(resp.Request.URL, e.base) {
		return resp, err
	}
	fresh, err := e.auth.renew(ctx, c.repository, authorization, resp)
	if err != nil {
		discard(resp)
		return nil, err
	}
	if fresh == authorization {
		return resp, nil
	}
	discard(resp)
	return e.retry(ctx, t, c, func(c call) (*http.Response, error) { return e.follow(ctx, c, fresh) })
}

// checkAnswer accepts an answer that holds the object's own bytes, and ends any
// other.
func (e *endpoint) checkAnswer(resp *http.Response, c call) error {
	if resp.StatusCode != http.StatusOK && (resp.StatusCode != http.StatusPartialContent || c.header.Get("Range") == "") {
		return e.objectError(resp, c)
	}
	var err error
	switch coding := resp.Header.Get("Content-Encoding"); {
	case coding != "" && coding != "identity":
		err = verify.Unavailable(e.unavailable, "%s answers with %s in another encoding (%s) than it is stored in, though none was asked for",
			e.name, c.object, printable(coding))
	case len(resp.Header.Values("Content-Type")) > 1:
		err = verify.Unavailable(e.unavailable, "%s names several types for %s", e.name, c.object)
	case isWebPage(resp) && c.kind != KindMetadata:
		err = e.pageError(resp)
	}
	if err != nil {
		_ = resp.Body.Close()
	}
	return err
}

// document gets an object whole, which must not be larger than limit, else
// errTooLarge is returned. One that breaks off is asked for again.
func (e *endpoint) document(ctx context.Context, c call, limit int64) (http.Header, []byte, error) {
	t := e.newTries()
	for {
		resp, err := e.get(ctx, c, t)
		if err != nil {
			return nil, nil, err
		}
		b, err := readAll(resp, limit)
		switch {
		case err == nil:
			return resp.Header, b, nil
		case errors.Is(err, errTooLarge):
			return nil, nil, err
		}
		if err := t.next(ctx, e.failure(ctx, &hostError{resp.Request.URL.Host, err})); err != nil {
			return nil, nil, err
		}
	}
}

// readAll reads an answer's body up to a limit and ends it.
func readAll(resp *http.Response, limit int64) ([]byte, error) {
	defer resp.Body.Close()
	if resp.ContentLength > limit {
		return nil, errTooLarge
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, errTooLarge
	}
	return b, nil
}

// releasing gives back the right to hold a body open.
type releasing struct {
	io.ReadCloser
	release func()
}

func (r *releasing) Close() error {
	defer r.release()
	return r.ReadCloser.Close()
}
