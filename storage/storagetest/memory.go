package storagetest

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

// bound is how long a store may take to see what others wrote.
const bound = 5 * time.Second

// clock stands still until it is told.
type clock struct{ now time.Time }

func (c *clock) advance(d time.Duration) { c.now = c.now.Add(d) }

// remembering makes a store that remembers, by a clock of the test's.
func remembering(driver storagedriver.StorageDriver) (*storage.Store, *clock) {
	c := &clock{time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)}
	s := storage.New(driver)
	s.Remember(func() time.Time { return c.now })
	return s, c
}

func recent(t *testing.T, s *storage.Store, of storage.Admission) []storage.Admission {
	t.Helper()
	records, err := s.RecentAdmissions(t.Context(), of.Repository, of.Digest)
	if err != nil {
		t.Fatal(err)
	}
	var all []storage.Admission
	for i := range records.Len() {
		all = append(all, records.At(i))
	}
	return all
}

// testRemembersAdmissions has others admit, mark as broken and remove what a store
// remembers.
func testRemembersAdmissions(t *testing.T, driver storagedriver.StorageDriver) {
	counting := NewFaulty(driver)
	s, c := remembering(counting)
	other := storage.New(driver)
	a, broken, own := admission("index", "signed", ""), admission("index", "signed", "broken layer"), admission("index", "signed", "own")
	broken.Proof = storage.ProofBroken
	want := func(what string, want ...storage.Admission) {
		t.Helper()
		got := recent(t, s, a)
		lacks := func(a storage.Admission) bool { return !slices.Contains(got, a) }
		if len(got) != len(want) || slices.ContainsFunc(want, lacks) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	admit := func(s *storage.Store, a storage.Admission) {
		t.Helper()
		if err := s.Admit(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	want("before anything")
	admit(other, a)
	want("admitted by another, asked for before", a)

	counting.Set(Fault{})
	for range 10 {
		want("warm", a)
	}
	if n := counting.Operations(); n != 0 {
		t.Errorf("%d operations of storage for what is remembered", n)
	}

	admit(other, broken)
	if got, err := s.Admissions(t.Context(), a.Repository, a.Digest); err != nil || len(got) != 2 {
		t.Errorf("Admissions: %v, %v; they are never remembered", got, err)
	}
	c.advance(bound)
	want("marked as broken by another", a, broken)

	admit(s, own)
	want("recorded through the store itself", a, broken, own)

	for _, file := range files(t, driver, "/admissions") {
		if err := driver.Delete(t.Context(), file); err != nil {
			t.Fatal(err)
		}
	}
	c.advance(bound)
	want("removed by another")

	admit(s, a)
	want("again", a)
	admit(other, broken)
	c.advance(-time.Nanosecond)
	want("the clock went back", a, broken)
}

// testRefreshesOnce sends one of many to read what gets old.
func testRefreshesOnce(t *testing.T, driver storagedriver.StorageDriver) {
	counting := NewFaulty(driver)
	s, c := remembering(counting)
	a := admission("index", "signed", "")
	if err := s.Admit(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	operations := func(times int) int {
		counting.Set(Fault{})
		for range times {
			if got := recent(t, s, a); len(got) != 1 {
				t.Fatalf("admissions: %v", got)
			}
		}
		return counting.Operations()
	}
	once := operations(1)
	c.advance(bound * 3 / 5)
	if n := operations(10); n != once {
		t.Errorf("%d operations when it got old, want %d as for one", n, once)
	}
	c.advance(bound * 3 / 5)
	if n := operations(10); n != once {
		t.Errorf("%d operations after it was read anew, want %d", n, once)
	}

	// One that fails takes nothing from the others, until their time is over.
	c.advance(bound * 3 / 5)
	counting.Set(Fault{At: 1, Stay: true})
	if got, err := s.RecentAdmissions(t.Context(), a.Repository, a.Digest); err == nil {
		t.Errorf("who is sent to read finds %v in storage that fails", got)
	}
	if got := recent(t, s, a); len(got) != 1 {
		t.Errorf("admissions: %v", got)
	}
	c.advance(bound)
	if got, err := s.RecentAdmissions(t.Context(), a.Repository, a.Digest); err == nil {
		t.Errorf("admissions %v, though storage fails", got)
	}
}

// hooked does something in the midst of reading.
type hooked struct {
	storagedriver.StorageDriver
	read func() // after each read took effect
}

func (h *hooked) List(ctx context.Context, path string) ([]string, error) {
	defer h.read()
	return h.StorageDriver.List(ctx, path)
}

func (h *hooked) GetContent(ctx context.Context, path string) ([]byte, error) {
	defer h.read()
	return h.StorageDriver.GetContent(ctx, path)
}

// testWrittenMeanwhile writes while an older state is being read: that isn't
// remembered.
func testWrittenMeanwhile(t *testing.T, driver storagedriver.StorageDriver) {
	h := &hooked{StorageDriver: driver, read: func() {}}
	s, _ := remembering(h)
	once := func(do func() error) {
		h.read = func() {
			h.read = func() {}
			if err := do(); err != nil {
				t.Error(err)
			}
		}
	}
	a, broken := admission("index", "signed", ""), admission("index", "signed", "broken layer")
	if err := s.Admit(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	once(func() error { return s.Admit(t.Context(), broken) })
	recent(t, s, a)
	if got := recent(t, s, a); len(got) != 2 {
		t.Errorf("admissions: %v", got)
	}

	d, newer := digest.FromString("copy"), digest.FromString("newer")
	if err := s.BindTag(t.Context(), a.Repository, "1", a.Signed, d); err != nil {
		t.Fatal(err)
	}
	once(func() error { return s.BindTag(t.Context(), a.Repository, "1", a.Signed, newer) })
	for range 2 {
		d, _ = s.BoundTag(t.Context(), a.Repository, "1", a.Signed)
	}
	if d != newer {
		t.Errorf("the tag is bound to %s", d)
	}
}

// testRemembersTags has others bind and unbind what a store remembers.
func testRemembersTags(t *testing.T, driver storagedriver.StorageDriver) {
	counting := NewFaulty(driver)
	s, c := remembering(counting)
	other := storage.New(driver)
	const repository, tag = "public.ecr.aws/nicolas/webdis", "0.1.19"
	signed, d, newer := digest.FromString("signed"), digest.FromString("copy"), digest.FromString("newer")
	want := func(what string, want digest.Digest) {
		t.Helper()
		if got, err := s.BoundTag(t.Context(), repository, tag, signed); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", what, got, err, want)
		}
	}
	want("before BindTag", "")
	for _, step := range []struct {
		what string
		do   func(*storage.Store) error
		want digest.Digest
	}{
		{"bound", func(s *storage.Store) error { return s.BindTag(t.Context(), repository, tag, signed, d) }, d},
		{"bound anew", func(s *storage.Store) error { return s.BindTag(t.Context(), repository, tag, signed, newer) }, newer},
		{"unbound", func(s *storage.Store) error { return s.UnbindTag(t.Context(), repository, tag, signed) }, ""},
		{"bound again", func(s *storage.Store) error { return s.BindTag(t.Context(), repository, tag, signed, d) }, d},
	} {
		if err := step.do(other); err != nil {
			t.Fatal(err)
		}
		c.advance(bound)
		want(step.what+" by another", step.want)
	}
	counting.Set(Fault{})
	want("warm", d)
	if n := counting.Operations(); n != 0 {
		t.Errorf("%d operations of storage for what is remembered", n)
	}
	if err := s.UnbindTag(t.Context(), repository, tag, signed); err != nil {
		t.Fatal(err)
	}
	want("unbound by itself", "")
}

// testRemembersDocuments damages what a store remembers, in storage and in what it
// gave away.
func testRemembersDocuments(t *testing.T, driver storagedriver.StorageDriver) {
	counting := NewFaulty(driver)
	s, c := remembering(counting)
	d := put(t, s, "a document")
	if _, ok := s.Remembered(d); ok {
		t.Error("remembered before it was read")
	}
	want := func(what string) {
		t.Helper()
		content, ok := s.Remembered(d)
		if !ok {
			t.Fatalf("%s: not remembered", what)
		}
		var raw bytes.Buffer
		if _, err := io.Copy(&raw, content); err != nil || raw.String() != "a document" || content.Size != 10 || content.Digest != d {
			t.Errorf("%s: %q, %v, %d bytes of %s", what, raw.String(), err, content.Size, content.Digest)
		}
	}
	raw, err := s.ReadDocument(t.Context(), d, 100)
	if err != nil {
		t.Fatal(err)
	}
	counting.Set(Fault{})
	want("warm")
	copy(raw, "evil")
	want("what was read was changed by who read it")
	if err := driver.PutContent(t.Context(), contentFile(t, driver), []byte("an evil one")); err != nil {
		t.Fatal(err)
	}
	c.advance(365 * 24 * time.Hour)
	want("storage was damaged")
	if n := counting.Operations(); n != 0 {
		t.Errorf("%d operations of storage for what is remembered", n)
	}
	if _, err := s.ReadDocument(t.Context(), d, 100); err == nil {
		t.Error("ReadDocument doesn't read")
	}
	if _, ok := s.Remembered(d); ok {
		t.Error("remembered after it was quarantined")
	}

	large := put(t, s, strings.Repeat("x", 1<<20+1))
	if _, err := s.ReadDocument(t.Context(), large, 4<<20); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Remembered(large); ok {
		t.Error("a large document is remembered")
	}
}
