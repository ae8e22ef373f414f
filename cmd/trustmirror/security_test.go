package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the project's folder, seen from here.
const root = "../.."

// TestSecurityNamesWhatExists holds the table of SECURITY.md against the tree:
// each line names tests that are there, or says that there are none yet, and
// reason codes that there are.
func TestSecurityNamesWhatExists(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(root, "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(raw), "| attack | reason | tests |\n")
	if !found {
		t.Fatal("SECURITY.md has no table of what is tested")
	}
	tests, reasons := namesOfTests(t), reasonCodes(t)
	quoted := regexp.MustCompile("`([^`]+)`")
	named := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| **") {
			continue
		}
		for _, reason := range quoted.FindAllStringSubmatch(cells[1], -1) {
			if !reasons[reason[1]] {
				t.Errorf("no reason is called %s: %s", reason[1], line)
			}
		}
		names := quoted.FindAllStringSubmatch(cells[2], -1)
		for _, name := range names {
			named++
			if !tests[name[1]] {
				t.Errorf("no test is called %s: %s", name[1], line)
			}
		}
		if len(names) == 0 && !strings.Contains(cells[2], "not yet") {
			t.Errorf("neither a test is named nor that there is none: %s", line)
		}
	}
	if named < 50 {
		t.Errorf("the table names %d tests only", named)
	}
}

// namesOfTests are those of all modules.
func namesOfTests(t *testing.T) map[string]bool {
	t.Helper()
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	names := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(source, -1) {
			names[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// reasonCodes are those that package verify and package proxy define.
func reasonCodes(t *testing.T) map[string]bool {
	t.Helper()
	defined := regexp.MustCompile(`(?m)^\t\w+ +(?:verify\.)?Reason += "(\w+)"`)
	codes := map[string]bool{}
	for _, file := range []string{"verify/errors.go", "proxy/errors.go"} {
		source, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range defined.FindAllSubmatch(source, -1) {
			codes[string(m[1])] = true
		}
	}
	return codes
}
