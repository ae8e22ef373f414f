package storagetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

// scrubAll scrubs every part once.
func scrubAll(t *testing.T, s *storage.Store, bytesPerSecond int64) storage.Scrubbed {
	t.Helper()
	var all storage.Scrubbed
	for part := range storage.ScrubParts {
		found, err := s.Scrub(t.Context(), part, bytesPerSecond)
		if err != nil {
			t.Fatal(err)
		}
		all.Objects += found.Objects
		all.Bytes += found.Bytes
		all.Corrupt = append(all.Corrupt, found.Corrupt...)
		all.Failed = append(all.Failed, found.Failed...)
	}
	return all
}

// testScrub finds each kind of damage, and sets aside what is damaged and nothing else.
func testScrub(t *testing.T, driver storagedriver.StorageDriver) {
	s := storage.New(driver)
	if all := scrubAll(t, s, 0); all.Objects+len(all.Corrupt)+len(all.Failed) > 0 {
		t.Fatalf("an empty store: %+v", all)
	}
	sound := []string{"", "sound", strings.Repeat("layer ", 100_000)}
	var bytes int64
	for _, content := range sound {
		put(t, s, content)
		bytes += int64(len(content))
	}
	if err := s.Put(t.Context(), digest.SHA512.FromString("x"), 1, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if err := driver.PutContent(t.Context(), "/content/sha256/00/notes", []byte("somebody's")); err != nil {
		t.Fatal(err)
	}
	var damaged []digest.Digest
	for i, damage := range []string{"conTent 0", "conten", "content 2 and more", ""} {
		d := put(t, s, fmt.Sprintf("content %d", i))
		path := fmt.Sprintf("/content/sha256/%s/%s", d.Encoded()[:2], d.Encoded())
		if err := driver.PutContent(t.Context(), path, []byte(damage)); err != nil {
			t.Fatal(err)
		}
		damaged = append(damaged, d)
	}

	all := scrubAll(t, s, 1<<30)
	if all.Objects != len(sound)+1 || all.Bytes != bytes+1 || len(all.Failed) > 0 {
		t.Errorf("%+v, want %d objects with %d bytes", all, len(sound)+1, bytes+1)
	}
	var found []digest.Digest
	for _, c := range all.Corrupt {
		if c.Err != nil || c.Got == c.Digest {
			t.Errorf("%v", c)
		}
		_, err := s.OpenContent(t.Context(), c.Digest)
		wantNotFound(t, "quarantined", err)
		found = append(found, c.Digest)
	}
	slices.Sort(found)
	slices.Sort(damaged)
	if !slices.Equal(found, damaged) {
		t.Errorf("damaged are %v, found %v", damaged, found)
	}
	for _, content := range sound {
		wantContent(t, s, digest.FromString(content), content)
	}
	if again := scrubAll(t, s, 0); len(again.Corrupt) > 0 {
		t.Errorf("a second time: %v", again.Corrupt)
	}
	if raw, err := driver.GetContent(t.Context(), "/content/sha256/00/notes"); err != nil || string(raw) != "somebody's" {
		t.Errorf("what is no object: %q, %v", raw, err)
	}
}

// testScrubUnreadable takes no object that can't be read for damaged.
func testScrubUnreadable(t *testing.T, driver storagedriver.StorageDriver) {
	faulty := NewFaulty(driver)
	s := storage.New(faulty)
	d := put(t, s, "content")
	var part int
	if _, err := fmt.Sscanf(d.Encoded()[:2], "%02x", &part); err != nil {
		t.Fatal(err)
	}
	faulty.Set(Fault{})
	if found, err := s.Scrub(t.Context(), part, 0); err != nil || found.Objects != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	var failed int
	for at := range faulty.Operations() {
		faulty.Set(Fault{At: at + 1})
		found, err := s.Scrub(t.Context(), part, 0)
		if len(found.Corrupt) > 0 || found.Objects+len(found.Failed) != 1 && err == nil {
			t.Errorf("fault at %d: %+v, %v", at+1, found, err)
		}
		failed += len(found.Failed)
		wantContent(t, storage.New(driver), d, "content")
	}
	if failed == 0 {
		t.Error("nothing failed")
	}
}

// testScrubAlways goes on where it was after a restart, and comes round.
func testScrubAlways(t *testing.T, driver storagedriver.StorageDriver) {
	s := storage.New(driver)
	damaged := put(t, s, "content")
	path := fmt.Sprintf("/content/sha256/%s/%s", damaged.Encoded()[:2], damaged.Encoded())
	if err := driver.PutContent(t.Context(), path, []byte("c0ntent")); err != nil {
		t.Fatal(err)
	}
	var parts []int
	var corrupt []digest.Digest
	run := func(until int) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		storage.New(driver).ScrubAlways(ctx, storage.ScrubPlan{Every: storage.ScrubParts, Told: func(part int, found storage.Scrubbed, err error) {
			if err != nil {
				t.Error(err)
			}
			parts = append(parts, part)
			for _, c := range found.Corrupt {
				corrupt = append(corrupt, c.Digest)
			}
			if len(parts) >= until {
				stop()
			}
		}})
	}
	run(100)
	run(300)
	for i, part := range parts {
		if part != i%storage.ScrubParts {
			t.Fatalf("turn %d is part %d", i, part)
		}
	}
	if !slices.Equal(corrupt, []digest.Digest{damaged}) {
		t.Errorf("corrupt are %v, want %s, once", corrupt, damaged)
	}

	// Its turn isn't due yet.
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	storage.New(driver).ScrubAlways(ctx, storage.ScrubPlan{Every: 1000 * time.Hour, Told: func(part int, _ storage.Scrubbed, _ error) {
		t.Errorf("part %d is scrubbed before its time", part)
	}})
	// Nowhere to keep the place: it goes on all the same, in its own time.
	faulty := NewFaulty(driver)
	faulty.Set(Fault{At: 1, Stay: true})
	told := 0
	ctx, stop = context.WithCancel(t.Context())
	defer stop()
	storage.New(faulty).ScrubAlways(ctx, storage.ScrubPlan{Every: 1000 * time.Hour, Told: func(_ int, _ storage.Scrubbed, err error) {
		if told++; told == 1 {
			time.AfterFunc(50*time.Millisecond, stop)
		}
		if !errors.Is(err, ErrInjected) {
			t.Errorf("without storage: %v", err)
		}
	}})
	if told != 1 {
		t.Errorf("without storage it was tried %d times", told)
	}
}

// testCollect removes what nobody needs, if it is old enough, and counts first.
func testCollect(t *testing.T, driver storagedriver.StorageDriver) {
	s := storage.New(driver)
	needed := put(t, s, "needed")
	unneeded := put(t, s, "unneeded")
	if err := s.Quarantine(t.Context(), put(t, s, "corrupt")); err != nil {
		t.Fatal(err)
	}
	if err := driver.PutContent(t.Context(), "/staging/left", []byte("left behind")); err != nil {
		t.Fatal(err)
	}
	if err := s.Admit(t.Context(), admission("unneeded", "signed", "")); err != nil {
		t.Fatal(err)
	}
	isNeeded := func(d digest.Digest) bool { return d == needed }
	stock := storage.Stock{
		Objects:     map[digest.Digest]int64{needed: 6, unneeded: 8},
		Quarantined: storage.Heap{Files: 1, Bytes: 7}, Unfinished: storage.Heap{Files: 1, Bytes: 11},
	}
	wantStock(t, s, stock)

	// What was stored just now stays: nobody may have recorded yet what it is for.
	old := storage.New(Older{driver, 25 * time.Hour})
	want := storage.Collected{Unneeded: storage.Heap{Files: 1, Bytes: 8}, Quarantined: stock.Quarantined, Unfinished: stock.Unfinished}
	if got, err := old.Collect(t.Context(), isNeeded, true); err != nil || got != want {
		t.Fatalf("would remove %+v, %v; want %+v", got, err, want)
	}
	wantStock(t, s, stock)
	want.Unneeded, want.Unfinished = storage.Heap{}, storage.Heap{}
	if got, err := s.Collect(t.Context(), isNeeded, false); err != nil || got != want {
		t.Fatalf("removed %+v, %v; want %+v", got, err, want)
	}
	stock.Quarantined = storage.Heap{}
	wantStock(t, s, stock)

	want = storage.Collected{Unneeded: storage.Heap{Files: 1, Bytes: 8}, Unfinished: stock.Unfinished}
	if got, err := old.Collect(t.Context(), isNeeded, false); err != nil || got != want {
		t.Fatalf("removed %+v, %v; want %+v", got, err, want)
	}
	wantStock(t, s, storage.Stock{Objects: map[digest.Digest]int64{needed: 6}})
	wantContent(t, s, needed, "needed")
	wantAdmissions(t, s, admission("unneeded", "signed", ""))
}

func wantStock(t *testing.T, s *storage.Store, want storage.Stock) {
	t.Helper()
	got, err := s.Stock(t.Context())
	if err != nil || !maps.Equal(got.Objects, want.Objects) || got.Quarantined != want.Quarantined || got.Unfinished != want.Unfinished {
		t.Fatalf("in stock %+v, %v; want %+v", got, err, want)
	}
}

// testEachRecord sees all records, and says so where it can't.
func testEachRecord(t *testing.T, driver storagedriver.StorageDriver) {
	faulty := NewFaulty(driver)
	s := storage.New(faulty)
	admitted := []storage.Admission{admission("a", "signed", ""), admission("b", "signed", "a")}
	if err := s.Admit(t.Context(), admitted...); err != nil {
		t.Fatal(err)
	}
	if err := s.Expect(t.Context(), admission("c", "signed", "b")); err != nil {
		t.Fatal(err)
	}
	count := func() (seen, expected int, err error) {
		err = storage.New(faulty).EachRecord(t.Context(), func(a storage.Admission, e bool) error {
			seen++
			if e {
				expected++
			}
			return nil
		})
		return seen, expected, err
	}
	faulty.Set(Fault{})
	if seen, expected, err := count(); err != nil || seen != 3 || expected != 1 {
		t.Errorf("%d records, %d of them expectations, %v", seen, expected, err)
	}
	for at := range faulty.Operations() {
		faulty.Set(Fault{At: at + 1})
		if seen, _, err := count(); err == nil || seen == 3 {
			t.Errorf("fault at %d: %d records, %v", at+1, seen, err)
		}
	}
}
