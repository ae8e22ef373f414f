package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/deploy/clients"
)

// hostsToml is a plan of one file.
func hostsToml(content string) *clients.Plan {
	return &clients.Plan{Files: []clients.File{{Path: "/etc/containerd/certs.d/docker.io/hosts.toml", Mode: 0o644, Content: []byte(content)}}}
}

const hostsTomlPath = "etc/containerd/certs.d/docker.io/hosts.toml"

// tree lists every file below a folder with its content and mode.
func tree(t *testing.T, folder string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(folder, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(folder, file)
		content, err := os.ReadFile(file)
		found[name] = info.Mode().String() + " " + string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func wantTree(t *testing.T, folder string, want map[string]string) {
	t.Helper()
	got := tree(t, folder)
	for name, content := range want {
		if got[name] != content {
			t.Errorf("%s is %q, want %q", name, got[name], content)
		}
	}
	if len(got) != len(want) {
		t.Errorf("there is %q, want %q", got, want)
	}
}

func put(t *testing.T, file, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

func TestWriteKeepsWhatWasThere(t *testing.T) {
	root := t.TempDir()
	put(t, filepath.Join(root, hostsTomlPath), "old", 0o600)
	var out bytes.Buffer
	for range 2 { // a second time changes nothing
		if err := writeClient(&out, root, hostsToml("new")); err != nil {
			t.Fatal(err)
		}
		wantTree(t, root, map[string]string{hostsTomlPath: "-rw-r--r-- new", hostsTomlPath + ".before-trustmirror": "-rw------- old"})
	}
	for _, line := range []string{"kept        " + root, "wrote       " + root, "unchanged   " + root} {
		if strings.Count(out.String(), line) != 1 {
			t.Errorf("not once %q in\n%s", line, out.String())
		}
	}
}

// TestWriteRefusesToLoseAFile: and then writes nothing, not even the other files.
func TestWriteRefusesToLoseAFile(t *testing.T) {
	root := t.TempDir()
	put(t, filepath.Join(root, hostsTomlPath), "second", 0o644)
	put(t, filepath.Join(root, hostsTomlPath+".before-trustmirror"), "first", 0o644)
	before := tree(t, root)
	plan := hostsToml("third")
	plan.Files = append([]clients.File{{Path: "/etc/first", Mode: 0o644, Content: []byte("x")}}, plan.Files...)
	err := writeClient(&bytes.Buffer{}, root, plan)
	if err == nil || !strings.Contains(err.Error(), "move that one away") {
		t.Errorf("%v", err)
	}
	wantTree(t, root, before)
	// What is kept already need not be kept again.
	put(t, filepath.Join(root, hostsTomlPath), "first", 0o644)
	if err := writeClient(&bytes.Buffer{}, root, plan); err != nil {
		t.Error(err)
	}
}

func TestWriteLeavesOtherSettingsAlone(t *testing.T) {
	root := t.TempDir()
	daemon := filepath.Join(root, "etc/docker/daemon.json")
	plan := &clients.Plan{Files: []clients.File{{Path: "/etc/docker/daemon.json", Mode: 0o644, Content: []byte("# why\nb\n"), There: clients.Merge}}}
	put(t, daemon, "a\n", 0o644)
	var out bytes.Buffer
	if err := writeClient(&out, root, plan); err != nil {
		t.Fatal(err)
	}
	wantTree(t, root, map[string]string{"etc/docker/daemon.json": "-rw-r--r-- a\n"})
	if !strings.Contains(out.String(), "LEFT ALONE  "+daemon) || !strings.Contains(out.String(), "\n    b\n") {
		t.Errorf("%s", out.String())
	}
	put(t, daemon, "a\n  b\n", 0o644) // merged by hand
	out.Reset()
	if err := writeClient(&out, root, plan); err != nil || !strings.HasPrefix(out.String(), "unchanged   "+daemon) {
		t.Errorf("%v: %s", err, out.String())
	}
}

func TestWriteAppends(t *testing.T) {
	root := t.TempDir()
	put(t, filepath.Join(root, "etc/hosts"), "127.0.0.1 localhost\n", 0o640)
	plan := &clients.Plan{Files: []clients.File{{Path: "/etc/hosts", Mode: 0o644, Content: []byte("# why\n192.0.2.1 a\n"), There: clients.Append}}}
	for range 2 {
		if err := writeClient(&bytes.Buffer{}, root, plan); err != nil {
			t.Fatal(err)
		}
		wantTree(t, root, map[string]string{"etc/hosts": "-rw-r----- 127.0.0.1 localhost\n\n# why\n192.0.2.1 a\n",
			"etc/hosts.before-trustmirror": "-rw-r----- 127.0.0.1 localhost\n"})
	}
}

// TestWriteStaysBelowRoot: no symbolic link leads out of it, whichever part of the
// path it is.
func TestWriteStaysBelowRoot(t *testing.T) {
	for _, link := range []string{"etc", "etc/containerd", "etc/containerd/certs.d/docker.io", hostsTomlPath} {
		for _, target := range []string{"absolute", "relative"} {
			for _, name := range []string{"there", "not-there"} {
				top := t.TempDir()
				root, outside := filepath.Join(top, "root"), filepath.Join(top, "outside")
				put(t, filepath.Join(outside, "there", "file"), "outside", 0o644)
				at := filepath.Join(root, link)
				if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
					t.Fatal(err)
				}
				to := filepath.Join(outside, name)
				if link == hostsTomlPath && name == "there" {
					to = filepath.Join(to, "file")
				}
				if target == "relative" {
					to, _ = filepath.Rel(filepath.Dir(at), to)
				}
				if err := os.Symlink(to, at); err != nil {
					t.Fatal(err)
				}
				err := writeClient(&bytes.Buffer{}, root, hostsToml("new"))
				if err == nil || !strings.Contains(err.Error(), "links that are absolute or lead out of --root are not followed") {
					t.Errorf("%s, %s to %s: %v", link, target, name, err)
				}
				wantTree(t, outside, map[string]string{"there/file": "-rw-r--r-- outside"})
			}
		}
	}
}

// TestWriteReplacesALinkInside: what it leads to stays as it is.
func TestWriteReplacesALinkInside(t *testing.T) {
	root := t.TempDir()
	put(t, filepath.Join(root, "shared.toml"), "old", 0o644)
	if err := os.MkdirAll(filepath.Dir(filepath.Join(root, hostsTomlPath)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../../shared.toml", filepath.Join(root, hostsTomlPath)); err != nil {
		t.Fatal(err)
	}
	if err := writeClient(&bytes.Buffer{}, root, hostsToml("new")); err != nil {
		t.Fatal(err)
	}
	wantTree(t, root, map[string]string{"shared.toml": "-rw-r--r-- old", hostsTomlPath: "-rw-r--r-- new", hostsTomlPath + ".before-trustmirror": "-rw-r--r-- old"})
}

// TestWriteIsAtomic: whoever has the file open goes on reading the old one, and where
// it can't be put in its place, nothing is left behind.
func TestWriteIsAtomic(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, hostsTomlPath)
	put(t, file, "old", 0o644)
	before, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	if err := writeClient(&bytes.Buffer{}, root, hostsToml("new")); err != nil {
		t.Fatal(err)
	}
	var old bytes.Buffer
	if _, err := old.ReadFrom(before); err != nil || old.String() != "old" {
		t.Errorf("the open file now reads %q (%v)", old.String(), err)
	}

	opened, err := os.OpenRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	put(t, filepath.Join(root, "folder", "file"), "x", 0o644)
	if err := writeAtomically(opened, "folder", []byte("y"), 0o644); err == nil {
		t.Error("a file took the place of a folder")
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.HasPrefix(e.Name(), ".trustmirror-") }) {
		t.Errorf("a temporary file stays: %v", entries)
	}
}

// TestWriteRefusesWhatIsNoFile: a folder or a pipe in a file's place is said, and
// not waited for.
func TestWriteRefusesWhatIsNoFile(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, hostsTomlPath), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := writeClient(&bytes.Buffer{}, root, hostsToml("new")); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("%v", err)
	}
	if err := writeClient(&bytes.Buffer{}, filepath.Join(root, "none"), hostsToml("new")); err == nil || !strings.Contains(err.Error(), "--root") {
		t.Errorf("%v", err)
	}
}
