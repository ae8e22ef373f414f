package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

// testLarge stores an object that is too large to be held in memory whole: it is there
// once all of it was written, and whatever fails, nothing is before.
func testLarge(t *testing.T, driver storagedriver.StorageDriver) {
	lines := 800_000
	if driver.Name() == "inmemory" { // which copies all that it has at each write
		lines /= 100
	}
	content := strings.Repeat("a large layer\n", lines)
	d, size := digest.FromString(content), int64(len(content))
	put := func(s *storage.Store) error { return s.Put(t.Context(), d, size, strings.NewReader(content)) }

	s := storage.New(driver)
	failed := errors.New("the connection broke")
	ctx, cancel := context.WithCancel(t.Context())
	for name, r := range map[string]io.Reader{
		"other bytes":  strings.NewReader(content[1:] + "?"),
		"too few":      strings.NewReader(content[:size-1]),
		"too many":     strings.NewReader(content + "?"),
		"a failure":    io.MultiReader(strings.NewReader(content), failing{failed}),
		"nobody waits": io.MultiReader(strings.NewReader(content), ending(cancel)),
	} {
		on := t.Context()
		if name == "nobody waits" {
			on = ctx
		}
		err := s.Put(on, d, size, r)
		if !errors.As(err, new(*storage.MismatchError)) && !errors.Is(err, failed) && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		if left := files(t, driver, "/"); len(left) > 0 {
			t.Errorf("%s leaves %v", name, left)
		}
	}

	faulty := NewFaulty(driver)
	if err := put(storage.New(faulty)); err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, d, content)
	complete, last := files(t, driver, "/"), faulty.Operations()
	for _, at := range []int{2, last / 2, last - 2, last - 1, last} { // in the midst, and around the commit
		for _, after := range []bool{false, true} {
			name := fmt.Sprintf("operation %d of %d, after=%t", at, last, after)
			if err := driver.Delete(t.Context(), complete[0]); err != nil {
				t.Fatal(err)
			}
			faulty.Set(Fault{At: at, After: after})
			if err := put(storage.New(faulty)); !errors.Is(err, ErrInjected) {
				t.Errorf("%s: %v", name, err)
			}
			if got, err := read(t.Context(), s, d); err == nil && got != content || err != nil && !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("%s: %d of %d bytes are visible, %v", name, len(got), size, err)
			}
			if err := put(s); err != nil {
				t.Fatalf("%s: a retry fails: %v", name, err)
			}
			wantContent(t, s, d, content)
			if left := files(t, driver, "/"); !slices.Equal(left, complete) {
				t.Errorf("%s: files %v, want %v", name, left, complete)
			}
		}
	}
}

// ending ends the context of who reads from it, which it tells.
type ending context.CancelFunc

func (e ending) Read([]byte) (int, error) {
	e()
	return 0, context.Canceled
}

// testSized opens objects for as many bytes as they should have.
func testSized(t *testing.T, driver storagedriver.StorageDriver) {
	s := storage.New(driver)
	const content = "a layer"
	d := digest.FromString(content)
	damaged := 0
	open := func() (*storage.Content, error) {
		return s.OpenSized(t.Context(), d, int64(len(content)), func() { damaged++ })
	}
	_, err := open()
	wantNotFound(t, "before Put", err)
	put(t, s, content)
	path := theFile(t, driver)
	for _, stored := range []string{content, "a lay", "a layer and more", "", content} {
		if err := driver.PutContent(t.Context(), path, []byte(stored)); err != nil {
			t.Fatal(err)
		}
		before := damaged
		c, err := open()
		if err != nil {
			t.Fatal(err)
		}
		if c.Size != int64(len(content)) { // the driver says so beforehand
			if c.Size != int64(len(stored)) {
				t.Errorf("%q has size %d", stored, c.Size)
			}
			continue
		}
		for _, from := range []int64{0, 1, 6} {
			if _, err := c.Seek(from, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			switch {
			case stored == content && (err != nil || string(got) != content[from:] || damaged > before):
				t.Errorf("from %d: %q, %v, damaged %d times", from, got, err, damaged-before)
			case stored != content && (len(got) >= len(content)-int(from) || !errors.As(err, new(*storage.MismatchError)) || damaged == before):
				t.Errorf("%q from %d: %q, %v, damaged %d times", stored, from, got, err, damaged-before)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
