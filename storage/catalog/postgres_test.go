package catalog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"roadstead/storage/postgrestest"
)

// server is that of all tests that do nothing to it. Its databases are empty catalogs.
var server = postgrestest.Shared{Fill: func(url string) error {
	db, err := Open(context.Background(), url)
	if err != nil {
		return err
	}
	return db.Close()
}}

func TestPostgreSQL(t *testing.T) {
	suite(t, func(t *testing.T) *DB { return openURL(t, server.Database(t)) })
}

func openURL(t testing.TB, url string) *DB {
	t.Helper()
	db, err := Open(t.Context(), url)
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

// with is a URL with another part in the place of one.
func with(url, old, new string) string { return strings.Replace(url, old, new, 1) }

func TestPostgreSQLOpenRefuses(t *testing.T) {
	escaped := strings.NewReplacer(" ", "%20", "/", "%2F").Replace(postgrestest.Password)
	s := server.Server(t)
	for _, tt := range []struct {
		name string
		url  func(url string) string
		sql  string // run in the database before
		want string
		is   error
	}{
		{"a server that is not there", func(url string) string { return with(url, "host=", "host=%2Fnowhere") }, "", "can be reached from here", ErrUnavailable},
		{"another password", func(url string) string { return with(url, escaped, "wrong-horse") }, "", "see to the user in the URL", ErrUnavailable},
		{"another user", func(url string) string { return with(url, postgrestest.User+":", "somebody:") }, "", "see to the user in the URL", ErrUnavailable},
		{"a database that is not there", func(url string) string { return with(url, "/catalog", "/nothing") }, "", "CREATE DATABASE", ErrUnavailable},
		{"a database that is only read", nil, "ALTER DATABASE %s SET default_transaction_read_only = on", "name the primary", ErrUnavailable},
		{"a password that is not escaped", func(url string) string { return with(url, escaped, postgrestest.Password) }, "", "escaped as in %2F", nil},
		{"a password with a # in it", func(url string) string { return with(url, escaped, "horse#battery") }, "", "escaped as in %2F", nil},
		{"a number of connections that is none", func(url string) string { return url + "&pool_max_conns=many" }, "", "from 1 to 1000", nil},
		{"a schema of a newer program", nil, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (1000000, true)",
			"its schema is version 1000000, and this program knows versions up to", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name, err := s.Create(server.Filled())
			if err != nil {
				t.Fatal(err)
			}
			if tt.sql != "" {
				if err := s.Run(name, strings.ReplaceAll(tt.sql, "%s", name)); err != nil {
					t.Fatal(err)
				}
			}
			url := s.URL(name)
			if tt.url != nil {
				url = tt.url(url)
			}
			start := time.Now()
			db, err := Open(t.Context(), url)
			if err == nil {
				db.Close()
				t.Fatal("Open succeeded")
			}
			if !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) || errors.Is(err, ErrNotFound) {
				t.Errorf("Open: %v, want %q in it and %v", err, tt.want, tt.is)
			}
			for _, word := range []string{"horse", "battery", "staple"} {
				if strings.Contains(err.Error(), word) {
					t.Errorf("Open: %v, which has a part of the password in it", err)
				}
			}
			if took := time.Since(start); took > 2*postgresConnect+postgresStatement {
				t.Errorf("Open took %s", took)
			}
		})
	}
}

func TestPostgreSQLRefusesOtherEncodings(t *testing.T) {
	s := server.Server(t)
	if err := s.Run("postgres", "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"); err != nil {
		t.Fatal(err)
	}
	if db, err := Open(t.Context(), s.URL("latin")); err == nil || !strings.Contains(err.Error(), "ENCODING 'UTF8'") {
		if err == nil {
			db.Close()
		}
		t.Errorf("Open: %v, want it to name another encoding", err)
	}
}

// Of several nodes that start at once on an empty database each gets a catalog.
func TestPostgreSQLMigratesOnce(t *testing.T) {
	s := server.Server(t)
	name, err := s.Create("")
	if err != nil {
		t.Fatal(err)
	}
	var nodes sync.WaitGroup
	for i := range 4 {
		nodes.Go(func() {
			db, err := Open(t.Context(), s.URL(name))
			if err != nil {
				t.Error(err)
				return
			}
			defer db.Close()
			if err := db.Update(t.Context(), func(tx *Tx) error { return tx.AddBlob(busybox, dg(fmt.Sprint(i)), 1) }); err != nil {
				t.Error(err)
			}
		})
	}
	nodes.Wait()
	db := openURL(t, s.URL(name))
	if usage, err := db.Usage(t.Context()); err != nil || usage.Count != 4 {
		t.Errorf("Usage = %+v, %v, want what each node wrote", usage, err)
	}
	var times int
	if err := db.read.one(t.Context(), `SELECT MAX(n) FROM (SELECT COUNT(*) AS n FROM goose_db_version GROUP BY version_id) AS versions`, nil, &times); err != nil || times != 1 {
		t.Errorf("a step was made %d times, %v, want once", times, err)
	}
}

// TestPostgreSQLNodes has several nodes do random things at once, Updates and Durables: nothing of
// what one remembers is made wrong by what another writes.
func TestPostgreSQLNodes(t *testing.T) {
	url := server.Database(t)
	w := newWorld()
	var writers sync.WaitGroup
	for n := range 3 {
		db := openURL(t, url)
		for i := range 2 {
			writers.Go(func() {
				random := rand.New(rand.NewPCG(uint64(n), uint64(i)))
				write := []func(context.Context, func(*Tx) error) error{db.Update, db.Durable}[i]
				for range 60 {
					seed := random.Uint64()
					err := write(t.Context(), func(tx *Tx) error { // may run twice
						random := rand.New(rand.NewPCG(seed, 0))
						for range 1 + random.IntN(4) {
							if err := w.anyStep(random, tx); err != nil {
								return err
							}
						}
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	writers.Wait()
	recount(t, openURL(t, url))
}

// A number is given once, whatever became of whom it was given to.
func TestPostgreSQLNumbers(t *testing.T) {
	url := server.Database(t)
	one, two := openURL(t, url), openURL(t, url)
	seen := map[int64]bool{}
	for i := range 6 {
		db := []*DB{one, two}[i%2]
		update(t, db, func(tx *Tx) error {
			id, err := tx.AddRobot(Robot{Project: "p", Name: "r"}, []byte("s"))
			if seen[id] {
				t.Errorf("robot %d was there before", id)
			}
			seen[id] = true
			return errors.Join(err, tx.DeleteRobot("p", "r"))
		})
		broken := errors.New("broken off")
		err := db.Update(t.Context(), func(tx *Tx) error {
			id, err := tx.AddRobot(Robot{Project: "p", Name: "r"}, []byte("s"))
			seen[id] = true
			return errors.Join(err, broken)
		})
		if !errors.Is(err, broken) {
			t.Error(err)
		}
	}
}

// TestPostgreSQLDurable: the server waits for its disk at the commit of a Durable, and of an Update
// that changes what numbers are given for.
func TestPostgreSQLDurable(t *testing.T) {
	db := openURL(t, server.Database(t))
	level := func(run func(context.Context, func(*Tx) error) error, fn func(tx *Tx) error) (level string) {
		t.Helper()
		err := run(t.Context(), func(tx *Tx) error {
			return errors.Join(fn(tx), tx.announce(), tx.one(`SELECT current_setting('synchronous_commit')`, nil, &level))
		})
		if err != nil {
			t.Fatal(err)
		}
		return level
	}
	content := func(tx *Tx) error { return tx.AddBlob(busybox, dg("layer"), 1) }
	rules := func(tx *Tx) error { return tx.PutProject(Project{Name: "production"}) }
	for range 2 {
		if got := level(db.Durable, content); got != "on" {
			t.Errorf("synchronous_commit is %s in a Durable", got)
		}
		if got := level(db.Update, content); got != "off" {
			t.Errorf("synchronous_commit is %s in an Update", got)
		}
		if got := level(db.Update, rules); got != "on" {
			t.Errorf("synchronous_commit is %s in an Update of projects", got)
		}
	}
}

// TestPostgreSQLTouch: however much was used is one statement, so that nobody waits for a turn to write while a
// node far from the database sends one after the other.
func TestPostgreSQLTouch(t *testing.T) {
	url := server.Database(t)
	db := openURL(t, url)
	names := []string{"one", "two", "three", "four"}
	update(t, db, func(tx *Tx) error {
		for _, name := range names {
			if err := tx.AddBlob(busybox, dg(name), 1); err != nil {
				return err
			}
		}
		return nil
	})
	later := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	update(t, db, func(tx *Tx) error {
		if err := tx.Touch(append(dgs(names...), dg("unknown")), later); err != nil {
			return err
		}
		var touched, statements int
		err := tx.one(`SELECT COUNT(*), COUNT(DISTINCT cmin::text) FROM content WHERE used_at = $1`, []any{millis(later)}, &touched, &statements)
		if touched != len(names) || statements != 1 {
			t.Errorf("%d are touched by %d statements, want %d by one", touched, statements, len(names))
		}
		return err
	})
	// What another node tries again says nothing of what was used since, nor does what it writes next to it.
	update(t, openURL(t, url), func(tx *Tx) error {
		return errors.Join(tx.AddBlob(alpine, dg("one"), 1), tx.Touch(dgs(names...), later.Add(-time.Minute)), tx.AddBlob(etcd, dg("one"), 2))
	})
	cold, _, err := db.Coldest(t.Context(), []string{"docker.io", "quay.io"}, later, Mark{}, -1)
	if err != nil || len(cold) > 0 {
		t.Errorf("recency went back: %+v, %v", cold, err)
	}
}

// Text that PostgreSQL does not take is no reason not to have what it is about.
func TestPostgreSQLText(t *testing.T) {
	db := openURL(t, server.Database(t))
	update(t, db, func(tx *Tx) error {
		return errors.Join(manifest{name: "image", subject: "subject", kind: "a\x00b\xff"}.add(tx, busybox), tx.SetDescription(busybox, "\x00"))
	})
	got, err := db.Referrers(t.Context(), busybox, dg("subject"), "")
	if err != nil || len(got) != 1 || got[0].ArtifactType != "a\uFFFDb\uFFFD" {
		t.Errorf("Referrers = %+v, %v", got, err)
	}
	if _, _, err := db.BrowseTags(t.Context(), busybox, "\x00", Page{}); err != nil {
		t.Error(err)
	}
}

func TestPostgreSQLSessions(t *testing.T) {
	db := openURL(t, server.Database(t))
	for _, tt := range []struct {
		setting string
		pool    *pool
		want    string
	}{
		{"statement_timeout", db.read, "4s"},
		{"lock_timeout", db.write, "30s"},
		{"idle_in_transaction_session_timeout", db.write, "10s"},
		{"application_name", db.write, "roadstead"},
	} {
		var got string
		if err := tt.pool.one(t.Context(), `SELECT current_setting($1)`, []any{tt.setting}, &got); err != nil || got != tt.want {
			t.Errorf("%s = %q, %v, want %q", tt.setting, got, err, tt.want)
		}
	}
}
