package notary_test

import (
	"strings"
	"testing"

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
