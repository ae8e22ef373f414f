// Package strictjson reads JSON of which there is only one reading (DESIGN T1).
//
// encoding/json takes much that another parser may understand differently: the
// last of two members with one name, a member whose name differs from the
// field's in case only, bytes that aren't UTF-8, half a surrogate pair, null
// for a number. What is signed or hashed must not depend on who reads it, so
// all of that is refused here, as is data after the document and nesting
// without end. The grammar is RFC 8259's; members are compared as RFC 7493
// (I-JSON) asks, and more strictly.
package strictjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
)

// DefaultMaxDepth is how many objects and arrays may enclose a value.
const DefaultMaxDepth = 32

// Error says why a document isn't strict JSON of the expected shape.
type Error struct {
	Offset int64  // bytes before the place; -1 where it isn't known
	Path   string // the value concerned: "signed.keys[2]"; empty for the document itself
	Msg    string // what is wrong there
}

func (e *Error) Error() string {
	s := e.Msg
	if e.Path != "" {
		s += " in " + e.Path
	}
	if e.Offset >= 0 {
		s += fmt.Sprintf(" at byte %d", e.Offset)
	}
	return s
}

// Option changes what is accepted.
type Option func(*options)

type options struct {
	maxDepth  int
	maxBytes  int        // 0: what the caller holds in memory anyway
	maxValues int        // 0: as many as there are
	foldDepth int        // -1: at every depth
	exact     [][]string // paths of objects whose members are compared exactly
	known     bool       // refuse members that the struct doesn't have
}

// MaxDepth bounds how many objects and arrays may enclose a value; the default
// is DefaultMaxDepth.
func MaxDepth(n int) Option { return func(o *options) { o.maxDepth = n } }

// MaxBytes bounds the document's size; by default whatever the caller could
// hold in memory is read.
func MaxBytes(n int) Option { return func(o *options) { o.maxBytes = n } }

// MaxValues bounds how many values there are, objects and arrays among them: each
// takes far more memory once it is decoded than the two bytes that it may have. By
// default it isn't bounded.
func MaxValues(n int) Option { return func(o *options) { o.maxValues = n } }

// FoldDepth limits to the outermost n levels (the document itself is the first)
// the rule that two names in one object must not be equal when case-folded. By
// default it holds at every level. Names that are exactly equal are refused at
// every level in any case.
func FoldDepth(n int) Option { return func(o *options) { o.foldDepth = n } }

// ExactNames lifts the same rule for the one object at path, whose names are
// data, not words of the format.
func ExactNames(path ...string) Option {
	return func(o *options) { o.exact = append(o.exact, path) }
}

// KnownFields refuses members that the struct they would be decoded into doesn't
// have. By default they are skipped.
func KnownFields() Option { return func(o *options) { o.known = true } }

// Check tells whether raw is one strict JSON document. Errors are *Error.
func Check(raw []byte, opts ...Option) error {
	return scan(raw, nil, opts)
}

// Unmarshal checks raw and decodes it into v as encoding/json would, with these
// differences: names must match exactly, and null stands only for what can be
// nil. Integers are exact: 1.0, 1e3 and numbers out of range don't fit an
// integer field. Errors are *Error; v is then to be thrown away.
func Unmarshal(raw []byte, v any, opts ...Option) error {
	t := reflect.TypeOf(v)
	if t == nil || t.Kind() != reflect.Pointer {
		return &Error{Offset: -1, Msg: "the value to decode into is not a pointer"}
	}
	if err := scan(raw, t.Elem(), opts); err != nil {
		return err
	}
	err := json.Unmarshal(raw, v)
	var mismatch *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &mismatch):
		return &Error{
			Offset: mismatch.Offset,
			Path:   mismatch.Field,
			Msg:    fmt.Sprintf("a %s does not fit %s", mismatch.Value, mismatch.Type),
		}
	}
	return &Error{Offset: -1, Msg: "cannot be decoded: " + err.Error()}
}

func scan(raw []byte, t reflect.Type, opts []Option) error {
	s := scanner{data: raw, options: options{maxDepth: DefaultMaxDepth, foldDepth: -1}}
	for _, opt := range opts {
		opt(&s.options)
	}
	return s.document(t)
}
