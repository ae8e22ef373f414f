package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Files of a node that have no end, or lead in circles, or are made to wear a parser
// out, are findings, and doctor ends.
func TestAttack65_FilesThatWearOut(t *testing.T) {
	write := func(content string) func(path string) error {
		return func(path string) error { return os.WriteFile(path, []byte(content), 0o600) }
	}
	link := func(to string) func(path string) error {
		return func(path string) error { return os.Symlink(to, path) }
	}
	for name, plant := range map[string]func(path string) error{
		"a pipe":              func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a device":            link("/dev/zero"),
		"a link to itself":    link("config.toml"),
		"more than a MiB":     write(strings.Repeat("# more\n", 200_000)),
		"arrays in arrays":    write("x = " + strings.Repeat("[", 1<<20-10)),
		"tables in tables":    write("x = " + strings.Repeat("{a=", (1<<20-10)/3)),
		"keys in keys":        write(strings.Repeat("a.", (1<<20-10)/2) + "a = 1"),
		"many tables":         write(strings.Repeat("[[a]]\n", (1<<20-10)/6)),
		"bytes that are none": write(strings.Repeat("\xff\x00", 1<<10)),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			folder := filepath.Join(dir, "etc", "containerd")
			file := filepath.Join(folder, "config.toml")
			if err := errors.Join(os.MkdirAll(folder, 0o700), plant(file)); err != nil {
				t.Fatal(err)
			}
			type result struct {
				report *Report
				err    error
			}
			done := make(chan result, 1)
			go func() {
				report, err := Check(t.Context(), Options{
					Node: os.DirFS(dir), Tag: "doctor", Asker: &fakeAsker{}, Mirrors: []string{"http://mirror.example"}, Registries: []string{"docker.io"}, Clients: []string{"containerd"},
				})
				done <- result{report, err}
			}()
			select {
			case got := <-done:
				if got.err != nil {
					t.Fatal(got.err)
				}
				for _, f := range got.report.Findings {
					if len(f.Sentence) > 4<<10 {
						t.Errorf("a sentence of %d bytes: %.100s", len(f.Sentence), f.Sentence)
					}
				}
				if got.report.State == Closed {
					t.Errorf("nothing is found wrong: %+v", got.report)
				}
			case <-time.After(time.Minute):
				t.Fatal("doctor doesn't end")
			}
		})
	}
}
