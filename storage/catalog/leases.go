package catalog

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// A lease is the right to do something that one process at a time does, of all that have the same
// catalog: a row with its holder and when that last said that it is alive, by the clock of the
// database. It is what an advisory lock would be but for one case. That belongs to a session, and the
// session of a process that is frozen, or cut off behind pgbouncer, goes on: its kernel answers
// keep-alives, and nothing is outstanding that a timeout could count from. To end such a session from
// elsewhere somebody would have to know that its process is gone, which is what the row says. So the
// row is enough.
//
// By the time others take it the holder has given it up by its own clock, which is asked from before
// it said that it was alive. A process that was frozen finds out when it goes on, and by then may be a
// statement further: a lease saves work that would be done twice, and is no proof against it. What is
// removed is decided in the transaction that removes it, whoever holds what.
const (
	leaseBeat  = time.Second     // how often a holder says that it is alive
	leaseTrust = 5 * time.Second // for how long a holder believes in what it said last
	leaseLife  = 6 * time.Second // after this the others no longer do
	leaseLook  = 2 * time.Second // how often others look who would lead
)

var (
	// ErrHeld says that another process does what is to be done by one at a time.
	ErrHeld = errors.New("another process does that")

	// ErrLost is the cause of a ctx that ends because a lease could not be kept, or is another's now.
	ErrLost = errors.New("the lease is lost: the database did not answer, or this process stood still")

	// ErrRecalled is the cause of a ctx that ends because somebody has asked for that.
	ErrRecalled = errors.New("somebody has asked it to stop")
)

// Holder is who has a lease.
type Holder struct {
	ID   string // of this one time that the lease was had
	Node string
}

// Lead calls fn whenever this process has the lease of a name, until ctx ends, whose error it returns.
// fn gets a ctx that ends with the lease, and has to return then: the lease is kept until it has, if it
// can be. While the database is away nobody leads.
//
// A catalog in a file has one process, which leads: fn is called once, at once.
func (db *DB) Lead(ctx context.Context, name, node string, fn func(ctx context.Context)) error {
	if db.listen == nil {
		fn(ctx)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	for ctx.Err() == nil {
		wait := db.held(ctx, name)
		if wait == 0 {
			err := db.Hold(ctx, name, node, func(ctx context.Context, _ string) {
				fn(ctx)
				<-ctx.Done() // who leads does so until it has to stop, however little there is to do
			})
			if err == nil {
				continue // it was lost, or ctx has ended
			}
			wait = leaseLook
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return context.Cause(ctx)
}

// held is for how long nobody need try to take a lease, at most until the next look. Those who would
// lead look and do not try, so that a thousand of them do not stand in line for one row; and they try
// at the moment from which they may.
func (db *DB) held(ctx context.Context, name string) time.Duration {
	var left int64
	err := db.alive.one(ctx, `SELECT $2 - abs(`+databaseTime+` - renewed_at) FROM leases WHERE name = $1`, []any{name, leaseLife.Milliseconds()}, &left)
	switch {
	case errors.Is(err, sql.ErrNoRows) || err == nil && left < 0:
		return 0
	case err != nil:
		return leaseLook
	}
	return min(leaseLook, time.Duration(left+1)*time.Millisecond)
}

// Hold calls fn if nobody has the lease of a name, and returns ErrHeld otherwise. fn gets a ctx that
// ends with the lease, its cause being ErrLost or ErrRecalled, and what the lease is known by this
// time. The lease is kept until fn returns, if it can be, and then given back.
//
// A catalog in a file has one process, which sees to it by itself: fn is called, with "".
func (db *DB) Hold(ctx context.Context, name, node string, fn func(ctx context.Context, id string)) error {
	if db.listen == nil {
		fn(ctx, "")
		return nil
	}
	l := lease{db: db, name: name, node: node, id: rand.Text()}
	asked := time.Now()
	if err := l.take(ctx); err != nil {
		return err
	}
	within, end := context.WithCancelCause(ctx)
	defer end(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn(within, l.id)
	}()
	l.keep(within, end, done, asked)
	<-done
	if errors.Is(context.Cause(within), ErrLost) {
		return nil
	}
	return l.give(ctx)
}

type lease struct {
	db   *DB
	name string
	node string
	id   string
}

// keep keeps a lease until done is closed, or it is lost, of which it tells end.
func (l lease) keep(ctx context.Context, end context.CancelCauseFunc, done <-chan struct{}, asked time.Time) {
	trust := time.AfterFunc(leaseTrust-time.Since(asked), func() { end(ErrLost) })
	defer trust.Stop()
	beat := time.NewTicker(leaseBeat)
	defer beat.Stop()
	for {
		select {
		case <-done:
			return
		case <-beat.C:
		}
		if errors.Is(context.Cause(ctx), ErrLost) {
			return
		}
		asked := time.Now()
		stopping, err := l.renew(ctx)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			end(ErrLost)
			return
		case err != nil: // maybe the next time
		default:
			trust.Reset(leaseTrust - time.Since(asked))
			if stopping {
				end(ErrRecalled)
			}
		}
	}
}

// As with the roll of nodes nothing here waits for a turn to write, for those who read or for the disk. A server that loses
// its last half second gives a lease back to whoever had it then, who has heard that it is lost.
const fast = `FROM set_config('synchronous_commit', 'off', true)`

// take takes a lease that nobody has, or whose holder is silent. A clock that was set back must not
// keep a lease for ever.
func (l lease) take(ctx context.Context) error {
	var id string
	err := l.db.alive.one(ctx, `INSERT INTO leases (name, holder, node, renewed_at, stopping) SELECT $1, $2, $3, `+databaseTime+`, 0 `+fast+`
		ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, node = excluded.node, renewed_at = excluded.renewed_at, stopping = 0
		WHERE abs(excluded.renewed_at - leases.renewed_at) > $4 RETURNING holder`,
		[]any{l.name, l.id, l.node, leaseLife.Milliseconds()}, &id)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrHeld
	}
	if err != nil {
		return fmt.Errorf("catalog: take the lease %s: %w", l.name, l.db.explain(err))
	}
	return nil
}

// renew says that the holder is alive. sql.ErrNoRows is that it has the lease no more.
func (l lease) renew(ctx context.Context) (stopping bool, err error) {
	// It is kept, too, while fn comes to its end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*leaseBeat)
	defer cancel()
	err = l.db.alive.one(ctx, `UPDATE leases SET renewed_at = `+databaseTime+` `+fast+` WHERE name = $1 AND holder = $2 RETURNING stopping = 1`,
		[]any{l.name, l.id}, &stopping)
	return stopping, err
}

func (l lease) give(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTrust)
	defer cancel()
	var n int
	err := l.db.alive.one(ctx, `WITH gone AS (DELETE FROM leases WHERE name = $1 AND holder = $2 RETURNING 1) SELECT COUNT(*) FROM gone`, []any{l.name, l.id}, &n)
	if err != nil {
		return fmt.Errorf("catalog: give the lease %s back: %w", l.name, l.db.explain(err))
	}
	return nil
}

// Holder says who has a lease. ErrNotFound is that nobody does, or nobody who is alive, and of a
// catalog in a file that nobody has to ask.
func (db *DB) Holder(ctx context.Context, name string) (Holder, error) {
	if db.listen == nil {
		return Holder{}, ErrNotFound
	}
	return lone(ctx, db, "lease "+name, `SELECT holder, node FROM leases WHERE name = $1 AND abs(`+databaseTime+` - renewed_at) <= $2`,
		[]any{name, leaseLife.Milliseconds()}, func(scan func(...any) error) (h Holder, err error) {
			return h, scan(&h.ID, &h.Node)
		})
}

// Recall asks the holder of a lease to stop, which it learns within a second or two. ErrNotFound is
// that it is not held, or not by that one any more.
func (db *DB) Recall(ctx context.Context, name, id string) error {
	if db.listen == nil {
		return ErrNotFound
	}
	_, err := lone(ctx, db, "lease "+name, `UPDATE leases SET stopping = 1 WHERE name = $1 AND holder = $2 RETURNING 1`,
		[]any{name, id}, one)
	return err
}
