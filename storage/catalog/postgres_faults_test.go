package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"roadstead/storage/postgrestest"
)

// behind returns a catalog behind a network that can be broken. Its patience is shorter than usual.
func behind(t *testing.T) (*DB, *postgrestest.Proxy) {
	t.Helper()
	s := server.Server(t)
	name, err := s.Create(server.Filled())
	if err != nil {
		t.Fatal(err)
	}
	proxy := postgrestest.Before(t, s)
	db := openURL(t, proxy.URL(name))
	db.remote.patience, db.remote.queue = 2*time.Second, 4*time.Second
	update(t, db, func(tx *Tx) error { return tx.AddBlob(busybox, dg("layer"), 7) })
	return db, proxy
}

// everything is one call of each kind.
func everything(ctx context.Context, db *DB) map[string]error {
	_, find := db.Find(ctx, busybox, dg("layer"))
	_, tag := db.Tag(ctx, busybox, "latest")
	if errors.Is(tag, ErrNotFound) {
		tag = errors.New("not found")
	}
	return map[string]error{
		"Find":    find,
		"Tag":     tag,
		"Update":  db.Update(ctx, func(tx *Tx) error { return tx.AddBlob(busybox, dg("another"), 1) }),
		"Durable": db.Durable(ctx, func(tx *Tx) error { return tx.AddBlob(busybox, dg("another"), 1) }),
		"Walk":    db.ProjectTags(ctx, "docker.io", nil),
	}
}

// works waits until the catalog works again, which nobody helps it to.
func works(t *testing.T, db *DB) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		_, err := db.Find(t.Context(), busybox, dg("layer"))
		if err == nil {
			err = db.Durable(t.Context(), func(tx *Tx) error { return tx.AddBlob(busybox, dg("layer"), 7) })
		}
		if err == nil {
			break
		}
		if !errors.Is(err, ErrUnavailable) || time.Now().After(deadline) {
			t.Fatalf("the catalog does not work again: %v", err)
		}
	}
	if got := found(t, db, busybox, "layer"); !got.Stored || got.Size != 7 {
		t.Errorf("Find = %+v, want what was there", got)
	}
	recount(t, db)
}

// TestPostgreSQLStalls pulls the cable (FAULTS S14): nothing comes and nothing is closed. Every call
// ends, and says that the database is away and not that there is no such thing; the calls after it
// end at once.
func TestPostgreSQLStalls(t *testing.T) {
	db, proxy := behind(t)
	proxy.Stall()
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			start := time.Now()
			for name, err := range everything(context.WithoutCancel(t.Context()), db) {
				if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrNotFound) || errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s while the network stalls: %v, want ErrUnavailable only", name, err)
				}
			}
			if took := time.Since(start); took > 25*time.Second {
				t.Errorf("caller %d had its answers after %s", i, took)
			}
		})
	}
	all.Wait()
	quick := 0
	for range 20 {
		start := time.Now()
		if _, err := db.Find(t.Context(), busybox, dg("layer")); !errors.Is(err, ErrUnavailable) {
			t.Errorf("Find: %v", err)
		}
		if time.Since(start) < db.remote.patience/2 {
			quick++
		}
	}
	if quick < 17 {
		t.Errorf("%d of 20 questions to a database that is known to be away are answered at once", quick)
	}
	proxy.Heal()
	works(t, db)
}

// Whoever waits for a turn to write has as much patience as others write long. He need not have it once
// the database has turned out to be silent.
func TestPostgreSQLStallsBeforeATurn(t *testing.T) {
	db, proxy := behind(t)
	db.remote.queue = time.Minute
	proxy.Stall()
	start := time.Now()
	var writers sync.WaitGroup
	for range 5 {
		writers.Go(func() {
			err := db.Update(context.WithoutCancel(t.Context()), func(tx *Tx) error { return tx.AddBlob(busybox, dg("another"), 1) })
			if !errors.Is(err, ErrUnavailable) || errors.Is(err, context.Canceled) {
				t.Errorf("Update: %v, want ErrUnavailable only", err)
			}
		})
	}
	if _, err := db.Find(t.Context(), busybox, dg("layer")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Find: %v", err)
	}
	writers.Wait()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("those who wrote waited for %s", took)
	}
	proxy.Heal()
	works(t, db)
}

// It is found out by whoever waits for a turn, when nobody else asks, or nobody with the patience to learn it.
func TestPostgreSQLStallsBeforeTheOnlyTurn(t *testing.T) {
	db, proxy := behind(t)
	db.remote.queue = time.Minute
	proxy.Stall()
	start := time.Now()
	// The second asks whether a database that was silent is back.
	for _, longest := range []time.Duration{15 * time.Second, 15 * time.Second} {
		err := db.Update(context.WithoutCancel(t.Context()), func(tx *Tx) error { return tx.AddBlob(busybox, dg("another"), 1) })
		if !errors.Is(err, ErrUnavailable) || errors.Is(err, context.Canceled) {
			t.Errorf("Update: %v, want ErrUnavailable only", err)
		}
		if took := time.Since(start); took > longest {
			t.Errorf("who wrote waited for %s", took)
		}
		time.Sleep(pause)
		start = time.Now()
	}
	proxy.Heal()
	works(t, db)
}

// A turn that another has for long is waited for all the same.
func TestPostgreSQLTurnsTakeTheirTime(t *testing.T) {
	url := server.Database(t)
	one, other := openURL(t, url), openURL(t, url)
	has, ended := make(chan struct{}), make(chan error)
	go func() {
		ended <- one.Update(t.Context(), func(tx *Tx) error {
			close(has)
			time.Sleep(2*doubt + doubt/2)
			return tx.AddBlob(busybox, dg("first"), 1)
		})
	}()
	<-has
	if err := other.Update(t.Context(), func(tx *Tx) error { return tx.AddBlob(busybox, dg("second"), 1) }); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A transaction that stalls on its way is broken off, and one whose commit stalls is not known of.
func TestPostgreSQLStallsInside(t *testing.T) {
	db, proxy := behind(t)
	start := time.Now()
	err := db.Update(t.Context(), func(tx *Tx) error {
		err := tx.AddBlob(busybox, dg("broken off"), 1)
		proxy.Stall()
		return errors.Join(err, tx.AddBlob(busybox, dg("broken off, too"), 1))
	})
	if took := time.Since(start); !errors.Is(err, ErrUnavailable) || took > 20*time.Second {
		t.Errorf("Update = %v after %s", err, took)
	}
	proxy.Heal()
	proxy.Cut()
	works(t, db)
	if got := found(t, db, busybox, "broken off"); got.Stored {
		t.Errorf("Find = %+v of what was never committed", got)
	}
}

// Whoever gives up waiting is told so, and not that the database is away.
func TestPostgreSQLStallsForTheImpatient(t *testing.T) {
	db, proxy := behind(t)
	proxy.Stall()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := db.Find(ctx, busybox, dg("layer")); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnavailable) {
		t.Errorf("Find = %v, want the end of its ctx", err)
	}
	proxy.Heal()
	works(t, db)
}

func TestPostgreSQLCuts(t *testing.T) {
	db, proxy := behind(t)
	db.remote.patience, db.remote.queue = postgresPatience, postgresQueue // as they are: nothing is silent here
	for range 5 {
		// Connections that were cut while nobody used them cost nobody an answer.
		proxy.Cut()
		for name, err := range everything(t.Context(), db) {
			if err != nil && err.Error() != "not found" {
				t.Errorf("%s after all connections were cut: %v", name, err)
			}
		}
	}
	err := db.Update(t.Context(), func(tx *Tx) error {
		proxy.Cut()
		return tx.AddBlob(busybox, dg("cut"), 1)
	})
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("Update = %v, want it to say that the database is away", err)
	}
	// That one of them was in use says nothing to others.
	for name, err := range everything(t.Context(), db) {
		if err != nil && err.Error() != "not found" {
			t.Errorf("%s after a transaction was cut off: %v", name, err)
		}
	}
	proxy.Refuse()
	proxy.Cut()
	for name, err := range everything(t.Context(), db) {
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s without a way to the server: %v", name, err)
		}
	}
	proxy.Heal()
	works(t, db)
}

func TestPostgreSQLIsSlow(t *testing.T) {
	db, proxy := behind(t)
	db.remote.patience, db.remote.queue = postgresPatience, postgresQueue // as they are: this is no trouble
	proxy.Slow(20 * time.Millisecond)
	for name, err := range everything(t.Context(), db) {
		if err != nil && err.Error() != "not found" {
			t.Errorf("%s over a slow network: %v", name, err)
		}
	}
	proxy.Heal()
	works(t, db)
}

// TestPostgreSQLFrozenWriter: a node that is stopped while it is its turn keeps the others from
// writing for no longer than ten seconds (FAULTS N1), and writes nothing when it wakes up.
func TestPostgreSQLFrozenWriter(t *testing.T) {
	url := server.Database(t)
	frozen, other := openURL(t, url), openURL(t, url)
	inside, wake := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- frozen.Update(context.WithoutCancel(t.Context()), func(tx *Tx) error {
			err := tx.AddBlob(busybox, dg("frozen"), 1)
			close(inside)
			<-wake
			return err
		})
	}()
	<-inside
	start := time.Now()
	update(t, other, func(tx *Tx) error { return tx.AddBlob(busybox, dg("other"), 1) })
	if took := time.Since(start); took > postgresIdle+postgresStatement {
		t.Errorf("the other node waited for %s", took)
	}
	close(wake)
	if err := <-ended; !errors.Is(err, ErrUnavailable) {
		t.Errorf("Update of the frozen node = %v", err)
	}
	if got := found(t, other, busybox, "frozen"); got.Stored {
		t.Error("what the frozen node wrote is there")
	}
	update(t, other, func(tx *Tx) error { return tx.AddBlob(busybox, dg("layer"), 7) })
	works(t, frozen)
}

// TestPostgreSQLServer ends a server, kills it and freezes it: what a Durable had acknowledged is there
// afterwards, and the same handles go on.
func TestPostgreSQLServer(t *testing.T) {
	s := postgrestest.New(t, "fsync=on", "full_page_writes=on")
	name, err := s.Create("")
	if err != nil {
		t.Fatal(err)
	}
	one, two := openURL(t, s.URL(name)), openURL(t, s.URL(name))
	for _, db := range []*DB{one, two} {
		db.remote.patience = time.Second
		update(t, db, func(tx *Tx) error { return tx.AddBlob(busybox, dg("layer"), 7) })
	}
	again := func(end func() error) func() error {
		return func() error { return errors.Join(end(), s.Start()) }
	}
	for i, tt := range []struct {
		name string
		do   func() error
	}{
		{"kill -9", again(s.Kill)},
		{"kill -9 again", again(s.Kill)},
		{"a restart", again(s.Stop)},
		{"frozen", func() error {
			err := s.Freeze()
			time.Sleep(3 * time.Second)
			return errors.Join(err, s.Thaw())
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var (
				mu    sync.Mutex
				acked []string
				all   sync.WaitGroup
			)
			stop := make(chan struct{})
			for w := range 8 {
				db := []*DB{one, two}[w%2]
				all.Go(func() {
					for n := 0; ; n++ {
						select {
						case <-stop:
							return
						default:
						}
						// Of a project of its own, so that sets are made all the time, and their numbers.
						name, repo := fmt.Sprintf("%d-%d-%d", i, w, n), busybox
						repo.Project = "project-" + name
						err := db.Durable(context.WithoutCancel(t.Context()), func(tx *Tx) error { return tx.AddBlob(repo, dg(name), 1) })
						if err != nil && !errors.Is(err, ErrUnavailable) {
							t.Errorf("Durable = %v", err)
						}
						if err == nil {
							mu.Lock()
							acked = append(acked, name)
							mu.Unlock()
						} else {
							time.Sleep(10 * time.Millisecond)
						}
						// These may go with the server, and take what the next ones rest on.
						db.Update(context.WithoutCancel(t.Context()), func(tx *Tx) error { return tx.AddBlob(repo, dg(name+" cached"), 1) })
					}
				})
			}
			time.Sleep(500 * time.Millisecond)
			if err := tt.do(); err != nil {
				t.Fatal(err)
			}
			works(t, one)
			works(t, two)
			close(stop)
			all.Wait()
			for _, name := range acked {
				repo := busybox
				repo.Project = "project-" + name
				if got := found(t, one, repo, name); !got.Stored || !got.Direct {
					t.Errorf("%s was acknowledged and is %+v", name, got)
				}
			}
			if len(acked) == 0 {
				t.Error("nothing was ever acknowledged")
			}
			recount(t, two)
		})
	}
}
