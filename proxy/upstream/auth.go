package upstream

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/trustmirror/trustmirror/verify"
	"golang.org/x/net/http/httpguts"
	"golang.org/x/sync/singleflight"
)

const (
	authTimeout = time.Minute // for learning how to authenticate and doing so

	// minToken is how long a token is good for if its server doesn't say, or says
	// less (distribution's token authentication specification, "expires_in").
	minToken    = time.Minute
	maxToken    = 24 * time.Hour
	tokenMargin = 10 * time.Second // a token isn't used so close to its end
	passwordAge = time.Minute      // a password is read again after this, and after a 401
	maxIssued   = 1024             // repositories whose authorization is remembered; clients choose names under patterns
)

var errNotAToken = errors.New("the token can't be part of a header")

// authenticator knows how one endpoint wants to be authenticated to, and holds
// what it needs for that. Failures are not remembered.
type authenticator struct {
	e           *endpoint
	credentials Credentials
	account     func(repository string) (registry, repo string)
	ctx         context.Context    // the client's; work that callers share ends with it
	flights     singleflight.Group // by repository; "" for the challenge

	mu        sync.Mutex
	challenge *transport.Challenge     // nil: not known
	issued    map[string]authorization // by repository
}

// authorization is an Authorization header, empty for none.
type authorization struct {
	header  string
	expires time.Time
}

func newAuthenticator(ctx context.Context, e *endpoint, c Credentials, account func(string) (string, string)) *authenticator {
	return &authenticator{e: e, credentials: c, account: account, ctx: ctx, issued: make(map[string]authorization)}
}

// header returns the Authorization header for a repository, empty where none is
// needed or none can be had.
func (a *authenticator) header(ctx context.Context, repository string) (string, error) {
	a.mu.Lock()
	known := a.challenge != nil && a.challenge.Scheme == ""
	held, ok := a.issued[repository]
	a.mu.Unlock()
	if known {
		return "", nil
	}
	if ok && a.e.opts.Now().Before(held.expires) {
		return held.header, nil
	}
	return a.shared(ctx, repository, func(ctx context.Context) (string, error) { return a.issue(ctx, repository) })
}

// renew returns another header after a 401 to the one that was used, stale.
func (a *authenticator) renew(ctx context.Context, repository, stale string, resp *http.Response) (string, error) {
	challenge, err := challengeOf(ctx, resp)
	if err != nil {
		return "", err
	}
	a.mu.Lock()
	held, ok := a.issued[repository]
	if ok && held.header != stale {
		a.mu.Unlock()
		return held.header, nil // somebody else has renewed it
	}
	if challenge.Scheme != "" {
		a.challenge = challenge
	}
	delete(a.issued, repository)
	a.mu.Unlock()
	return a.shared(ctx, repository, func(ctx context.Context) (string, error) { return a.issue(ctx, repository) })
}

// shared does something once for all who ask for it at the same time. It runs on
// a context of its own, so that nobody's leaving spoils it for the others.
func (a *authenticator) shared(ctx context.Context, key string, do func(context.Context) (string, error)) (string, error) {
	done := a.flights.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), authTimeout)
		defer cancel()
		defer context.AfterFunc(a.ctx, cancel)()
		header, err := do(ctx)
		switch {
		case err != nil && a.ctx.Err() != nil:
			err = verify.Unavailable(a.e.unavailable, "trustmirror is shutting down")
		case err != nil && ctx.Err() != nil:
			err = verify.Unavailable(a.e.unavailable, "authenticating to %s took longer than %v", a.e.name, authTimeout)
		}
		return header, err
	})
	select {
	case result := <-done:
		header, _ := result.Val.(string)
		return header, result.Err
	case <-ctx.Done():
		return "", fmt.Errorf("authenticating to %s: %w", a.e.name, ctx.Err())
	}
}

// issue obtains and keeps an authorization for a repository.
func (a *authenticator) issue(ctx context.Context, repository string) (string, error) {
	challenge, err := a.learn(ctx)
	if err != nil {
		return "", err
	}
	var auth authorization
	switch strings.ToLower(challenge.Scheme) {
	case "":
		return "", nil
	case "basic":
		auth, err = a.basic(ctx, repository)
	case "bearer":
		auth, err = a.bearer(ctx, repository, challenge)
	default:
		err = verify.Unavailable(a.e.unavailable, "%s asks for a kind of authentication that isn't supported: it must be Basic or Bearer", a.e.name)
	}
	if err != nil {
		a.forget(challenge)
		return "", err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.e.opts.Now()
	for r, held := range a.issued {
		if !now.Before(held.expires) {
			delete(a.issued, r)
		}
	}
	if len(a.issued) >= maxIssued {
		clear(a.issued)
	}
	a.issued[repository] = auth
	return auth.header, nil
}

// learn finds out how the endpoint wants to be authenticated to, once, and again
// after forget (OCI distribution specification, "Determining Support").
func (a *authenticator) learn(ctx context.Context) (*transport.Challenge, error) {
	for {
		a.mu.Lock()
		challenge := a.challenge
		a.mu.Unlock()
		if challenge != nil {
			return challenge, nil
		}
		_, err := a.shared(ctx, "", func(ctx context.Context) (string, error) { return "", a.ping(ctx) })
		if err != nil {
			return nil, err
		}
	}
}

// forget makes the endpoint be asked again how it wants to be authenticated to:
// it, or whoever stood in for it, may ask for what can't be done, and later not.
func (a *authenticator) forget(challenge *transport.Challenge) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.challenge == challenge {
		a.challenge = nil
	}
}

func (a *authenticator) ping(ctx context.Context) error {
	c := call{kind: KindPing, path: "/v2/", header: http.Header{"Accept": {"application/json"}}}
	resp, err := a.e.retry(ctx, a.e.newTries(), c, func(c call) (*http.Response, error) { return a.e.follow(ctx, c, "") })
	if err != nil {
		return err
	}
	challenge := new(transport.Challenge)
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		if challenge, err = challengeOf(ctx, resp); err != nil {
			return err
		}
	default:
		return a.e.badStatus(resp)
	}
	discard(resp)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.challenge = challenge
	return nil
}

// challengeOf reads the challenge of a 401 with go-containerregistry's parser,
// which is reached through its Ping only: that gets the answer that's here already.
func challengeOf(ctx context.Context, resp *http.Response) (*transport.Challenge, error) {
	anywhere, err := name.NewRegistry("registry.invalid")
	if err != nil {
		return nil, err
	}
	return transport.Ping(ctx, anywhere, roundTripper(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusUnauthorized, Header: resp.Header, Body: http.NoBody, Request: req}, nil
	}))
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// basic sends the credentials themselves (RFC 7617).
func (a *authenticator) basic(ctx context.Context, repository string) (authorization, error) {
	expires := a.e.opts.Now().Add(passwordAge)
	config, err := a.config(ctx, repository, a.e.base)
	if err != nil {
		return authorization{}, err
	}
	auth := authorization{expires: expires}
	switch {
	case config.RegistryToken != "":
		auth.header = "Bearer " + config.RegistryToken
	case config.Username != "" && config.Password != "":
		auth.header = "Basic " + base64.StdEncoding.EncodeToString([]byte(config.Username+":"+config.Password))
	case config.Auth != "":
		auth.header = "Basic " + config.Auth
	}
	return auth, nil
}

// bearer exchanges the credentials, or none, for a token that allows to pull
// from the repository and nothing else, whatever the challenge asks for.
func (a *authenticator) bearer(ctx context.Context, repository string, challenge *transport.Challenge) (authorization, error) {
	asked := a.e.opts.Now()
	realm, err := a.e.checkRealm(challenge.Parameters["realm"])
	if err != nil {
		return authorization{}, a.e.failure(ctx, err)
	}
	config, err := a.config(ctx, repository, realm)
	if err != nil {
		return authorization{}, err
	}
	if config.RegistryToken != "" {
		return authorization{header: "Bearer " + config.RegistryToken, expires: asked.Add(passwordAge)}, nil
	}
	// Exchange has a rule of its own for realms, weaker than ours but for private
	// addresses, which it refuses even where the operator named them. It trusts
	// a realm on the registry's own host, so that's what it's told.
	own, err := name.NewRegistry(realm.Host)
	if err != nil {
		return authorization{}, a.e.failure(ctx, &refusedError{fmt.Sprintf("%s names no usable token server in its challenge", a.e.name)})
	}
	token, err := transport.Exchange(ctx, own, authenticatorOf(config), a.realmTransport(repository, realm),
		[]string{"repository:" + repository + ":pull"},
		&transport.Challenge{Scheme: "bearer", Insecure: realm.Scheme == "http",
			Parameters: map[string]string{"realm": challenge.Parameters["realm"], "service": challenge.Parameters["service"]}})
	if err != nil {
		return authorization{}, a.tokenError(ctx, realm, err)
	}
	value := token.Token
	if token.AccessToken != "" {
		value = token.AccessToken
	}
	if !httpguts.ValidHeaderFieldValue(value) { // no request can carry it, so no 401 would have it renewed
		return authorization{}, a.tokenError(ctx, realm, errNotAToken)
	}
	seconds := min(max(int64(token.ExpiresIn), int64(minToken/time.Second)), int64(maxToken/time.Second)) // before it is multiplied
	lifetime := time.Duration(seconds) * time.Second
	return authorization{header: "Bearer " + value, expires: asked.Add(lifetime - tokenMargin)}, nil
}

// realmTransport sends what Exchange wants sent, to the realm and nowhere else.
func (a *authenticator) realmTransport(repository string, realm *url.URL) http.RoundTripper {
	c := call{kind: KindToken, repository: repository}
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		if !sameOrigin(req.URL, realm) {
			return nil, &refusedError{fmt.Sprintf("the token server %s of %s redirects elsewhere, which isn't followed", realm.Host, a.e.name)}
		}
		send := func(c call) (*http.Response, error) {
			again := req.Clone(req.Context())
			again.Header.Del("Referer")
			return a.e.exchange(again, c)
		}
		if req.Method != http.MethodGet {
			return send(c)
		}
		return a.e.retry(req.Context(), a.e.newTries(), c, send)
	})
}

// tokenError says why there is no token.
func (a *authenticator) tokenError(ctx context.Context, realm *url.URL, err error) error {
	var (
		unavailable *verify.UnavailableError
		refused     *refusedError
		status      *transport.Error
		sending     *url.Error
	)
	switch {
	case errors.As(err, &unavailable):
		return unavailable
	case errors.As(err, &refused), ctx.Err() != nil:
		return a.e.failure(ctx, err)
	case errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden):
		return a.e.because(err, "the token server %s of %s answers %s: check the credentials configured for %[2]s", realm.Host, a.e.name, statusWords(status))
	case errors.As(err, &status):
		return a.e.because(err, "the token server %s of %s answers %s", realm.Host, a.e.name, statusWords(status))
	}
	said := "answers with something that isn't a token"
	if errors.As(err, &sending) {
		said = "can't be used: " + printable(sending.Err.Error())
	}
	return a.e.because(err, "the token server %s of %s %s", realm.Host, a.e.name, said)
}
