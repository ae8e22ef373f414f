package fuzz

import (
	"bytes"
	"testing"

	docker "github.com/docker/go/canonical/json"

	"github.com/trustmirror/trustmirror/verify/notary"
)

// FuzzCanonical asserts that what has a canonical form has the same one for the
// reference client, which decodes a signed part and encodes it again before it
// checks a signature; and that the form, where it is JSON, is its own.
func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{
		`{"b":[1,{"d":null,"c":"\n"}],"a":"\"\\"}`, `[-0,12,9007199254740992,-9007199254740992]`, `"\ud83d\ude00\u2028<&>\u007f"`,
		`{"é":1,"e":2,"E":3,"\ufffd":4,"😀":5}`, `1.0`, `1e3`, `{"":"\u0000\/\b"}`, ` [ true , false ] `,
	} {
		f.Add([]byte(seed), uint64(0))
	}
	for _, raw := range vectors(f, "notary0.*/*.json", "notary0.*/targets/*.json", "*.json") {
		f.Add(raw, uint64(0))
	}
	f.Fuzz(func(t *testing.T, doc []byte, changes uint64) {
		doc = edit(doc, changes)
		form, err := notary.Canonical(doc)
		if err != nil {
			return
		}
		var decoded any
		if err := docker.Unmarshal(doc, &decoded); err != nil {
			t.Fatalf("%q has a form, but the reference client can't read it: %v", doc, err)
		}
		want, err := docker.MarshalCanonical(decoded)
		if err != nil || !bytes.Equal(form, want) {
			t.Fatalf("the form of %q is\n%q, the reference client's\n%q, %v", doc, form, want, err)
		}
		if bytes.ContainsFunc(form, func(r rune) bool { return r < 0x20 }) {
			return // not JSON: control characters stand for themselves
		}
		if again, err := notary.Canonical(form); err != nil || !bytes.Equal(again, form) {
			t.Fatalf("the form of %q is %q, %v", form, again, err)
		}
	})
}
