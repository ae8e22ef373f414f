package proxy

import (
	"net/http"
	"net/url"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/trustmirror/trustmirror/verify"
)

// meaning is what a request asks for.
type meaning struct {
	route     string     // name of the matched route, or ""
	name      string     // repository as the path names it, decoded
	reference string     // tag or digest as the path names it, decoded
	ref       verify.Ref // zero until the request is understood
}

// wording is all of a request that its meaning depends on.
type wording struct{ path, rawPath, query, host string }

const (
	// maxMeanings bounds how many requests for manifests and blobs are remembered with
	// their meaning, since a fleet asks the same over and over: 4 MiB at most.
	maxMeanings = 4096
	maxWording  = 512 // bytes of such a request, in each of its forms
)

// meanings remembers what requests mean; not whether they may be answered.
type meanings = lru.Cache[wording, meaning]

func wordingOf(r *http.Request) wording {
	return wording{r.URL.Path, r.URL.RawPath, r.URL.RawQuery, r.Host}
}

// handlerOf finds the handler of a request, and what is remembered of its meaning.
func (s *server) handlerOf(x *exchange) (func(*exchange) error, error) {
	if known, ok := s.meanings.Get(wordingOf(x.r)); ok {
		x.meaning = known
		return s.handler(x)
	}
	query, err := url.ParseQuery(x.r.URL.RawQuery)
	if err != nil {
		return nil, errQuery
	}
	x.query = query
	return s.match(x)
}

// understand reads which object a request asks for, unless that is remembered.
func (s *server) understand(x *exchange, read func(*exchange) (verify.Ref, error)) error {
	if x.ref.Registry != "" {
		return nil
	}
	ref, err := read(x)
	if err != nil {
		return err
	}
	x.ref = ref
	// The URI as it was sent is what the others are parts of, and may have more to it.
	if w := wordingOf(x.r); max(len(x.r.RequestURI), len(w.path)+len(w.rawPath)+len(w.query)+len(w.host)) <= maxWording {
		s.meanings.Add(w, x.meaning)
	}
	return nil
}
