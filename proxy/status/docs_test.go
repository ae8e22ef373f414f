package status

import (
	"os"
	"regexp"
	"testing"

	"github.com/trustmirror/trustmirror/verify"
)

// docs/operations.md says of each reason what the status page says.
func TestReasonsAreDocumented(t *testing.T) {
	read := func(file, pattern string) [][]string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1)
	}
	documented := make(map[string]string)
	for _, row := range read("../../docs/operations.md", "(?m)^\\| `(\\w+)` \\| [^|]{10,} \\| ([^|]+) \\|$") {
		documented[row[1]] = row[2]
	}
	reasons := read("../../verify/errors.go", `(?m)^\t\w+ +Reason = "(\w+)"`)
	if len(reasons) != len(documented) {
		t.Errorf("%d reasons are documented, and there are %d", len(documented), len(reasons))
	}
	for _, reason := range reasons {
		if want := advice(verify.Reason(reason[1])); documented[reason[1]] != want {
			t.Errorf("docs/operations.md says of %s\n%s\nwant\n%s", reason[1], documented[reason[1]], want)
		}
	}
}
