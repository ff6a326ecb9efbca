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
package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
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
	write   *pool // one connection: whoever has it is the writer
	explain func(error) error
	sets    sets
	queue   queue
	// witness knows whether the syncs of a catalog in a file are to be believed. nil without one.
	witness *witness.Witness
	// sync has the next commits of a connection survive a power cut, or no more.
	sync func(ctx context.Context, conn *sql.Conn, on bool) error
}

// Open opens the catalog that url names, "sqlite:/path/to/catalog.db", creates it when it is
// missing and brings its schema up to date. It takes the same few milliseconds however much
// is in the catalog.
//
// A schema that a newer program has written is refused and left as it is. A file that is
// no database is ErrDamaged.
func Open(ctx context.Context, url string) (*DB, error) {
	path, ok := strings.CutPrefix(url, "sqlite:")
	if !ok || path == "" {
		return nil, fmt.Errorf("catalog %q: only sqlite:/path/to/catalog.db is understood", url)
	}
	db, err := openSQLite(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("open catalog %s: %w", path, err)
	}
	return db, nil
}

// Close waits for what is running and closes the catalog.
func (db *DB) Close() error {
	// The writer goes last: the last connection to leave folds SQLite's log into the file,
	// and readers may not.
	err := db.read.close()
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
