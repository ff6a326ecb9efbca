package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"

	"roadstead/registry"
)

// ErrOtherSchema says that a catalog has the schema of another program than this one, or none.
var ErrOtherSchema = errors.New("the catalog has the schema of another version")

// Snapshot writes the catalog in the file at from, as it is at one moment, into the file to, which must
// not exist yet. Others may go on writing to it: they are not waited for, and do not wait. The new file is
// whole by what SQLite says of it; it is synced by whoever syncs its directory.
//
// The schema stays what it is. One that another program has written is ErrOtherSchema, so that what is
// kept of before an upgrade is of before the upgrade.
func Snapshot(ctx context.Context, from, to string) error {
	if err := snapshot(ctx, from, to); err != nil {
		return fmt.Errorf("snapshot of the catalog %s: %w", from, err)
	}
	return nil
}

// snapshotSettings are those of a connection that only reads, which query_only has no snapshot made by.
var snapshotSettings = url.Values{"_pragma": {"busy_timeout(5000)", "temp_store(memory)"}}

func snapshot(ctx context.Context, from, to string) error {
	from, err := filepath.Abs(from)
	if err != nil {
		return err
	}
	// SQLite would make one that is missing.
	if info, err := os.Lstat(from); err != nil {
		return err
	} else if !info.Mode().IsRegular() {
		return errors.New("it is no regular file")
	}
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("%s is there already", to))
	}
	pool, err := sqlitePool(from, 1, snapshotSettings)
	if err != nil {
		return err
	}
	defer pool.close()
	if err := sameSchema(ctx, pool.db); err != nil {
		return explainSQLite(from, err)
	}
	// One statement reads one state of the database, and the log beside it belongs to that.
	if _, err := pool.db.ExecContext(ctx, `VACUUM INTO $1`, to); err != nil {
		return explainSQLite(from, err)
	}
	return check(ctx, to)
}

// sameSchema refuses what another version of this program has written.
func sameSchema(ctx context.Context, db *sql.DB) error {
	if err := probe(ctx, db); err != nil {
		return err
	}
	steps, err := fs.Sub(sqliteMigrations, "migrations/sqlite")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, steps, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	var found int64
	err = db.QueryRowContext(ctx, `SELECT MAX(version_id) FROM `+goose.DefaultTablename).Scan(&found)
	if err != nil {
		return err
	}
	all := provider.ListSources()
	if known := all[len(all)-1].Version; found != known {
		return fmt.Errorf("%w: it is %d, and this program's is %d", ErrOtherSchema, found, known)
	}
	return nil
}

// check asks SQLite whether a file is in order.
func check(ctx context.Context, path string) error {
	pool, err := sqlitePool(path, 1, readerSettings)
	if err != nil {
		return err
	}
	defer pool.close()
	var verdict string
	if err := pool.one(ctx, `PRAGMA quick_check(1)`, nil, &verdict); err != nil {
		return explainSQLite(path, err)
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s", ErrDamaged, verdict)
	}
	return nil
}

// Links calls fn for all stored content that a repository has directly: what the layout has links of. An
// error of fn ends it and is returned. It reads a page at a time, as ProjectTags does.
func (db *DB) Links(ctx context.Context, repo registry.Repo, fn func(d registry.Digest, manifest bool) error) error {
	type link struct {
		id       int64
		digest   registry.Digest
		manifest bool
	}
	read := func(after link) (all []link, err error) {
		err = db.read.each(ctx, `SELECT c.id, c.digest, l.manifest FROM repositories r
			JOIN links l ON l.repository_id = r.id JOIN content c ON c.id = l.content_id
			WHERE r.name = $1 AND l.content_id > $2 AND l.direct = 1 AND c.stored = 1
			ORDER BY l.content_id LIMIT $3`, []any{repo.String(), after.id, page}, func(rows *sql.Rows) error {
			var (
				l   link
				key []byte
			)
			err := rows.Scan(&l.id, &key, &l.manifest)
			if err == nil {
				l.digest, err = unpack(key)
			}
			all = append(all, l)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("catalog: links of %s: %w", repo, db.explain(err))
		}
		return all, nil
	}
	return walk(read, func(l link) error { return fn(l.digest, l.manifest) })
}
