package storage

import (
	"context"
	"errors"
	"testing"
	"time"
)

// Many ask at once, one search answers, and who leaves ends nothing.
func TestMemo(t *testing.T) {
	var m memo[int]
	searches := make(chan int, 10)
	release := make(chan struct{})
	find := func(ctx context.Context) (int, time.Duration, error) {
		searches <- 1
		select {
		case <-release:
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
		return 42, time.Hour, nil
	}
	leaving, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := m.get(leaving, time.Hour, find)
		left <- err
	}()
	<-searches
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("who leaves gets %v", err)
	}
	if n, ok := m.last(); ok {
		t.Errorf("%d is known before it was found", n)
	}
	got := make(chan int)
	for range 5 {
		go func() {
			n, err := m.get(t.Context(), time.Hour, find)
			if err != nil {
				t.Error(err)
			}
			got <- n
		}()
	}
	close(release)
	for range 5 {
		if n := <-got; n != 42 {
			t.Errorf("got %d", n)
		}
	}
	if len(searches) != 0 {
		t.Errorf("%d searches too many", len(searches))
	}
	if n, ok := m.last(); n != 42 || !ok {
		t.Errorf("last: %d, %v", n, ok)
	}
}

// A search that takes too long ends, and an error is remembered no longer than it
// says.
func TestMemoTimeout(t *testing.T) {
	var m memo[int]
	never := func(ctx context.Context) (int, time.Duration, error) {
		<-ctx.Done()
		return 0, 0, ctx.Err()
	}
	if _, err := m.get(t.Context(), time.Millisecond, never); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if _, ok := m.last(); ok {
		t.Error("an error is an answer")
	}
	soon := func(context.Context) (int, time.Duration, error) { return 1, time.Hour, nil }
	if n, err := m.get(t.Context(), time.Hour, soon); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}
