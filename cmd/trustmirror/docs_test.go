package main

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents are those that tell people what to type.
func documents(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	return append(files, "../../README.md", "../../SECURITY.md", "../../CONTRIBUTING.md")
}

// Each trustmirror command line in a document is one that the program takes:
// subcommand, flags and number of arguments.
func TestDocumentedCommands(t *testing.T) {
	found := 0
	for _, file := range documents(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range codeLines(string(text)) {
			args := commandIn(line)
			if args == nil {
				continue
			}
			found++
			if err := takes(args); err != nil {
				t.Errorf("%s: %s: %v", file, line, err)
			}
		}
	}
	if found < 40 {
		t.Errorf("only %d commands were found", found)
	}
}

// codeLines are the lines of a document that are indented by four spaces, or between
// lines that begin with ```.
func codeLines(text string) []string {
	var lines []string
	fenced := false
	for line := range strings.Lines(text) {
		inner := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(inner, "```"):
			fenced = !fenced
		case fenced || strings.HasPrefix(line, "    "):
			lines = append(lines, inner)
		}
	}
	return lines
}

// commandIn returns the arguments of the trustmirror command on a line, up to what the
// shell takes for itself; nil if there is none.
func commandIn(line string) []string {
	line = strings.TrimLeft(line, "$# ")
	line = regexp.MustCompile(` +(#|\||>|&&|;).*`).ReplaceAllString(line, "")
	words := strings.Fields(line)
	if len(words) < 2 || path.Base(words[0]) != "trustmirror" || strings.HasPrefix(words[0], "http") {
		return nil
	}
	return words[1:]
}

// takes checks a command line as the program would, and runs nothing.
func takes(args []string) error {
	cmd, rest, err := newRootCommand().Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err
	}
	if err := cmd.ValidateRequiredFlags(); err != nil {
		return err
	}
	return cmd.ValidateFlagGroups()
}

// What the program wouldn't take is noticed.
func TestTakes(t *testing.T) {
	for _, line := range []string{
		"trustmirror srve -c config.yaml", "trustmirror serve", "trustmirror serve -c config.yaml --fast",
		"trustmirror client -c config.yaml --mirror https://mirror.example rkt", "trustmirror ca issue --dir ca",
		"trustmirror trust reset -c config.yaml",
	} {
		if takes(commandIn("$ "+line+" | cat")) == nil {
			t.Errorf("taken: %s", line)
		}
	}
}

// docs/telemetry.md has each attribute of ours, and no other.
func TestAttributesAreDocumented(t *testing.T) {
	attribute := regexp.MustCompile(`"(trustmirror\.\w+)"`)
	var there, documented []string
	for _, file := range []string{"../../verify/trace.go", "../../proxy/trace.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range attribute.FindAllStringSubmatch(string(text), -1) {
			there = append(there, m[1])
		}
	}
	text, err := os.ReadFile("../../docs/telemetry.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(trustmirror\\.\\w+)` ").FindAllStringSubmatch(string(text), -1) {
		documented = append(documented, m[1])
	}
	slices.Sort(there)
	slices.Sort(documented)
	if !slices.Equal(there, documented) {
		t.Errorf("docs/telemetry.md has %q, want %q", documented, there)
	}
}

var link = regexp.MustCompile(`\]\(([^)#\s]*)(#[^)]*)?\)`)

// Links between documents lead to files and headings that exist.
func TestLinks(t *testing.T) {
	for _, file := range documents(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			target, heading := file, strings.TrimPrefix(m[2], "#")
			if strings.Contains(m[1], "://") {
				continue
			}
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(file), m[1])
			}
			there, err := os.ReadFile(target)
			if info, isFolder := os.Stat(target); isFolder == nil && info.IsDir() {
				continue
			}
			if err != nil {
				t.Errorf("%s: %s leads nowhere", file, m[0])
			} else if heading != "" && !slices.Contains(headings(string(there)), heading) {
				t.Errorf("%s: %s has no such heading", file, m[0])
			}
		}
	}
}

// headings are the names by which a document's headings can be linked to.
func headings(text string) []string {
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^\w\s-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}
