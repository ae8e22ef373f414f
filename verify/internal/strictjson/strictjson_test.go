package strictjson_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/verify/internal/strictjson"
)

func TestCheckAccepts(t *testing.T) {
	for name, doc := range map[string]string{
		"object":              `{"a":1,"b":[true,false,null,"x"],"c":{"a":{}}}`,
		"white space":         " \t\r\n[ 1 , -2.5e+10 , 0 , 0.1E-2 ] \n",
		"scalar":              `"x"`,
		"escapes":             `"\"\\\/\b\f\n\r\t\u0041\u00e9"`,
		"surrogate pair":      `"\ud83d\uDE00"`,
		"not ASCII":           `{"ключ":"значение","k":"😀"}`,
		"replacement written": "\"\ufffd\\ufffd\"",
		"32 levels":           strings.Repeat("[", 32) + strings.Repeat("]", 32),
		"one name in two":     `[{"a":1},{"a":2,"b":{"a":1}}]`,
	} {
		if err := strictjson.Check([]byte(doc)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	tests := []struct{ name, doc, says string }{
		{"nothing", ``, "ends too early"},
		{"white space only", " \n", "ends too early"},
		{"two documents", `{}{}`, "data after the document"},
		{"text after", `{"a":1} x`, "data after the document"},
		{"zero byte after", "{}\x00", "data after the document"},
		{"byte order mark", "\ufeff{}", "expected a value"},
		{"repeated name", `{"a":1,"a":1}`, `repeated name "a" at byte 7`},
		{"repeated name, escaped", `{"a":1,"\u0061":1}`, `repeated name "a"`},
		{"repeated empty name", `{"":1,"":1}`, `repeated name ""`},
		{"repeated name below", `{"x":[{"b":{"a":1,"a":2}}]}`, `repeated name "a" in x[0].b at byte 18`},
		{"case", `{"a":1,"A":1}`, "in case only"},
		{"case, Kelvin sign", `{"key":1,"` + "\u212a" + `ey":1}`, "in case only"},
		{"case, long s", `{"size":1,"` + "\u017f" + `ize":1}`, "in case only"},
		{"half a pair, high", `"\ud83d"`, "half a surrogate pair"},
		{"half a pair, high twice", `"\ud83d\ud83d"`, "half a surrogate pair"},
		{"half a pair, low", `"\ude00"`, "half a surrogate pair"},
		{"half a pair in a name", `{"\ud83d":1}`, "half a surrogate pair"},
		{"UTF-8", "\"a\xff\"", "invalid UTF-8 at byte 2"},
		{"UTF-8, surrogate", "\"\xed\xa0\x80\"", "invalid UTF-8"},
		{"UTF-8, overlong", "\"\xc0\xaf\"", "invalid UTF-8"},
		{"33 levels", strings.Repeat("[", 33) + strings.Repeat("]", 33), "more than 32 levels"},
		{"10,000 levels", strings.Repeat(`{"a":`, 10000) + "1" + strings.Repeat("}", 10000), "more than 32 levels"},
		{"control character", "\"a\nb\"", "control character"},
		{"string without end", `"abc`, "within a string"},
		{"escape without end", `"abc\`, "invalid escape"},
		{"unknown escape", `"\x41"`, "invalid escape"},
		{"short escape", `"\u004"`, "invalid escape"},
		{"comma at the end", `[1,]`, "expected a value"},
		{"comma at the end, object", `{"a":1,}`, "expected a member's name"},
		{"no comma", `[1 2]`, "expected a comma"},
		{"no colon", `{"a" 1}`, "expected a colon"},
		{"no quotes", `{a:1}`, "expected a member's name"},
		{"wrong bracket", `[1}`, "expected a comma"},
		{"no end", `[1,[2`, "expected a comma"},
		{"leading zero", `01`, "data after the document"},
		{"plus", `+1`, "expected a value"},
		{"minus only", `-`, "malformed number"},
		{"no fraction", `1.`, "malformed number"},
		{"no exponent", `1e`, "malformed number"},
		{"NaN", `NaN`, "expected a value"},
		{"word cut", `tru`, "expected a value"},
		{"comment", `{} // x`, "data after the document"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := strictjson.Check([]byte(test.doc))
			var typed *strictjson.Error
			if !errors.As(err, &typed) {
				t.Fatalf("error %v is not an *Error", err)
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %q does not say %q", err, test.says)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	labels := `{"config":{"Labels":{"Maintainer":"a","maintainer":"b"}}}`
	tests := []struct {
		name, doc string
		opts      []strictjson.Option
		ok        bool
	}{
		{"size, exact", `[1]`, []strictjson.Option{strictjson.MaxBytes(3)}, true},
		{"size, one over", `[10]`, []strictjson.Option{strictjson.MaxBytes(3)}, false},
		{"depth, exact", `[[1]]`, []strictjson.Option{strictjson.MaxDepth(2)}, true},
		{"depth, one over", `[[[]]]`, []strictjson.Option{strictjson.MaxDepth(2)}, false},
		{"labels, folded everywhere", labels, nil, false},
		{"labels, folded above", labels, []strictjson.Option{strictjson.FoldDepth(2)}, true},
		{"labels, folded to their level", labels, []strictjson.Option{strictjson.FoldDepth(3)}, false},
		{"above the depth", `{"a":1,"A":1}`, []strictjson.Option{strictjson.FoldDepth(1)}, false},
		{"exact duplicates below the depth", `{"x":{"a":1,"a":1}}`, []strictjson.Option{strictjson.FoldDepth(1)}, false},
		{"exact names at the path", labels, []strictjson.Option{strictjson.ExactNames("config", "Labels")}, true},
		{"exact names, repeated", `{"x":{"a":1,"a":1}}`, []strictjson.Option{strictjson.ExactNames("x")}, false},
		{"exact names elsewhere", labels, []strictjson.Option{strictjson.ExactNames("config")}, false},
		{"exact names below an array", `[{"x":{"a":1,"A":1}}]`, []strictjson.Option{strictjson.ExactNames("", "x")}, false},
	}
	for _, test := range tests {
		if err := strictjson.Check([]byte(test.doc), test.opts...); (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

type inner struct {
	Size int64 `json:"size"`
}

type outer struct {
	inner
	Name    string           `json:"name"`
	Version int              `json:"version"`
	When    *time.Time       `json:"when"`
	At      time.Time        `json:"at"`
	Raw     json.RawMessage  `json:"raw"`
	List    []inner          `json:"list"`
	Map     map[string]inner `json:"map"`
	Number  json.Number      `json:"number"`
	Bytes   []byte           `json:"bytes"`
	Any     any              `json:"any"`
	Skipped string           `json:"-"`
	Plain   string
}

func TestUnmarshal(t *testing.T) {
	doc := `{"size":5,"name":"x","version":-3,"when":null,"at":"2026-01-02T03:04:05Z","raw":{"Size":1},
		"list":[{"size":1}],"map":{"Name":{"size":2},"other":{"size":3}},"number":12,"bytes":"AQI=","any":{"Version":null},
		"Plain":"p","more":{"Size":null},"-":"y"}`
	var got outer
	if err := strictjson.Unmarshal([]byte(doc), &got); err != nil {
		t.Fatal(err)
	}
	want := outer{
		inner: inner{5}, Name: "x", Version: -3, At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Raw: json.RawMessage(`{"Size":1}`),
		List: []inner{{1}}, Map: map[string]inner{"Name": {2}, "other": {3}}, Number: "12", Bytes: []byte{1, 2},
		Any: map[string]any{"Version": nil}, Plain: "p",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	tests := []struct{ name, doc, says string }{
		{"not strict", `{"name":"a","name":"b"}`, "repeated name"},
		{"case of a name", `{"Name":"x"}`, `must be written "name"`},
		{"case of an embedded name", `{"SIZE":1}`, `must be written "size"`},
		{"case within a list", `{"list":[{"size":1},{"Size":1}]}`, `in list[1]`},
		{"case within a map", `{"map":{"x":{"Size":1}}}`, `in map.x`},
		{"fraction", `{"version":1.0}`, "number 1.0 does not fit int"},
		{"exponent", `{"version":1e3}`, "does not fit int"},
		{"overflow", `{"size":9223372036854775808}`, "does not fit int64"},
		{"string for a number", `{"version":"1"}`, "does not fit int"},
		{"number in quotes", `{"number":"1"}`, "a number in quotes"},
		{"null for a number", `{"version":null}`, "null where a value is needed"},
		{"null for a string", `{"name":null}`, "null where a value is needed"},
		{"null for a time", `{"at":null}`, "null where a value is needed"},
		{"null in a list", `{"list":[null]}`, "null where a value is needed in list[0]"},
		{"base64", `{"bytes":"%"}`, "cannot be decoded"},
		{"shape", `{"list":{}}`, "does not fit"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := strictjson.Unmarshal([]byte(test.doc), new(outer))
			var typed *strictjson.Error
			if !errors.As(err, &typed) {
				t.Fatalf("error %v is not an *Error", err)
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %q does not say %q", err, test.says)
			}
		})
	}
}

func TestUnmarshalNeedsAPointer(t *testing.T) {
	if strictjson.Unmarshal([]byte(`{}`), outer{}) == nil || strictjson.Unmarshal([]byte(`{}`), nil) == nil {
		t.Error("accepted a value that can't be decoded into")
	}
}

func TestKnownFields(t *testing.T) {
	for doc, ok := range map[string]bool{
		`{"size":1}`:                     true,
		`{"size":1,"x":1}`:               false,
		`{"list":[{"size":1,"more":1}]}`: false,
		`{"map":{"any":{"size":1}}}`:     true,
		`{"any":{"whatever":1}}`:         true,
		`{"raw":{"whatever":1}}`:         true,
		`{"Skipped":"x"}`:                false,
	} {
		if err := strictjson.Unmarshal([]byte(doc), new(outer), strictjson.KnownFields()); (err == nil) != ok {
			t.Errorf("%s: %v", doc, err)
		}
	}
}

func TestLongNamesAreCutInMessages(t *testing.T) {
	name := strings.Repeat("é", 1<<20)
	err := strictjson.Check([]byte(`{"` + name + `":{"a":1,"a":2}}`))
	if err == nil || len(err.Error()) > 200 {
		t.Errorf("message has %d bytes", len(err.Error()))
	}
}
