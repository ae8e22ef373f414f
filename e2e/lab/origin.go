package lab

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
)

// Origin is what registries' own names lead to, on the ports 443 and 80. A client
// that doesn't fail closed ends up here, and finds everything, so that it is noticed.
type Origin struct {
	fronts []*Front
}

// StartOrigin serves on an IP address: each host name with its registry.
func (l *Lab) StartOrigin(address string, registries map[string]*Registry) (*Origin, error) {
	conf, err := l.CA.serverTLS(slices.Sorted(maps.Keys(registries))...)
	if err != nil {
		return nil, err
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if registry, ok := registries[r.Host]; ok {
			registry.ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
	})
	secure, err := l.front(address+":443", "origin", conf, handler)
	if err != nil {
		return nil, err
	}
	plain, err := l.front(address+":80", "origin", nil, handler)
	return &Origin{[]*Front{secure, plain}}, err
}

// Asked returns what was asked since the last call, and each connection that was
// made, whether or not anything was asked on it.
func (o *Origin) Asked() ([]string, error) {
	var all []string
	for _, front := range o.fronts {
		connections, err := front.Connections()
		if err != nil {
			return nil, err
		}
		for range connections {
			all = append(all, fmt.Sprintf("a connection to %s", front.Address))
		}
		all = append(all, front.Requests()...)
	}
	return all, nil
}
