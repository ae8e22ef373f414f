package verify

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trustmirror/trustmirror/storage"
)

const (
	someDigest   = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	goodManifest = `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `",` +
		`"config":{"mediaType":"` + ocispec.MediaTypeImageConfig + `","digest":"` + someDigest + `","size":3},` +
		`"layers":[{"mediaType":"` + ocispec.MediaTypeImageLayerGzip + `","digest":"` + someDigest + `","size":4}]}`
	goodIndex = `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `",` +
		`"manifests":[{"mediaType":"` + ocispec.MediaTypeImageManifest + `","digest":"` + someDigest + `","size":5,"platform":{"os":"linux","architecture":"amd64"}}]}`
)

// TestDocuments covers D2 and D3: attacks 15 and 16.
func TestAttack15_16_Documents(t *testing.T) {
	replace := func(doc, old, new string) string {
		t.Helper()
		if !strings.Contains(doc, old) {
			t.Fatalf("%q is not in %s", old, doc)
		}
		return strings.Replace(doc, old, new, 1)
	}
	tests := map[string]struct {
		doc    string
		claims []string
		want   Reason
	}{
		"manifest":                           {doc: goodManifest, claims: []string{ocispec.MediaTypeImageManifest}},
		"index":                              {doc: goodIndex, claims: []string{ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageIndex}},
		"OCI without mediaType":              {doc: replace(goodManifest, `"mediaType":"`+ocispec.MediaTypeImageManifest+`",`, ""), claims: []string{ocispec.MediaTypeImageManifest}},
		"without mediaType, another type":    {doc: replace(goodManifest, `"mediaType":"`+ocispec.MediaTypeImageManifest+`",`, ""), claims: []string{dockerManifest}, want: AmbiguousDoc},
		"not JSON":                           {doc: "<html>", want: Malformed},
		"data after it":                      {doc: goodManifest + "{}", want: Malformed},
		"a member twice":                     {doc: replace(goodManifest, `"schemaVersion":2,`, `"schemaVersion":2,"schemaVersion":2,`), want: Malformed},
		"a member in two cases":              {doc: replace(goodManifest, `"schemaVersion":2,`, `"schemaVersion":2,"Layers":[],`), want: Malformed},
		"a member in another case":           {doc: replace(goodManifest, `"layers"`, `"Layers"`), want: Malformed},
		"both shapes":                        {doc: replace(goodManifest, `"layers"`, `"manifests":[],"layers"`), want: AmbiguousDoc},
		"index with config":                  {doc: replace(goodIndex, `"manifests"`, `"config":{},"manifests"`), want: AmbiguousDoc},
		"index with layers":                  {doc: replace(goodIndex, `"manifests"`, `"layers":[],"manifests"`), want: AmbiguousDoc},
		"neither shape":                      {doc: `{"schemaVersion":2}`, want: AmbiguousDoc},
		"null layers":                        {doc: replace(goodManifest, `"layers":[`, `"layers":null,"x":[`), want: AmbiguousDoc},
		"manifest that says index":           {doc: replace(goodManifest, ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex), want: AmbiguousDoc},
		"index that says manifest":           {doc: replace(goodIndex, ocispec.MediaTypeImageIndex, dockerManifest), want: AmbiguousDoc},
		"delivered as another type":          {doc: goodManifest, claims: []string{dockerManifest}, want: AmbiguousDoc},
		"delivered as an index":              {doc: goodManifest, claims: []string{ocispec.MediaTypeImageIndex}, want: AmbiguousDoc},
		"delivered as text":                  {doc: goodManifest, claims: []string{"text/plain"}, want: MediaType},
		"delivered as nothing":               {doc: goodManifest, claims: []string{""}, want: MediaType},
		"listed as another type":             {doc: goodManifest, claims: []string{ocispec.MediaTypeImageManifest, dockerManifest}, want: AmbiguousDoc},
		"unknown type":                       {doc: replace(goodManifest, ocispec.MediaTypeImageManifest, "application/vnd.evil"), want: MediaType},
		"schema 1":                           {doc: `{"schemaVersion":1,"fsLayers":[],"history":[]}`, want: MediaType},
		"schema 1 within schema 2":           {doc: replace(goodManifest, `"layers"`, `"fsLayers":[],"layers"`), want: MediaType},
		"schema 3":                           {doc: replace(goodManifest, `"schemaVersion":2`, `"schemaVersion":3`), want: MediaType},
		"schema as text":                     {doc: replace(goodManifest, `"schemaVersion":2`, `"schemaVersion":"2"`), want: Malformed},
		"an index in an index":               {doc: replace(goodIndex, ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex), want: MediaType},
		"an unknown entry":                   {doc: replace(goodIndex, ocispec.MediaTypeImageManifest, "application/vnd.evil"), want: MediaType},
		"a huge entry":                       {doc: replace(goodIndex, `"size":5`, fmt.Sprintf(`"size":%d`, MaxDocument+1)), want: BadDescriptor},
		"a negative size":                    {doc: replace(goodManifest, `"size":4`, `"size":-1`), want: BadDescriptor},
		"a size of 2^63":                     {doc: replace(goodManifest, `"size":4`, `"size":9223372036854775808`), want: BadDescriptor},
		"a size with a fraction":             {doc: replace(goodManifest, `"size":4`, `"size":4.0`), want: BadDescriptor},
		"a size as text":                     {doc: replace(goodManifest, `"size":4`, `"size":"4"`), want: BadDescriptor},
		"no size":                            {doc: replace(goodManifest, `,"size":4`, ``), want: BadDescriptor},
		"an unknown algorithm":               {doc: replace(goodManifest, someDigest, "md5:d41d8cd98f00b204e9800998ecf8427e"), want: BadDescriptor},
		"an algorithm of the same family":    {doc: replace(goodManifest, someDigest, "sha384:"+strings.Repeat("0", 96)), want: BadDescriptor},
		"a digest that climbs":               {doc: replace(goodManifest, someDigest, "sha256:../../x"), want: BadDescriptor},
		"a digest in upper case":             {doc: replace(goodManifest, someDigest, strings.ToUpper(someDigest)), want: BadDescriptor},
		"no digest":                          {doc: replace(goodManifest, someDigest, ""), want: BadDescriptor},
		"urls":                               {doc: replace(goodManifest, `"size":4`, `"size":4,"urls":["https://evil.example/x"]`), want: BadDescriptor},
		"data":                               {doc: replace(goodManifest, `"size":4`, `"size":4,"data":"eA=="`), want: BadDescriptor},
		"no media type of a layer":           {doc: replace(goodManifest, `"mediaType":"`+ocispec.MediaTypeImageLayerGzip+`",`, ""), want: BadDescriptor},
		"null for a layer":                   {doc: replace(goodManifest, `"layers":[`, `"layers":[null,`), want: Malformed},
		"10,000 levels":                      {doc: `{"schemaVersion":2,"x":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`, want: Malformed},
		"invalid UTF-8":                      {doc: replace(goodManifest, `"schemaVersion"`, "\"x\":\"\xff\",\"schemaVersion\""), want: Malformed},
		"annotations that aren't of strings": {doc: replace(goodManifest, `"layers"`, `"annotations":{"a":1},"layers"`), want: Malformed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			doc, err := parseDocument([]byte(test.doc), digest.FromString(test.doc), test.claims...)
			if ReasonOf(err) != test.want {
				t.Fatalf("got %v, want reason %q", err, test.want)
			}
			if err == nil && string(doc.raw) != test.doc {
				t.Error("the document's bytes changed")
			}
		})
	}
}

// TestHubManifestList parses the real manifest list of Webdis 0.1.19.
func TestHubManifestList(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "shared", "vectors", "webdis-0.1.19-hub-manifest-list.json"))
	if err != nil {
		t.Skipf("SKIPPED, no real data: %v", err)
	}
	const want = "sha256:5de58646bae3ee52e05a65672532120b094682b79823291031ccb41533c21667"
	if got := digest.FromBytes(raw); got != want || len(raw) != 772 {
		t.Fatalf("%d bytes with digest %s", len(raw), got)
	}
	doc, err := parseDocument(raw, want, dockerList)
	if err != nil {
		t.Fatal(err)
	}
	if doc.kind != storage.KindIndex || len(doc.manifests) != 2 ||
		doc.manifests[0].platform.String() != "linux/amd64" || doc.manifests[1].platform.String() != "linux/arm64/v8" ||
		doc.manifests[0].digest != "sha256:2ced2d99146e1bcaf10541d17dbac573cffd02237c3b268875be1868138d3b54" {
		t.Errorf("parsed as %+v", doc)
	}
}

func TestConfigs(t *testing.T) {
	const config = `{"os":"linux","architecture":"arm64","variant":"v8","rootfs":{"type":"layers","diff_ids":["` + someDigest + `"]},` +
		`"config":{"Labels":{"a":"1","A":"2"}}}`
	c, err := parseConfig([]byte(config), someDigest)
	if err != nil || !c.identifies() || len(c.RootFS.DiffIDs) != 1 {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, test := range []struct {
		platform *platform
		runs     bool
	}{
		{nil, true},
		{&platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, true},
		{&platform{OS: "linux", Architecture: "arm64"}, true},
		{&platform{OS: "linux", Architecture: "arm64", Variant: "v7"}, false},
		{&platform{OS: "linux", Architecture: "amd64"}, false},
		{&platform{OS: "windows", Architecture: "arm64"}, false},
		{&platform{}, false},
	} {
		if got := c.runs(test.platform); got != test.runs {
			t.Errorf("runs on %s: %v", test.platform, got)
		}
	}
	for name, bad := range map[string]string{
		"a member twice":        strings.Replace(config, `"os"`, `"os":"windows","os"`, 1),
		"a member in two cases": strings.Replace(config, `"os"`, `"OS":"windows","os"`, 1),
		"a diff ID that isn't":  strings.Replace(config, someDigest, "sha256:x", 1),
		"rootfs in two cases":   strings.Replace(config, `"diff_ids"`, `"Diff_ids":[],"diff_ids"`, 1),
		"too many values":       strings.Replace(config, `"os"`, `"history":[`+strings.Repeat("0,", maxValues)+`0],"os"`, 1),
	} {
		if _, err := parseConfig([]byte(bad), someDigest); ReasonOf(err) != Malformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, empty := range []string{`{}`, `{"os":"linux","architecture":"amd64"}`, `{"rootfs":{"type":"layers","diff_ids":[]}}`} {
		if c, err := parseConfig([]byte(empty), someDigest); err != nil || c.identifies() {
			t.Errorf("%s identifies an image, or: %v", empty, err)
		}
	}
}
