package notarytest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// tree is a JSON document that keeps its members as they are written, so that it
// can be written again with any of them wrong.
type tree struct {
	kind  byte     // '{', '[', '"', '0' for a number, 't' for true and false, 'n' for null
	names []string // of an object's members, as they are written but for the quotes
	parts []*tree  // members or elements
	raw   string   // of anything else, as it is written
}

func parseTree(raw []byte) (*tree, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	t, err := readTree(d)
	if err == nil && d.More() {
		err = errors.New("more than one document")
	}
	return t, err
}

func readTree(d *json.Decoder) (*tree, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch v := token.(type) {
	case json.Delim:
		t := &tree{kind: byte(v)}
		for d.More() {
			if t.kind == '{' {
				name, err := d.Token()
				if err != nil {
					return nil, err
				}
				t.names = append(t.names, fmt.Sprint(name))
			}
			part, err := readTree(d)
			if err != nil {
				return nil, err
			}
			t.parts = append(t.parts, part)
		}
		_, err := d.Token() // the closing one
		return t, err
	case json.Number:
		return &tree{kind: '0', raw: v.String()}, nil
	case nil:
		return &tree{kind: 'n', raw: "null"}, nil
	case bool:
		return &tree{kind: 't', raw: fmt.Sprint(v)}, nil
	}
	return &tree{kind: '"', raw: string(canonical(token))}, nil
}

// literal is a tree of JSON that a test's author wrote.
func literal(s string) *tree {
	t, err := parseTree([]byte(s))
	if err != nil {
		return &tree{kind: 'n', raw: s}
	}
	return t
}

// write writes the document without white space, its members in order.
func (t *tree) write(b *bytes.Buffer) {
	switch t.kind {
	case '{':
		b.WriteByte('{')
		for i, part := range t.parts {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(b, `"%s":`, t.names[i])
			part.write(b)
		}
		b.WriteByte('}')
	case '[':
		b.WriteByte('[')
		for i, part := range t.parts {
			if i > 0 {
				b.WriteByte(',')
			}
			part.write(b)
		}
		b.WriteByte(']')
	default:
		b.WriteString(t.raw)
	}
}

func (t *tree) bytes() []byte {
	var b bytes.Buffer
	t.write(&b)
	return b.Bytes()
}

func (t *tree) clone() *tree {
	c := *t
	c.names = slices.Clone(t.names)
	c.parts = make([]*tree, len(t.parts))
	for i, part := range t.parts {
		c.parts[i] = part.clone()
	}
	return &c
}

// member returns an object's member, or nil.
func (t *tree) member(name string) *tree {
	if i := slices.Index(t.names, name); i >= 0 {
		return t.parts[i]
	}
	return nil
}

// edit is one change to a document.
type edit struct {
	where   string // "signed.roles.root.threshold"; IDs of keys are written as *
	what    string // "removed"
	repeats bool   // it makes a document of which there is more than one reading
	at      []int  // the way to the place: the index at each level
	change  func(parent *tree, i int)
}

// apply returns a changed copy.
func (e edit) apply(t *tree) *tree {
	c := t.clone()
	parent := c
	for _, i := range e.at[:len(e.at)-1] {
		parent = parent.parts[i]
	}
	e.change(parent, e.at[len(e.at)-1])
	return c
}

// edits lists every change to every member and element of a document.
func (t *tree) edits() []edit {
	var all []edit
	var walk func(parent *tree, where string, at []int)
	walk = func(parent *tree, where string, at []int) {
		for i, part := range parent.parts {
			name := fmt.Sprint(i)
			if parent.kind == '{' {
				name = parent.names[i]
			}
			if len(name) == 64 {
				name = "*"
			}
			place := strings.TrimPrefix(where+"."+name, ".")
			way := append(slices.Clone(at), i)
			for _, e := range parent.editsOf(i) {
				e.where, e.at = place, way
				all = append(all, e)
			}
			walk(part, place, way)
		}
	}
	walk(t, "", nil)
	return all
}

// editsOf lists the changes to one member or element.
func (t *tree) editsOf(i int) []edit {
	all := []edit{{what: "removed", change: func(p *tree, i int) {
		if p.kind == '{' {
			p.names = slices.Delete(p.names, i, i+1)
		}
		p.parts = slices.Delete(p.parts, i, i+1)
	}}}
	value := t.parts[i]
	for _, other := range value.others() {
		all = append(all, edit{what: "became " + other, change: func(p *tree, i int) { p.parts[i] = literal(other) }})
	}
	if t.kind == '[' {
		return append(all, edit{what: "listed twice", change: func(p *tree, i int) {
			p.parts = slices.Insert(p.parts, i, p.parts[i].clone())
		}})
	}
	toggled := strings.ToUpper(t.names[i])
	if toggled == t.names[i] {
		toggled = strings.ToLower(toggled)
	}
	repeat := func(what, name string, with *tree, after int) {
		all = append(all, edit{what: what, repeats: true, change: func(p *tree, i int) {
			p.names = slices.Insert(p.names, i+after, name)
			p.parts = slices.Insert(p.parts, i+after, with)
		}})
	}
	repeat("repeated", t.names[i], value, 0)
	repeat("repeated as null before", t.names[i], literal("null"), 0)
	repeat("repeated as null after", t.names[i], literal("null"), 1)
	if toggled != t.names[i] {
		repeat("repeated in another case", toggled, value, 1)
		all = append(all, edit{what: "renamed to another case", change: func(p *tree, i int) { p.names[i] = toggled }})
	}
	return all
}

// others lists what else could stand in a value's place: null, nothing, another
// type, another value.
func (t *tree) others() []string {
	text := strings.Trim(t.raw, `"`)
	var all []string
	switch {
	case t.kind == '{':
		all = []string{"null", "{}", "[]", `"x"`, "1"}
	case t.kind == '[':
		all = []string{"null", "[]", "{}", `"x"`, "1"}
	case t.kind == '"' && text != "":
		all = []string{"null", `""`, "1", "{}", `"` + next(text) + `"`, `"` + text[:len(text)/2] + `"`, `"` + text + `A"`}
	case t.kind == '0':
		all = []string{"null", "0", `"` + t.raw + `"`, "[]", "-" + t.raw, t.raw + "0", t.raw + ".0", t.raw + "e0", "9223372036854775808"}
	default:
		all = []string{"null", "true", "false", "0", `"x"`, "{}"}
	}
	is := string(t.bytes())
	return slices.DeleteFunc(all, func(other string) bool { return other == is })
}

// next is a text with another character at its beginning, of the same kind.
func next(text string) string {
	c := text[0]
	switch c {
	case '9':
		c = '0'
	case 'f', 'z':
		c = 'a'
	case 'Z':
		c = 'A'
	default:
		c++
	}
	return string(c) + text[1:]
}
