// Fill writes admissions into a folder that trustmirror is to store in, to see how it
// fares with many: fill FOLDER REPOSITORY NUMBER. They are of layers that nobody has.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: fill FOLDER REPOSITORY NUMBER")
		os.Exit(2)
	}
	if err := fill(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "fill:", err)
		os.Exit(1)
	}
}

func fill(folder, repository, number string) error {
	n, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	store := storage.New(unsynced{root: folder})
	for i := range n {
		err := store.Admit(context.Background(), storage.Admission{
			Repository: repository, Digest: digest.FromString(fmt.Sprint("layer ", i)), Kind: storage.KindLayer,
			MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Size: int64(i),
			Tag: fmt.Sprint("tag-", i/10), Signed: digest.FromString(fmt.Sprint("index ", i/10)), Parent: digest.FromString(fmt.Sprint("manifest ", i/5)),
			Proof: storage.ProofListed, At: time.Unix(1_700_000_000+int64(i), 0),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// unsynced writes files where the filesystem driver has them, without waiting for the
// disk, which would take minutes. It does no more than Admit needs.
type unsynced struct {
	storagedriver.StorageDriver
	root string
}

func (d unsynced) GetContent(_ context.Context, path string) ([]byte, error) {
	content, err := os.ReadFile(filepath.Join(d.root, path))
	if errors.Is(err, os.ErrNotExist) {
		return nil, storagedriver.PathNotFoundError{Path: path}
	}
	return content, err
}

func (d unsynced) PutContent(_ context.Context, path string, content []byte) error {
	file := filepath.Join(d.root, path)
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return err
	}
	return os.WriteFile(file, content, 0o640)
}
