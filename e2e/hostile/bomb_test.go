package hostile

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// member is a gzip stream of so many zeros; such streams may follow one another.
func member(t *testing.T, size int) []byte {
	t.Helper()
	var member bytes.Buffer
	zip, err := gzip.NewWriterLevel(&member, gzip.BestCompression)
	check(t, err)
	_, err = zip.Write(make([]byte, size))
	check(t, err)
	check(t, zip.Close())
	return member.Bytes()
}

// withLayer is a copy's release with signed configs where another layer stands in
// the last one's place, of a size that the manifest claims.
func withLayer(t *testing.T, r lab.Release, layer []byte, claimed int64) lab.Release {
	t.Helper()
	var images []lab.Image
	for _, image := range r.Images {
		var manifest ocispec.Manifest
		check(t, json.Unmarshal(image.Manifest.Content, &manifest))
		last := len(manifest.Layers) - 1
		blob := lab.Blob{MediaType: image.Layers[last].MediaType, Content: layer}
		manifest.Layers[last].Digest, manifest.Layers[last].Size = blob.Digest(), claimed
		raw, err := json.Marshal(manifest)
		check(t, err)
		image.Manifest = lab.Blob{MediaType: image.Manifest.MediaType, Content: raw}
		image.Layers = []lab.Blob{image.Layers[0], blob}
		images = append(images, image)
	}
	index, err := lab.ForECR().Index(images...)
	check(t, err)
	return index
}

// TestAttack19_Bombs has a copy deliver layers that are small on the wire and
// large out of it, or that never end. The layers that are right are served.
func TestAttack19_Bombs(t *testing.T) {
	bomb := bytes.Repeat(member(t, 16<<20), 640)
	t.Logf("10 GiB in %d KiB", len(bomb)>>10)
	small := bytes.Repeat([]byte("x"), 1<<10)
	for _, test := range []struct {
		name    string
		layer   []byte
		claimed int64
		fault   fault // of the blob
		reason  string
	}{
		{"10 GiB in 10 MiB", bomb, int64(len(bomb)), nil, "layer_mismatch"},
		{"10 GiB, said to be small", bomb, 1 << 10, nil, "size_mismatch"},
		{"without end, said to be small", small, 1 << 10, endless("\r\n", "x"), "size_mismatch"},
		{"a bomb without end", bomb, 64 << 20, endless("\r\n", string(bomb[:len(bomb)/10])), "digest_mismatch"},
		{"no gzip, without end", small, 64 << 20, endless("\r\n", "x"), "digest_mismatch"},
		{"empty gzip, without end", small, 64 << 20, endless("\r\n", string(member(t, 0))), "digest_mismatch"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, "bomb")
			bad := withLayer(t, s.release.ECR, test.layer, test.claimed)
			put(s.copy, tag, bad)
			if test.fault != nil {
				s.copy.set(at(bad.Images[0].Layers[1].Digest().String(), test.fault))
			}
			m := startMirror(t, s)
			for _, path := range []string{
				lab.ManifestPath(s.copied(), tag),
				lab.ManifestPath(s.copied(), bad.Images[0].Manifest.Digest().String()),
				lab.BlobPath(s.copied(), bad.Images[0].Config.Digest()),
				lab.BlobPath(s.copied(), bad.Images[0].Layers[0].Digest()),
			} {
				_, err := m.get(t.Context(), path)
				check(t, err)
			}
			path := lab.BlobPath(s.copied(), bad.Images[0].Layers[1].Digest())
			_, err := m.get(t.Context(), path)
			var refused *refusal
			if !errors.As(err, &refused) || refused.status != http.StatusForbidden || refused.reason != test.reason {
				t.Errorf("got %v, want %s", err, test.reason)
			}
			kept, corrupt := scan(t, m)
			if path := kept[bad.Images[0].Layers[1].Digest()]; path != "" || len(corrupt) > 0 {
				t.Errorf("the layer was stored as %q; corrupt are %v", path, corrupt)
			}
			if left := staged(t, m); len(left) > 0 {
				t.Errorf("files are left behind: %q", left)
			}
			check(t, m.pull(t.Context(), s.signed(), tag, s.release.Hub))
			m.bounded(t)
		})
	}
}

// TestAttack19_ClaimedSize has a copy claim that a layer has 2^50 bytes.
func TestAttack19_ClaimedSize(t *testing.T) {
	s := newSite(t, "claim")
	put(s.copy, tag, withLayer(t, s.release.ECR, []byte("x"), 1<<50))
	m := startMirror(t, s)
	_, err := m.get(t.Context(), lab.ManifestPath(s.copied(), tag))
	var refused *refusal
	if !errors.As(err, &refused) || refused.status != http.StatusForbidden || refused.reason != "descriptor" {
		t.Errorf("got %v", err)
	}
	if left := staged(t, m); len(left) > 0 {
		t.Errorf("files are left behind: %q", left)
	}
}

// TestAttack12_DeepDocument has a copy answer with a document of 4 million levels.
func TestAttack12_DeepDocument(t *testing.T) {
	s := newSite(t, "deep")
	s.copy.set(at("/manifests/", answer(200, strings.Repeat("[", 4<<20), "Content-Type", ocispec.MediaTypeImageIndex)))
	m := startMirror(t, s)
	_, err := m.get(t.Context(), lab.ManifestPath(s.copied(), tag))
	var refused *refusal
	if !errors.As(err, &refused) || refused.status != http.StatusForbidden || refused.reason != "malformed" {
		t.Errorf("got %v", err)
	}
	m.bounded(t)
}
