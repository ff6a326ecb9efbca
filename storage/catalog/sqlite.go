package catalog

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"roadstead/storage/witness"
)

//go:embed migrations/sqlite/*.sql
var sqliteMigrations embed.FS

// readers is the number of connections that only read. A question takes tens of microseconds,
// so a few answer more than the rest of a node can ask; each keeps up to 2 MiB of pages.
const readers = 4

// openSQLite opens the catalog in the file at path. Files of the same name with "-wal" and
// "-shm" behind it are part of it while it is open.
func openSQLite(ctx context.Context, path string) (*DB, error) {
	path, err := filepath.Abs(strings.TrimPrefix(path, "//"))
	if err != nil {
		return nil, err
	}
	if err := createFile(path); err != nil {
		return nil, fmt.Errorf("its directory has to be writable: %w", err)
	}
	db := &DB{explain: func(err error) error { return explainSQLite(path, err) }, sync: syncSQLite}
	if db.write, err = sqlitePool(path, 1, writerSettings); err != nil {
		return nil, err
	}
	if err := probe(ctx, db.write.db); err != nil {
		db.write.close()
		return nil, db.explain(err)
	}
	if err := migrate(ctx, db.write.db, goose.DialectSQLite3, sqliteMigrations, "migrations/sqlite"); err != nil {
		db.write.close()
		return nil, db.explain(err)
	}
	if db.read, err = sqlitePool(path, readers, readerSettings); err != nil {
		db.write.close()
		return nil, err
	}
	if db.witness, err = witness.New(filepath.Dir(path)); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// createFile makes an empty database where there is none: readable by nobody else, because the
// catalog says who pulls what, and with an error of the operating system, which says more than
// SQLite's. An existing file is not touched: to open and close it would drop the locks that
// another connection of this process has on it.
func createFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

var (
	// With a write-ahead log readers and the writer do not wait for each other.
	//
	// synchronous=NORMAL does not sync at a commit, only when the log is folded into the file:
	// the database stays whole through a power cut and loses its last transactions. That is
	// right for rows about cached content. The layout, which is synced, has the content; a
	// row that is lost is made again by the next pull that finds upstream's answer in the
	// layout, and a crash between layout and row leaves the same. What is pushed nobody else has,
	// and Durable syncs it.
	//
	// BEGIN IMMEDIATE takes the write lock at once: a transaction that reads first and wants
	// to write later could only fail then.
	//
	// A large write leaves a long log behind, which is cut back to 64 MiB. The cache stays at
	// SQLite's 2 MiB: measured with a million digests, 16 MiB made writes no faster, as the
	// pages are in the system's cache anyway.
	writerSettings = url.Values{
		"_txlock": {"immediate"},
		"_pragma": {"busy_timeout(5000)", "journal_mode(wal)", "synchronous(normal)", "foreign_keys(1)",
			"temp_store(memory)", "journal_size_limit(67108864)"},
	}
	// temp_store: a container with a read-only root has no directory for temporary files.
	readerSettings = url.Values{
		"_pragma": {"busy_timeout(5000)", "query_only(1)", "temp_store(memory)"},
	}
)

// syncSQLite has the log synced at each commit, or no more. It has no effect inside a transaction.
func syncSQLite(ctx context.Context, conn *sql.Conn, on bool) error {
	level := "normal"
	if on {
		level = "full"
	}
	_, err := conn.ExecContext(ctx, "PRAGMA synchronous = "+level)
	return err
}

func sqlitePool(path string, connections int, settings url.Values) (*pool, error) {
	dsn := "file://" + (&url.URL{Path: path}).EscapedPath() + "?" + settings.Encode()
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return newPool(db, nil), nil
}

// probe reads what goose is going to read. Goose takes an error here for a table that is
// missing, tries for seconds to make it, and says nothing of the damage in the end.
func probe(ctx context.Context, db *sql.DB) error {
	var tables int
	err := db.QueryRowContext(ctx, `SELECT COUNT(*) FROM sqlite_master WHERE name = $1`, goose.DefaultTablename).Scan(&tables)
	if err != nil || tables == 0 {
		return err
	}
	var version sql.NullInt64
	return db.QueryRowContext(ctx, `SELECT MAX(version_id) FROM `+goose.DefaultTablename).Scan(&version)
}

// working says what is wrong with the file system of a directory, or nil.
func working(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EROFS) {
		return err // others mean that directories need no sync here
	}
	_, err = f.Stat()
	return err
}

// explainSQLite adds to an error of SQLite what whoever reads it has to do.
func explainSQLite(path string, err error) error {
	failure, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return err
	}
	switch failure.Code() & 0xff { // the rest of the code is detail
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		// A file system that has given up on its disk gives SQLite half of what it asks for, and it
		// takes that for damage. Nobody should rebuild a catalog that a working disk still has.
		if trouble := working(filepath.Dir(path)); trouble != nil {
			return fmt.Errorf("the disk of the catalog %s: %w: %w", path, trouble, err)
		}
		return fmt.Errorf("%w: move %s away and run `roadstead adopt` to rebuild it from the content: %w", ErrDamaged, path, err)
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return fmt.Errorf("the file and its directory %s have to be writable: %w", filepath.Dir(path), err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w for the catalog in %s: %w", syscall.ENOSPC, filepath.Dir(path), err)
	}
	return err
}
