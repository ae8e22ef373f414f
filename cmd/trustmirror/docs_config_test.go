package main

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// notYet are fields that are known only to be refused with a sentence.
var notYet = []string{"storage.s3.secretkey"}

// fieldRow is a row of docs/configuration.md: field, type, default, reload, meaning.
var fieldRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\| ([^|]+) \\| (yes|restart) \\| ([^|]+) \\|$")

// docs/configuration.md has each field of the configuration once, with its default,
// and nothing else; config.example.yaml shows each of them, too.
func TestConfigurationIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("../../config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]bool{}
	fields := knownFields("", sections)
	if len(fields) < 40 {
		t.Errorf("only %d fields were found: %q", len(fields), fields)
	}
	documented := map[string]bool{}
	rows := fieldRow.FindAllStringSubmatch(string(text), -1)
	for _, row := range rows {
		field, value, reload := row[1], strings.TrimSpace(row[3]), row[4]
		if documented[field] {
			t.Errorf("%s is there twice", field)
		}
		documented[field] = true
		if !slices.Contains(fields, field) && !sections[field] {
			t.Errorf("%s is documented and doesn't exist", field)
			continue
		}
		checkDefault(t, field, value)
		if want := reloadOf(field); reload != want {
			t.Errorf("%s: reload is said to be %s, and is %s", field, reload, want)
		}
	}
	if lines := strings.Count(string(text), "\n| `"); lines != len(rows) {
		t.Errorf("%d of %d rows aren't in the form that is checked", lines-len(rows), lines)
	}
	for _, field := range fields {
		if !documented[field] {
			t.Errorf("%s isn't documented", field)
		}
		if !exampleShows(string(example), field) {
			t.Errorf("config.example.yaml doesn't show %s", field)
		}
	}
}

// probe is a field that doesn't exist, and is like none that does.
const probe = "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"

var knownHere = regexp.MustCompile(probe + ` is not a field of \S+(?: \S+)?; known are (.+)`)

// knownFields asks the decoder for the fields at a path and below: it names those
// that it knows where it finds another one. Sections with fields are noted.
func knownFields(path string, sections map[string]bool) []string {
	var found []string
	for _, at := range []string{path, path + "[]", path + ".<registry>"} {
		_, mistakes := decodeAt(at, "{"+probe+": 1}")
		known := knownHere.FindStringSubmatch(mistakes)
		if known == nil {
			continue
		}
		sections[path] = true
		for _, name := range strings.Split(known[1], ", ") {
			if field := join(at, name); !slices.Contains(notYet, field) {
				found = append(found, knownFields(field, sections)...)
			}
		}
	}
	if found == nil {
		return []string{path}
	}
	return found
}

// decodeAt reads a configuration that has only what leads to a field, and its value.
func decodeAt(path, value string) (*Config, string) {
	elements := strings.Split(path, ".")
	for i := len(elements) - 1; i >= 0 && path != ""; i-- {
		name, isList := strings.CutSuffix(elements[i], "[]")
		if isList {
			value = "[" + value + "]"
		}
		if name == "<registry>" {
			name = "registry.example"
		}
		value = fmt.Sprintf("{%q: %s}", name, value)
	}
	root, err := parseYAML("config.yaml", []byte(value))
	if err != nil {
		return nil, err.Error()
	}
	c, d := newConfig(), &decoder{places: places{file: "config.yaml", lines: make(map[string]int)}}
	d.config(root, c)
	if err := d.err(); err != nil {
		return c, err.Error()
	}
	return c, ""
}

// checkDefault makes sure that a field that is left out is as documented: required,
// as with the default written out, or (–) nothing that somebody has to write.
func checkDefault(t *testing.T, field, value string) {
	t.Helper()
	section, name := "", field
	if at := strings.LastIndex(field, "."); at >= 0 {
		section, name = field[:at], field[at+1:]
	}
	without, mistakes := decodeAt(section, "{}")
	_, isRequired := strings.CutPrefix(lineWith(mistakes, " has no "+name+";"), "config.yaml:")
	quoted := regexp.MustCompile("^`(.+)`$").FindStringSubmatch(value)
	switch {
	case isRequired != (value == "required"):
		t.Errorf("%s: the default is said to be %s; without the field: %s", field, value, mistakes)
	case value == "required" || value == "–":
	case quoted == nil:
		t.Errorf("%s: %q is neither required, nor –, nor a value", field, value)
	default:
		with, mistakes := decodeAt(field, quoted[1])
		if said := lineWith(mistakes, strings.NewReplacer("[]", "[0]").Replace(field)+":"); said != "" {
			t.Errorf("%s: the default is refused: %s", field, said)
		}
		if !reflect.DeepEqual(with, without) {
			t.Errorf("%s: with %s written out it is %+v, without %+v", field, value, with, without)
		}
	}
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return line
		}
	}
	return ""
}

// reloadOf says what brings a change of a field into force.
func reloadOf(field string) string {
	for _, f := range newConfig().fixed() {
		if field == f.path || strings.HasPrefix(field, f.path+".") {
			return "restart"
		}
	}
	return "yes"
}

var topLevel = regexp.MustCompile(`(?m)^(?:# )?([a-z_]+):`)

// exampleShows tells whether the example has a field within its top-level section, in
// a comment or not.
func exampleShows(example, field string) bool {
	top, _, _ := strings.Cut(field, ".")
	top = strings.TrimSuffix(top, "[]")
	for _, at := range topLevel.FindAllStringSubmatchIndex(example, -1) {
		if example[at[2]:at[3]] != top {
			continue
		}
		section := example[at[0]:]
		if next := topLevel.FindStringIndex(section[len(top)+3:]); next != nil {
			section = section[:len(top)+3+next[0]]
		}
		name := strings.TrimSuffix(field[strings.LastIndex(field, ".")+1:], "[]")
		return regexp.MustCompile(`\b` + name + `:`).MatchString(section)
	}
	return false
}
