package catalog

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestSQLite(t *testing.T) {
	suite(t, func(t *testing.T) *DB {
		path := t.TempDir() + "/catalog.db"
		if err := os.WriteFile(path, must(emptyFile()), 0o600); err != nil {
			t.Fatal(err)
		}
		return openAt(t, path)
	})
}

// emptyFile is what is in the file of a catalog in which there is nothing: the tests of the suite begin
// with it, as they do with a copy of a database in PostgreSQL.
var emptyFile = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "catalog")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "catalog.db")
	db, err := Open(context.Background(), "sqlite:"+path)
	if err != nil {
		return nil, err
	}
	if err := db.Close(); err != nil { // which folds the log into the file
		return nil, err
	}
	return os.ReadFile(path)
})

func openAt(t testing.TB, path string) *DB {
	t.Helper()
	return openURL(t, "sqlite:"+path)
}

// whole asks SQLite itself whether the file is in order.
func whole(t *testing.T, db *DB) {
	t.Helper()
	var verdict string
	if err := db.read.one(t.Context(), `PRAGMA integrity_check`, nil, &verdict); err != nil || verdict != "ok" {
		t.Errorf("integrity_check = %q, %v, want ok", verdict, err)
	}
	var broken int
	if err := db.read.one(t.Context(), `SELECT COUNT(*) FROM pragma_foreign_key_check`, nil, &broken); err != nil || broken != 0 {
		t.Errorf("foreign_key_check finds %d rows, %v, want none", broken, err)
	}
}

func TestConnections(t *testing.T) {
	db := openAt(t, t.TempDir()+"/catalog.db")
	for _, tt := range []struct {
		name, pragma string
		pool         *pool
		want         string
	}{
		{"readers and the writer do not wait for each other", "journal_mode", db.write, "wal"},
		{"a commit does not sync", "synchronous", db.write, "1"},
		{"rows refer to rows", "foreign_keys", db.write, "1"},
		{"the writer waits for another process", "busy_timeout", db.write, "5000"},
		{"readers wait for another process", "busy_timeout", db.read, "5000"},
		{"readers only read", "query_only", db.read, "1"},
		{"temporary tables need no directory", "temp_store", db.read, "2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got string
			if err := tt.pool.one(t.Context(), "PRAGMA "+tt.pragma, nil, &got); err != nil || got != tt.want {
				t.Errorf("%s = %q, %v, want %q", tt.pragma, got, err, tt.want)
			}
		})
	}
}

func TestOpenAgain(t *testing.T) {
	for _, tt := range []struct{ name, path string }{
		{"plain", "catalog.db"},
		{"in a directory that is not there", "a/b/catalog.db"},
		{"with characters that mean something in a URL", "a ?b=c#d%20&e/catalog.db"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), tt.path)
			db := openAt(t, path)
			update(t, db, func(tx *Tx) error { return tx.AddBlob(busybox, dg("layer"), 7) })
			schema := schemaOf(t, db)
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("the file has mode %v, want 0600", info.Mode().Perm())
			}
			db = openAt(t, path)
			if got := schemaOf(t, db); got != schema {
				t.Errorf("the second opening changed the schema from\n%s\nto\n%s", schema, got)
			}
			if got := found(t, db, busybox, "layer"); !got.Stored || got.Size != 7 {
				t.Errorf("Find = %+v, want what was added before", got)
			}
			whole(t, db)
		})
	}
}

// schemaOf is the schema in SQL, and which migrations made it.
func schemaOf(t *testing.T, db *DB) string {
	t.Helper()
	definitions, err := db.names(t.Context(), `SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name`)
	if err != nil {
		t.Fatal(err)
	}
	versions, err := db.names(t.Context(), `SELECT version_id || ' ' || is_applied || ' ' || tstamp FROM goose_db_version ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(append(definitions, versions...), "\n")
}

func TestOpenRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		url  func(t *testing.T) string
		want string
		is   error
	}{
		{"a database that is not built in", func(*testing.T) string { return "mysql://localhost/roadstead" }, "only sqlite:", nil},
		{"an empty path", func(*testing.T) string { return "sqlite:" }, "only sqlite:", nil},
		{"a schema of a newer program", newerSchema, "its schema is version 1000000, and this program knows versions up to", nil},
		{"a file that is no database", func(t *testing.T) string {
			path := t.TempDir() + "/catalog.db"
			if err := os.WriteFile(path, bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
				t.Fatal(err)
			}
			return "sqlite:" + path
		}, "away and run `roadstead adopt`", ErrDamaged},
		{"a directory in the place of the file", func(t *testing.T) string { return "sqlite:" + t.TempDir() }, "have to be writable", nil},
		{"a file in the place of the directory", func(t *testing.T) string {
			path := t.TempDir() + "/file"
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return "sqlite:" + path + "/catalog.db"
		}, "has to be writable", syscall.ENOTDIR},
		{"a read-only file system", func(t *testing.T) string {
			return "sqlite:" + mountTmpfs(t, "ro") + "/catalog.db"
		}, "has to be writable", syscall.EROFS},
		{"a read-only file system with a catalog", func(t *testing.T) string {
			dir := mountTmpfs(t, "size=8m")
			db := openAt(t, dir+"/catalog.db")
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("mount", "-o", "remount,ro", dir).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			return "sqlite:" + dir + "/catalog.db"
		}, "have to be writable", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db, err := Open(t.Context(), tt.url(t))
			if err == nil {
				db.Close()
				t.Fatal("Open succeeded")
			}
			if !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("Open: %v, want %q in it and %v", err, tt.want, tt.is)
			}
		})
	}
}

func newerSchema(t *testing.T) string {
	path := t.TempDir() + "/catalog.db"
	db := openAt(t, path)
	if _, err := db.write.db.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (1000000, 1)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before := must(os.ReadFile(path))
	t.Cleanup(func() {
		if !bytes.Equal(must(os.ReadFile(path)), before) {
			t.Error("the refused catalog was changed")
		}
	})
	return "sqlite:" + path
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func TestDamageIsTold(t *testing.T) {
	path := t.TempDir() + "/catalog.db"
	db := openAt(t, path)
	update(t, db, func(tx *Tx) error {
		for i := range 2000 {
			if err := tx.AddBlob(busybox, numbered('x', i), 1); err != nil {
				return err
			}
		}
		return nil
	})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	// All but the first page, which is what opening reads for certain.
	const page = 4096
	b := must(os.ReadFile(path))
	for i := page; i < len(b); i++ {
		b[i] = 0xa5
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := Open(t.Context(), "sqlite:"+path)
	if err == nil {
		defer db.Close()
		_, err = db.Find(t.Context(), busybox, numbered('x', 1000))
	}
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "move "+path+" away and run `roadstead adopt`") {
		t.Errorf("opening and reading a damaged catalog: %v, want ErrDamaged and what to do", err)
	}
}
