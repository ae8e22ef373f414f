package fuzz

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// value is a JSON value that can be written again with any part of it wrong: its
// members keep their order, their names may repeat, and its scalars are kept as
// they were written.
type value struct {
	open    string   // "{" or "["; "" for a scalar
	names   []string // of an object's members, with their quotes
	parts   []*value // members or elements
	literal string   // a scalar as it is written
}

func parse(raw []byte) (*value, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	v, err := read(d)
	if err == nil && d.More() {
		err = fmt.Errorf("data after the document")
	}
	return v, err
}

func read(d *json.Decoder) (*value, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return &value{literal: quoted(token)}, nil
	}
	v := &value{open: delim.String()}
	for d.More() {
		if v.open == "{" {
			name, err := d.Token()
			if err != nil {
				return nil, err
			}
			v.names = append(v.names, quoted(name))
		}
		part, err := read(d)
		if err != nil {
			return nil, err
		}
		v.parts = append(v.parts, part)
	}
	_, err = d.Token() // what closes it
	return v, err
}

func quoted(scalar any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(scalar) // what a decoder made of a scalar can be written
	return strings.TrimSuffix(b.String(), "\n")
}

func (v *value) write(b *bytes.Buffer) {
	if v.open == "" {
		b.WriteString(v.literal)
		return
	}
	b.WriteString(v.open)
	for i, part := range v.parts {
		if i > 0 {
			b.WriteByte(',')
		}
		if v.open == "{" {
			b.WriteString(v.names[i] + ":")
		}
		part.write(b)
	}
	b.WriteByte(v.open[0] + 2) // "}" or "]"
}

func (v *value) bytes() []byte {
	var b bytes.Buffer
	v.write(&b)
	return b.Bytes()
}

func (v *value) clone() *value {
	c := *v
	c.names = slices.Clone(v.names)
	c.parts = nil
	for _, part := range v.parts {
		c.parts = append(c.parts, part.clone())
	}
	return &c
}

// place is where something can be edited: a part of an object or an array.
type place struct {
	in *value
	at int
}

func (v *value) places() []place {
	var all []place
	for i, part := range v.parts {
		all = append(append(all, place{v, i}), part.places()...)
	}
	return all
}

// words are what a reader might take for something else.
func words() []string {
	return []string{
		"null", "true", "{}", "[]", `""`, "0", "-0", "1", "-1", "2", "1.0", "1e2", "9007199254740993", "9223372036854775807",
		"9223372036854775808", `"1"`, `"\u0000"`, `"\ud83d\ude00"`, `"\u2028<&>"`, `"A/\/\b\u007f"`, `"AA=="`, `"AA"`, `"AA==\n"`,
		`"sha256"`, `"sha512"`, `"2099-01-01T00:00:00Z"`, `"2099-01-01T24:00:00.5+01:00"`, `"targets/x"`,
		`["https://example.com"]`, `{"sha256":"","SHA256":""}`, `"linux"`, `"arm64"`, `"v8"`,
	}
}

// memberNames are the names that the formats give a meaning.
func memberNames() []string {
	return strings.Fields(`_type version expires keys roles keyids threshold consistent_snapshot meta targets delegations paths
		length hashes custom keytype keyval public private name root snapshot timestamp signed signatures keyid method sig x-unknown
		schemaVersion mediaType artifactType manifests config layers annotations subject digest size urls data platform os
		architecture variant os.version os.features features fsLayers history rootfs diff_ids type`)
}

// edit changes a document in one to three places, which a seed chooses; any other
// seed chooses others, so that the fuzzer needn't learn how to. With 0, and of what
// isn't JSON, nothing is changed.
func edit(raw []byte, seed uint64) []byte {
	doc, err := parse(raw)
	if err != nil || seed == 0 {
		return raw
	}
	r := rand.New(rand.NewPCG(seed, 0))
	for range 1 + r.IntN(3) {
		if places := doc.places(); len(places) > 0 {
			places[r.IntN(len(places))].edit(r, places)
		}
	}
	return doc.bytes()
}

func (p place) edit(r *rand.Rand, all []place) {
	part := p.in.parts[p.at]
	insert := func(name string, v *value) {
		if p.in.open == "{" {
			p.in.names = slices.Insert(p.in.names, p.at, name)
		}
		p.in.parts = slices.Insert(p.in.parts, p.at, v)
	}
	name := ""
	if p.in.open == "{" {
		name = p.in.names[p.at]
	}
	pick := func(list []string) string { return list[r.IntN(len(list))] }
	switch r.IntN(10) {
	case 0: // remove
		p.in.parts = slices.Delete(p.in.parts, p.at, p.at+1)
		if p.in.open == "{" {
			p.in.names = slices.Delete(p.in.names, p.at, p.at+1)
		}
	case 1: // repeat
		insert(name, part.clone())
	case 2: // repeat with something else
		insert(name, &value{literal: pick(words())})
	case 3, 4:
		p.in.parts[p.at] = &value{literal: pick(words())}
	case 5: // another part of the same document
		other := all[r.IntN(len(all))]
		p.in.parts[p.at] = other.in.parts[other.at].clone()
	case 6: // a member more
		insert(quoted(pick(memberNames())), &value{literal: pick(words())})
	case 7: // another name, or another way to write the same
		if name != "" {
			p.in.names[p.at] = otherwise(name, r)
		}
	case 8: // another way to write the same string
		if strings.HasPrefix(part.literal, `"`) {
			part.literal = otherwise(part.literal, r)
		}
	case 9: // a number, as a rule
		text := make([]byte, 1+r.IntN(4))
		for i := range text {
			text[i] = "0123456789-.e"[r.IntN(13)]
		}
		p.in.parts[p.at] = &value{literal: string(text)}
	}
}

// otherwise writes a string in another way, in another case, or writes another.
func otherwise(literal string, r *rand.Rand) string {
	inner := literal[1 : len(literal)-1]
	switch r.IntN(6) {
	case 0:
		inner = strings.ToUpper(inner)
	case 1:
		if inner != "" && inner[0] != '\\' && inner[0] < 0x80 {
			inner = fmt.Sprintf(`\u%04x`, inner[0]) + inner[1:]
		}
	case 2:
		inner = strings.ReplaceAll(strings.ReplaceAll(inner, "k", "\u212a"), "s", "\u017f") // equal when case-folded
	case 3:
		inner += " "
	case 4:
		inner = strings.ReplaceAll(inner, "/", `\/`)
	case 5:
		return quoted(memberNames()[r.IntN(len(memberNames()))])
	}
	return `"` + inner + `"`
}

// Edits that change nothing, or break everything, would make the fuzz targets pass
// for nothing.
func TestEdit(t *testing.T) {
	doc := []byte(`{"b":[1,"x/y",{"length":772}],"a":{"k":null}}`)
	if got := edit(doc, 0); string(got) != string(doc) {
		t.Errorf("seed 0 makes %s", got)
	}
	made := make(map[string]bool)
	sound := 0
	for seed := range uint64(1000) {
		got := edit(doc, seed)
		if again := edit(doc, seed); string(again) != string(got) {
			t.Fatalf("seed %d makes %s, then %s", seed, got, again)
		}
		made[string(got)] = true
		if json.Valid(got) {
			sound++
		}
	}
	if len(made) < 500 || sound < 500 || sound == 1000 {
		t.Errorf("1000 seeds make %d documents, %d times JSON", len(made), sound)
	}
}
