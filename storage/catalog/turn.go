package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// turn is a turn to write, with its transaction begun.
type turn struct {
	db     *DB
	conn   *sql.Conn
	leave  func() // gives conn to the next
	sql    *sql.Tx
	synced bool
	cancel context.CancelFunc // breaks off the commit or the rollback
}

// begin waits for a turn to write. Whoever has one ends it.
func (db *DB) begin(ctx context.Context, synced bool) (*turn, error) {
	if err := db.remote.enter(); err != nil {
		return nil, fmt.Errorf("catalog: begin: %w", err)
	}
	t, err := db.wait(ctx, synced)
	if err != nil && db.remote != nil && db.remote.lost(err) && ctx.Err() == nil {
		// The server has closed the connection since the last turn. Nothing was written.
		t, err = db.wait(ctx, synced)
	}
	if err != nil {
		err = db.remote.judge(ctx, err)
		db.remote.leave(ctx, err)
		return nil, fmt.Errorf("catalog: begin: %w", db.explain(err))
	}
	return t, nil
}

func (db *DB) wait(ctx context.Context, synced bool) (*turn, error) {
	ctx, done := db.remote.whileHeard(ctx)
	defer done()
	conn, leave, err := db.conn(ctx)
	if err != nil {
		return nil, err
	}
	t := &turn{db: db, conn: conn, leave: leave, synced: synced}
	if err := t.start(ctx); err != nil {
		t.free()
		return nil, err
	}
	return t, nil
}

// conn waits for the connection that writes, which whoever has it frees. This is where the writers of this
// process queue.
func (db *DB) conn(ctx context.Context) (_ *sql.Conn, free func(), err error) {
	leave := func() {}
	if db.remote != nil {
		if leave, err = db.remote.seat(ctx, db.write.seats, db.remote.queue); err != nil {
			return nil, nil, err
		}
		// To make it, or to find out that it is still good, takes no longer than an answer.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, db.remote.patience)
		defer cancel()
	}
	conn, err := db.write.db.Conn(ctx)
	if err != nil {
		leave()
		return nil, nil, err
	}
	return conn, func() {
		conn.Close()
		leave()
	}, nil
}

// start begins the transaction.
func (t *turn) start(ctx context.Context) error {
	// Waiting for the lock of another process is bounded by the database. The driver keeps the ctx
	// that it begins with for the commit, and that is not to end with the caller's.
	inner := context.WithoutCancel(ctx)
	if t.db.remote != nil {
		inner, t.cancel = context.WithCancel(inner)
	}
	if t.synced && t.db.sync != nil {
		if err := t.db.sync(inner, t.conn, true); err != nil {
			return err
		}
	}
	err := t.briefly(func() (err error) {
		t.sql, err = t.conn.BeginTx(inner, t.db.isolation)
		return err
	})
	if err != nil || t.db.turn == nil {
		return err
	}
	ctx, done := t.db.whileThere(ctx)
	defer done()
	return t.db.turn(ctx, t.sql, t.synced)
}

// doubt is after how long of waiting for a turn it is asked whether the database is there at all: a turn
// that another node has, for which there is much patience, looks like a cable that is out.
const doubt = 2 * time.Second

// whileThere is a ctx that ends when the database does not answer a question that needs no turn.
func (db *DB) whileThere(ctx context.Context) (_ context.Context, done func()) {
	if db.alive == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(doubt, func() {
		for ctx.Err() == nil {
			if err := db.alive.answers(ctx); err != nil && !errors.Is(err, errBusy) {
				cancel()
			}
			select {
			case <-ctx.Done():
			case <-time.After(doubt):
			}
		}
	})
	return ctx, func() {
		cancel()
		timer.Stop()
	}
}

// briefly breaks off what takes too long.
func (t *turn) briefly(do func() error) error {
	if t.db.remote == nil {
		return do()
	}
	timer := time.AfterFunc(t.db.remote.patience, t.cancel)
	defer timer.Stop()
	return do()
}

func (t *turn) commit() error {
	err := t.db.remote.judge(context.Background(), t.briefly(t.sql.Commit))
	if err != nil && t.db.remote != nil {
		return fmt.Errorf("whether it was written is not known: %w", err)
	}
	return err
}

// end gives the turn to the next. err is what became of it.
func (t *turn) end(ctx context.Context, err error) {
	t.free()
	t.db.remote.leave(ctx, t.db.remote.within(err))
}

func (t *turn) free() {
	if t.sql != nil {
		t.briefly(t.sql.Rollback) // when there was no commit, also because fn panicked
	}
	if t.synced && t.db.sync != nil {
		// Should this not work, the next ones are slower.
		t.db.sync(context.Background(), t.conn, false)
	}
	if t.cancel != nil {
		t.cancel()
	}
	t.leave()
}
