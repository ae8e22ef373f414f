package hostile

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// program is the path of trustmirror, built from this tree.
var program string

func TestMain(m *testing.M) {
	flag.Parse()
	// Most of these tests wait until somebody gives up.
	if err := flag.Set("test.parallel", "100"); err != nil {
		fail(err)
	}
	dir, err := os.MkdirTemp("", "tm-hostile-")
	if err != nil {
		fail(err)
	}
	if err := raceProgram(); err != nil {
		fail(err)
	}
	if program, err = lab.BuildMirror(context.Background(), dir); err != nil {
		fail(err)
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fail(err)
	}
	os.Exit(code)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "hostile:", err)
	os.Exit(1)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newLab makes a lab whose folder stays if the test fails.
func newLab(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.New()
	check(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			l.Close()
			t.Logf("logs are in %s", l.Dir)
			return
		}
		if err := l.Remove(); err != nil {
			t.Error(err)
		}
	})
	return l
}
