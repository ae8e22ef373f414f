package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/trustmirror/trustmirror/storage"
)

func newCacheCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Show what is stored, fetch ahead, look for damage, remove what nobody needs",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCacheListCommand(), newCacheScrubCommand(), newCacheCollectCommand(), newCacheWarmCommand())
	return cmd
}

// usedStorage opens the storage that a mirror with this configuration uses, which
// may be running. Nothing is written, unless it is for writing.
func usedStorage(ctx context.Context, c *Config, writing bool) (*storage.Store, error) {
	path := "storage." + c.Storage.Driver
	switch c.Storage.Driver {
	case driverInmemory:
		return nil, c.places.mistake(path, "%s: it keeps everything in the memory of serve, where no other program can look", path)
	case driverFilesystem:
		if err := c.usedFolder(path+".rootdirectory", writing); err != nil {
			return nil, err
		}
	}
	driver, err := storage.NewDriver(ctx, c.Storage.Driver, c.Storage.parameters())
	if err != nil {
		return nil, c.places.mistake(path, "%v", err)
	}
	return storage.New(driver), nil
}

// usedFolder insists on a folder in which a mirror stores, and, for writing, on a
// user whose files the mirror can change.
func (c *Config) usedFolder(path string, writing bool) error {
	folder := c.Storage.RootDirectory
	info, err := os.Stat(folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c.places.mistake(path, "%s: there is no folder %s, so nothing is stored; relative paths start at the working directory, which has to be that of serve", path, folder)
	case err != nil:
		return c.places.mistake(path, "%s: %v; give this user the right to read it", path, err)
	}
	if owner, other := ownedByAnother(info); writing && other {
		return fmt.Errorf("%s belongs to user ID %d, who couldn't change what root leaves there; run this as that user, as with sudo -u '#%d' trustmirror …", folder, owner, owner)
	}
	return nil
}

// sizeText tells a number of bytes.
func sizeText(n int64) string {
	value, unit := float64(n), "B"
	for _, larger := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if value < 1<<10 {
			break
		}
		value, unit = value/(1<<10), larger
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}

// countText tells how many there are: "1 object", "2 objects".
func countText(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
