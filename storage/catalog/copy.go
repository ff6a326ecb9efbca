package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"roadstead/registry"
)

// passing are the tables of what is over when the servers of a catalog have ended: who is alive and
// who does what, and who is signed in at the console. They are not copied.
var passing = []string{"nodes", "leases", "jobs", "sessions"}

// born are the tables that a new catalog has one row in each.
var born = []string{"holders", "changes", "audit_pruning"}

// Tables are those that CopyFrom copies, with how many rows each has.
func (db *DB) Tables(ctx context.Context) (map[string]int64, error) {
	names, err := db.tables(ctx)
	tables := map[string]int64{}
	for _, name := range names {
		var n int64
		if err == nil {
			err = db.read.one(ctx, `SELECT COUNT(*) FROM `+name, nil, &n)
		}
		tables[name] = n
	}
	if err != nil {
		return nil, fmt.Errorf("catalog: count rows: %w", db.explain(err))
	}
	return tables, nil
}

func (db *DB) tables(ctx context.Context) ([]string, error) {
	query := `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'goose_%' ORDER BY name`
	if db.remote != nil {
		query = `SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'
			AND table_name NOT LIKE 'goose_%' ORDER BY table_name`
	}
	names, err := db.names(ctx, query)
	return slices.DeleteFunc(names, func(name string) bool { return slices.Contains(passing, name) }), err
}

// Stored calls fn with every digest that the catalog takes for stored, until fn fails. fn must not ask
// the catalog.
func (db *DB) Stored(ctx context.Context, fn func(registry.Digest) error) error {
	err := db.read.each(ctx, `SELECT digest FROM content WHERE stored = 1`, nil, func(rows *sql.Rows) error {
		var key []byte
		if err := rows.Scan(&key); err != nil {
			return err
		}
		d, err := unpack(key)
		if err != nil {
			return err
		}
		return fn(d)
	})
	if err != nil {
		return fmt.Errorf("catalog: walk what is stored: %w", db.explain(err))
	}
	return nil
}

// Sample is some of what the catalog takes for stored, at most n digests.
func (db *DB) Sample(ctx context.Context, n int) ([]registry.Digest, error) {
	var few []registry.Digest
	err := db.read.each(ctx, `SELECT digest FROM content WHERE stored = 1 LIMIT $1`, []any{n}, func(rows *sql.Rows) error {
		var key []byte
		if err := rows.Scan(&key); err != nil {
			return err
		}
		d, err := unpack(key)
		few = append(few, d)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("catalog: sample what is stored: %w", db.explain(err))
	}
	return few, nil
}

// New reports whether nobody has written anything into a catalog yet.
func (db *DB) New(ctx context.Context) (bool, error) {
	names, err := db.tables(ctx)
	for _, name := range names {
		var rows int64
		if err == nil {
			err = db.read.one(ctx, `SELECT COUNT(*) FROM (SELECT 1 AS one FROM `+name+` LIMIT 2) few`, nil, &rows)
		}
		if rows > 0 && !(rows == 1 && slices.Contains(born, name)) {
			return false, nil
		}
	}
	if err != nil {
		return false, fmt.Errorf("catalog: look whether it is new: %w", db.explain(err))
	}
	return true, nil
}

// CopyFrom makes a catalog in PostgreSQL the same as one in a file: with the same numbers, of which
// those that were given once are never given again. What it had goes, but for the setting keep.
// All of it is there when CopyFrom returns nil, and nothing of it otherwise. step is called with how
// many rows more have been sent.
//
// Nobody must write to from meanwhile, or ask this one, which is locked.
func (db *DB) CopyFrom(ctx context.Context, from *DB, keep string, step func(rows int64)) error {
	if db.remote == nil || from.remote != nil {
		return errors.New("catalog: only what is in a file can be copied, and only into PostgreSQL")
	}
	tables, err := from.tables(ctx)
	if err != nil {
		return fmt.Errorf("catalog: copy: %w", from.explain(err))
	}
	conn, free, err := db.conn(ctx)
	if err != nil {
		return fmt.Errorf("catalog: copy: %w", db.explain(err))
	}
	defer free()
	defer db.sets.forget()
	err = conn.Raw(func(driver any) error {
		return pgx.BeginFunc(ctx, driver.(*stdlib.Conn).Conn(), func(tx pgx.Tx) error {
			c := catalogCopy{ctx: ctx, from: from, tx: tx, tables: tables, keep: keep, step: step}
			return c.run()
		})
	})
	if err != nil {
		return fmt.Errorf("catalog: copy: %w", db.explain(db.remote.judge(ctx, err)))
	}
	return nil
}

// catalogCopy is one call of CopyFrom.
type catalogCopy struct {
	ctx    context.Context
	from   *DB
	tx     pgx.Tx
	tables []string
	keep   string
	step   func(int64)
}

func (c *catalogCopy) run() error {
	if err := c.exec(`SELECT pg_advisory_xact_lock($1), set_config('synchronous_commit', 'on', true), set_config('statement_timeout', '0', true),
		set_config('idle_in_transaction_session_timeout', $2, true)`, int64(writeLock), milliseconds(postgresMigration)); err != nil {
		return err
	}
	// To look at each row's keys when it comes takes several times as long as to look at all of them
	// in the end, and has an order.
	foreign, err := c.dropForeignKeys()
	if err != nil {
		return err
	}
	for _, table := range c.tables {
		if err := c.table(table); err != nil {
			return fmt.Errorf("table %s: %w", table, err)
		}
	}
	for _, add := range foreign {
		if err := c.exec(add); err != nil {
			return err
		}
	}
	// Without it the first questions are answered by reading whole tables.
	return c.exec(`ANALYZE ` + strings.Join(c.tables, ", "))
}

func (c *catalogCopy) exec(query string, args ...any) error {
	_, err := c.tx.Exec(c.ctx, query, args...)
	return err
}

// dropForeignKeys returns the statements that make them again.
func (c *catalogCopy) dropForeignKeys() (again []string, err error) {
	rows, err := c.tx.Query(c.ctx, `SELECT 'ALTER TABLE ' || conrelid::regclass || ' DROP CONSTRAINT ' || quote_ident(conname),
		'ALTER TABLE ' || conrelid::regclass || ' ADD CONSTRAINT ' || quote_ident(conname) || ' ' || pg_get_constraintdef(oid)
		FROM pg_constraint WHERE contype = 'f' AND connamespace = current_schema()::regnamespace`)
	if err != nil {
		return nil, err
	}
	var drop []string
	var one, other string
	if _, err = pgx.ForEachRow(rows, []any{&one, &other}, func() error {
		drop, again = append(drop, one), append(again, other)
		return nil
	}); err != nil {
		return nil, err
	}
	for _, statement := range drop {
		if err := c.exec(statement); err != nil {
			return nil, err
		}
	}
	return again, nil
}

// table copies the rows of one table, whatever it had, and whatever its triggers say of that.
func (c *catalogCopy) table(table string) error {
	if table == "settings" {
		// Not emptied but by rows: nodes that are started look whether they may.
		if err := c.exec(`DELETE FROM settings WHERE name <> $1`, c.keep); err != nil {
			return err
		}
	} else if err := c.exec(`ALTER TABLE ` + table + ` DISABLE TRIGGER USER; TRUNCATE ` + table + `; ALTER TABLE ` + table + ` ENABLE TRIGGER USER`); err != nil {
		return err
	}
	columns, err := c.from.names(c.ctx, `SELECT name FROM pragma_table_info($1)`, table)
	if err != nil {
		return err
	}
	rows, err := c.from.read.db.QueryContext(c.ctx, `SELECT `+strings.Join(columns, ", ")+` FROM `+table)
	if err != nil {
		return err
	}
	defer rows.Close()
	if _, err := c.tx.CopyFrom(c.ctx, pgx.Identifier{table}, columns, &copiedRows{rows: rows, columns: len(columns), step: c.step}); err != nil {
		return err
	}
	return c.numbers(table, columns)
}

// numbers has the numbers of a table go on where they were: behind those of rows that have gone, too,
// where the file remembers that.
func (c *catalogCopy) numbers(table string, columns []string) error {
	if !slices.Contains(columns, "id") {
		return nil
	}
	var sequence *string
	if err := c.tx.QueryRow(c.ctx, `SELECT pg_get_serial_sequence($1, 'id')`, table).Scan(&sequence); err != nil || sequence == nil {
		return err
	}
	var last, given sql.NullInt64
	err := c.from.read.one(c.ctx, `SELECT MAX(id), (SELECT seq FROM sqlite_sequence WHERE name = $1) FROM `+table, []any{table}, &last, &given)
	if err != nil {
		return err
	}
	return c.exec(`SELECT setval($1, $2, false)`, *sequence, max(last.Int64, given.Int64)+1)
}

// copiedRows is rows as pgx takes them.
type copiedRows struct {
	rows    *sql.Rows
	columns int
	step    func(int64)
	unsaid  int64
}

// stepRows is how many rows are sent between two words of it.
const stepRows = 1000

func (c *copiedRows) Next() bool {
	more := c.rows.Next()
	if c.unsaid == stepRows || !more {
		c.step(c.unsaid)
		c.unsaid = 0
	}
	if more {
		c.unsaid++
	}
	return more
}

func (c *copiedRows) Err() error { return c.rows.Err() }

func (c *copiedRows) Values() ([]any, error) {
	values, at := make([]any, c.columns), make([]any, c.columns)
	for i := range values {
		at[i] = &values[i]
	}
	err := c.rows.Scan(at...)
	return storable(values), err
}
