package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// mistake is something wrong with the configuration, and what to write instead.
type mistake struct {
	file string
	line int
	text string
}

func (m *mistake) Error() string {
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) { // of a value that is quoted in the text
			return unicode.ReplacementChar
		}
		return r
	}, m.text)
	return fmt.Sprintf("%s:%d: %s", m.file, m.line, text)
}

// places remembers on which line of the file each value stands, by its path
// ("listen.address"), for mistakes that show only once the value is used.
type places struct {
	file  string
	lines map[string]int
}

// mistake blames the value at path, or, where the file doesn't have it, what
// would enclose it.
func (p places) mistake(path, format string, args ...any) *mistake {
	return &mistake{file: p.file, line: p.line(path), text: fmt.Sprintf(format, args...)}
}

func (p places) line(path string) int {
	for path != "" {
		if line, ok := p.lines[path]; ok {
			return line
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 1
}

// decoder reads YAML nodes into values and collects the mistakes.
type decoder struct {
	places
	mistakes []*mistake
}

// reader reads the node at path into the place that it was made for.
type reader func(path string, n *yaml.Node)

// fields are a mapping's keys and what reads their values.
type fields map[string]reader

func (d *decoder) wrong(n *yaml.Node, format string, args ...any) {
	d.mistakes = append(d.mistakes, &mistake{file: d.file, line: n.Line, text: fmt.Sprintf(format, args...)})
}

// err is all mistakes, in the order of their lines, or nil.
func (d *decoder) err() error {
	slices.SortStableFunc(d.mistakes, func(a, b *mistake) int { return cmp.Compare(a.line, b.line) })
	var all []error
	for _, m := range d.mistakes {
		all = append(all, m)
	}
	return errors.Join(all...)
}

// mapping reads a mapping that may have the known keys only. It returns which
// were there, or nil if one of them is unknown: a misspelt field isn't missing.
func (d *decoder) mapping(path string, n *yaml.Node, known fields) (seen []string) {
	misspelt := n.Kind != yaml.MappingNode
	d.entries(path, n, func(name string, key, value *yaml.Node) {
		read, ok := known[name]
		if !ok {
			d.wrong(key, "%s is not a field of %s; %s", name, section(path), suggest(name, slices.Sorted(maps.Keys(known))))
			misspelt = true
			return
		}
		seen = append(seen, name)
		read(join(path, name), value)
	})
	if misspelt {
		return nil
	}
	return append([]string{}, seen...)
}

// entries walks a mapping in the file's order; keys are strings and not repeated.
func (d *decoder) entries(path string, n *yaml.Node, entry func(name string, key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		d.wrong(n, "%s is %s; write fields under it, as in \"name: value\", each on its own line", section(path), describe(n))
		return
	}
	first := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Value == "" {
			d.wrong(key, "a field's name in %s is %s; write a plain name", section(path), describe(key))
			continue
		}
		if line, ok := first[key.Value]; ok {
			d.wrong(key, "%s is there twice, first on line %d; remove one of the two", join(path, key.Value), line)
			continue
		}
		first[key.Value] = key.Line
		d.lines[join(path, key.Value)] = key.Line
		entry(key.Value, key, value)
	}
}

// require says that a mapping has to have a field, and what to write.
func (d *decoder) require(path string, seen []string, name, example string) {
	if seen != nil && !slices.Contains(seen, name) {
		d.mistakes = append(d.mistakes, d.mistake(path, "%s has no %s; add %s", section(path), name, example))
	}
}

// scalar reads a single value with parse, whose error says what is wrong and
// what to write instead.
func scalar[T any](d *decoder, to *T, parse func(string) (T, error)) reader {
	return func(path string, n *yaml.Node) {
		if v, ok := scalarOf(d, path, n, parse); ok {
			*to = v
		}
	}
}

func scalarOf[T any](d *decoder, path string, n *yaml.Node, parse func(string) (T, error)) (v T, ok bool) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || n.Tag == "!!bool" || n.Value == "" {
		d.wrong(n, "%s is %s; write one value after the colon", path, describe(n))
		return v, false
	}
	v, err := parse(n.Value)
	if err != nil {
		d.wrong(n, "%s: %v", path, err)
		return v, false
	}
	return v, true
}

// list reads a list of single values, none of them twice.
func list[T comparable](d *decoder, to *[]T, parse func(string) (T, error)) reader {
	return func(path string, n *yaml.Node) {
		d.items(path, n, func(path string, n *yaml.Node) {
			v, ok := scalarOf(d, path, n, parse)
			switch {
			case !ok:
			case slices.Contains(*to, v):
				d.wrong(n, "%s: %v is in the list already; remove it", path, v)
			default:
				*to = append(*to, v)
			}
		})
	}
}

// items walks a list, which is not empty.
func (d *decoder) items(path string, n *yaml.Node, item reader) {
	if n.Kind != yaml.SequenceNode {
		d.wrong(n, "%s is %s; write a list, as in \"%s: [one, another]\"", path, describe(n), lastName(path))
		return
	}
	if len(n.Content) == 0 {
		d.wrong(n, "%s is an empty list; write at least one entry", path)
	}
	for i, c := range n.Content {
		path := fmt.Sprintf("%s[%d]", path, i)
		d.lines[path] = c.Line
		item(path, c)
	}
}

func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null" || n.Value == "":
		return "empty"
	}
	return fmt.Sprintf("the single value %q", n.Value)
}

func section(path string) string {
	if path == "" {
		return "the configuration"
	}
	return path
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func lastName(path string) string { return path[strings.LastIndex(path, ".")+1:] }

// suggest names the known name that is nearest to a misspelt one, or all of them.
func suggest(name string, known []string) string {
	best, least := "", max(2, len(name)/3)+1
	for _, k := range known {
		if strings.HasPrefix(k, name) {
			return fmt.Sprintf("did you mean %s?", k)
		}
		if n := distance(strings.ToLower(name), k); n < least {
			best, least = k, n
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %s?", best)
	}
	return "known are " + strings.Join(known, ", ")
}

// distance is how many letters have to be put in, left out or replaced to get
// from a to b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
