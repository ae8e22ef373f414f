package proxy

import (
	"testing"

	"github.com/trustmirror/trustmirror/verify"
)

// Each request is told once, in the mirror's own words.
func TestObserve(t *testing.T) {
	tests := map[string]struct {
		gate         *fakeGate
		method, path string
		want         Event
	}{
		"served":      {&fakeGate{}, "GET", manifestPath, Event{Route: "manifest", Status: 200, Outcome: "served", Bytes: int64(len(testBody))}},
		"HEAD":        {&fakeGate{}, "HEAD", blobPath, Event{Route: "blob", Status: 200, Outcome: "served"}},
		"refused":     {&fakeGate{err: verify.Refuse(verify.UnsignedTag, "no")}, "GET", manifestPath, Event{Route: "manifest", Status: 403, Outcome: "refused", Reason: "unsigned_tag"}},
		"unavailable": {&fakeGate{err: verify.Unavailable(verify.StorageUnavailable, "full")}, "GET", blobPath, Event{Route: "blob", Status: 503, Outcome: "unavailable", Reason: "storage_unavailable"}},
		"a registry that isn't configured": {&fakeGate{}, "GET", manifestPath + "?ns=evil.example",
			Event{Route: "manifest", Status: 403, Outcome: "refused", Reason: "no_policy"}},
		"no route":       {&fakeGate{}, "GET", "/hostile-name", Event{Status: 404, Outcome: "invalid", Reason: "path_unknown"}},
		"another method": {&fakeGate{}, "PUT", manifestPath, Event{Status: 405, Outcome: "invalid", Reason: "read_only"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			events := make(chan Event, 10)
			server := newTestServer(t, test.gate, func(c *Config) { c.Observe = func(e Event) { events <- e } })
			body := get(t, server, test.method, test.path).body
			got := <-events
			if got.Duration <= 0 {
				t.Errorf("it took %v", got.Duration)
			}
			if got.Duration = 0; test.want.Bytes == 0 && test.method == "GET" {
				test.want.Bytes = int64(len(body)) // of the error
			}
			if test.method == "PUT" {
				test.want.Bytes = got.Bytes
			}
			if got != test.want || len(events) > 0 {
				t.Errorf("told %+v, want %+v, and %d more", got, test.want, len(events))
			}
		})
	}
}
