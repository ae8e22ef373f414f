// Package status is the status page: what an operator sees of a running mirror at
// the admin address, as pages for people and as JSON for programs (docs/api.md).
// It shows what it is given and changes nothing. Pages are made on the server,
// need no scripts, no cookies and nothing from elsewhere, and everything that
// others have chosen (names, tags, user agents) is escaped.
package status

import (
	"context"
	"embed"
	"errors"
	"html/template"
	"io/fs"
	"net/http"
	"regexp"
	"time"

	"github.com/trustmirror/trustmirror/verify"
)

//go:embed pages
var pageFiles embed.FS

//go:embed static
var staticFiles embed.FS

// Config says where what is shown comes from. All functions are required, but for
// those that may be nil, may be called at any time by many, and ask no registry
// and no trust service.
type Config struct {
	// Images are the signed repositories of which something is known, sorted, each
	// with its tags, the latest release first.
	Images func(context.Context) []Image
	// Certificates tell when those expire that clients are shown, by file; nil: there
	// are none.
	Certificates func() []Expiry
	// Chain tells a tag's chain of trust (verify.Gate.Chain), Roots the topmost
	// objects only (verify.Gate.Roots). image is a signed repository of Images.
	Chain, Roots func(ctx context.Context, image verify.Ref, tag string) (*verify.Chain, error)
	// Refusals are the latest refusals, newest first.
	Refusals func() []Refusal
	// Pulls are the pulls under way.
	Pulls func() []Pull
	// Usage tells what storage holds.
	Usage func(context.Context) (Usage, error)
	// Version is trustmirror's, to be shown.
	Version string
	// Clock tells the time; nil means time.Now.
	Clock func() time.Time
}

// server is immutable once made.
type server struct {
	Config
	pages   map[string]*template.Template // by name
	digests *regexp.Regexp                // in texts; all but the beginning isn't in its group
}

// New makes the handler of the status page and of its API.
func New(c Config) (http.Handler, error) {
	if c.Images == nil || c.Chain == nil || c.Roots == nil || c.Refusals == nil || c.Pulls == nil || c.Usage == nil {
		return nil, errors.New("status: a function is missing")
	}
	if c.Certificates == nil {
		c.Certificates = func() []Expiry { return nil }
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	s := &server{Config: c, digests: regexp.MustCompile(`(sha(?:256|512):[0-9a-f]{12})[0-9a-f]{52,}`)}
	var err error
	if s.pages, err = s.parsePages(); err != nil {
		return nil, err
	}
	static, err := fs.Sub(staticFiles, "static")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.front)
	mux.HandleFunc("GET /images/{name...}", s.image)
	mux.HandleFunc("GET /refusals", s.refusals)
	mux.HandleFunc("GET /pulls", s.pulls)
	mux.HandleFunc("GET /cache", s.cache)
	mux.Handle("GET /static/", http.StripPrefix("/static/", http.FileServerFS(static)))
	mux.HandleFunc("GET /api/v1/status", s.apiStatus)
	mux.HandleFunc("GET /api/v1/images", s.apiImages)
	mux.HandleFunc("GET /api/v1/images/{name...}", s.apiImage)
	mux.HandleFunc("GET /api/v1/refusals", s.apiRefusals)
	mux.HandleFunc("GET /api/v1/pulls", s.apiPulls)
	mux.HandleFunc("GET /api/v1/cache", s.apiCache)
	mux.HandleFunc("GET /api/", s.apiNothing)
	mux.HandleFunc("GET /", s.nothing)
	return guard(mux), nil
}

// policy is the Content-Security-Policy: the page's own style sheet and icon, and
// forms that ask the page itself.
const policy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// guard sets on every answer what keeps a browser from doing more with it than
// showing it.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}
