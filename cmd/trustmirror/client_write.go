package main

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/trustmirror/trustmirror/deploy/clients"
)

// keptSuffix is added to the name of a file that was there before. No client reads
// files of such a name.
const keptSuffix = ".before-trustmirror"

// clientWrite is one file and what is to be done with it.
type clientWrite struct {
	clients.File
	name string // below the root
	old  *oldFile
	keep bool // the old file first
}

// oldFile is a file that is there.
type oldFile struct {
	content []byte
	mode    fs.FileMode
}

func (f *oldFile) is(content []byte) bool { return f != nil && bytes.Equal(f.content, content) }

// writeClient writes a plan's files below root. All of them are looked at before
// one is written.
func writeClient(w io.Writer, folder string, plan *clients.Plan) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return fmt.Errorf("--root %s: this folder can't be opened (%w); make it first, or name another", folder, cause(err))
	}
	defer func() { _ = root.Close() }()
	var writes []clientWrite
	for _, f := range plan.Files {
		write, err := planWrite(root, f)
		if err != nil {
			return err
		}
		writes = append(writes, write)
	}
	for _, write := range writes {
		if err := write.do(w, root); err != nil {
			return fmt.Errorf("%s: it can't be written: %w", filepath.Join(folder, write.name), unreached(err))
		}
	}
	fmt.Fprintf(w, "\n%s", plan.Notes)
	return nil
}

// planWrite looks at what is there.
func planWrite(root *os.Root, f clients.File) (clientWrite, error) {
	write := clientWrite{File: f, name: strings.TrimPrefix(path.Clean(f.Path), "/")}
	full := filepath.Join(root.Name(), write.name)
	var err error
	if write.old, err = readOld(root, write.name); err != nil {
		return write, fmt.Errorf("%s: what is there can't be used: %w", full, err)
	}
	if write.old == nil || write.done() || f.There == clients.Merge {
		return write, nil
	}
	if f.There == clients.Append {
		write.Content = slices.Concat(write.old.content, []byte("\n"), f.Content)
	}
	kept, err := readOld(root, write.name+keptSuffix)
	switch {
	case err != nil:
		return write, fmt.Errorf("%s%s: what is there can't be used: %w", full, keptSuffix, err)
	case kept == nil:
		write.keep = true
	case !kept.is(write.old.content):
		return write, fmt.Errorf("%s would be replaced and kept as %s, but such a file is there already and has another content; "+
			"move that one away, then type the command again. Nothing was written", full, path.Base(write.name)+keptSuffix)
	}
	return write, nil
}

// readOld reads a file, or returns nil if there is none.
func readOld(root *os.Root, name string) (*oldFile, error) {
	info, err := root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := root.Lstat(name); err == nil {
			return nil, errors.New("it is a symbolic link to a file that doesn't exist; remove it")
		}
		return nil, nil
	}
	if err != nil {
		return nil, unreached(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file; move it away")
	}
	content, err := root.ReadFile(name)
	if err != nil {
		return nil, cause(err)
	}
	return &oldFile{content: content, mode: info.Mode().Perm()}, nil
}

// done tells whether what is there will do.
func (c clientWrite) done() bool {
	return c.old.is(c.Content) || c.old != nil && c.There != clients.Replace && hasLines(c.old.content, c.Content)
}

// do writes the file and says so.
func (c clientWrite) do(w io.Writer, root *os.Root) error {
	full := filepath.Join(root.Name(), c.name)
	switch {
	case c.done():
		fmt.Fprintf(w, "unchanged   %s\n", full)
		return nil
	case c.old != nil && c.There == clients.Merge:
		fmt.Fprintf(w, "LEFT ALONE  %s has other settings; merge this into it by hand:\n\n%s\n", full, indent(c.Content))
		return nil
	}
	if c.keep {
		if err := writeAtomically(root, c.name+keptSuffix, c.old.content, c.old.mode); err != nil {
			return err
		}
		fmt.Fprintf(w, "kept        %s%s, which is what was there\n", full, keptSuffix)
	}
	if err := root.MkdirAll(path.Dir(c.name), 0o755); err != nil {
		return err
	}
	mode := c.Mode
	if c.There == clients.Append && c.old != nil {
		mode = c.old.mode
	}
	if err := writeAtomically(root, c.name, c.Content, mode); err != nil {
		return err
	}
	fmt.Fprintf(w, "wrote       %s\n", full)
	return nil
}

// hasLines tells whether a text has all of another's lines that say something, in
// whatever order and indentation. Where in the file they stand is not looked at.
func hasLines(text, lines []byte) bool {
	there := make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		there[strings.TrimSpace(line)] = true
	}
	for line := range strings.Lines(string(lines)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") && !there[line] {
			return false
		}
	}
	return true
}

func indent(content []byte) string {
	return "    " + strings.ReplaceAll(strings.TrimSuffix(string(content), "\n"), "\n", "\n    ") + "\n"
}

// writeAtomically puts a file in its place by a rename, so that a client reads the old
// one or the new one, and never a part.
func writeAtomically(root *os.Root, name string, content []byte, mode fs.FileMode) error {
	temporary := path.Join(path.Dir(name), ".trustmirror-"+rand.Text())
	f, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = cmp.Or(err, f.Chmod(mode), f.Sync())
	err = cmp.Or(err, f.Close())
	if err == nil {
		err = root.Rename(temporary, name)
	}
	if err != nil {
		_ = root.Remove(temporary)
	}
	return err
}

// unreached says why a path below the root can't be used.
func unreached(err error) error {
	return fmt.Errorf("%w; symbolic links that are absolute or lead out of --root are not followed", cause(err))
}
