package status

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/verify"
)

// fieldsOf lists the fields that a type has as JSON: "images[].trust.keys[].id";
// those that may be absent are marked by a "?". A link is described once.
func fieldsOf(prefix string, of reflect.Type) []string {
	for of.Kind() == reflect.Slice || of.Kind() == reflect.Pointer {
		if of.Kind() == reflect.Slice && of.Elem().Kind() == reflect.Struct {
			prefix += "[]"
		}
		of = of.Elem()
	}
	isLink := of == reflect.TypeFor[verify.Link]()
	if of.Kind() != reflect.Struct || of == reflect.TypeFor[time.Time]() || isLink && prefix != "" {
		return []string{prefix}
	}
	var fields []string
	for i := range of.NumField() {
		name, option, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		path := strings.TrimPrefix(prefix+"."+name, ".")
		field := of.Field(i).Type
		if isLink && name == "children" {
			fields = append(fields, "children?")
			continue
		}
		for _, f := range fieldsOf(path, field) {
			if option == "omitempty" {
				f += "?"
			}
			fields = append(fields, f)
		}
	}
	return fields
}

// TestAPIIsDocumented compares docs/api.md with the documents that are sent.
func TestAPIIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string][]string{}
	section := ""
	heading := regexp.MustCompile("^## `GET (/api/v1/[^`]*)`$")
	field := regexp.MustCompile("^\\| `([^`]+)` \\| (.*) \\|$")
	for line := range strings.Lines(string(doc)) {
		line = strings.TrimSpace(line)
		if m := heading.FindStringSubmatch(line); m != nil {
			section = m[1]
			documented[section] = []string{}
		} else if strings.HasPrefix(line, "| field of a link") {
			section = "link"
		} else if m := field.FindStringSubmatch(line); m != nil {
			if strings.Contains(m[2], "may be absent") {
				m[1] += "?"
			}
			documented[section] = append(documented[section], m[1])
		}
	}
	for path, document := range map[string]any{
		"/api/v1/status": Overview{}, "/api/v1/images": imagesDocument{}, "/api/v1/images/<name>": nil, "/api/v1/images/<name>/tags/<tag>": verify.Chain{},
		"/api/v1/refusals": refusalsDocument{}, "/api/v1/pulls": pullsDocument{}, "/api/v1/cache": Usage{}, "link": verify.Link{},
	} {
		got, ok := documented[path]
		if !ok {
			t.Errorf("docs/api.md has no %s", path)
			continue
		}
		delete(documented, path)
		if document == nil { // described by another
			continue
		}
		want := fieldsOf("", reflect.TypeOf(document))
		for _, f := range want {
			if !slices.Contains(got, f) {
				t.Errorf("%s: docs/api.md doesn't describe %q (? means: may be absent)", path, f)
			}
		}
		for _, f := range got {
			if !slices.Contains(want, f) {
				t.Errorf("%s: docs/api.md describes %q, which the code doesn't have so (? means: may be absent)", path, f)
			}
		}
	}
	for path := range documented {
		t.Errorf("docs/api.md describes %s, which doesn't exist", path)
	}
}

// An empty list is [], so that nobody has to look for null.
func TestEmptyListsAreLists(t *testing.T) {
	s := newSample()
	s.images, s.refusals, s.pulls = []Image{}, nil, []Pull{}
	for _, path := range []string{"/api/v1/images", "/api/v1/refusals", "/api/v1/pulls", "/api/v1/status"} {
		if body := s.get(t, path).Body.String(); strings.Contains(body, "null") {
			t.Errorf("%s: %s", path, body)
		}
	}
}

func TestChainAsJSON(t *testing.T) {
	s := newSample()
	var got verify.Chain
	if err := json.Unmarshal(s.get(t, "/api/v1"+tagPage).Body.Bytes(), &got); err != nil || !reflect.DeepEqual(&got, s.chain) {
		t.Errorf("%v, %+v", err, got)
	}
}
