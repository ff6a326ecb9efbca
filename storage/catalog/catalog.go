// Package catalog remembers in SQL what the storage layout cannot say: which digests each
// repository has, what manifests are made of, what tags pointed to and when that was last
// checked, how large content is and when it was last used. And it remembers who there is and
// what everybody may.
//
// No content lives here, and of content nothing that could not be had again: the layout is the
// truth, upstream knows the rest, and `roadstead adopt` rebuilds that half of a lost catalog.
// Whoever stores content writes the layout first and the catalog second. Hosted projects and
// accounts are nowhere else: they are what a catalog is backed up for.
//
// The statements are plain SQL that SQLite and PostgreSQL both understand; what differs
// between them is in the file that opens the one or the other, and in its migrations.
//
// # Several nodes
//
// One node has its catalog in a file. Several have one in PostgreSQL, with the same tables, and what
// they are promised is the same:
//
//   - Writers take turns, those of all nodes: each transaction begins with an advisory lock, in the
//     order in which they came. Nearly all of them change the same few counters, so that they would
//     wait for each other anyway; and with SERIALIZABLE the function that writes would have to run
//     again, at any statement, which nobody who calls Update has promised it may. So nothing fails
//     because of what another node wrote, and what is proved of one writer is true of all. The price
//     is that a cluster writes no faster than one node, and that the way to the database counts
//     about ten times for a small Update, and four times for each further blob in it. With the
//     database on the same two busy cores and a disk that is synced that was 600 Updates of a blob a
//     second, 76 Durables one after the other, 750 beside each other, and 1,900 blobs a second in
//     Updates of a thousand; three nodes together have the same. Put the database near.
//   - Readers never wait for any of that.
//   - Of what is in the database nothing is remembered between transactions but sets of holders,
//     which never change. They are forgotten with the connection: a server that comes back may have
//     lost its last transactions, and give their numbers again.
//   - Durable waits for the server's disk at its commit (synchronous_commit), and Update does not,
//     unless it changes what numbers or generations are given for. Whether standbys are waited for
//     is set on the server.
//   - Every question ends: see the times in postgres.go, here and on the server. A call that had no
//     answer says ErrUnavailable, never ErrNotFound, and the calls after it say so at once until the
//     database answers one of them again. A node that stands still in its turn loses it after ten
//     seconds, with all it wrote.
//   - What was changed elsewhere is heard by Watch.
//   - What one process does for all of them is done by whoever has the lease of it: see Lead and Hold.
//   - Content is written down as stored only by whoever has put it into the layout after each removal
//     of it had ended that is remembered (Unplaced); removals belong to one process for a time, and may
//     be taken over after that (TakeOver).
//
// The driver prepares statements for each connection, and the turn, the times and Watch belong to
// sessions: pgbouncer has to pool sessions, not transactions.
package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"roadstead/storage/witness"
)

var (
	// ErrNotFound says that the catalog has no such row.
	ErrNotFound = errors.New("not in the catalog")

	// ErrExists says that the catalog has such a row already.
	ErrExists = errors.New("already in the catalog")

	// ErrNotEmpty says that something cannot go because of what is in it.
	ErrNotEmpty = errors.New("not empty")

	// ErrDamaged says that the database file is not one any more. Its text tells the operator
	// what to do.
	ErrDamaged = errors.New("the catalog is damaged")
)

// DB is an open catalog. All its methods may be called concurrently; readers never wait for a
// writer, and see everything that an Update wrote or nothing of it.
type DB struct {
	read    *pool
	write   *pool // one connection: whoever has it is the writer of this process
	alive   *pool // one connection, for what has to be said in time however many read. nil for a file
	explain func(error) error
	remote  *remote // nil for a file
	sets    sets
	queue   queue
	// witness knows whether the syncs of a catalog in a file are to be believed. nil without one.
	witness *witness.Witness
	// sync has the next commits of a connection survive a power cut, or no more.
	// nil where that is said to each transaction, by turn.
	sync func(ctx context.Context, conn *sql.Conn, on bool) error
	// turn waits for the turn of this process among all that write. nil where the database does.
	turn      func(ctx context.Context, t *sql.Tx, synced bool) error
	isolation *sql.TxOptions
	// listen calls fn for what is said on the channel of changes, until ctx or the connection ends;
	// first with "" when it hears all from then on. nil where nobody else says anything.
	listen func(ctx context.Context, fn func(payload string)) error
	// migrate brings the schema up to date. nil where that is done when it is opened.
	migrate func(context.Context) error
	node    string      // what its own changes are known by
	beaten  atomic.Bool // its node has been on the roll
}

// Open opens the catalog that url names, "sqlite:/path/to/catalog.db", which is made when it is
// missing, or "postgres://user:password@host:5432/database", and brings its schema up to date. It
// takes the same few milliseconds however much is in the catalog.
//
// A schema that a newer program has written is refused and left as it is. A file that is
// no database is ErrDamaged. No error has the password in it.
func Open(ctx context.Context, url string) (*DB, error) {
	path, file := strings.CutPrefix(url, "sqlite:")
	if file && path != "" {
		db, err := openSQLite(ctx, path)
		if err != nil {
			return nil, fmt.Errorf("open catalog %s: %w", path, err)
		}
		return db, nil
	}
	db, err := Later(url)
	if err != nil {
		return nil, err
	}
	if err := db.Prepare(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// Later opens a catalog in PostgreSQL that may be away, without asking it anything. Whatever it is asked
// is ErrUnavailable until Prepare has succeeded.
func Later(url string) (*DB, error) {
	if !strings.HasPrefix(url, "postgres://") && !strings.HasPrefix(url, "postgresql://") {
		return nil, errors.New("open the catalog: only sqlite:/path/to/catalog.db and postgres://user@host/database are understood")
	}
	db, err := openPostgres(url)
	if err != nil {
		return nil, fmt.Errorf("open the catalog in PostgreSQL: %w", err)
	}
	return db, nil
}

// Prepare brings the schema of a catalog up to date that was opened by Later. It is ErrUnavailable while
// the database is away, and may be called again.
func (db *DB) Prepare(ctx context.Context) error {
	if db.migrate == nil {
		return nil
	}
	if err := db.migrate(ctx); err != nil {
		return fmt.Errorf("open the catalog in PostgreSQL: %w", err)
	}
	return nil
}

// Shared reports whether other processes write to the catalog too. One in a file is ours alone.
func (db *DB) Shared() bool { return db.listen != nil }

// Close waits for what is running and closes the catalog.
func (db *DB) Close() error {
	// The writer goes last: the last connection to leave folds SQLite's log into the file,
	// and readers may not.
	err := db.read.close()
	if db.alive != nil {
		if e := db.alive.close(); err == nil {
			err = e
		}
	}
	if e := db.write.close(); err == nil {
		err = e
	}
	if e := db.witness.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("close catalog: %w", db.explain(err))
	}
	return nil
}

// millis is how times are stored: Unix milliseconds, and 0 for the zero time. A tag or a use is
// never so exactly known that more would mean anything.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// limit turns "n < 0 means no limit" into a number that every LIMIT understands.
func limit(n int) int64 {
	if n < 0 {
		return math.MaxInt64
	}
	return int64(n)
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
