package storagetest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

func testAdmissions(t *testing.T, driver storagedriver.StorageDriver) {
	s := storage.New(driver)
	first := admission("layer", "signed", "manifest")
	if got, err := s.Admissions(t.Context(), first.Repository, first.Digest); err != nil || len(got) != 0 {
		t.Fatalf("before Admit: %v, %v", got, err)
	}
	top := admission("layer", "signed", "")
	top.At = first.At.Add(time.Second)
	other := admission("layer", "another signed", "manifest")
	other.At = first.At.Add(2 * time.Second)
	// Union of several writers, in whatever order; oldest first.
	for _, edges := range [][]storage.Admission{{other, top}, {first}, {}, {top}} {
		if err := s.Admit(t.Context(), edges...); err != nil {
			t.Fatal(err)
		}
	}
	wantAdmissions(t, s, first, top, other)

	// A record never changes.
	later := first
	later.At, later.Tag, later.Proof = first.At.Add(time.Hour), "latest", storage.ProofSameLayer
	if err := s.Admit(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	wantAdmissions(t, s, first, top, other)

	// A zone changes nothing about a moment.
	zoned := admission("zoned", "signed", "")
	utc := zoned.At
	zoned.At = utc.In(time.FixedZone("", 3600))
	if err := s.Admit(t.Context(), zoned); err != nil {
		t.Fatal(err)
	}
	zoned.At = utc
	wantAdmissions(t, s, zoned)

	// Other repositories and digests are none the wiser.
	for _, elsewhere := range []string{"public.ecr.aws/nicolas", "docker.io/nicolas/webdis", "public.ecr.aws/nicolas/webdis/x", ""} {
		if got, _ := s.Admissions(t.Context(), elsewhere, first.Digest); len(got) != 0 {
			t.Errorf("admissions in %q: %v", elsewhere, got)
		}
	}
	if got, err := s.Admissions(t.Context(), first.Repository, first.Signed); err != nil || len(got) != 0 {
		t.Errorf("admissions of another digest: %v, %v", got, err)
	}
}

// An expectation is never an admission, wherever its file is put.
func testExpectations(t *testing.T, driver storagedriver.StorageDriver) {
	s := storage.New(driver)
	expected, admitted := admission("expected", "signed", ""), admission("admitted", "signed", "")
	if err := s.Expect(t.Context(), expected); err != nil {
		t.Fatal(err)
	}
	path := theFile(t, driver)
	if err := s.Admit(t.Context(), admitted); err != nil {
		t.Fatal(err)
	}
	raw, err := driver.GetContent(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	moved := strings.Replace(path, "/expectations/", "/admissions/", 1)
	if err := driver.PutContent(t.Context(), moved, raw); err != nil || moved == path {
		t.Fatal(moved, err)
	}
	for d, want := range map[digest.Digest][2]int{expected.Digest: {1, 0}, admitted.Digest: {0, 1}} {
		e, err := s.Expected(t.Context(), expected.Repository, d)
		if err != nil || len(e) != want[0] {
			t.Errorf("Expected: %v, %v; want %d", e, err, want[0])
		}
		a, err := s.Admissions(t.Context(), expected.Repository, d)
		if err != nil || len(a) != want[1] {
			t.Errorf("Admissions: %v, %v; want %d", a, err, want[1])
		}
	}
}

func testAdmissionsUnreadable(t *testing.T, driver storagedriver.StorageDriver) {
	s := storage.New(driver)
	good := admission("layer", "signed", "manifest")
	if err := s.Admit(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	path := theFile(t, driver)
	sound, err := driver.GetContent(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	folder := path[:strings.LastIndex(path, "/")]

	// Other files in the folder prove nothing, and take nothing away: not even
	// a sound record under another name.
	for i, junk := range []string{"", "{}", "null", string(sound)} {
		if err := driver.PutContent(t.Context(), fmt.Sprintf("%s/%d", folder, i), []byte(junk)); err != nil {
			t.Fatal(err)
		}
	}
	wantAdmissions(t, s, good)

	// No flipped bit makes another record of it.
	for i := 0; i < len(sound); i += 5 {
		flipped := bytes.Clone(sound)
		flipped[i] ^= 1 << (i % 8)
		if err := driver.PutContent(t.Context(), path, flipped); err != nil {
			t.Fatal(err)
		}
		// A store that hasn't read it before: it may be remembered.
		if got, err := storage.New(driver).Admissions(t.Context(), good.Repository, good.Digest); err != nil || len(got) != 0 {
			t.Fatalf("byte %d flipped: %v, %v", i, got, err)
		}
	}
	// Admitting anew heals it.
	if err := storage.New(driver).Admit(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	wantAdmissions(t, storage.New(driver), good)
	// What is removed is no longer remembered.
	if err := driver.Delete(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Admissions(t.Context(), good.Repository, good.Digest); err != nil || len(got) != 0 {
		t.Errorf("removed: %v, %v", got, err)
	}
	if err := s.Admit(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	wantAdmissions(t, s, good)
}

func testAdmissionsRefused(t *testing.T, driver storagedriver.StorageDriver) {
	s := storage.New(driver)
	for name, spoil := range map[string]func(*storage.Admission){
		"no repository":       func(a *storage.Admission) { a.Repository = "" },
		"repository not text": func(a *storage.Admission) { a.Repository = "a\xff" },
		"no digest":           func(a *storage.Admission) { a.Digest = "" },
		"bad digest":          func(a *storage.Admission) { a.Digest = "sha256:../../x" },
		"no signed digest":    func(a *storage.Admission) { a.Signed = "" },
		"bad parent":          func(a *storage.Admission) { a.Parent = "x" },
		"bad diff ID":         func(a *storage.Admission) { a.DiffID = "sha256:x" },
		"negative size":       func(a *storage.Admission) { a.Size = -1 },
	} {
		a := admission("layer", "signed", "")
		spoil(&a)
		if err := s.Admit(t.Context(), a); err == nil {
			t.Errorf("%s: admitted", name)
		}
	}
	if left := files(t, driver, "/"); len(left) > 0 {
		t.Errorf("refused admissions leave %v", left)
	}
}

func testTags(t *testing.T, driver storagedriver.StorageDriver) {
	s := storage.New(driver)
	const repository, tag = "public.ecr.aws/nicolas/webdis", "0.1.19"
	signed, d, newer := digest.FromString("signed"), digest.FromString("copy"), digest.FromString("newer")
	_, err := s.BoundTag(t.Context(), repository, tag, signed)
	wantNotFound(t, "before BindTag", err)
	for _, bound := range []digest.Digest{d, newer} {
		if err := s.BindTag(t.Context(), repository, tag, signed, bound); err != nil {
			t.Fatal(err)
		}
		if got, err := s.BoundTag(t.Context(), repository, tag, signed); err != nil || got != bound {
			t.Fatalf("BoundTag = %s, %v; want %s", got, err, bound)
		}
	}
	for name, err := range map[string]error{
		"tag":        second(s.BoundTag(t.Context(), repository, "latest", signed)),
		"signed":     second(s.BoundTag(t.Context(), repository, tag, d)),
		"repository": second(s.BoundTag(t.Context(), "public.ecr.aws/nicolas", tag, signed)),
	} {
		wantNotFound(t, "another "+name, err)
	}
	for range 2 {
		if err := s.UnbindTag(t.Context(), repository, tag, signed); err != nil {
			t.Fatal(err)
		}
		_, err := s.BoundTag(t.Context(), repository, tag, signed)
		wantNotFound(t, "after UnbindTag", err)
	}
}

func second(_ digest.Digest, err error) error { return err }

func testTrust(t *testing.T, driver storagedriver.StorageDriver) {
	trust := storage.New(driver).Trust()
	const gun = "docker.io/nicolas/webdis"
	if names, err := trust.List(t.Context(), gun); err != nil || len(names) != 0 {
		t.Fatalf("before Put: %v, %v", names, err)
	}
	_, err := trust.Get(t.Context(), gun, "root")
	wantNotFound(t, "before Put", err)

	names := []string{"root", "root/1", "targets", "targets/releases", "targets/nicolasff", "timestamp",
		long("targets/"), long("targets/")[:199], long("targets/")[:200]}
	for _, version := range []string{"first ", "second "} {
		for _, name := range names {
			if err := trust.Put(t.Context(), gun, name, []byte(version+name)); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range names {
			if raw, err := trust.Get(t.Context(), gun, name); err != nil || string(raw) != version+name {
				t.Fatalf("Get(%q) = %q, %v", name, raw, err)
			}
		}
	}
	slices.Sort(names)
	if got, err := trust.List(t.Context(), gun); err != nil || !slices.Equal(got, names) {
		t.Errorf("List = %q, %v; want %q", got, err, names)
	}
	for _, other := range []string{"docker.io/nicolas", gun + "/targets", "docker.io"} {
		if got, err := trust.List(t.Context(), other); err != nil || len(got) != 0 {
			t.Errorf("List(%q) = %q, %v", other, got, err)
		}
	}
	for _, pair := range [][2]string{{"", "root"}, {gun, ""}} {
		if err := trust.Put(t.Context(), pair[0], pair[1], nil); err == nil {
			t.Errorf("Put(%q, %q) succeeds", pair[0], pair[1])
		}
	}
	testTrustDelete(t, trust, gun)
}

// testTrustDelete deletes the state of one GUN and of no other.
func testTrustDelete(t *testing.T, trust storage.Trust, gun string) {
	if err := trust.Delete(t.Context(), ""); err == nil {
		t.Error("the state of all GUNs can be deleted at once")
	}
	others := []string{"docker.io/nicolas", gun + "x", gun + "/targets", long(gun), long(gun)[:198]}
	for _, other := range others {
		if err := trust.Put(t.Context(), other, "root", []byte(other)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := trust.Delete(t.Context(), gun); err != nil {
			t.Fatal(err)
		}
		if names, err := trust.List(t.Context(), gun); err != nil || len(names) != 0 {
			t.Errorf("after Delete: %v, %v", names, err)
		}
	}
	for _, other := range others {
		if raw, err := trust.Get(t.Context(), other, "root"); err != nil || string(raw) != other {
			t.Errorf("after Delete of %s, %s has %q, %v", gun, other, raw, err)
		}
	}
	if err := trust.Put(t.Context(), gun, "root", []byte("anew")); err != nil {
		t.Fatal(err)
	}
	if raw, err := trust.Get(t.Context(), gun, "root"); err != nil || string(raw) != "anew" {
		t.Errorf("after Delete and Put: %q, %v", raw, err)
	}
}

// long returns a name that is longer than a path component may be. No stretch of
// it repeats, since distribution's inmemory driver mistakes a folder that has a
// child of the same name for the child.
func long(prefix string) string {
	var b strings.Builder
	for i := 0; b.Len() < 600; i++ {
		fmt.Fprintf(&b, "%s%d", prefix, i)
	}
	return b.String()
}

// testNames uses names that try to escape, to collide or to break the driver's
// rules: each keeps its own value.
func testNames(t *testing.T, driver storagedriver.StorageDriver) {
	s := storage.New(driver)
	names := []string{
		".", "..", "../..", "../../../../tmp/escaped", "/", "/etc/passwd", "//", "a/../b", "a/./b", "a//b", "a/b/",
		"a.b", "a/b", "a_b", "a_2Fb", "a:b", "a%2fb", "a\\b", "a b", "a\x00b", "a\nb", "A.B", "é", "\xff", "_", "__", "-", "a_", "_a",
		"127.0.0.1:5000/a/b", "content", "sha256", long("a")[:198], long("a")[:199], long("a")[:200], long("a"), long("a")[:198] + "..",
		long("a")[:199] + "/..", long("a")[:198] + "/b", long("/"), long("."),
	}
	signed := digest.FromString("signed")
	for i, name := range names {
		d := digest.FromString(fmt.Sprint(i))
		for _, err := range []error{
			s.BindTag(t.Context(), name, "tag", signed, d),
			s.BindTag(t.Context(), "repository", name, signed, d),
			s.Trust().Put(t.Context(), name, "name", []byte(name)),
			s.Trust().Put(t.Context(), "gun", name, []byte(name)),
		} {
			if err != nil {
				t.Fatalf("%q: %v", name, err)
			}
		}
	}
	for i, name := range names {
		want := digest.FromString(fmt.Sprint(i))
		if d, err := s.BoundTag(t.Context(), name, "tag", signed); err != nil || d != want {
			t.Errorf("repository %q: %s, %v; want %s", name, d, err, want)
		}
		if d, err := s.BoundTag(t.Context(), "repository", name, signed); err != nil || d != want {
			t.Errorf("tag %q: %s, %v; want %s", name, d, err, want)
		}
		if raw, err := s.Trust().Get(t.Context(), name, "name"); err != nil || string(raw) != name {
			t.Errorf("GUN %q: %q, %v", name, raw, err)
		}
		if raw, err := s.Trust().Get(t.Context(), "gun", name); err != nil || string(raw) != name {
			t.Errorf("name %q: %q, %v", name, raw, err)
		}
	}
	slices.Sort(names)
	if got, err := s.Trust().List(t.Context(), "gun"); err != nil || !slices.Equal(got, names) {
		t.Errorf("List = %q, %v", got, err)
	}
	for _, file := range files(t, driver, "/") {
		if !storagedriver.PathRegexp.MatchString(file) || strings.Contains(file+"/", "/../") || strings.Contains(file+"/", "/./") {
			t.Errorf("path %q", file)
		}
	}
}
