package strictjson

import (
	"encoding/json"
	"reflect"
	"strings"
	"unicode"
)

// fields are the names under which a struct's fields are decoded.
type fields struct {
	types  map[string]reflect.Type
	folded map[string]string // case-folded name → name
}

// fieldCache keeps the fields of the structs met in one document.
type fieldCache map[reflect.Type]*fields

// memberType returns what a member of an object is decoded into; nil where it is
// skipped or decoded by a type of its own.
func (s *scanner) memberType(t reflect.Type, name string, pos int) (reflect.Type, error) {
	if t == nil || t.Kind() != reflect.Struct {
		return elementType(t), nil
	}
	f, ok := s.types[t]
	if !ok {
		f = &fields{types: make(map[string]reflect.Type), folded: make(map[string]string)}
		f.add(t)
		if s.types == nil {
			s.types = make(fieldCache)
		}
		s.types[t] = f
	}
	if ft, ok := f.types[name]; ok {
		return ft, nil
	}
	if want, ok := f.folded[fold(name)]; ok {
		return nil, s.failAt(pos, "name %s, which must be written %q,", quote(name), want)
	}
	if s.known {
		return nil, s.failAt(pos, "unknown name %s", quote(name))
	}
	return nil, nil
}

// add collects the names of a struct's fields, embedded structs' included, as
// encoding/json does; outer fields hide inner ones.
func (f *fields) add(t reflect.Type) {
	var embedded []reflect.Type
	for i := range t.NumField() {
		field := t.Field(i)
		tag := field.Tag.Get("json")
		name, _, _ := strings.Cut(tag, ",")
		switch {
		case tag == "-" || !field.IsExported() && !field.Anonymous:
			continue
		case field.Anonymous && name == "" && indirect(field.Type).Kind() == reflect.Struct:
			embedded = append(embedded, indirect(field.Type))
			continue
		case name == "":
			name = field.Name
		}
		if _, ok := f.types[name]; !ok {
			f.types[name] = field.Type
			f.folded[fold(name)] = name
		}
	}
	for _, t := range embedded {
		f.add(t)
	}
}

// container returns the type whose members or elements are to be checked, or nil
// where a type decodes itself.
func container(t reflect.Type) reflect.Type {
	unmarshaler := reflect.TypeFor[json.Unmarshaler]()
	if t == nil || t.Implements(unmarshaler) {
		return nil
	}
	t = indirect(t)
	if reflect.PointerTo(t).Implements(unmarshaler) {
		return nil
	}
	return t
}

func elementType(t reflect.Type) reflect.Type {
	if t == nil {
		return nil
	}
	switch t.Kind() {
	case reflect.Map, reflect.Slice, reflect.Array:
		return t.Elem()
	}
	return nil
}

// nullable tells whether null says something that the type can hold.
func nullable(t reflect.Type) bool {
	if t == nil {
		return true
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface:
		return true
	}
	return false
}

func indirect(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// fold maps names that strings.EqualFold calls equal, and no others, to one.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for c := unicode.SimpleFold(r); c != r; c = unicode.SimpleFold(c) {
			least = min(least, c)
		}
		return least
	}, name)
}
