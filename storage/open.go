package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/base"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory" // registers the driver
)

// The parameters of the filesystem driver.
const (
	filesystemDriver = "filesystem"
	rootParameter    = "rootdirectory" // the folder; made when missing
	threadsParameter = "maxthreads"    // concurrent operations, default 100, at least 25
)

// Open builds a store on a driver, "filesystem", "s3", "inmemory" or any other that
// is registered with distribution's factory, checks that it can be written, and
// sweeps it. It remembers what it is asked for (Remember). Its errors name the folder
// or driver and say what to do.
func Open(ctx context.Context, driver string, params map[string]any) (*Store, error) {
	d, err := NewDriver(ctx, driver, params)
	if err != nil {
		return nil, err
	}
	s := New(d)
	s.Remember(time.Now)
	if err := s.probe(ctx); err != nil {
		return nil, notWritable(driver, params, err)
	}
	if err := s.Sweep(ctx); err != nil {
		return nil, notWritable(driver, params, err)
	}
	return s, nil
}

// NewDriver makes the driver that Open builds a store on. "filesystem" is this
// package's own, which keeps the durability promise; it takes "rootdirectory"
// (required) and "maxthreads". "s3" is distribution's, with bounds; see s3Parameters.
func NewDriver(ctx context.Context, driver string, params map[string]any) (storagedriver.StorageDriver, error) {
	if driver == filesystemDriver {
		return filesystemFromParameters(params)
	}
	if driver == s3Driver {
		return s3FromParameters(ctx, params)
	}
	d, err := factory.Create(ctx, driver, params)
	var unknown factory.InvalidStorageDriverError
	switch {
	case errors.As(err, &unknown):
		return nil, fmt.Errorf("storage driver %q is unknown; use filesystem, s3 or inmemory", driver)
	case err != nil:
		return nil, fmt.Errorf("storage driver %q can't be set up, check its parameters: %w", driver, driverError(err))
	}
	return d, nil
}

func filesystemFromParameters(params map[string]any) (storagedriver.StorageDriver, error) {
	for name := range params {
		if !slices.Contains([]string{rootParameter, threadsParameter}, name) {
			return nil, fmt.Errorf("the filesystem storage driver has no parameter %q; use %s and %s", name, rootParameter, threadsParameter)
		}
	}
	root, ok := params[rootParameter].(string)
	if !ok || root == "" {
		return nil, fmt.Errorf("the filesystem storage driver needs %s, the folder to keep its files in", rootParameter)
	}
	threads, err := base.GetLimitFromParameter(params[threadsParameter], 25, 100)
	if err != nil {
		return nil, fmt.Errorf("the filesystem storage driver's %s: %w", threadsParameter, err)
	}
	d, err := newFilesystem(root)
	if err != nil {
		return nil, notWritable(filesystemDriver, params, err)
	}
	return &base.Base{StorageDriver: base.NewRegulator(d, threads)}, nil
}

// probe writes and removes a file.
func (s *Store) probe(ctx context.Context) error {
	probe := stagingPath()
	defer s.discard(ctx, probe)
	return driverError(s.driver.PutContent(ctx, probe, []byte("probe")))
}

func notWritable(driver string, params map[string]any, err error) error {
	if driver == filesystemDriver {
		return fmt.Errorf("storage folder %v can't be used: %w; make it a folder that user ID %d can write, or set another %s",
			params[rootParameter], err, os.Geteuid(), rootParameter)
	}
	if driver == s3Driver {
		return fmt.Errorf("bucket %v can't be used: %w; check that it is there and can be reached, its region and the credentials, "+
			"and that they may list it, and read, write and delete objects", params["bucket"], err)
	}
	return fmt.Errorf("storage driver %q can't be written, check its parameters and permissions: %w", driver, err)
}
