package storagetest

import (
	"slices"
	"strings"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"

	"github.com/trustmirror/trustmirror/storage"
)

// testContents counts by repository what was admitted and is stored, each object
// once however many reasons there are to serve it.
func testContents(t *testing.T, driver storagedriver.StorageDriver) {
	s := storage.New(driver)
	put(t, s, "a manifest")
	put(t, s, "a layer")
	put(t, s, "nobody's")
	elsewhere := admission("a layer", "signed", "a manifest")
	elsewhere.Repository = "docker.io/" + strings.Repeat("long/", 60) + "name" // takes several folders
	for _, a := range []storage.Admission{
		admission("a manifest", "signed", ""), admission("a layer", "signed", "a manifest"), admission("a layer", "another", "a manifest"),
		admission("not stored", "signed", "a manifest"), elsewhere,
	} {
		if err := s.Admit(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Contents(t.Context())
	want := []storage.Held{
		{Repository: elsewhere.Repository, Objects: 1, Bytes: 7},
		{Repository: "public.ecr.aws/nicolas/webdis", Objects: 2, Bytes: 17},
	}
	if err != nil || got.Objects != 3 || got.Bytes != 25 || !slices.Equal(got.Repositories, want) {
		t.Errorf("contents %+v, error %v; want 3 objects with 25 bytes, and %+v", got, err, want)
	}
}
