package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
)

// pool is some connections and the statements that are prepared on them. Parsing and planning
// costs several times what running a small statement does.
type pool struct {
	db     *sql.DB
	remote *remote // of a database elsewhere, whose driver prepares by itself
	seats  seats   // of that

	mu       sync.RWMutex
	prepared map[string]*sql.Stmt
}

func newPool(db *sql.DB, remote *remote) *pool {
	return &pool{db: db, remote: remote, prepared: map[string]*sql.Stmt{}}
}

// statement is a prepared one, or one that is prepared for each connection when it first runs there.
// To keep the former for many connections that come and go is what a *sql.Stmt is bad at.
type statement interface {
	ExecContext(ctx context.Context, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, args ...any) *sql.Row
}

// known returns the statement of a query if it is prepared already.
func (p *pool) known(query string) *sql.Stmt {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.prepared[query]
}

// prepare returns the statement of a query. It may wait for a connection.
func (p *pool) prepare(ctx context.Context, query string) (statement, error) {
	if p.remote != nil {
		return text{p.db, query}, nil
	}
	if stmt := p.known(query); stmt != nil {
		return stmt, nil
	}
	stmt, err := p.db.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	first := p.prepared[query]
	if first == nil {
		p.prepared[query] = stmt
	}
	p.mu.Unlock()
	if first != nil { // another goroutine was quicker
		return first, stmt.Close()
	}
	return stmt, nil
}

// one reads the only row of a query, or returns sql.ErrNoRows.
func (p *pool) one(ctx context.Context, query string, args []any, dest ...any) error {
	return p.remote.ask(ctx, p.seats, func(ctx context.Context) error {
		stmt, err := p.prepare(ctx, query)
		if err != nil {
			return err
		}
		return stmt.QueryRowContext(ctx, args...).Scan(dest...)
	})
}

// answers returns nil when the database answers, whatever was known of it before: it asks also where
// others are refused because somebody is asking already.
func (p *pool) answers(ctx context.Context) error {
	free, err := p.remote.seat(ctx, p.seats, p.remote.patience)
	if err != nil {
		return err
	}
	defer free()
	return p.remote.answer(ctx, func(ctx context.Context) error {
		var one int
		return p.db.QueryRowContext(ctx, `SELECT 1`).Scan(&one)
	})
}

// each calls scan on every row of a query. scan must not use the pool.
func (p *pool) each(ctx context.Context, query string, args []any, scan func(*sql.Rows) error) error {
	var broken error // behind some rows, which must not come again
	return p.remote.ask(ctx, p.seats, func(ctx context.Context) error {
		if broken != nil {
			return broken
		}
		stmt, err := p.prepare(ctx, query)
		if err != nil {
			return err
		}
		rows, err := stmt.QueryContext(ctx, args...)
		if err != nil {
			return err
		}
		n := 0
		err = drain(rows, func(rows *sql.Rows) error {
			n++
			return scan(rows)
		})
		if n > 0 {
			broken = err
		}
		return err
	})
}

// list reads all rows of a query. what is for its error.
func list[T any](ctx context.Context, db *DB, what, query string, args []any, scan func(func(...any) error) (T, error)) ([]T, error) {
	var all []T
	err := db.read.each(ctx, query, args, func(rows *sql.Rows) error {
		x, err := scan(rows.Scan)
		all = append(all, x)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("catalog: %s: %w", what, db.explain(err))
	}
	return all, nil
}

// listed is list in a transaction, whose own changes it sees.
func listed[T any](tx *Tx, what, query string, scan func(func(...any) error) (T, error)) ([]T, error) {
	var all []T
	err := tx.each(query, nil, func(rows *sql.Rows) error {
		x, err := scan(rows.Scan)
		all = append(all, x)
		return err
	})
	if err != nil {
		return nil, tx.spoil(err, "list %s", what)
	}
	return all, nil
}

// only reads the only row of a query in a transaction, or returns ErrNotFound, which does not spoil
// it.
func only[T any](tx *Tx, what, query string, args []any, scan func(func(...any) error) (T, error)) (T, error) {
	x, err := scan(func(dest ...any) error { return tx.one(query, args, dest...) })
	if err == nil {
		return x, nil
	}
	var none T
	if errors.Is(err, sql.ErrNoRows) {
		return none, fmt.Errorf("catalog: %s: %w", what, ErrNotFound)
	}
	return none, tx.spoil(err, "read %s", what)
}

func drain(rows *sql.Rows, scan func(*sql.Rows) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (p *pool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, stmt := range p.prepared {
		stmt.Close() // the connections go next, and tell of any trouble themselves
	}
	clear(p.prepared)
	return p.db.Close()
}
