//go:build !linux && !darwin

package storage

// DiskFree tells how many bytes the disk has left that a folder is on, for users
// other than root; nil where systems don't say.
func DiskFree(string) func() (int64, error) { return nil }
