package storage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
)

// Private repositories are mirrored too, so others may not read.
const (
	folderMode fs.FileMode = 0o750
	fileMode   fs.FileMode = 0o640
)

// filesystem is a storage driver like distribution's of the same name, on the
// same files, except that it syncs folders too, never leaves its root and
// ignores what isn't a regular file or a folder. base.Base, which wraps it,
// checks paths and names the driver in errors.
type filesystem struct {
	root *os.Root
	sync func(*os.File) error // (*os.File).Sync, except in tests

	mu sync.Mutex
	// durable holds the folders whose entry in their parent is known to be on
	// disk, so that only the first write to a folder syncs its parents.
	durable map[string]struct{}
}

var _ storagedriver.StorageDriver = (*filesystem)(nil)

// newFilesystem makes the driver and, where it's missing, its root folder.
func newFilesystem(dir string) (*filesystem, error) {
	if err := makeRoot(filepath.Clean(dir)); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &filesystem{root: root, sync: (*os.File).Sync, durable: make(map[string]struct{})}, nil
}

// makeRoot makes a folder and its parents, durably.
func makeRoot(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := makeRoot(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, folderMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.Open(parent)
	if err != nil {
		return err
	}
	return syncFolder(f, (*os.File).Sync)
}

func (d *filesystem) Name() string { return filesystemDriver }

func (d *filesystem) GetContent(_ context.Context, p string) ([]byte, error) {
	f, size, err := d.open(p)
	if err != nil {
		return nil, err
	}
	return readSmall(p, size, maxSmall, f)
}

// PutContent replaces a file atomically and durably.
func (d *filesystem) PutContent(ctx context.Context, p string, content []byte) (err error) {
	staging := stagingPath()
	w, err := d.Writer(ctx, staging, false)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = d.root.Remove(local(staging))
		}
	}()
	_, err = io.Copy(w, bytes.NewReader(content))
	if err == nil {
		err = w.Commit(ctx)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	return d.rename(staging, p)
}

// Reader returns an *os.File.
func (d *filesystem) Reader(_ context.Context, p string, offset int64) (io.ReadCloser, error) {
	f, _, err := d.open(p)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// open opens a regular file, which had size bytes just before.
func (d *filesystem) open(p string) (f *os.File, size int64, err error) {
	info, err := d.lstat(p) // opening a pipe would block
	if err != nil {
		return nil, 0, err
	}
	if info.IsDir() {
		return nil, 0, storagedriver.PathNotFoundError{Path: p}
	}
	f, err = d.root.Open(local(p))
	return f, info.Size(), notFound(p, err)
}

// Writer writes to a file in its place. Its content is on disk after Commit, its
// name only after a Move.
func (d *filesystem) Writer(_ context.Context, p string, appending bool) (storagedriver.FileWriter, error) {
	if err := d.makeFolder(path.Dir(local(p))); err != nil {
		return nil, err
	}
	flags := os.O_WRONLY | os.O_CREATE
	if !appending {
		flags |= os.O_TRUNC
	}
	f, err := d.root.OpenFile(local(p), flags, fileMode)
	if err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &fileWriter{driver: d, path: p, file: f, size: size}, nil
}

func (d *filesystem) Stat(_ context.Context, p string) (storagedriver.FileInfo, error) {
	info, err := d.lstat(p)
	if err != nil {
		return nil, err
	}
	fields := storagedriver.FileInfoFields{Path: p, ModTime: info.ModTime(), IsDir: info.IsDir()}
	if !fields.IsDir {
		fields.Size = info.Size()
	}
	return storagedriver.FileInfoInternal{FileInfoFields: fields}, nil
}

func (d *filesystem) List(_ context.Context, p string) ([]string, error) {
	if _, err := d.lstat(p); err != nil { // a pipe would block
		return nil, err
	}
	f, err := d.root.Open(local(p))
	if err != nil {
		return nil, notFound(p, err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		names[i] = path.Join(p, name)
	}
	return names, nil
}

func (d *filesystem) Move(_ context.Context, source, dest string) error {
	if _, err := d.lstat(source); err != nil {
		return err
	}
	if err := d.rename(source, dest); err != nil {
		return err
	}
	return d.syncFolder(path.Dir(local(source)))
}

// Delete removes a file, a folder with all that is in it, or a link itself.
func (d *filesystem) Delete(_ context.Context, p string) error {
	if _, err := d.root.Lstat(local(p)); err != nil {
		return notFound(p, err)
	}
	if err := d.root.RemoveAll(local(p)); err != nil {
		return err
	}
	return d.syncFolder(path.Dir(local(p)))
}

// RedirectURL says that clients are never sent elsewhere.
func (d *filesystem) RedirectURL(*http.Request, string) (string, error) { return "", nil }

func (d *filesystem) Walk(ctx context.Context, p string, f storagedriver.WalkFn, options ...func(*storagedriver.WalkOptions)) error {
	return storagedriver.WalkFallback(ctx, d, p, f, options...)
}

// lstat finds regular files and folders only.
func (d *filesystem) lstat(p string) (fs.FileInfo, error) {
	info, err := d.root.Lstat(local(p))
	if err != nil {
		return nil, notFound(p, err)
	}
	if !info.Mode().IsRegular() && !info.IsDir() {
		return nil, storagedriver.PathNotFoundError{Path: p}
	}
	return info, nil
}

// rename moves a file that is on disk already to its place, durably.
func (d *filesystem) rename(source, dest string) error {
	folder := path.Dir(local(dest))
	if err := d.makeFolder(folder); err != nil {
		return err
	}
	err := d.root.Rename(local(source), local(dest))
	if info, found := d.root.Lstat(local(dest)); err != nil && found == nil && info.IsDir() {
		// Somebody's folder is in the way. In staging Sweep removes it.
		if err = d.root.Rename(local(dest), local(stagingPath())); err == nil {
			err = d.root.Rename(local(source), local(dest))
		}
	}
	if err != nil {
		return err
	}
	return d.syncFolder(folder)
}

// makeFolder makes a folder and its parents, and returns once all their names
// are on disk, whoever made them.
func (d *filesystem) makeFolder(dir string) error {
	if dir == "." {
		return nil
	}
	d.mu.Lock()
	_, durable := d.durable[dir]
	d.mu.Unlock()
	if durable {
		if _, err := d.root.Lstat(dir); err == nil {
			return nil
		}
	}
	parent := path.Dir(dir)
	if err := d.makeFolder(parent); err != nil {
		return err
	}
	if err := d.root.Mkdir(dir, folderMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := d.syncFolder(parent); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.durable) >= maxDurable {
		clear(d.durable)
	}
	d.durable[dir] = struct{}{}
	return nil
}

// maxDurable bounds how many folders the driver remembers.
const maxDurable = 10_000

func (d *filesystem) syncFolder(dir string) error {
	f, err := d.root.Open(dir)
	if err != nil {
		return err
	}
	return syncFolder(f, d.sync)
}

// syncFolder syncs a folder and closes it.
func syncFolder(f *os.File, sync func(*os.File) error) error {
	defer f.Close() //nolint:errcheck // a folder: nothing is written at its close
	err := sync(f)
	// Some file systems have nothing to sync for folders, and say so.
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// fileWriter is the driver's storagedriver.FileWriter.
type fileWriter struct {
	driver *filesystem
	path   string
	file   *os.File
	size   int64
}

func (w *fileWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	w.size += int64(n)
	return n, err
}

func (w *fileWriter) Size() int64 { return w.size }

func (w *fileWriter) Commit(context.Context) error { return w.driver.sync(w.file) }

func (w *fileWriter) Close() error { return w.file.Close() }

func (w *fileWriter) Cancel(context.Context) error {
	return errors.Join(w.file.Close(), w.driver.root.Remove(local(w.path)))
}

// local makes a driver's path one for os.Root.
func local(p string) string {
	if p == "/" {
		return "."
	}
	return strings.TrimPrefix(p, "/")
}

func notFound(p string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return storagedriver.PathNotFoundError{Path: p}
	}
	return err
}
