package lab

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // the driver named below
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
)

// Registry is distribution's registry, run in this process so that its requests
// can be counted and its answers falsified.
type Registry struct {
	*Front
}

// StartRegistry starts a registry that stands for the one called name.
func (l *Lab) StartRegistry(name string) (*Registry, error) {
	dir, err := l.folder("registry-" + name)
	if err != nil {
		return nil, err
	}
	logFile, err := os.Create(filepath.Join(l.Dir, "registry-"+name+".log"))
	if err != nil {
		return nil, err
	}
	logrus.SetOutput(logFile) // distribution's handlers know no other logger

	config := &configuration.Configuration{Storage: configuration.Storage{
		"filesystem":  {"rootdirectory": dir},
		"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
	}}
	config.HTTP.Secret = rand.Text()
	ctx, cancel := context.WithCancel(context.Background())
	l.onClose(cancel)

	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	front, err := l.front(address, "127.0.0.1", nil, handlers.NewApp(ctx, config))
	if err != nil {
		return nil, err
	}
	return &Registry{Front: front}, nil
}

// Push uploads a release: its blobs, its manifests, and a tag for its top, if
// tag isn't empty. Whatever the registry holds already isn't uploaded again.
func (r *Registry) Push(ctx context.Context, repository, tag string, release Release) error {
	for _, image := range release.Images {
		for _, blob := range append([]Blob{image.Config}, image.Layers...) {
			if err := r.pushBlob(ctx, repository, blob); err != nil {
				return err
			}
		}
		if err := r.PushManifest(ctx, repository, image.Manifest.Digest().String(), image.Manifest); err != nil {
			return err
		}
	}
	reference := tag
	if tag == "" {
		reference = release.Top().Digest().String()
	}
	return r.PushManifest(ctx, repository, reference, release.Top())
}

// PushManifest uploads one manifest or index under a tag or its digest.
func (r *Registry) PushManifest(ctx context.Context, repository, reference string, manifest Blob) error {
	return r.do(ctx, http.MethodPut, r.URL+ManifestPath(repository, reference), manifest.MediaType, manifest.Content, http.StatusCreated)
}

func (r *Registry) pushBlob(ctx context.Context, repository string, blob Blob) error {
	blobURL := r.URL + BlobPath(repository, blob.Digest())
	if r.do(ctx, http.MethodHead, blobURL, "", nil, http.StatusOK) == nil {
		return nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL+"/v2/"+repository+"/blobs/uploads/", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	location, err := response.Location()
	if err != nil {
		return fmt.Errorf("starting an upload to %s: %s: %w", repository, response.Status, err)
	}
	query := location.Query()
	query.Set("digest", blob.Digest().String())
	location.RawQuery = query.Encode()
	return r.do(ctx, http.MethodPut, location.String(), "application/octet-stream", blob.Content, http.StatusCreated)
}

func (r *Registry) do(ctx context.Context, method, address, contentType string, body []byte, want int) error {
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", contentType)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != want {
		return fmt.Errorf("%s %s: %s: %s", method, address, response.Status, answer)
	}
	return nil
}

// ManifestPath is where a registry has a manifest (OCI distribution
// specification, end-3).
func ManifestPath(repository, reference string) string {
	return "/v2/" + repository + "/manifests/" + reference
}

// BlobPath is where a registry has a blob (OCI distribution specification, end-2).
func BlobPath(repository string, d digest.Digest) string {
	return "/v2/" + repository + "/blobs/" + d.String()
}
