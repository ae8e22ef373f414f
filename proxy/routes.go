package proxy

import (
	"net/url"
	"strings"

	v2 "github.com/distribution/distribution/v3/registry/api/v2"
	"github.com/gorilla/mux"

	"github.com/trustmirror/trustmirror/verify"
)

// The names of the routes, as they appear in logs: those of distribution, and one more.
const (
	routeBase      = v2.RouteNameBase
	routeManifest  = v2.RouteNameManifest
	routeBlob      = v2.RouteNameBlob
	routeTags      = v2.RouteNameTags
	routeCatalog   = v2.RouteNameCatalog
	routeReferrers = "referrers"
)

// newRouter knows the paths of the OCI distribution specification ("Endpoints",
// end-1 to end-3, end-8 and end-12).
//
// The patterns take any name and any reference, because a malformed one has an
// error of its own that a path unknown to the router would hide. They are told
// apart by their last components alone, so no path fits two of them. Paths are
// matched as the client sent them: still encoded, so that "%2f" is no separator,
// and, since the router only matches and doesn't serve, never cleaned or redirected.
func newRouter() *mux.Router {
	router := mux.NewRouter().UseEncodedPath()
	router.Path("/v2/").Name(routeBase)
	router.Path("/v2").Name(routeBase)
	router.Path("/v2/_catalog").Name(routeCatalog)
	router.Path("/v2/{name:.+}/tags/list").Name(routeTags)
	router.Path("/v2/{name:.+}/manifests/{reference:[^/]+}").Name(routeManifest)
	router.Path("/v2/{name:.+}/blobs/{reference:[^/]+}").Name(routeBlob)
	router.Path("/v2/{name:.+}/referrers/{reference:[^/]+}").Name(routeReferrers)
	return router
}

// match finds the handler of a request and notes what its path names, decoded.
func (s *server) match(x *exchange) (func(*exchange) error, error) {
	var m mux.RouteMatch
	if !s.router.Match(x.r, &m) {
		return nil, errPath
	}
	x.route, x.name, x.reference = m.Route.GetName(), m.Vars["name"], m.Vars["reference"]
	if err := x.decode(); err != nil {
		return nil, err
	}
	return s.handler(x)
}

// handler is that of the request's route.
func (s *server) handler(x *exchange) (func(*exchange) error, error) {
	switch x.route {
	case routeBase:
		return s.base, nil
	case routeCatalog:
		return s.catalog, nil
	case routeTags:
		return s.tags, nil
	case routeManifest:
		return s.manifest, nil
	case routeBlob:
		return s.blob, nil
	case routeReferrers:
		return nil, errReferrers
	}
	return nil, errPath
}

// decode undoes the percent-encoding of what the path names. An encoded slash in
// the name is malformed: whoever stands between here and the client may read it
// otherwise.
func (x *exchange) decode() error {
	if strings.Contains(strings.ToLower(x.name), "%2f") {
		return &verify.InvalidError{Part: verify.PartName, Value: x.name}
	}
	for _, part := range []*string{&x.name, &x.reference} {
		decoded, err := url.PathUnescape(*part)
		if err != nil {
			return errPath
		}
		*part = decoded
	}
	return nil
}
