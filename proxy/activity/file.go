package activity

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// fileMode is a new file's: what is pulled is nobody's business.
const fileMode fs.FileMode = 0o640

// file is a log of whole lines. When it is full it is renamed to path.1, after
// path.1 was renamed to path.2 and so on; the oldest is overwritten. Others may
// rename or remove it too (logrotate does): the next line begins a new file.
// It is for one goroutine.
//
// A crash loses no line that was written, wherever it happens: files are only
// renamed. One line may be cut by it; the next one begins on a line of its own.
type file struct {
	path    string
	maxSize int64
	keep    int

	open *os.File    // nil: to be opened
	info fs.FileInfo // which file is open
	torn bool        // it ends within a line
	mode fs.FileMode // of the next one

	write func(*os.File, []byte) (int, error) // (*os.File).Write, except in tests
}

// openFile opens a log or begins one. Its errors say what to do.
func openFile(path string, maxSize int64, keep int) (*file, error) {
	f := &file{path: path, maxSize: maxSize, keep: keep, mode: fileMode, write: (*os.File).Write}
	err := f.reopen()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s can't be written: there is no folder %s; make it, or name another file", path, filepath.Dir(path))
	case err != nil:
		return nil, fmt.Errorf("%s can't be written (%w); name a file that user ID %d can write", path, err, os.Geteuid())
	}
	return f, nil
}

func (f *file) reopen() error {
	opened, err := os.OpenFile(f.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, f.mode)
	if err != nil {
		return err
	}
	info, err := opened.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err == nil && info.Size() > 0 {
		var last [1]byte
		_, err = opened.ReadAt(last[:], info.Size()-1)
		f.torn = last[0] != '\n'
	} else {
		f.torn = false
	}
	if err != nil {
		return errors.Join(err, opened.Close())
	}
	err = f.close()
	f.open, f.info, f.mode = opened, info, info.Mode().Perm()
	return err
}

// append writes a line, with its end, whole or not at all. An error may come with
// a line that was written: when the file is full and couldn't be renamed, it grows.
func (f *file) append(line []byte) (written bool, err error) {
	size, err := f.size()
	if err != nil {
		return false, err
	}
	var full error
	if size > 0 && size+int64(len(line)) > f.maxSize {
		if full = f.rotate(); full == nil {
			_, full = f.size()
		}
	}
	if f.torn {
		line = append([]byte("\n"), line...)
	}
	n, err := f.write(f.open, line)
	if err == nil && n < len(line) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return false, errors.Join(err, f.takeBack(int64(n)), full)
	}
	f.torn = false
	return true, full
}

// takeBack removes the beginning of a line that couldn't be written to its end.
func (f *file) takeBack(n int64) error {
	if n == 0 {
		return nil
	}
	info, err := f.open.Stat()
	if err == nil {
		err = f.open.Truncate(info.Size() - n)
	}
	if err != nil {
		f.torn = true
	}
	return err
}

// size makes sure that the open file is the one at path, and returns its size.
func (f *file) size() (int64, error) {
	info, err := os.Stat(f.path)
	if f.open != nil && err == nil && os.SameFile(info, f.info) {
		return info.Size(), nil
	}
	if err := f.reopen(); err != nil {
		return 0, err
	}
	return f.info.Size(), nil
}

// rotate gives the file its next name. Where an older one is missing, the ones
// behind the gap stay.
func (f *file) rotate() error {
	n := 1
	for n < f.keep && f.exists(n) {
		n++
	}
	for ; n > 1; n-- {
		if err := os.Rename(f.older(n-1), f.older(n)); err != nil {
			return err
		}
	}
	return os.Rename(f.path, f.older(1))
}

func (f *file) older(n int) string { return fmt.Sprintf("%s.%d", f.path, n) }

func (f *file) exists(n int) bool {
	_, err := os.Lstat(f.older(n))
	return err == nil
}

func (f *file) close() error {
	if f.open == nil {
		return nil
	}
	err := f.open.Close()
	f.open = nil
	return err
}
