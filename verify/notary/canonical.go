package notary

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/trustmirror/trustmirror/verify/internal/strictjson"
)

// maxInteger is the largest integer of which Notary's own encoder, which counts
// in float64, keeps every digit.
const maxInteger = 1 << 53

// Canonical encodes a strict JSON document as Notary does before it signs:
// without white space, members sorted by the bytes of their names, and in
// strings only the quotation mark and the backslash escaped. Control characters
// stand for themselves, so the result need not be JSON. Numbers that aren't
// integers, and integers beyond 2^53, have no canonical form and are errors.
func Canonical(raw []byte) ([]byte, error) {
	if err := strictjson.Check(raw, strictjson.FoldDepth(0)); err != nil {
		return nil, err
	}
	return canonical(raw)
}

// canonical is Canonical for a part of a document that was checked.
func canonical(raw []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return nil, err
	}
	return appendCanonical(make([]byte, 0, len(raw)), v)
}

// appendCanonical recurses as deep as the document, which strictjson bounds.
func appendCanonical(b []byte, v any) ([]byte, error) {
	var err error
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case string:
		return appendString(b, v), nil
	case json.Number:
		return appendInteger(b, v)
	case []any:
		b = append(b, '[')
		for i, element := range v {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendCanonical(b, element); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case map[string]any:
		b = append(b, '{')
		for i, name := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, name), ':')
			if b, err = appendCanonical(b, v[name]); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	}
	return nil, fmt.Errorf("%T has no canonical form", v)
}

func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

func appendInteger(b []byte, n json.Number) ([]byte, error) {
	i, err := strconv.ParseInt(n.String(), 10, 64)
	if err != nil || i > maxInteger || i < -maxInteger {
		return nil, fmt.Errorf("the number %.32s is not an integer of at most 53 bits", n)
	}
	return strconv.AppendInt(b, i, 10), nil
}

// canonicalKey is the canonical JSON of a public key, over which its ID is
// computed. Key types need no escapes.
func canonicalKey(keyType string, public []byte) []byte {
	return fmt.Appendf(nil, `{"keytype":"%s","keyval":{"private":null,"public":"%s"}}`,
		keyType, base64.StdEncoding.EncodeToString(public))
}
