package notary_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/verify/internal/strictjson"
	"github.com/trustmirror/trustmirror/verify/notary"
)

func TestCanonical(t *testing.T) {
	tests := []struct{ doc, want string }{
		{` { "b" : [ 1 , true , null , false ] , "a" : { } } `, `{"a":{},"b":[1,true,null,false]}`},
		{`{"":1,"B":2,"a":3,"é":4,"😀":5,"aa":6}`, `{"":1,"B":2,"a":3,"aa":6,"é":4,"😀":5}`},
		{`"\u0041\/\b\f\n\r\t\u0000\u001f\u007f"`, "\"A/\b\f\n\r\t\x00\x1f\x7f\""},
		{`"\"\\ <>&\u2028\u2029 \ud83d\ude00"`, "\"\\\"\\\\ <>&\u2028\u2029 \U0001F600\""},
		{`[0,-0,-1,9007199254740992,-9007199254740992]`, `[0,0,-1,9007199254740992,-9007199254740992]`},
		{`{"a":1,"A":2}`, `{"A":2,"a":1}`},
		{`"` + strings.Repeat("x", 100) + `"`, `"` + strings.Repeat("x", 100) + `"`},
	}
	for _, test := range tests {
		got, err := notary.Canonical([]byte(test.doc))
		if err != nil || string(got) != test.want {
			t.Errorf("%s is %q, %v, want %q", test.doc, got, err, test.want)
		}
	}
}

func TestCanonicalRefuses(t *testing.T) {
	for _, doc := range []string{
		``, `{`, `{"a":1,"a":1}`, `1.5`, `1.0`, `1e3`, `1E0`, `-0.0`, `9007199254740993`, `-9007199254740993`, `1e400`,
		strings.Repeat("9", 400), `"\ud800"`, "\"\xff\"", `{}{}`,
	} {
		if got, err := notary.Canonical([]byte(doc)); err == nil {
			t.Errorf("%s has the canonical form %q", doc, got)
		}
	}
}

// FuzzCanonical asserts that what has a canonical form says the same in it, that
// the form is a fixed point, and that names are sorted by their bytes.
func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{`{"b":[1,{"d":null,"c":"\n"}],"a":"\"\\"}`, `[-0,12]`, `"\ud83d\ude00"`, `{"é":1,"e":2}`, `1.0`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		form, err := notary.Canonical(doc)
		if err != nil {
			return
		}
		if bytes.ContainsFunc(form, func(r rune) bool { return r < 0x20 }) {
			return // not JSON: control characters stand for themselves
		}
		again, err := notary.Canonical(form)
		if err != nil || !bytes.Equal(again, form) {
			t.Fatalf("the form of %q is %q, %v", form, again, err)
		}
		if want, got := integers(t, doc), integers(t, form); !reflect.DeepEqual(want, got) {
			t.Fatalf("%q says %v, its form %v", doc, want, got)
		}
		var object map[string]json.RawMessage
		if json.Unmarshal(form, &object) == nil && object != nil {
			decoder := json.NewDecoder(bytes.NewReader(form))
			var names []string
			_, _ = decoder.Token()
			for decoder.More() {
				name, err := decoder.Token()
				var skipped json.RawMessage
				if err != nil || decoder.Decode(&skipped) != nil {
					t.Fatal(err)
				}
				names = append(names, name.(string))
			}
			if !slices.IsSorted(names) {
				t.Fatalf("names are %q", names)
			}
		}
	})
}

// integers decodes a document; its numbers are integers of at most 53 bits,
// which float64 holds exactly.
func integers(t *testing.T, doc []byte) any {
	var v any
	if err := strictjson.Unmarshal(doc, &v, strictjson.FoldDepth(0)); err != nil {
		t.Fatal(err)
	}
	return v
}
