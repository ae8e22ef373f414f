package strictjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// scanner walks over a document without recursion: the stack holds what encloses
// the value at pos.
type scanner struct {
	options
	data   []byte
	pos    int
	values int // begun so far
	stack  []frame
	types  fieldCache
}

// frame is an object or an array that is being read.
type frame struct {
	array  bool
	n      int          // members or elements begun
	name   string       // of the member being read
	typ    reflect.Type // what it is decoded into; nil where that doesn't matter
	exact  map[string]struct{}
	folded map[string]struct{} // nil where names are compared exactly
}

func (s *scanner) document(t reflect.Type) error {
	if s.maxBytes > 0 && len(s.data) > s.maxBytes {
		return &Error{Offset: -1, Msg: fmt.Sprintf("%d bytes are more than the %d allowed", len(s.data), s.maxBytes)}
	}
	if !utf8.Valid(s.data) {
		return &Error{Offset: int64(invalidUTF8(s.data)), Msg: "invalid UTF-8"}
	}
	s.space()
	if err := s.value(t); err != nil {
		return err
	}
	for len(s.stack) > 0 {
		if err := s.step(); err != nil {
			return err
		}
	}
	s.space()
	if s.pos < len(s.data) {
		return s.fail("data after the document")
	}
	return nil
}

// step reads the next member or element of the innermost frame, or its end.
func (s *scanner) step() error {
	f := &s.stack[len(s.stack)-1]
	end := byte('}')
	if f.array {
		end = ']'
	}
	s.space()
	if s.next(end) {
		s.stack = s.stack[:len(s.stack)-1]
		return nil
	}
	if f.n > 0 {
		if !s.next(',') {
			return s.fail("expected a comma or %q", end)
		}
		s.space()
	}
	f.n++
	f.name = ""
	t := elementType(f.typ)
	if !f.array {
		var err error
		if t, err = s.member(f); err != nil {
			return err
		}
	}
	return s.value(t)
}

// member reads a member's name and colon, and returns the type of its value.
func (s *scanner) member(f *frame) (reflect.Type, error) {
	start := s.pos
	if s.peek() != '"' {
		return nil, s.fail("expected a member's name in quotes")
	}
	if err := s.str(); err != nil {
		return nil, err
	}
	var name string
	if err := json.Unmarshal(s.data[start:s.pos], &name); err != nil {
		return nil, s.failAt(start, "unreadable name: %v", err)
	}
	if _, ok := f.exact[name]; ok {
		return nil, s.failAt(start, "repeated name %s", quote(name))
	}
	f.exact[name] = struct{}{}
	if f.folded != nil {
		key := fold(name)
		if _, ok := f.folded[key]; ok {
			return nil, s.failAt(start, "name %s, which differs from another in case only,", quote(name))
		}
		f.folded[key] = struct{}{}
	}
	t, err := s.memberType(f.typ, name, start)
	if err != nil {
		return nil, err
	}
	f.name = name
	s.space()
	if !s.next(':') {
		return nil, s.fail("expected a colon after the name")
	}
	s.space()
	return t, nil
}

// value reads a scalar, or opens an object or an array.
func (s *scanner) value(t reflect.Type) error {
	if s.values++; s.maxValues > 0 && s.values > s.maxValues {
		return s.fail("more than %d values", s.maxValues)
	}
	switch c := s.peek(); {
	case c == '{':
		return s.open(frame{typ: container(t), exact: make(map[string]struct{}), folded: s.foldedNames()})
	case c == '[':
		return s.open(frame{typ: container(t), array: true})
	case c == '"':
		if t == reflect.TypeFor[json.Number]() {
			return s.fail("a number in quotes")
		}
		return s.str()
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	}
	for _, word := range []string{"true", "false", "null"} {
		if !bytes.HasPrefix(s.data[s.pos:], []byte(word)) {
			continue
		}
		if word == "null" && !nullable(t) {
			return s.fail("null where a value is needed")
		}
		s.pos += len(word)
		return nil
	}
	if s.pos >= len(s.data) {
		return s.fail("the document ends too early")
	}
	return s.fail("expected a value")
}

func (s *scanner) open(f frame) error {
	if len(s.stack) >= s.maxDepth {
		return s.fail("more than %d levels", s.maxDepth)
	}
	s.pos++
	s.stack = append(s.stack, f)
	return nil
}

// foldedNames returns the set that a new object needs to notice names that
// differ in case only, or nil where they may.
func (s *scanner) foldedNames() map[string]struct{} {
	if s.foldDepth >= 0 && len(s.stack) >= s.foldDepth {
		return nil
	}
	for _, path := range s.exact {
		if len(path) == len(s.stack) && !slices.ContainsFunc(s.stack, func(f frame) bool { return f.array }) &&
			slices.EqualFunc(path, s.stack, func(name string, f frame) bool { return name == f.name }) {
			return nil
		}
	}
	return make(map[string]struct{})
}

// str reads a string (RFC 8259, section 7). Escapes that make half a surrogate
// pair are refused: decoders replace them, each in its way.
func (s *scanner) str() error {
	for s.pos++; s.pos < len(s.data); {
		switch c := s.data[s.pos]; {
		case c == '"':
			s.pos++
			return nil
		case c < 0x20:
			return s.fail("control character in a string")
		case c != '\\':
			s.pos++
		default:
			if err := s.escape(); err != nil {
				return err
			}
		}
	}
	return s.fail("the document ends within a string")
}

func (s *scanner) escape() error {
	if s.pos+1 < len(s.data) && strings.IndexByte(`"\/bfnrt`, s.data[s.pos+1]) >= 0 {
		s.pos += 2
		return nil
	}
	r, ok := s.unicodeEscape(s.pos)
	switch {
	case !ok:
		return s.fail("invalid escape in a string")
	case r < 0xD800 || r > 0xDFFF:
		s.pos += 6
		return nil
	}
	low, ok := s.unicodeEscape(s.pos + 6)
	if r > 0xDBFF || !ok || low < 0xDC00 || low > 0xDFFF {
		return s.fail("half a surrogate pair in a string")
	}
	s.pos += 12
	return nil
}

// unicodeEscape reads \uXXXX at a position.
func (s *scanner) unicodeEscape(pos int) (rune, bool) {
	if pos+6 > len(s.data) || s.data[pos] != '\\' || s.data[pos+1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range s.data[pos+2 : pos+6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// number reads a number (RFC 8259, section 6).
func (s *scanner) number() error {
	s.next('-')
	switch {
	case s.next('0'):
	case s.digits():
	default:
		return s.fail("malformed number")
	}
	if s.next('.') && !s.digits() {
		return s.fail("malformed number")
	}
	if s.next('e') || s.next('E') {
		if !s.next('+') {
			s.next('-')
		}
		if !s.digits() {
			return s.fail("malformed number")
		}
	}
	return nil
}

// digits skips digits, and tells whether there were any.
func (s *scanner) digits() bool {
	start := s.pos
	for s.peek() >= '0' && s.peek() <= '9' {
		s.pos++
	}
	return s.pos > start
}

// peek returns the byte at pos, or 0 at the end; 0 begins nothing in JSON.
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

// next skips c, and tells whether it was there.
func (s *scanner) next(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.pos++
	return true
}

func (s *scanner) space() {
	for s.pos < len(s.data) && strings.IndexByte(" \t\r\n", s.data[s.pos]) >= 0 {
		s.pos++
	}
}

func (s *scanner) fail(format string, args ...any) error {
	return s.failAt(s.pos, format, args...)
}

func (s *scanner) failAt(pos int, format string, args ...any) error {
	return &Error{Offset: int64(pos), Path: s.path(), Msg: fmt.Sprintf(format, args...)}
}

// path names the value that is being read: signed.keys[2].
func (s *scanner) path() string {
	var b strings.Builder
	for _, f := range s.stack {
		switch {
		case f.array && f.n > 0:
			fmt.Fprintf(&b, "[%d]", f.n-1)
		case !f.array && f.name != "":
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(shorten(f.name))
		}
	}
	return b.String()
}

// maxShown is how much of a name error messages show.
const maxShown = 64

func shorten(name string) string {
	if len(name) <= maxShown {
		return name
	}
	return strings.ToValidUTF8(name[:maxShown], "") + "…"
}

func quote(name string) string { return fmt.Sprintf("%q", shorten(name)) }

func invalidUTF8(b []byte) int {
	pos := 0
	for pos < len(b) {
		r, size := utf8.DecodeRune(b[pos:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		pos += size
	}
	return pos
}
