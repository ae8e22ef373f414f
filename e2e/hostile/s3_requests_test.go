package hostile

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// TestS3Requests counts what a mirror asks a bucket for: docs/operations.md has the
// numbers.
func TestS3Requests(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s, w := newSite(t, "requests"), newWire(t, l)
	big := large(t, 12)
	s.push(t, "big", lab.Published{Hub: big, ECR: big})
	s.publish(t)
	m := newReplica(t, l, w.Bucket, false, s, s.notary)
	check(t, m.Start(t.Context()))

	image := s.release.Hub.Images[0]
	index, manifest := lab.ManifestPath(s.signed(), tag), lab.ManifestPath(s.signed(), image.Manifest.Digest().String())
	layer, config := lab.BlobPath(s.signed(), image.Layers[0].Digest()), lab.BlobPath(s.signed(), image.Config.Digest())
	bigManifest, bigLayer := lab.ManifestPath(s.signed(), big.Top().Digest().String()), lab.BlobPath(s.signed(), big.Images[0].Layers[0].Digest())
	// A manifest has its blobs fetched ahead, so an image is counted as a whole.
	small := []string{lab.ManifestPath(s.signed(), s.release.Hub.Top().Digest().String()), manifest, config}
	for _, l := range image.Layers {
		small = append(small, lab.BlobPath(s.signed(), l.Digest()))
	}
	once, parts := []string{"GET content", "PUT content"}, []string{"GET content", "BEGIN content", "PART content", "PART content", "COMPLETE content"}
	for _, cold := range []struct {
		what    string
		paths   []string
		most    int                 // with records, which are looked at the oftener the more ask at once
		storing map[string][]string // how some of them are stored
	}{
		{"small image", small, 100, map[string][]string{small[0]: once, manifest: once, layer: once}},
		{"large layer", []string{bigManifest, bigLayer}, 60, map[string][]string{bigLayer: parts}},
	} {
		w.requests()
		for _, path := range cold.paths {
			m.answers(t, http.MethodGet, path)
		}
		all := w.requests()
		t.Logf("cold %s: %d requests: %v", cold.what, len(all), kinds(all))
		if len(all) > cold.most {
			t.Errorf("a cold %s takes %d requests, at most %d are expected", cold.what, len(all), cold.most)
		}
		for path, storing := range cold.storing {
			object := slices.DeleteFunc(slices.Clone(all), func(a asked) bool {
				_, name, _ := strings.Cut(path, "sha256:")
				return !strings.HasSuffix(a.path, name)
			})
			if got := kinds(object); !contains(got, storing) {
				t.Errorf("%s is stored by %v, not by %v", path, got, storing)
			}
			if writes := slices.DeleteFunc(kinds(object), func(what string) bool { return what == "GET content" }); len(writes) != len(storing)-1 {
				t.Errorf("%s is stored by %v, more than %v", path, writes, storing)
			}
		}
	}
	check(t, m.pull(t.Context(), s.copied(), tag, s.release.ECR))
	for _, warm := range []struct {
		what, method, path string
		headers            []string
		most               int
	}{
		{"index by tag", http.MethodGet, index, nil, 2},
		{"index by tag, HEAD", http.MethodHead, index, nil, 2},
		{"manifest by digest", http.MethodGet, manifest, nil, 2},
		{"config", http.MethodGet, config, nil, 2},
		{"layer", http.MethodGet, layer, nil, 2},
		{"layer, HEAD", http.MethodHead, layer, nil, 2},
		{"part of a layer", http.MethodGet, layer, []string{"Range", "bytes=5-"}, 3},
		{"large layer", http.MethodGet, bigLayer, nil, 2},
		{"copy's index by tag", http.MethodGet, lab.ManifestPath(s.copied(), tag), nil, 3},
	} {
		w.requests()
		m.answers(t, warm.method, warm.path, warm.headers...)
		all := w.requests()
		t.Logf("warm %s: %d requests: %v", warm.what, len(all), kinds(all))
		if len(all) > warm.most {
			t.Errorf("a warm %s takes %d requests, at most %d are expected: %v", warm.what, len(all), warm.most, all)
		}
		if reads := count(all, "GET content"); strings.Contains(warm.what, "layer") && len(warm.headers) == 0 && reads != 1 {
			t.Errorf("a warm %s is read %d times", warm.what, reads)
		}
	}
}

// answers asks for something that has to be answered with 200 or 206, to the end.
func (r replica) answers(t *testing.T, method, path string, headers ...string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, r.URL+path, nil)
	check(t, err)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := r.client.Do(request)
	check(t, err)
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	check(t, err)
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusPartialContent {
		t.Fatalf("%s %s: %s", method, path, response.Status)
	}
}

func count(requests []asked, what string) (n int) {
	for _, a := range requests {
		if a.what == what {
			n++
		}
	}
	return n
}

// contains tells whether all of part is in words, in that order.
func contains(words, part []string) bool {
	for _, word := range words {
		if len(part) > 0 && word == part[0] {
			part = part[1:]
		}
	}
	return len(part) == 0
}
