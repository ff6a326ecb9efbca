package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// hold keeps the turn to write until release is called.
func hold(t *testing.T, db *DB) (release func()) {
	inside, done := make(chan struct{}), make(chan struct{})
	finished := make(chan error, 1)
	go func() {
		finished <- db.Update(context.WithoutCancel(t.Context()), func(*Tx) error {
			close(inside)
			<-done
			return nil
		})
	}()
	<-inside
	return func() {
		close(done)
		if err := <-finished; err != nil {
			t.Error(err)
		}
	}
}

// waitFor waits until so many calls of Durable are in the queue.
func waitFor(db *DB, n int) {
	for {
		db.queue.mu.Lock()
		waiting := len(db.queue.waiting)
		db.queue.mu.Unlock()
		if waiting == n {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func testDurableShares(t *testing.T, db *DB) {
	const callers = 50
	var (
		all  sync.WaitGroup
		mu   sync.Mutex
		seen = map[*Tx]int{}
	)
	release := hold(t, db)
	for i := range callers {
		all.Go(func() {
			err := db.Durable(t.Context(), func(tx *Tx) error {
				mu.Lock()
				seen[tx]++
				mu.Unlock()
				return tx.AddBlob(busybox, dg(fmt.Sprint(i)), 1)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	waitFor(db, callers)
	release()
	all.Wait()
	if len(seen) != 1 {
		t.Errorf("%d calls that waited together took %d transactions, want one", callers, len(seen))
	}
	if usage, err := db.Usage(t.Context()); err != nil || usage.Count != callers {
		t.Errorf("usage = %+v, %v, want %d", usage, err, callers)
	}
	recount(t, db)
}

// One that fails, and one that panics, take no others with them.
func testDurableFails(t *testing.T, db *DB) {
	broken := errors.New("broken")
	var all sync.WaitGroup
	runs := make([]int, 9)
	release := hold(t, db)
	for i := range runs {
		all.Go(func() {
			defer func() {
				if p := recover(); (p != nil) != (i == 7) {
					t.Errorf("call %d panicked with %v", i, p)
				}
			}()
			err := db.Durable(t.Context(), func(tx *Tx) error {
				runs[i]++
				if err := tx.AddBlob(busybox, dg(fmt.Sprint(i)), 1); err != nil {
					return err
				}
				switch i {
				case 3:
					return broken
				case 7:
					panic("in fn")
				}
				return nil
			})
			if want := map[int]error{3: broken}[i]; !errors.Is(err, want) || err != nil && want == nil {
				t.Errorf("call %d = %v, want %v", i, err, want)
			}
		})
	}
	waitFor(db, len(runs))
	release()
	all.Wait()
	for i, n := range runs {
		if n > 2 {
			t.Errorf("call %d ran %d times, want twice at most", i, n)
		}
		if got := found(t, db, busybox, fmt.Sprint(i)).Stored; got != (i != 3 && i != 7) {
			t.Errorf("what call %d wrote is there: %v", i, got)
		}
	}
	recount(t, db)
}

// Whoever does not want to wait any longer does not, leads or not, and the others go on.
func testDurableLeaves(t *testing.T, db *DB) {
	release := hold(t, db)
	errs := make([]chan error, 3)
	var cancels []context.CancelFunc
	for i := range errs {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		cancels = append(cancels, cancel)
		errs[i] = make(chan error, 1)
		go func() {
			errs[i] <- db.Durable(ctx, func(tx *Tx) error { return tx.AddBlob(busybox, dg(fmt.Sprint(i)), 1) })
		}()
		waitFor(db, i+1)
	}
	for _, i := range []int{1, 0} { // one that waits, and then the one that leads
		cancels[i]()
		if err := <-errs[i]; !errors.Is(err, context.Canceled) {
			t.Errorf("call %d = %v, want it to leave", i, err)
		}
	}
	release()
	if err := <-errs[2]; err != nil {
		t.Error(err)
	}
	for i := range errs {
		if got := found(t, db, busybox, fmt.Sprint(i)).Stored; got != (i == 2) {
			t.Errorf("what call %d wrote is there: %v", i, got)
		}
	}
	if err := db.Durable(t.Context(), func(tx *Tx) error { return nil }); err != nil {
		t.Error(err)
	}
}

// TestDurableSyncs: the log is synced at the commit of a Durable, and of no Update.
func TestDurableSyncs(t *testing.T) {
	db := openAt(t, t.TempDir()+"/catalog.db")
	level := func(run func(context.Context, func(*Tx) error) error) (level int) {
		t.Helper()
		err := run(t.Context(), func(tx *Tx) error { return tx.one(`PRAGMA synchronous`, nil, &level) })
		if err != nil {
			t.Fatal(err)
		}
		return level
	}
	const normal, full = 1, 2
	for range 2 {
		if got := level(db.Durable); got != full {
			t.Errorf("synchronous is %d in a Durable, want %d", got, full)
		}
		if got := level(db.Update); got != normal {
			t.Errorf("synchronous is %d in an Update, want %d", got, normal)
		}
	}
	db.Durable(t.Context(), func(tx *Tx) error { return errors.New("broken") })
	if got := level(db.Update); got != normal {
		t.Errorf("synchronous is %d after a Durable that failed, want %d", got, normal)
	}
}
