package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// root is the project's folder, seen from here.
const root = "../.."

var quoted = regexp.MustCompile("`([^`]+)`")

// TestSecurityNamesWhatExists holds the tables of SECURITY.md against the tree:
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
	table, bounds, found := strings.Cut(table, "| limit | value | where | tests |\n")
	if !found {
		t.Fatal("SECURITY.md has no table of bounds")
	}
	tests, reasons := namesOfTests(t), reasonCodes(t)
	checkBounds(t, bounds, tests)
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
	if named < 100 {
		t.Errorf("the table names %d tests only", named)
	}
	// Every line of the list of attacks, and those that were found later, has a test.
	for n := 1; n <= 65; n++ {
		if !regexp.MustCompile(fmt.Sprintf("`TestAttack(\\d+(To|And|_))?%d(To|And|_)", n)).MatchString(table) && !withinRange(table, n) {
			t.Errorf("no test of attack %d is in the table", n)
		}
	}
}

// withinRange tells whether a test is about a range of attacks that n is in.
func withinRange(table string, n int) bool {
	for _, m := range regexp.MustCompile("`TestAttack(\\d+)To(\\d+)_").FindAllStringSubmatch(table, -1) {
		first, _ := strconv.Atoi(m[1])
		last, _ := strconv.Atoi(m[2])
		if first <= n && n <= last {
			return true
		}
	}
	return false
}

// checkBounds holds each line of the table of bounds against the tree: what sets the
// limit is in the file, and the tests are there.
func checkBounds(t *testing.T, table string, tests map[string]bool) {
	t.Helper()
	place := regexp.MustCompile("`(\\w+)` in `([^`]+)`")
	rows := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 4 || strings.HasPrefix(line, "|---") {
			continue
		}
		rows++
		places, names := place.FindAllStringSubmatch(cells[2], -1), quoted.FindAllStringSubmatch(cells[3], -1)
		if len(places) == 0 || len(names) == 0 {
			t.Errorf("no place or no test: %s", line)
		}
		for _, p := range places {
			source, err := os.ReadFile(filepath.Join(root, p[2]))
			if err != nil || !regexp.MustCompile(`\b`+p[1]+`\b`).Match(source) {
				t.Errorf("%s is not in %s: %v", p[1], p[2], err)
			}
		}
		for _, name := range names {
			if !tests[name[1]] {
				t.Errorf("no test is called %s: %s", name[1], line)
			}
		}
	}
	if rows < 30 {
		t.Errorf("the table has %d bounds only", rows)
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
