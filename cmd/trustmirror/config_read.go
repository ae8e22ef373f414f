package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// maxConfig is how many bytes a configuration file may have.
const maxConfig = 1 << 20

// readConfig reads and checks a configuration file. Its error is one *mistake,
// or several joined.
func readConfig(file string) (*Config, error) {
	fail := func(format string, args ...any) (*Config, error) {
		return nil, &mistake{file: file, line: 1, text: fmt.Sprintf(format, args...)}
	}
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fail("there is no such file; copy config.example.yaml there, or name another with -c")
	case err != nil:
		return fail("the file can't be read (%v); name another with -c", cause(err))
	case info.IsDir():
		return fail("this is a folder; name the file in it")
	case info.Size() > maxConfig:
		return fail("the file has %d bytes; a configuration has at most %d", info.Size(), maxConfig)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fail("the file can't be read (%v); give this user the right to read it", cause(err))
	}
	return parseConfig(file, text)
}

// parseConfig reads and checks the text of a configuration file.
func parseConfig(file string, text []byte) (*Config, error) {
	root, err := parseYAML(file, text)
	if err != nil {
		return nil, err
	}
	d := &decoder{places: places{file: file, lines: make(map[string]int)}}
	d.plain(root)
	if len(d.mistakes) > 0 {
		return nil, d.err()
	}
	c := newConfig()
	d.config(root, c)
	if len(d.mistakes) > 0 {
		return nil, d.err()
	}
	c.places = d.places
	return c, nil
}

// parseYAML returns the top node of a file that holds exactly one document.
func parseYAML(file string, text []byte) (*yaml.Node, error) {
	fail := func(line int, format string, args ...any) (*yaml.Node, error) {
		return nil, &mistake{file: file, line: max(line, 1), text: fmt.Sprintf(format, args...)}
	}
	if bytes.HasPrefix(text, []byte("\xef\xbb\xbf")) {
		return fail(1, "the file begins with a byte order mark; save it as UTF-8 without one")
	}
	if line := oddCharacter(text); line > 0 {
		return fail(line, "there is a character that is not text; save the file as plain UTF-8 with newlines")
	}
	loader, err := yaml.NewLoader(bytes.NewReader(text))
	if err != nil {
		return fail(1, "%v", err)
	}
	var document, second yaml.Node
	if err := loader.Load(&document); errors.Is(err, io.EOF) {
		return fail(1, "the file is empty; start from config.example.yaml")
	} else if err != nil {
		return nil, syntaxMistake(file, text, err)
	}
	if err := loader.Load(&second); err == nil {
		return fail(second.Line, "a second document begins here; keep one, without --- between")
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxMistake(file, text, err)
	}
	root := document.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return fail(root.Line, "the file is empty; start from config.example.yaml")
	}
	return root, nil
}

// oddCharacter is the line of the first byte that can't be in a text file, or 0.
// Line breaks other than newlines, which YAML knows, would make its lines others
// than an editor's.
func oddCharacter(text []byte) int {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 || unicode.IsControl(r) && r != '\t' && r != '\n' || r == '\u2028' || r == '\u2029' {
			return 1 + bytes.Count(text[:i], []byte("\n"))
		}
		i += size
	}
	return 0
}

// syntaxMistake says where a text ceases to be YAML, and the likely cause.
func syntaxMistake(file string, text []byte, err error) error {
	var load *yaml.LoadError
	if !errors.As(err, &load) {
		return &mistake{file: file, line: 1, text: fmt.Sprintf("this is not YAML: %v", err)}
	}
	m := &mistake{file: file, line: max(load.Mark.Line, 1)}
	switch {
	case tabIndented(text, m.line):
		m.text = "the line is indented with a tab, which YAML doesn't allow; indent with spaces"
	case load.Stage == yaml.ComposerStage: // the one thing that can go wrong there is an unknown alias
		m.text = "a value that begins with * refers to something else in YAML; write a name in full, as in docker.io/myorg/* (a * stands for one whole path component)"
	case load.ContextMark.Line > 0 && load.ContextMark.Line < load.Mark.Line:
		m.text = fmt.Sprintf("this is not YAML (%s, in what begins on line %d); check indentation, colons, brackets and quotes from there to here", load.Message, load.ContextMark.Line)
	default:
		m.text = fmt.Sprintf("this is not YAML (%s); check indentation, colons and quotes here and on the line above", load.Message)
	}
	return m
}

func tabIndented(text []byte, line int) bool {
	lines := bytes.Split(text, []byte("\n"))
	if line > len(lines) {
		return false
	}
	rest := bytes.TrimLeft(lines[line-1], " ")
	return bytes.HasPrefix(rest, []byte("\t"))
}

// plain refuses what YAML can do but a configuration doesn't need: values that
// stand for others, and types written out. So the file says what is in force.
func (d *decoder) plain(n *yaml.Node) {
	switch {
	case n.Kind == yaml.AliasNode:
		d.wrong(n, "*%s repeats a value from elsewhere; write the value out (in quotes, if the * is meant)", n.Value)
		return
	case n.Anchor != "":
		d.wrong(n, "&%s names a value for use elsewhere; remove it and write values out", n.Anchor)
	case n.Style&yaml.TaggedStyle != 0:
		d.wrong(n, "%s gives a value a type; remove it", n.Tag)
	case n.Kind == yaml.ScalarNode && n.Tag == "!!merge":
		d.wrong(n, "<< merges other fields in; write them out")
	}
	for _, c := range n.Content {
		d.plain(c)
	}
}

// cause is the operating system's part of a file error, without the path.
func cause(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
