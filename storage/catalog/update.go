package catalog

import (
	"context"
	"database/sql"
	"fmt"

	"roadstead/registry"
)

// Tx is what a function given to Update writes with. It is of use inside that function only,
// and to one goroutine. It is bounded by the ctx of Update.
//
// After an error of one of its methods the transaction is not committed, even if the function
// goes on and returns nil: half of a manifest's rows must not stay.
type Tx struct {
	ctx   context.Context
	inner context.Context // ctx without its end, for the statements
	db    *DB
	sql   *sql.Tx
	stmts map[string]statement
	fresh []string // queries that had to be prepared here
	err   error    // the first one

	repos    map[registry.Repo]*repository
	projects map[string]bool     // whether they are hosted
	content  map[string]*content // by packed digest; what is written is in here too
	sets     setChanges
	usage    map[int64]Usage    // changes by holders
	counts   map[string]counts  // changes by project
	left     map[int64]struct{} // repositories that lost something
	bare     map[*content]struct{}
	told     map[Change]struct{} // what other nodes have to know
	placed   map[linkage]Placed  // what was known when things were put into the layout
}

// Update runs fn in a write transaction. All of what fn wrote is there when Update returns
// nil, and nothing of it otherwise. Writers take turns, so fn should only write; a thousand
// small changes in one Update cost a small part of what they cost in a thousand.
//
// An error of fn is returned as it is. fn must not call Update.
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	return db.commit(ctx, false, fn)
}

func (db *DB) commit(ctx context.Context, synced bool, fn func(*Tx) error) error {
	fresh, err := db.update(ctx, synced, fn)
	if err != nil {
		return err
	}
	db.prepare(ctx, fresh)
	return nil
}

// prepare prepares the statements that were new to a transaction. They ended with it, and while it
// ran the only connection was its own. This is no part of the update: without it the next one is
// slower.
func (db *DB) prepare(ctx context.Context, fresh []string) {
	for _, query := range fresh {
		if _, err := db.write.prepare(context.WithoutCancel(ctx), query); err != nil {
			break
		}
	}
}

func (db *DB) update(ctx context.Context, synced bool, fn func(*Tx) error) (fresh []string, err error) {
	t, err := db.begin(ctx, synced)
	if err != nil {
		return nil, err
	}
	defer func() { t.end(ctx, err) }()
	return t.run(ctx, fn)
}

// run calls fn and commits.
func (t *turn) run(ctx context.Context, fn func(*Tx) error) (fresh []string, err error) {
	db := t.db
	tx := &Tx{
		// Statements are too short to be worth interrupting, and watching ctx costs each of them
		// as much again. So they do not see its end; Tx looks at it between two of them.
		ctx: ctx, inner: context.WithoutCancel(ctx), db: db, sql: t.sql, stmts: map[string]statement{},
		repos: map[registry.Repo]*repository{}, projects: map[string]bool{}, content: map[string]*content{},
		usage: map[int64]Usage{}, counts: map[string]counts{}, left: map[int64]struct{}{}, bare: map[*content]struct{}{},
	}
	if err := fn(tx); err != nil {
		return nil, err
	}
	if err := tx.settle(); err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	if err := t.commit(); err != nil {
		return nil, fmt.Errorf("catalog: commit: %w", db.explain(err))
	}
	if t.synced {
		if err := db.witness.Ask(); err != nil {
			return nil, fmt.Errorf("catalog: commit: %w", err)
		}
	}
	db.sets.learn(tx.sets)
	return tx.fresh, nil
}

// settle writes what is known only at the end: the counters, and which rows nothing needs
// any more.
func (tx *Tx) settle() error {
	if err := tx.sweep(); err != nil {
		return err
	}
	if err := tx.count(); err != nil {
		return err
	}
	if err := tx.recount(); err != nil {
		return err
	}
	if err := tx.announce(); err != nil {
		return err
	}
	return tx.ready()
}

// sweep removes digests that nothing stores, links or refers to, and repositories that have
// neither a tag nor a link.
func (tx *Tx) sweep() error {
	for c := range tx.bare {
		_, err := tx.exec(`DELETE FROM content WHERE id = $1 AND stored = 0
			AND NOT EXISTS (SELECT 1 FROM links WHERE content_id = $1)
			AND NOT EXISTS (SELECT 1 FROM refs WHERE child_id = $1)
			AND NOT EXISTS (SELECT 1 FROM subjects WHERE subject_id = $1)`, c.id)
		if err != nil {
			return err
		}
	}
	for id := range tx.left {
		if err := tx.hide(id); err != nil {
			return err
		}
		_, err := tx.exec(`DELETE FROM repositories WHERE id = $1
			AND NOT EXISTS (SELECT 1 FROM links WHERE repository_id = $1)
			AND NOT EXISTS (SELECT 1 FROM tags WHERE repository_id = $1)`, id)
		if err != nil {
			return err
		}
	}
	return nil
}

// ready says whether another statement makes sense.
func (tx *Tx) ready() error {
	if tx.err != nil {
		return tx.err
	}
	return context.Cause(tx.ctx)
}

// spoil ends a method that went wrong, and with it the transaction.
func (tx *Tx) spoil(err error, doing string, args ...any) error {
	err = fmt.Errorf("catalog: %s: %w", fmt.Sprintf(doing, args...), err)
	if tx.err == nil {
		tx.err = err
	}
	return err
}

func (tx *Tx) stmt(query string) (statement, error) {
	if err := tx.ready(); err != nil {
		return nil, err
	}
	if tx.db.remote != nil {
		return text{tx.sql, query}, nil
	}
	if stmt := tx.stmts[query]; stmt != nil {
		return stmt, nil
	}
	if stmt := tx.db.write.known(query); stmt != nil {
		tx.stmts[query] = tx.sql.StmtContext(tx.inner, stmt)
		return tx.stmts[query], nil
	}
	stmt, err := tx.sql.PrepareContext(tx.inner, query)
	if err != nil {
		return nil, tx.failure(err)
	}
	tx.stmts[query] = stmt
	tx.fresh = append(tx.fresh, query)
	return stmt, nil
}

// failure is the error of a statement as callers get it.
func (tx *Tx) failure(err error) error { return tx.db.explain(tx.db.remote.judge(tx.inner, err)) }

// exec runs a statement and returns how many rows it changed.
func (tx *Tx) exec(query string, args ...any) (int64, error) {
	stmt, err := tx.stmt(query)
	if err != nil {
		return 0, err
	}
	ctx, cancel := tx.db.remote.bound(tx.inner)
	defer cancel()
	result, err := stmt.ExecContext(ctx, args...)
	if err != nil {
		return 0, tx.failure(err)
	}
	return result.RowsAffected()
}

// one reads the only row of a query, or returns sql.ErrNoRows.
func (tx *Tx) one(query string, args []any, dest ...any) error {
	stmt, err := tx.stmt(query)
	if err != nil {
		return err
	}
	ctx, cancel := tx.db.remote.bound(tx.inner)
	defer cancel()
	return tx.failure(stmt.QueryRowContext(ctx, args...).Scan(dest...))
}

// each calls scan on every row of a query. scan must not use tx.
func (tx *Tx) each(query string, args []any, scan func(*sql.Rows) error) error {
	stmt, err := tx.stmt(query)
	if err != nil {
		return err
	}
	ctx, cancel := tx.db.remote.bound(tx.inner)
	defer cancel()
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return tx.failure(err)
	}
	return tx.failure(drain(rows, scan))
}
