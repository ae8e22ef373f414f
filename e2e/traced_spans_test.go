package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/e2e/collector"
	"github.com/trustmirror/trustmirror/e2e/lab"
)

// spans are those of a run.
type spans []collector.Span

// kept returns those for which keep says so.
func (all spans) kept(keep func(collector.Span) bool) spans {
	return slices.DeleteFunc(slices.Clone(all), func(s collector.Span) bool { return !keep(s) })
}

// of returns the requests that a service answered.
func (all spans) of(service string) spans {
	return all.kept(func(s collector.Span) bool { return s.Service == service && s.Kind == "Server" })
}

// one returns the only span with these attributes: name, value…
func (all spans) one(t *testing.T, attributes ...string) collector.Span {
	t.Helper()
	found := all.kept(func(s collector.Span) bool {
		for i := 0; i < len(attributes); i += 2 {
			if s.Attributes[attributes[i]] != attributes[i+1] {
				return false
			}
		}
		return true
	})
	if len(found) != 1 {
		t.Fatalf("%d spans with %q among\n%s", len(found), attributes, all)
	}
	return found[0]
}

// named returns a span with a name that is about an object, if one is given.
func (all spans) named(t *testing.T, name string, object lab.Blob) collector.Span {
	t.Helper()
	for _, s := range all {
		if s.Name == name && (object.Content == nil || s.Attributes["oci.manifest.digest"] == object.Digest().String()) {
			return s
		}
	}
	t.Fatalf("no span %s among\n%s", name, all)
	return collector.Span{}
}

func (all spans) String() string {
	var text strings.Builder
	for _, s := range all {
		fmt.Fprintf(&text, "%s %s %s %v, links %v\n", s.TraceID, s.ID, s.Name, s.Attributes, s.Links)
	}
	return text.String()
}

// How a request of the mirror's hangs together with the client's.
type relation func(client, mirror collector.Span) bool

// linked is a trace of its own with a link.
func linked(client, mirror collector.Span) bool {
	return mirror.TraceID != client.TraceID && mirror.Parent == "" &&
		slices.ContainsFunc(mirror.Links, func(l collector.Link) bool { return l.TraceID == client.TraceID && l.ID == client.ID })
}

// child is a part of the client's trace.
func child(client, mirror collector.Span) bool {
	return mirror.TraceID == client.TraceID && mirror.Parent == client.ID && len(mirror.Links) < 2
}

// pull returns what the mirror answered to one pull of containerd's: to each request of
// the trace in which containerd asked for a tag, exactly one.
func (all spans) pull(t *testing.T, name, tag string, related relation) spans {
	t.Helper()
	registry, repository, _ := strings.Cut(name, "/")
	suffix := lab.ManifestPath(repository, tag) + "?ns=" + registry
	requests := all.kept(func(s collector.Span) bool { return s.Service == "containerd" && s.Kind == "Client" })
	first := requests.kept(func(s collector.Span) bool { return strings.HasSuffix(fmt.Sprint(s.Attributes["url.full"]), suffix) })
	if len(first) != 1 {
		t.Fatalf("containerd asked %d times for %s:\n%s", len(first), suffix, requests)
	}
	var answered spans
	for _, request := range requests {
		if request.TraceID != first[0].TraceID {
			continue
		}
		found := all.of("trustmirror").kept(func(s collector.Span) bool { return related(request, s) })
		if len(found) != 1 {
			t.Fatalf("%d answers to %v among\n%s", len(found), request, all.of("trustmirror"))
		}
		answered = append(answered, found[0])
	}
	return answered
}

// behind returns what links lead to from a span, the way back to what was admitted
// first, with all that was done for each.
func (all spans) behind(s collector.Span) spans {
	seen := map[string]bool{}
	var found spans
	next := spans{s}
	for len(next) > 0 {
		s, next = next[0], next[1:]
		if seen[s.ID] {
			continue
		}
		seen[s.ID] = true
		found = append(found, s)
		next = append(next, all.kept(func(other collector.Span) bool {
			return other.Parent == s.ID || slices.ContainsFunc(s.Links, func(l collector.Link) bool {
				return l.ID == other.ID && slices.Contains([]any{"work", "admitted"}, l.Attributes["trustmirror.link"])
			})
		})...)
	}
	return found
}

// conventional checks the attributes that every answer has. Where it came from is one
// of caches.
func conventional(t *testing.T, s collector.Span, name string, caches ...any) {
	t.Helper()
	if got := s.Attributes["trustmirror.cache"]; !slices.Contains(caches, got) {
		t.Errorf("%s: trustmirror.cache is %v, want one of %v", s.Name, got, caches)
	}
	for attribute, want := range map[string]any{
		"http.response.status_code": int64(200),
		"server.address":            mirrorName,
		"url.scheme":                "https",
		"client.address":            "127.0.0.1",
		"container.image.name":      name,
		"trustmirror.verdict":       "admitted",
		"trustmirror.outcome":       "served",
	} {
		if got := s.Attributes[attribute]; got != want {
			t.Errorf("%s: %s is %v, want %v", s.Name, attribute, got, want)
		}
	}
	for _, attribute := range []string{"http.route", "http.request.method", "url.path", "user_agent.original", "oci.manifest.digest"} {
		if s.Attributes[attribute] == nil {
			t.Errorf("%s has no %s", s.Name, attribute)
		}
	}
	if want := fmt.Sprintf("%s %s", s.Attributes["http.request.method"], s.Attributes["http.route"]); s.Name != want {
		t.Errorf("the span of %s is named %s", want, s.Name)
	}
}
