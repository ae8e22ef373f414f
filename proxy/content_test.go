package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestManifestHeaders(t *testing.T) {
	server := newTestServer(t, &fakeGate{})
	for _, path := range []string{manifestPath, "/v2/nicolas/webdis/manifests/" + testDigest.String()} {
		// What a client accepts changes nothing: content is never converted.
		for _, accept := range []string{"", "*/*", testType, "application/vnd.docker.distribution.manifest.v1+json"} {
			got := getAndHead(t, server, path, "Accept", accept, "Accept-Encoding", "zstd, gzip")
			wantHeaders(t, got, 200, map[string]string{
				"Content-Type":           testType,
				"Content-Length":         strconv.Itoa(len(testBody)),
				"Docker-Content-Digest":  testDigest.String(),
				"Etag":                   `"` + testDigest.String() + `"`,
				"Content-Encoding":       "",
				"Transfer-Encoding":      "",
				"Cache-Control":          "no-cache",
				"X-Content-Type-Options": "nosniff",
			})
			if got.body != string(testBody) {
				t.Errorf("%s: the body is %q", path, got.body)
			}
		}
	}
}

func TestBlobHeaders(t *testing.T) {
	server := newTestServer(t, &fakeGate{})
	got := getAndHead(t, server, blobPath, "Accept-Encoding", "zstd, gzip")
	wantHeaders(t, got, 200, map[string]string{
		"Content-Type":          "application/octet-stream",
		"Content-Length":        strconv.Itoa(len(testBody)),
		"Docker-Content-Digest": testDigest.String(),
		"Etag":                  `"` + testDigest.String() + `"`,
		"Accept-Ranges":         "bytes",
		"Content-Encoding":      "",
	})
	if got.body != string(testBody) {
		t.Errorf("the body is %q", got.body)
	}
}

func wantHeaders(t *testing.T, got response, status int, want map[string]string) {
	t.Helper()
	if got.status != status {
		t.Errorf("status %d, want %d: %s", got.status, status, got.body)
	}
	for name, value := range want {
		if v := got.header.Get(name); v != value {
			t.Errorf("%s is %q, want %q", name, v, value)
		}
	}
}

// TestRangesAsNetHTTP compares with http.ServeContent wherever it doesn't differ
// on purpose.
func TestRangesAsNetHTTP(t *testing.T) {
	server := newTestServer(t, &fakeGate{})
	oracle := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"`+testDigest.String()+`"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(testBody))
	}))
	t.Cleanup(oracle.Close)
	last := strconv.Itoa(len(testBody) - 1)
	size := strconv.Itoa(len(testBody))
	for _, ranges := range []string{
		"bytes=0-", "bytes=0-0", "bytes=1-", "bytes=5-7", "bytes=" + last + "-", "bytes=0-" + last, "bytes=0-" + size,
		"bytes=3-100000", "bytes=" + size + "-", "bytes=100000-", "bytes=100000-100001",
		"bytes=-1", "bytes=-" + size, "bytes=-100000", "bytes= 3-5", "bytes=3-5 ",
		"bytes=7-5", "bytes=-", "bytes=x-", "bytes=0-x", "bytes=3", "bytes=--3", "bytes=0x1-",
	} {
		for _, condition := range []string{"", `"` + testDigest.String() + `"`, `"other"`, "Sat, 01 Jan 2000 00:00:00 GMT"} {
			header := []string{"Range", ranges}
			if condition != "" {
				header = append(header, "If-Range", condition)
			}
			for _, path := range []string{blobPath, manifestPath} {
				want := get(t, oracle, "GET", "/", header...)
				got := getAndHead(t, server, path, header...)
				if got.status != want.status {
					t.Errorf("%s, If-Range %s: status %d, net/http has %d", ranges, condition, got.status, want.status)
					continue
				}
				if got.status == 416 {
					if e := errorOf(t, got); e.Code != "RANGE_INVALID" || got.header.Get("Content-Range") != "bytes */"+size ||
						got.header.Get("Etag") != "" {
						t.Errorf("%s: %s %v", ranges, e.Code, got.header)
					}
					continue
				}
				if got.body != want.body {
					t.Errorf("%s: %q, net/http has %q", ranges, got.body, want.body)
				}
				for _, name := range []string{"Content-Range", "Content-Length", "Accept-Ranges", "Etag"} {
					if got.header.Get(name) != want.header.Get(name) {
						t.Errorf("%s: %s is %q, net/http has %q", ranges, name, got.header.Get(name), want.header.Get(name))
					}
				}
			}
		}
	}
}

// TestOtherRanges is where net/http does something else.
func TestOtherRanges(t *testing.T) {
	server := newTestServer(t, &fakeGate{})
	tests := []struct {
		ranges []string
		status int
	}{
		{[]string{"bytes=0-1,3-4"}, 200}, // never multipart
		{[]string{"bytes=0-1,"}, 200},
		{[]string{"bytes=" + strings.Repeat("0-1,", 1000) + "0-1"}, 200},
		{[]string{"bytes=0-1", "bytes=3-4"}, 200},
		{[]string{"lines=0-1"}, 200}, // another unit: ignored
		{[]string{"bytes"}, 416},
		{[]string{"Bytes=0-1"}, 206}, // names of units are case-insensitive
		{[]string{"bytes=-0"}, 416},
		{[]string{"bytes=-+3"}, 416}, // no sign is a digit
		{[]string{"bytes=+1-"}, 416},
		{[]string{"bytes=0-99999999999999999999999"}, 206},
		{[]string{"bytes=99999999999999999999999-"}, 416},
		{[]string{"bytes=-99999999999999999999999"}, 206},
		{[]string{"bytes=9223372036854775807-"}, 416},
		{[]string{"bytes=0-9223372036854775807"}, 206},
	}
	for _, test := range tests {
		var header []string
		for _, value := range test.ranges {
			header = append(header, "Range", value)
		}
		got := getAndHead(t, server, blobPath, header...)
		if got.status != test.status {
			t.Errorf("%.40v: status %d, want %d", test.ranges, got.status, test.status)
		}
		if got.status == 200 && (got.body != string(testBody) || got.header.Get("Content-Type") != "application/octet-stream") {
			t.Errorf("%.40v: not the whole: %v", test.ranges, got.header)
		}
	}
}

func TestRangeOfNothing(t *testing.T) {
	h := http.Header{"Range": {"bytes=0-"}}
	if got, err := requestedSpan(h, "", 0); err != nil || got != (span{}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestConditional(t *testing.T) {
	etag := `"` + testDigest.String() + `"`
	server := newTestServer(t, &fakeGate{})
	for header, status := range map[string]int{
		etag:                          304,
		"W/" + etag:                   304,
		"*":                           304,
		`"other", ` + etag:            304,
		`"other",` + etag + `,"more"`: 304,
		`"other"`:                     200,
		testDigest.String():           200,
		"":                            200,
	} {
		for _, path := range []string{manifestPath, blobPath} {
			got := getAndHead(t, server, path, "If-None-Match", header, "Range", "bytes=0-")
			want := status
			if status == 200 {
				want = 206
			}
			if got.status != want {
				t.Errorf("If-None-Match: %s: %d, want %d", header, got.status, want)
			}
			if status == 304 {
				wantHeaders(t, got, 304, map[string]string{"Etag": etag, "Docker-Content-Digest": testDigest.String(), "Content-Type": ""})
				if got.body != "" {
					t.Errorf("304 has a body: %q", got.body)
				}
			}
		}
	}
}

// Knowing a digest is no way round a refusal.
func TestConditionalIsRefusedToo(t *testing.T) {
	server := newTestServer(t, &fakeGate{err: errors.New("no")})
	got := getAndHead(t, server, manifestPath, "If-None-Match", "*")
	if got.status != 500 {
		t.Errorf("status %d", got.status)
	}
}

type brokenSeeker struct{ io.ReadSeeker }

func (brokenSeeker) Seek(int64, int) (int64, error) { return 0, errors.New("broken") }
func (brokenSeeker) Close() error                   { return nil }

// What fails before the first byte is still an error document.
func TestSeekFails(t *testing.T) {
	server := newTestServer(t, &fakeGate{open: func() io.ReadSeekCloser { return brokenSeeker{} }})
	got := getAndHead(t, server, blobPath, "Range", "bytes=3-5")
	if e := errorOf(t, got); got.status != 500 || e.Detail.Reason != "internal" || got.header.Get("Content-Range") != "" {
		t.Errorf("%d %s %v", got.status, e.Detail.Reason, got.header)
	}
}
