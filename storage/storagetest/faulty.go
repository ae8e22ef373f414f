package storagetest

import (
	"context"
	"errors"
	"io"
	"sync"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
)

// ErrInjected is what a Faulty driver's operation fails with unless its Fault
// says otherwise.
var ErrInjected = errors.New("injected fault")

// Fault says which operation of a Faulty driver fails, and how.
type Fault struct {
	At    int   // the operation that fails, counted from 1; 0: none
	After bool  // the operation takes effect all the same
	Stay  bool  // every later operation fails without effect, as if the process had died
	Err   error // what it fails with; nil: ErrInjected
}

// Faulty is a storage driver that passes everything on to another one, except
// where a Fault says to fail. Operations are the driver's methods and those of
// its writers and readers. It is safe for concurrent use.
type Faulty struct {
	storagedriver.StorageDriver

	mu    sync.Mutex // guards what follows
	fault Fault
	count int
}

// NewFaulty wraps a driver; without a Fault nothing fails.
func NewFaulty(driver storagedriver.StorageDriver) *Faulty {
	return &Faulty{StorageDriver: driver}
}

// Set plans a fault and starts counting operations anew.
func (f *Faulty) Set(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.count = fault, 0
}

// Operations returns how many operations there were since Set.
func (f *Faulty) Operations() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// do runs one operation, or fails it as planned.
func (f *Faulty) do(operation func() error) error {
	f.mu.Lock()
	f.count++
	fault := f.fault
	due := fault.At > 0 && f.count == fault.At
	gone := fault.At > 0 && fault.Stay && f.count > fault.At
	f.mu.Unlock()
	if !due && !gone {
		return operation()
	}
	if due && fault.After {
		_ = operation()
	}
	if fault.Err != nil {
		return fault.Err
	}
	return ErrInjected
}

// Direct tells what the other driver does.
func (f *Faulty) Direct() bool {
	d, ok := f.StorageDriver.(interface{ Direct() bool })
	return ok && d.Direct()
}

// Redirects tells that clients aren't sent elsewhere.
func (f *Faulty) Redirects() bool { return false }

// GetContent is an operation.
func (f *Faulty) GetContent(ctx context.Context, path string) (content []byte, err error) {
	err = f.do(func() error {
		content, err = f.StorageDriver.GetContent(ctx, path)
		return err
	})
	return content, err
}

// PutContent is an operation.
func (f *Faulty) PutContent(ctx context.Context, path string, content []byte) error {
	return f.do(func() error { return f.StorageDriver.PutContent(ctx, path, content) })
}

// Reader is an operation, and so is each Read of what it returns.
func (f *Faulty) Reader(ctx context.Context, path string, offset int64) (io.ReadCloser, error) {
	var r io.ReadCloser
	err := f.do(func() (err error) {
		r, err = f.StorageDriver.Reader(ctx, path, offset)
		return err
	})
	if err != nil {
		if r != nil {
			_ = r.Close()
		}
		return nil, err
	}
	return &faultyReader{ReadCloser: r, driver: f}, nil
}

// Writer is an operation, and so is each Write, Commit, Cancel and Close of what
// it returns.
func (f *Faulty) Writer(ctx context.Context, path string, appending bool) (storagedriver.FileWriter, error) {
	var w storagedriver.FileWriter
	err := f.do(func() (err error) {
		w, err = f.StorageDriver.Writer(ctx, path, appending)
		return err
	})
	if err != nil {
		if w != nil {
			_ = w.Close()
		}
		return nil, err
	}
	return &faultyWriter{FileWriter: w, driver: f}, nil
}

// Stat is an operation.
func (f *Faulty) Stat(ctx context.Context, path string) (info storagedriver.FileInfo, err error) {
	err = f.do(func() error {
		info, err = f.StorageDriver.Stat(ctx, path)
		return err
	})
	return info, err
}

// List is an operation.
func (f *Faulty) List(ctx context.Context, path string) (paths []string, err error) {
	err = f.do(func() error {
		paths, err = f.StorageDriver.List(ctx, path)
		return err
	})
	return paths, err
}

// Move is an operation.
func (f *Faulty) Move(ctx context.Context, source, dest string) error {
	return f.do(func() error { return f.StorageDriver.Move(ctx, source, dest) })
}

// Delete is an operation.
func (f *Faulty) Delete(ctx context.Context, path string) error {
	return f.do(func() error { return f.StorageDriver.Delete(ctx, path) })
}

// Walk is an operation.
func (f *Faulty) Walk(ctx context.Context, path string, fn storagedriver.WalkFn, options ...func(*storagedriver.WalkOptions)) error {
	return f.do(func() error { return f.StorageDriver.Walk(ctx, path, fn, options...) })
}

type faultyReader struct {
	io.ReadCloser
	driver *Faulty
}

// Read returns nothing of what it took when it fails.
func (r *faultyReader) Read(p []byte) (n int, err error) {
	err = r.driver.do(func() error {
		n, err = r.ReadCloser.Read(p)
		return err
	})
	if err != nil && !errors.Is(err, io.EOF) {
		n = 0
	}
	return n, err
}

type faultyWriter struct {
	storagedriver.FileWriter
	driver *Faulty
}

func (w *faultyWriter) Write(p []byte) (n int, err error) {
	err = w.driver.do(func() error {
		n, err = w.FileWriter.Write(p)
		return err
	})
	return n, err
}

func (w *faultyWriter) Commit(ctx context.Context) error {
	return w.driver.do(func() error { return w.FileWriter.Commit(ctx) })
}

func (w *faultyWriter) Cancel(ctx context.Context) error {
	return w.driver.do(func() error { return w.FileWriter.Cancel(ctx) })
}

// Close closes the file in any case: a process that dies closes its files, too.
func (w *faultyWriter) Close() error {
	closed := w.FileWriter.Close()
	return w.driver.do(func() error { return closed })
}
