package catalog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestSQLite(t *testing.T) {
	suite(t, func(t *testing.T) *DB { return openAt(t, t.TempDir()+"/catalog.db") })
}

func openAt(t testing.TB, path string) *DB {
	t.Helper()
	db, err := Open(t.Context(), "sqlite:"+path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
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
		{"a database that is not built in", func(*testing.T) string { return "postgres://localhost/roadstead" }, "only sqlite:", nil},
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

const (
	crashEnv    = "CATALOG_CRASH_FILE"
	crashImages = 3 // in each update
)

// TestCrashChild is the process that TestKill kills.
func TestCrashChild(t *testing.T) {
	path := os.Getenv(crashEnv)
	if path == "" {
		t.Skip("runs as a child of TestKill")
	}
	db, err := Open(t.Context(), "sqlite:"+path)
	if err != nil {
		t.Fatal(err)
	}
	usage, err := db.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for n := int(usage.Count) / 2 / crashImages; ; n++ {
		update(t, db, func(tx *Tx) error {
			for i := n * crashImages; i < (n+1)*crashImages; i++ {
				layer := fmt.Sprint("layer ", i)
				if err := tx.AddBlob(busybox, dg(layer), 10); err != nil {
					return err
				}
				if err := (manifest{name: fmt.Sprint("image ", i), layers: []string{layer}}).add(tx, busybox); err != nil {
					return err
				}
			}
			return nil
		})
		fmt.Println("acknowledged", n+1)
	}
}

// TestKill ends a writer by kill -9 again and again. What it had acknowledged is there, whole,
// and the next process starts on it as if nothing had happened.
func TestKill(t *testing.T) {
	path := t.TempDir() + "/catalog.db"
	random := rand.New(rand.NewPCG(1, 2))
	acknowledged := 0
	for range 12 {
		child := exec.Command(os.Args[0], "-test.run=^TestCrashChild$")
		child.Env = append(os.Environ(), crashEnv+"="+path)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		// A random number of updates, and a random moment of the next.
		updates, moment := 1+random.IntN(40), time.Duration(random.IntN(3000))*time.Microsecond
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			count, ok := strings.CutPrefix(lines.Text(), "acknowledged ")
			if !ok {
				continue
			}
			if acknowledged, err = strconv.Atoi(count); err != nil {
				t.Fatal(err)
			}
			if updates--; updates == 0 {
				time.AfterFunc(moment, func() { child.Process.Kill() })
			}
		}
		child.Process.Kill()
		child.Wait()

		db := openAt(t, path)
		usage, err := db.Usage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if least := int64(2 * crashImages * acknowledged); usage.Count < least || usage.Count%(2*crashImages) != 0 {
			t.Errorf("Usage = %+v after a kill, want at least %d pieces and whole updates only", usage, least)
		}
		for i := range acknowledged * crashImages {
			if got := found(t, db, busybox, fmt.Sprint("image ", i)); !got.Linked || !got.Stored {
				t.Fatalf("image %d is %+v after a kill, want it there", i, got)
			}
		}
		recount(t, db)
		whole(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if acknowledged == 0 {
		t.Error("no update was ever acknowledged")
	}
}

// TestFullDisk fills the disk under the catalog (FAULTS S14). Writes say so, what is there is
// read all the same, and when there is room again the same handle writes.
func TestFullDisk(t *testing.T) {
	dir := mountTmpfs(t, "size=4m")
	db := openAt(t, dir+"/catalog.db")
	update(t, db, func(tx *Tx) error { return tx.AddBlob(busybox, dg("first"), 1) })
	filler := dir + "/filler"

	for round := range 3 {
		fill(t, filler)
		err := error(nil)
		written := 0
		for i := 0; err == nil && i < 100; i++ {
			err = db.Update(t.Context(), func(tx *Tx) error { return addMany(tx, round, i) })
			if err == nil {
				written++
			}
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("Update on a full disk = %v, want ENOSPC", err)
		}
		if got := found(t, db, busybox, "first"); !got.Stored {
			t.Errorf("Find on a full disk = %+v, want what was there", got)
		}
		if _, err := db.Usage(t.Context()); err != nil {
			t.Errorf("Usage on a full disk: %v", err)
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		// The same update that found no room.
		update(t, db, func(tx *Tx) error { return addMany(tx, round, written) })
		if got := found(t, db, busybox, fmt.Sprintf("%d %d %d", round, written, 50)); !got.Stored {
			t.Errorf("Find of what was written after the disk was full = %+v, want it there", got)
		}
		recount(t, db)
		whole(t, db)
		forgetAll(t, db)
	}
}

func addMany(tx *Tx, round, n int) error {
	for i := range 100 {
		if err := tx.AddBlob(busybox, dg(fmt.Sprintf("%d %d %d", round, n, i)), 1); err != nil {
			return err
		}
	}
	return nil
}

func forgetAll(t *testing.T, db *DB) {
	t.Helper()
	cold, err := db.Coldest(t.Context(), []string{busybox.Project}, time.Now().Add(time.Hour), -1)
	if err != nil {
		t.Fatal(err)
	}
	update(t, db, func(tx *Tx) error {
		for _, c := range cold {
			if c.Digest == dg("first") {
				continue
			}
			if _, err := tx.Forget(c.Digest); err != nil {
				return err
			}
		}
		return nil
	})
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 64<<10); len(block) > 0; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// mountTmpfs mounts a file system of its own for a test.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if os.Getuid() != 0 {
		lack(t, "only root can mount a file system")
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).CombinedOutput(); err != nil {
		lack(t, fmt.Sprintf("mount: %v: %s", err, out))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// lack skips a test for want of something, which the machine that decides must have.
func lack(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}
