package strictjson_test

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/trustmirror/trustmirror/verify/internal/strictjson"
)

// FuzzCheck compares the verdict with that of encoding/json's tokens, to which
// the rules are applied in the plainest way, and asserts that what is accepted
// survives a round trip.
func FuzzCheck(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[1,2,{"a":[null]}]`, `{"a":1,"A":2}`, `{"a":{"b":1,"b":2}}`, `"\ud83d\ude00"`, `1e3`, `[[[[]]]]`,
		`{"x":1}{"x":1}`, `{"` + "\u212a" + `":1,"k":2}`, " [true , false]\n", "\"\xff\"", `{"a":"\u0000"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		err := strictjson.Check(doc)
		if !strings.Contains(strings.ToLower(string(doc)), `\ud`) { // surrogates: encoding/json hides them
			if want := plainlyStrict(doc); want != (err == nil) {
				t.Fatalf("Check says %v, the plain rules say %v", err, want)
			}
		}
		if err != nil {
			return
		}
		first := decode(t, doc)
		again, err := json.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		if err := strictjson.Check(again); err != nil {
			t.Fatalf("accepted, but not once marshalled again: %v", err)
		}
		if !reflect.DeepEqual(first, decode(t, again)) {
			t.Fatal("not the same after a round trip")
		}
	})
}

func decode(t *testing.T, doc []byte) any {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("accepted what encoding/json refuses: %v", err)
	}
	return v
}

func plainlyStrict(doc []byte) bool {
	if !json.Valid(doc) || !utf8.Valid(doc) {
		return false
	}
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	type level struct {
		object bool
		isName bool
		names  []string
	}
	var levels []level
	for {
		token, err := d.Token()
		if err == io.EOF {
			return true
		}
		if err != nil {
			return false
		}
		top := len(levels) - 1
		if name, ok := token.(string); ok && top >= 0 && levels[top].object && levels[top].isName {
			for _, other := range levels[top].names {
				if strings.EqualFold(name, other) {
					return false
				}
			}
			levels[top].names = append(levels[top].names, name)
			levels[top].isName = false
			continue
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			levels = append(levels, level{object: token == json.Delim('{'), isName: true})
			if len(levels) > strictjson.DefaultMaxDepth {
				return false
			}
			continue
		case json.Delim('}'), json.Delim(']'):
			levels = levels[:top]
			top--
		}
		if top >= 0 {
			levels[top].isName = true
		}
	}
}
