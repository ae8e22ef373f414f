package storage

import (
	"strings"
	"testing"
	"time"
)

func still() time.Time { return time.Time{} }

// However much is put, no more than the bound is kept, and of that the latest used.
func TestRecentIsBounded(t *testing.T) {
	r := newRecent[int, string](10*(overhead+100), time.Second, still)
	keep := func(key int, value string) {
		_, began, _ := r.get(key)
		r.put(key, value, len(value), began)
	}
	held := func(key int) bool {
		_, _, ok := r.get(key)
		return ok
	}
	large := strings.Repeat("x", 100)
	for i := range 1000 {
		keep(i, large)
		keep(i, large) // in its own place
		if !held(0) {
			t.Fatalf("what is always used is gone after %d", i)
		}
		if r.bytes > r.max || r.entries.Len() > 10 {
			t.Fatalf("%d entries with %d bytes, %d may be", r.entries.Len(), r.bytes, r.max)
		}
	}
	if r.entries.Len() != 10 || !held(999) || held(500) {
		t.Errorf("%d entries; the last: %v, one long gone: %v", r.entries.Len(), held(999), held(500))
	}
	keep(2000, strings.Repeat("x", r.max))
	if held(2000) || !held(999) {
		t.Error("what is too large drives out the rest")
	}
	for i := range 1000 {
		r.drop(i)
	}
	if r.bytes != 0 || r.entries.Len() != 0 {
		t.Errorf("%d bytes of nothing", r.bytes)
	}
}

// Whatever is written, also elsewhere, keeps what was read before from being kept.
func TestRecentForgets(t *testing.T) {
	r := newRecent[string, int](1<<20, time.Second, still)
	_, began, _ := r.get("key")
	r.forget("key")
	r.put("key", 1, 1, began)
	if _, _, ok := r.get("key"); ok {
		t.Error("kept, though it was written meanwhile")
	}
	_, began, _ = r.get("key")
	r.put("key", 2, 1, began)
	if v, _, ok := r.get("key"); !ok || v != 2 {
		t.Errorf("%d, %v", v, ok)
	}
}
