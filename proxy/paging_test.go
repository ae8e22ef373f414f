package proxy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestTags(t *testing.T) {
	gate := &fakeGate{tags: []string{"0.1.12", "0.1.18", "0.1.19", "latest"}}
	server := newTestServer(t, gate)
	tests := []struct{ query, tags, link string }{
		{"", `["0.1.12","0.1.18","0.1.19","latest"]`, ""},
		{"?n=4", `["0.1.12","0.1.18","0.1.19","latest"]`, ""},
		{"?n=2", `["0.1.12","0.1.18"]`, `</v2/nicolas/webdis/tags/list?last=0.1.18&n=2>; rel="next"`},
		{"?n=2&last=0.1.18", `["0.1.19","latest"]`, ""},
		{"?n=1&last=0.1.13", `["0.1.18"]`, `</v2/nicolas/webdis/tags/list?last=0.1.18&n=1>; rel="next"`},
		{"?n=1&ns=docker.io", `["0.1.12"]`, `</v2/nicolas/webdis/tags/list?last=0.1.12&n=1&ns=docker.io>; rel="next"`},
		{"?last=latest", `[]`, ""},
		{"?last=zzz", `[]`, ""},
		{"?last=", `["0.1.12","0.1.18","0.1.19","latest"]`, ""},
		{"?n=0", `[]`, ""},
		{"?n=0&last=0.1.12", `[]`, ""},
	}
	for _, test := range tests {
		got := getAndHead(t, server, tagsPath+test.query)
		if want := `{"name":"nicolas/webdis","tags":` + test.tags + `}`; got.status != 200 || got.body != want {
			t.Errorf("%s: %d %s, want %s", test.query, got.status, got.body, want)
		}
		if link := got.header.Get("Link"); link != test.link {
			t.Errorf("%s: Link is %s, want %s", test.query, link, test.link)
		}
	}
	for _, ref := range gate.askedFor() {
		if ref.String() != "docker.io/nicolas/webdis" {
			t.Fatalf("the gate was asked for %s", ref)
		}
	}
}

func TestNoTagsIsAnEmptyList(t *testing.T) {
	server := newTestServer(t, &fakeGate{})
	for path, want := range map[string]string{
		tagsPath:                              `{"name":"nicolas/webdis","tags":[]}`,
		"/v2/docker.io/nicolas/x/tags/list":   `{"name":"docker.io/nicolas/x","tags":[]}`,
		"/v2/_catalog":                        `{"repositories":[]}`,
		"/v2/nicolas/tags/list/tags/list?n=1": `{"name":"nicolas/tags/list","tags":[]}`,
	} {
		if got := getAndHead(t, server, path); got.body != want {
			t.Errorf("%s: %d %s, want %s", path, got.status, got.body, want)
		}
	}
}

// TestAttack30_PageSize: a large n costs no more than a small one, and nonsense
// is an error.
func TestAttack30_PageSize(t *testing.T) {
	var names []string
	for i := range 2*maxPage + 1 {
		names = append(names, fmt.Sprintf("t%06d", i))
	}
	server := newTestServer(t, &fakeGate{tags: names, repositories: names})
	for _, path := range []string{tagsPath, "/v2/_catalog"} {
		for _, n := range []string{"1099511627776", "18446744073709551615", "1001", "1000"} {
			got := getAndHead(t, server, path+"?n="+n)
			entries := entriesOf(t, got)
			if len(entries) != maxPage || !strings.Contains(got.header.Get("Link"), "n=1000>") {
				t.Errorf("%s?n=%s: %d entries, Link %s", path, n, len(entries), got.header.Get("Link"))
			}
		}
		for _, n := range []string{"-1", "x", "", "1.5", "0x10", "1e3", "+1", "%201", "18446744073709551616", "99999999999999999999999"} {
			got := getAndHead(t, server, path+"?n="+n)
			if e := errorOf(t, got); got.status != 400 || e.Code != "PAGINATION_NUMBER_INVALID" {
				t.Errorf("%s?n=%s: %d %s", path, n, got.status, e.Code)
			}
		}
	}
}

// Who follows the links gets every entry once.
func TestFollowLinks(t *testing.T) {
	var names []string
	for i := range 2*maxPage + 7 {
		names = append(names, fmt.Sprintf("registry.example/a_b/%06d", i))
	}
	server := newTestServer(t, &fakeGate{repositories: names})
	for _, first := range []string{"/v2/_catalog", "/v2/_catalog?n=700"} {
		var got []string
		for next := first; next != ""; {
			r := getAndHead(t, server, next)
			got = append(got, entriesOf(t, r)...)
			next, _, _ = strings.Cut(strings.TrimPrefix(r.header.Get("Link"), "<"), ">")
		}
		if !slices.Equal(got, names) {
			t.Errorf("from %s on there are %d entries, want %d", first, len(got), len(names))
		}
	}
}

func entriesOf(t *testing.T, r response) []string {
	t.Helper()
	var document struct{ Tags, Repositories []string }
	if err := json.Unmarshal([]byte(r.body), &document); err != nil {
		t.Fatalf("%d %.100s: %v", r.status, r.body, err)
	}
	return append(document.Tags, document.Repositories...)
}
