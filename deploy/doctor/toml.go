package doctor

import (
	"errors"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// document is a TOML file's values, and the line of each.
type document struct {
	values map[string]any
	lines  map[string]int // by path
}

// maxTOML is how many bytes of TOML are read: the parser takes minutes for a MiB of
// tables or of dotted keys. Those of clients have a few KiB.
const maxTOML = 64 << 10

// parseTOML reads a file with the parser that containerd 2 and today's Docker use,
// and that is stricter than those of others. The line is that of the error.
func parseTOML(text []byte) (d document, line int, err error) {
	if len(text) > maxTOML {
		return document{}, 1, errors.New("it is larger than 64 KiB")
	}
	if err := toml.Unmarshal(text, &d.values); err != nil {
		line := 1
		var decode *toml.DecodeError
		if errors.As(err, &decode) {
			line, _ = decode.Position()
		}
		return document{}, line, err
	}
	d.lines = make(map[string]int)
	d.find(text)
	return d, 0, nil
}

// find notes on which line each table and each key stands.
func (d *document) find(text []byte) {
	var p unstable.Parser
	p.Reset(text)
	var table []string
	tables := make(map[string]int) // how many of an array of tables there were
	for p.NextExpression() {
		e := p.Expression()
		keys, line := keysOf(&p, e)
		switch e.Kind {
		case unstable.Table:
			table = d.indexed(tables, keys)
		case unstable.ArrayTable:
			array := d.indexed(tables, keys[:len(keys)-1])
			array = append(array, keys[len(keys)-1])
			n := tables[pathOf(array)]
			tables[pathOf(array)] = n + 1
			d.note(array, line)
			table = append(array, strconv.Itoa(n))
		default:
			d.note(append(append([]string{}, table...), keys...), line)
			continue
		}
		d.note(table, line)
	}
}

func keysOf(p *unstable.Parser, e *unstable.Node) (keys []string, line int) {
	for it := e.Key(); it.Next(); {
		if line == 0 {
			line = p.Shape(it.Node().Raw).Start.Line
		}
		keys = append(keys, string(it.Node().Data))
	}
	return keys, line
}

// indexed puts the index of the last element behind each array of tables.
func (d *document) indexed(tables map[string]int, keys []string) []string {
	var full []string
	for _, key := range keys {
		full = append(full, key)
		if n := tables[pathOf(full)]; n > 0 {
			full = append(full, strconv.Itoa(n-1))
		}
	}
	return full
}

// note keeps the first line of a path and of those that enclose it.
func (d *document) note(keys []string, line int) {
	for n := len(keys); n > 0; n-- {
		if _, ok := d.lines[pathOf(keys[:n])]; ok && n < len(keys) {
			return
		}
		if _, ok := d.lines[pathOf(keys[:n])]; !ok {
			d.lines[pathOf(keys[:n])] = line
		}
	}
}

// line is that of a value, or of what encloses it; 0 if nothing does.
func (d *document) line(keys ...string) int {
	for n := len(keys); n > 0; n-- {
		if line, ok := d.lines[pathOf(keys[:n])]; ok {
			return line
		}
	}
	return 0
}

// get returns a value, nil if it isn't there.
func (d *document) get(keys ...string) any {
	var v any = d.values
	for _, key := range keys {
		table, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = table[key]
	}
	return v
}

func pathOf(keys []string) string { return strings.Join(keys, "\x00") }

// stringsOf reads a list of strings.
func stringsOf(v any) (list []string, ok bool) {
	values, ok := v.([]any)
	for _, value := range values {
		s, isString := value.(string)
		if !isString {
			return nil, false
		}
		list = append(list, s)
	}
	return list, ok
}
