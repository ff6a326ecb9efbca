package upstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shared[int]
		made := 0
		make := func(value int, takes, keep time.Duration, fails error) func(context.Context) (int, time.Duration, error) {
			return func(ctx context.Context) (int, time.Duration, error) {
				made++
				select {
				case <-time.After(takes):
					return value, keep, fails
				case <-ctx.Done():
					return 0, 0, ctx.Err()
				}
			}
		}
		get := func(ctx context.Context, f func(context.Context) (int, time.Duration, error), value int, fails error) {
			t.Helper()
			if got, err := s.get(ctx, "k", f); got != value || !errors.Is(err, fails) {
				t.Errorf("got %d, %v, want %d, %v", got, err, value, fails)
			}
		}
		ctx := t.Context()

		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { get(ctx, make(1, time.Second, time.Minute, nil), 1, nil) })
		}
		wg.Wait()
		if made != 1 {
			t.Errorf("made %d times for ten", made)
		}
		get(ctx, make(2, 0, time.Minute, nil), 1, nil)
		time.Sleep(time.Minute + 1)
		get(ctx, make(3, 0, time.Minute, nil), 3, nil)
		s.forget("k", func(v int) bool { return v == 1 })
		get(ctx, make(4, 0, time.Minute, nil), 3, nil)
		s.forget("k", func(v int) bool { return v == 3 })

		bad := errors.New("bad")
		get(ctx, make(0, 0, 0, bad), 0, bad)
		get(ctx, make(0, 0, time.Second, bad), 0, bad)
		get(ctx, make(5, 0, time.Second, nil), 0, bad) // the error is remembered
		time.Sleep(time.Second + 1)

		// Who makes it is called off: one of those who wait goes on.
		leaving, leave := context.WithCancel(ctx)
		wg.Go(func() { get(leaving, make(0, time.Hour, time.Hour, nil), 0, context.Canceled) })
		synctest.Wait()
		before := made
		for range 3 {
			wg.Go(func() { get(ctx, make(6, time.Second, time.Minute, nil), 6, nil) })
		}
		synctest.Wait()
		leave()
		wg.Wait()
		if made != before+1 {
			t.Errorf("made %d times by three who waited", made-before)
		}

		// Who waits is called off: nobody else notices.
		s.forget("k", func(int) bool { return true })
		wg.Go(func() { get(ctx, make(7, time.Second, time.Minute, nil), 7, nil) })
		synctest.Wait()
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		get(short, make(8, 0, 0, nil), 0, context.DeadlineExceeded)
		wg.Wait()

		for i := range 3 * mostShared {
			if _, err := s.get(ctx, fmt.Sprint(i), make(i, 0, time.Hour, nil)); err != nil {
				t.Fatal(err)
			}
		}
		if len(s.entries) > mostShared {
			t.Errorf("%d values are kept", len(s.entries))
		}
	})
}

// TestSharedPanics lets nobody wait for ever.
func TestSharedPanics(t *testing.T) {
	var s shared[int]
	func() {
		defer func() { recover() }()
		s.get(t.Context(), "k", func(context.Context) (int, time.Duration, error) { panic("oh") })
	}()
	got, err := s.get(t.Context(), "k", func(context.Context) (int, time.Duration, error) { return 1, time.Minute, nil })
	if got != 1 || err != nil {
		t.Errorf("got %d, %v", got, err)
	}
}
