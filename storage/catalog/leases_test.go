package catalog

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"roadstead/storage/postgrestest"
)

// One process at a time has a lease; when it is gone without a word, or its database is, another one
// has it within ten seconds, and the first has let go by then.
func TestLeases(t *testing.T) {
	url := server.Database(t)
	one, other := openURL(t, url), openURL(t, url)

	t.Run("one at a time", func(t *testing.T) {
		var inside string
		err := one.Hold(t.Context(), "work", "a", func(ctx context.Context, id string) {
			inside = id
			if err := other.Hold(ctx, "work", "b", func(context.Context, string) { t.Error("two have it") }); !errors.Is(err, ErrHeld) {
				t.Errorf("the second one: %v", err)
			}
			// Not even the same process has it twice.
			if err := one.Hold(ctx, "work", "a", func(context.Context, string) { t.Error("one has it twice") }); !errors.Is(err, ErrHeld) {
				t.Errorf("the first one again: %v", err)
			}
			if h, err := other.Holder(ctx, "work"); err != nil || h != (Holder{ID: id, Node: "a"}) {
				t.Errorf("it is held by %v, %v", h, err)
			}
			if err := other.Hold(ctx, "else", "b", func(context.Context, string) {}); err != nil {
				t.Errorf("another lease: %v", err)
			}
		})
		if err != nil || inside == "" {
			t.Errorf("hold: %v", err)
		}
		if _, err := other.Holder(t.Context(), "work"); !errors.Is(err, ErrNotFound) {
			t.Errorf("it is given back: %v", err)
		}
	})

	t.Run("somebody asks it to stop", func(t *testing.T) {
		start := time.Now()
		if err := one.Hold(t.Context(), "work", "a", func(ctx context.Context, id string) {
			if err := other.Recall(ctx, "work", "somebody else"); !errors.Is(err, ErrNotFound) {
				t.Errorf("recall another one: %v", err)
			}
			if err := other.Recall(ctx, "work", id); err != nil {
				t.Error(err)
			}
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), ErrRecalled) {
				t.Errorf("it ended by %v", context.Cause(ctx))
			}
		}); err != nil || time.Since(start) > 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})

	t.Run("a leader that ends hands over", func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		led := make(chan string, 2)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			one.Lead(ctx, "lead", "a", func(ctx context.Context) { led <- "a"; <-ctx.Done(); time.Sleep(100 * time.Millisecond) })
		}()
		if who := <-led; who != "a" {
			t.Fatal(who)
		}
		second, stop := context.WithCancel(t.Context())
		defer stop()
		go other.Lead(second, "lead", "b", func(ctx context.Context) { led <- "b" })
		start := time.Now()
		end()
		if who := <-led; who != "b" || time.Since(start) > 2*leaseLook {
			t.Errorf("%s leads after %v", who, time.Since(start))
		}
		<-ended
	})

	t.Run("a file", func(t *testing.T) {
		db := openAt(t, t.TempDir()+"/catalog.db")
		ctx, cancel := context.WithCancelCause(t.Context())
		over := errors.New("over")
		var called atomic.Int64
		if err := db.Lead(ctx, "lead", "a", func(context.Context) { called.Add(1); cancel(over) }); !errors.Is(err, over) || called.Load() != 1 {
			t.Errorf("%v after %d calls", err, called.Load())
		}
		if err := db.Hold(t.Context(), "work", "a", func(context.Context, string) { called.Add(1) }); err != nil || called.Load() != 2 {
			t.Errorf("%v after %d calls", err, called.Load())
		}
		if _, err := db.Holder(t.Context(), "lead"); !errors.Is(err, ErrNotFound) {
			t.Errorf("the holder: %v", err)
		}
	})
}

// Whoever leads and hears nothing of the database lets go before another one leads.
func TestLeaderThatIsCutOff(t *testing.T) {
	s := server.Server(t)
	name, err := s.Create(server.Filled())
	if err != nil {
		t.Fatal(err)
	}
	proxy := postgrestest.Before(t, s)
	cut, near := openURL(t, proxy.URL(name)), openURL(t, s.URL(name))
	var leading, most atomic.Int64
	lead := func(ctx context.Context) {
		most.Store(max(most.Load(), leading.Add(1)))
		<-ctx.Done()
		leading.Add(-1)
	}
	ctx, end := context.WithCancel(t.Context())
	var over, done = make(chan struct{}), make(chan struct{})
	go func() { defer close(over); cut.Lead(ctx, "lead", "a", lead) }()
	for leading.Load() == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	go func() { defer close(done); near.Lead(ctx, "lead", "b", lead) }()
	proxy.Stall()
	start := time.Now()
	for {
		if h, err := near.Holder(t.Context(), "lead"); err == nil && h.Node == "b" {
			break
		}
		if time.Since(start) > 10*time.Second {
			t.Error("nobody leads")
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("another one leads after %v", time.Since(start))
	if most.Load() != 1 {
		t.Errorf("%d led at once", most.Load())
	}
	proxy.Heal()
	end()
	<-over
	<-done
}

// Pages that are slow make others wait, and that is all: the database is not silent, and neither is the
// node, nor does it lose what it leads.
func TestReadersAreNoSilence(t *testing.T) {
	db := openURL(t, server.Database(t)+"&pool_max_conns=1")
	db.remote.patience = 2 * time.Second // over twice as long as one of them takes
	slow := func() error {
		var void string
		return db.read.one(t.Context(), `SELECT pg_sleep(0.8)::text`, nil, &void)
	}
	var readers sync.WaitGroup
	var busy atomic.Int64
	err := db.Hold(t.Context(), "work", "a", func(ctx context.Context, _ string) {
		for range 6 {
			readers.Go(func() {
				err := slow()
				if err == nil {
					return
				}
				busy.Add(1)
				if !errors.Is(err, ErrUnavailable) || !errors.Is(err, errBusy) || errors.Is(err, errSilent) {
					t.Errorf("whoever waits for others is told %v", err)
				}
			})
		}
		for range 10 {
			if alive, err := db.Beat(ctx, Node{ID: "a", Address: "http://a"}, time.Minute); err != nil || len(alive) != 1 {
				t.Errorf("while others read: %v, %v", alive, err)
			}
			time.Sleep(200 * time.Millisecond)
		}
		readers.Wait()
		if ctx.Err() != nil {
			t.Errorf("the lease has ended: %v", context.Cause(ctx))
		}
	})
	if err != nil {
		t.Error(err)
	}
	if busy.Load() == 0 {
		t.Error("nobody had to wait for too long")
	}
	if err := slow(); err != nil {
		t.Errorf("when nobody else reads: %v", err)
	}
}
