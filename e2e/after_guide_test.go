package e2e

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// guideFile is the document whose commands TestAfterNotary types.
const guideFile = "../docs/after-notary.md"

// guide is the document, by its headings.
type guide struct {
	sections []*section
}

// section is what stands under one heading.
type section struct {
	title    string
	commands []string // "trustmirror config check config.yaml"
	config   []string // the lines of YAML to be pasted
	followed bool
}

func readGuide(t *testing.T) *guide {
	t.Helper()
	text, err := os.ReadFile(guideFile)
	check(t, err)
	g := &guide{}
	current := &section{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		code, isCode := strings.CutPrefix(line, "    ")
		command, isCommand := strings.CutPrefix(code, "$ ")
		switch {
		case strings.HasPrefix(line, "#"):
			current = &section{title: strings.TrimLeft(line, "# ")}
			g.sections = append(g.sections, current)
		case isCode && isCommand:
			current.commands = append(current.commands, command)
		case isCode:
			current.config = append(current.config, line)
		}
	}
	return g
}

// follow has the operator do what stands under a heading.
func (g *guide) follow(t *testing.T, o *operator, title string) {
	t.Helper()
	at := slices.IndexFunc(g.sections, func(s *section) bool { return s.title == title })
	if at < 0 {
		t.Fatalf("%s has no heading %q", guideFile, title)
	}
	s := g.sections[at]
	s.followed = true
	if len(s.commands) == 0 {
		t.Fatalf("%s has no command under %q", guideFile, title)
	}
	if len(s.config) > 0 {
		o.paste(t, strings.Join(s.config, "\n")+"\n")
	}
	for _, command := range s.commands {
		o.typed(t, command)
	}
}

// allFollowed fails the test if the document has a command that it didn't type.
func (g *guide) allFollowed(t *testing.T) {
	t.Helper()
	for _, s := range g.sections {
		if !s.followed && len(s.commands)+len(s.config) > 0 {
			t.Errorf("what stands under %q wasn't tried: %q %q", s.title, s.commands, s.config)
		}
	}
}
