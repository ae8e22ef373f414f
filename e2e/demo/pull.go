package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// content is what a pull fetched, by digest.
type content map[digest.Digest][]byte

// pull fetches an image from the registry at address, with every platform and
// layer.
func pull(ctx context.Context, address, image string) (content, error) {
	ref, err := name.ParseReference(address + "/" + image)
	if err != nil {
		return nil, err
	}
	top, err := remote.Get(ref, remote.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	got := content{}
	if !top.MediaType.IsIndex() {
		single, err := top.Image()
		if err != nil {
			return nil, err
		}
		return got, got.addImage(single)
	}
	index, err := top.ImageIndex()
	if err != nil {
		return nil, err
	}
	return got, got.addIndex(index)
}

func (c content) addIndex(index v1.ImageIndex) error {
	raw, err := index.RawManifest()
	if err != nil {
		return err
	}
	c.add(raw)
	parsed, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, entry := range parsed.Manifests {
		image, err := index.Image(entry.Digest)
		if err != nil {
			return err
		}
		if err := c.addImage(image); err != nil {
			return err
		}
	}
	return nil
}

func (c content) addImage(image v1.Image) error {
	manifest, err := image.RawManifest()
	if err != nil {
		return err
	}
	c.add(manifest)
	config, err := image.RawConfigFile()
	if err != nil {
		return err
	}
	c.add(config)
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	for _, layer := range layers {
		stream, err := layer.Compressed()
		if err != nil {
			return err
		}
		blob, err := io.ReadAll(stream)
		if err := errors.Join(err, stream.Close()); err != nil {
			return err
		}
		c.add(blob)
	}
	return nil
}

func (c content) add(object []byte) { c[digest.FromBytes(object)] = object }

// compare checks that the content is the release, the whole release and nothing
// else, and returns its size in bytes.
func compare(got content, release lab.Release) (size int, err error) {
	want := []lab.Blob{release.Top()}
	for _, image := range release.Images {
		want = append(want, image.Manifest, image.Config)
		want = append(want, image.Layers...)
	}
	expected := content{}
	for _, blob := range want {
		expected.add(blob.Content)
		if !bytes.Equal(got[blob.Digest()], blob.Content) {
			return 0, fmt.Errorf("the %s %s wasn't served as the registry holds it", blob.MediaType, blob.Digest())
		}
	}
	if len(got) != len(expected) {
		return 0, fmt.Errorf("%d objects were served, and %d published", len(got), len(expected))
	}
	for _, object := range got {
		size += len(object)
	}
	return size, nil
}

// refused is what the client was told.
type refused struct {
	status  int
	code    string
	message string
	reason  string
}

// refusalOf reads the refusal from a pull's error. It is an error itself if the
// pull went well, or failed in another way.
func refusalOf(err error) (refused, error) {
	var answer *transport.Error
	switch {
	case err == nil:
		return refused{}, errors.New("it was served, and should have been refused")
	case !errors.As(err, &answer) || len(answer.Errors) != 1:
		return refused{}, fmt.Errorf("it should have been refused, and failed otherwise: %w", err)
	}
	said := answer.Errors[0]
	r := refused{status: answer.StatusCode, code: string(said.Code), message: said.Message}
	if detail, ok := said.Detail.(map[string]any); ok {
		r.reason = fmt.Sprint(detail["reason"])
	}
	if r.status != http.StatusForbidden || said.Code != transport.DeniedErrorCode {
		return r, fmt.Errorf("a refusal is 403 DENIED, not this: %w", err)
	}
	return r, nil
}

// manifestOf is the path, below /v2/, of an image's manifest.
func manifestOf(image string) string {
	at := strings.LastIndex(image, ":")
	return image[:at] + "/manifests/" + image[at+1:]
}
