// Package storagetest holds the tests that every storage backend has to pass,
// and a driver that fails on demand.
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

// Run tests a store on a backend. newDriver returns a driver on an empty place
// of its own each time it's called.
func Run(t *testing.T, newDriver func(t *testing.T) storagedriver.StorageDriver) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, storagedriver.StorageDriver)
	}{
		{"PutAndOpen", testPutAndOpen},
		{"Ranges", testRanges},
		{"MismatchLeavesNothing", testMismatch},
		{"ReaderErrorComesBack", testReaderError},
		{"TruncatedIsReplaced", testTruncated},
		{"CorruptDocument", testCorruptDocument},
		{"QuarantineIsBounded", testQuarantineBounded},
		{"AdmissionsUnion", testAdmissions},
		{"Expectations", testExpectations},
		{"AdmissionsSkipUnreadable", testAdmissionsUnreadable},
		{"AdmissionsRefused", testAdmissionsRefused},
		{"Tags", testTags},
		{"Trust", testTrust},
		{"Names", testNames},
		{"Usage", testUsage},
		{"Contents", testContents},
		{"Writable", testWritable},
		{"Scrub", testScrub},
		{"ScrubUnreadable", testScrubUnreadable},
		{"ScrubAlways", testScrubAlways},
		{"Collect", testCollect},
		{"EachRecord", testEachRecord},
		{"RemembersAdmissions", testRemembersAdmissions},
		{"RefreshesOnce", testRefreshesOnce},
		{"WrittenMeanwhile", testWrittenMeanwhile},
		{"RemembersTags", testRemembersTags},
		{"RemembersDocuments", testRemembersDocuments},
		{"Restart", testRestart},
		{"ConcurrentPut", testConcurrentPut},
		{"ConcurrentRecords", testConcurrentRecords},
		{"Large", testLarge},
		{"Sized", testSized},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, newDriver(t)) })
	}
	t.Run("Faults", func(t *testing.T) { testFaults(t, newDriver) })
}

// put stores content under its sha256 digest.
func put(t *testing.T, s *storage.Store, content string) digest.Digest {
	t.Helper()
	d := digest.FromString(content)
	if err := s.Put(t.Context(), d, int64(len(content)), strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	return d
}

// read returns stored content, or the error of opening or reading it.
func read(ctx context.Context, s *storage.Store, d digest.Digest) (string, error) {
	c, err := s.OpenContent(ctx, d)
	if err != nil {
		return "", err
	}
	defer c.Close() //nolint:errcheck // it is only read
	raw, err := io.ReadAll(c)
	if err == nil && int64(len(raw)) != c.Size {
		err = errors.New("Content.Size isn't the number of bytes")
	}
	return string(raw), err
}

func wantContent(t *testing.T, s *storage.Store, d digest.Digest, want string) {
	t.Helper()
	if got, err := read(t.Context(), s, d); err != nil || got != want {
		t.Fatalf("content of %s: %d bytes, error %v; want %d bytes", d, len(got), err, len(want))
	}
}

func wantNotFound(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, storage.ErrNotFound) {
		t.Fatalf("%s: error %v, want ErrNotFound", what, err)
	}
}

// files returns the paths of all files that a driver holds, sorted.
func files(t *testing.T, driver storagedriver.StorageDriver, folder string) []string {
	t.Helper()
	children, err := driver.List(t.Context(), folder)
	if errors.As(err, new(storagedriver.PathNotFoundError)) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, child := range children {
		info, err := driver.Stat(t.Context(), child)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			found = append(found, files(t, driver, child)...)
		} else {
			found = append(found, child)
		}
	}
	slices.Sort(found)
	return found
}

// theFile returns the only file that a driver holds.
func theFile(t *testing.T, driver storagedriver.StorageDriver) string {
	t.Helper()
	found := files(t, driver, "/")
	if len(found) != 1 {
		t.Fatalf("files %v, want one", found)
	}
	return found[0]
}

func testPutAndOpen(t *testing.T, driver storagedriver.StorageDriver) {
	s := storage.New(driver)
	big := strings.Repeat("layer ", 100_000)
	for _, content := range []string{"", "manifest", big} {
		_, err := s.OpenContent(t.Context(), digest.FromString(content))
		wantNotFound(t, "before Put", err)
		d := put(t, s, content)
		wantContent(t, s, d, content)
	}

	d := digest.SHA512.FromString("manifest")
	if err := s.Put(t.Context(), d, 8, strings.NewReader("manifest")); err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, d, "manifest")

	// What is there already isn't read again.
	if err := s.Put(t.Context(), d, 8, unreadable{t}); err != nil {
		t.Fatal(err)
	}

	for _, bad := range []digest.Digest{"", "sha256", "sha256:../../x", "md5:d41d8cd98f00b204e9800998ecf8427e",
		"sha256:" + digest.Digest(strings.Repeat("A", 64)), digest.SHA384.FromString("x")} {
		if err := s.Put(t.Context(), bad, 1, strings.NewReader("x")); err == nil {
			t.Errorf("Put accepts digest %q", bad)
		}
		if _, err := s.OpenContent(t.Context(), bad); err == nil {
			t.Errorf("OpenContent accepts digest %q", bad)
		}
	}
}

// unreadable is a reader that nobody may read.
type unreadable struct{ t *testing.T }

func (r unreadable) Read([]byte) (int, error) {
	r.t.Error("Put reads although the object is stored")
	return 0, io.EOF
}

func testRanges(t *testing.T, driver storagedriver.StorageDriver) {
	s := storage.New(driver)
	content := strings.Repeat("0123456789", 10_000)
	size := int64(len(content))
	c, err := s.OpenContent(t.Context(), put(t, s, content))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // it is only read
	for _, seek := range []struct {
		offset int64
		whence int
		at     int64
	}{
		{5, io.SeekStart, 5}, {0, io.SeekStart, 0}, {7, io.SeekCurrent, 17}, {-3, io.SeekEnd, size - 3},
		{0, io.SeekEnd, size}, {10, io.SeekEnd, size + 10}, {99_990, io.SeekStart, 99_990}, {1, io.SeekStart, 1},
	} {
		at, err := c.Seek(seek.offset, seek.whence)
		if err != nil || at != seek.at {
			t.Fatalf("Seek(%d, %d) = %d, %v; want %d", seek.offset, seek.whence, at, err, seek.at)
		}
		want := content[min(seek.at, size):min(seek.at+10, size)]
		got := make([]byte, 10)
		n, err := io.ReadFull(c, got)
		if string(got[:n]) != want || (err == nil) != (len(want) == 10) {
			t.Fatalf("at %d: read %q, %v; want %q", seek.at, got[:n], err, want)
		}
	}
	if _, err := c.Seek(-1, io.SeekStart); err == nil {
		t.Error("Seek to a negative offset succeeds")
	}
	if _, err := c.Seek(0, 17); err == nil {
		t.Error("Seek from nowhere succeeds")
	}
}

func testMismatch(t *testing.T, driver storagedriver.StorageDriver) {
	s := storage.New(driver)
	d := digest.FromString("content")
	for _, test := range []struct {
		content string
		size    int64
		want    storage.MismatchError
	}{
		{"contenT", 7, storage.MismatchError{Digest: d, WantSize: 7, GotSize: 7, Got: digest.FromString("contenT")}},
		{"content", 8, storage.MismatchError{Digest: d, WantSize: 8, GotSize: 7}},
		{"content", 6, storage.MismatchError{Digest: d, WantSize: 6, GotSize: 7}},
		{"content and more", 7, storage.MismatchError{Digest: d, WantSize: 7, GotSize: 8}},
		{"", 7, storage.MismatchError{Digest: d, WantSize: 7}},
		{"content", -1, storage.MismatchError{Digest: d, WantSize: -1}},
	} {
		err := s.Put(t.Context(), d, test.size, strings.NewReader(test.content))
		var mismatch *storage.MismatchError
		if !errors.As(err, &mismatch) || *mismatch != test.want {
			t.Errorf("Put(%q, %d): %v, want %v", test.content, test.size, err, &test.want)
		}
	}
	// A reader without end is refused as soon as it delivers too much.
	if err := s.Put(t.Context(), d, 7, endless{}); !errors.As(err, new(*storage.MismatchError)) {
		t.Errorf("endless reader: %v", err)
	}
	_, err := s.OpenContent(t.Context(), d)
	wantNotFound(t, "after mismatches", err)
	if left := files(t, driver, "/"); len(left) > 0 {
		t.Errorf("mismatches leave %v", left)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func testReaderError(t *testing.T, driver storagedriver.StorageDriver) {
	s := storage.New(driver)
	d := digest.FromString("content")
	failed := errors.New("the connection broke")
	for _, sent := range []string{"", "con", "content"} { // at the very end, too
		r := io.MultiReader(strings.NewReader(sent), failing{failed})
		if err := s.Put(t.Context(), d, 7, r); !errors.Is(err, failed) {
			t.Errorf("after %q: %v, want the reader's error", sent, err)
		}
		_, err := s.OpenContent(t.Context(), d)
		wantNotFound(t, "after a reader's error", err)
	}
	// The context that the write runs on may have ended.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Put(ctx, d, 7, failing{context.Canceled}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if left := files(t, driver, "/"); len(left) > 0 {
		t.Errorf("failed writes leave %v", left)
	}
}

type failing struct{ err error }

func (r failing) Read([]byte) (int, error) { return 0, r.err }

func testTruncated(t *testing.T, driver storagedriver.StorageDriver) {
	s := storage.New(driver)
	d := put(t, s, "content")
	if err := driver.PutContent(t.Context(), theFile(t, driver), []byte("con")); err != nil {
		t.Fatal(err)
	}
	put(t, s, "content")
	wantContent(t, s, d, "content")
}

func testCorruptDocument(t *testing.T, driver storagedriver.StorageDriver) {
	s := storage.New(driver)
	const content = "a document"
	d := digest.FromString(content)
	_, err := s.ReadDocument(t.Context(), d, 100)
	wantNotFound(t, "before Put", err)
	for _, corrupt := range []string{"a Document", "a docu", "a document\n", strings.Repeat("x", 1000), ""} {
		put(t, s, content)
		raw, err := s.ReadDocument(t.Context(), d, int64(len(content)))
		if err != nil || string(raw) != content {
			t.Fatalf("sound document: %q, %v", raw, err)
		}
		raw, err = s.ReadDocument(t.Context(), d, 3)
		if err == nil || raw != nil || errors.As(err, new(*storage.CorruptError)) {
			t.Fatalf("longer than max: %q, %v", raw, err)
		}
		path := contentFile(t, driver)
		if err := driver.PutContent(t.Context(), path, []byte(corrupt)); err != nil {
			t.Fatal(err)
		}
		raw, err = s.ReadDocument(t.Context(), d, 100)
		var bad *storage.CorruptError
		if !errors.As(err, &bad) || raw != nil || bad.Got != digest.FromString(corrupt) || bad.Err != nil {
			t.Fatalf("corrupt as %q: %q, %v", corrupt, raw, err)
		}
		_, err = s.OpenContent(t.Context(), d)
		wantNotFound(t, "after quarantine", err)
	}
}

// contentFile returns the path of the only object that isn't quarantined.
func contentFile(t *testing.T, driver storagedriver.StorageDriver) string {
	t.Helper()
	found := files(t, driver, "/content")
	if len(found) != 1 {
		t.Fatalf("content %v, want one", found)
	}
	return found[0]
}

func testQuarantineBounded(t *testing.T, driver storagedriver.StorageDriver) {
	s := storage.New(driver)
	if err := s.Quarantine(t.Context(), digest.FromString("absent")); err != nil {
		t.Errorf("absent: %v", err)
	}
	for i := range 40 {
		d := put(t, s, strings.Repeat("x", i))
		if err := s.Quarantine(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		_, err := s.OpenContent(t.Context(), d)
		wantNotFound(t, "quarantined", err)
	}
	kept := files(t, driver, "/")
	if len(kept) == 0 || len(kept) > 20 {
		t.Fatalf("%d objects kept", len(kept))
	}
	// The latest are the ones that are kept.
	newest, err := driver.GetContent(t.Context(), kept[len(kept)-1])
	if err != nil || !bytes.Equal(newest, bytes.Repeat([]byte("x"), 39)) {
		t.Errorf("newest in quarantine: %q, %v", newest, err)
	}
}

func testRestart(t *testing.T, driver storagedriver.StorageDriver) {
	before := storage.New(driver)
	d := put(t, before, "content")
	a := admission("content", "signed", "")
	if err := before.Admit(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if err := before.Trust().Put(t.Context(), "gun", "root", []byte("root")); err != nil {
		t.Fatal(err)
	}
	after := storage.New(driver)
	if err := after.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantContent(t, after, d, "content")
	wantAdmissions(t, after, a)
	if raw, err := after.Trust().Get(t.Context(), "gun", "root"); err != nil || string(raw) != "root" {
		t.Errorf("trust state %q, %v", raw, err)
	}
}

// admission makes a record for the digest of content.
func admission(content, signed, parent string) storage.Admission {
	a := storage.Admission{
		Repository: "public.ecr.aws/nicolas/webdis",
		Digest:     digest.FromString(content),
		Kind:       storage.KindLayer,
		MediaType:  "application/vnd.oci.image.layer.v1.tar+gzip",
		Size:       int64(len(content)),
		Tag:        "0.1.19",
		Signed:     digest.FromString(signed),
		Proof:      storage.ProofDiffID,
		DiffID:     digest.FromString("diff ID"),
		At:         time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC),
	}
	if parent != "" {
		a.Parent = digest.FromString(parent)
	}
	return a
}

// wantAdmissions checks that the edges of a digest are just these, in this order.
func wantAdmissions(t *testing.T, s *storage.Store, want ...storage.Admission) {
	t.Helper()
	got, err := s.Admissions(t.Context(), want[0].Repository, want[0].Digest)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("admissions %v, %v; want %v", got, err, want)
	}
}
