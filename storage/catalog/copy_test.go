package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// furnish writes rows into every table there is, with a value in every column: whatever a later step adds
// to the schema is among it. A number, a text and a blob are the same in the same row of all tables, so
// that what points to another table points to something there. In the last row is nothing where
// nothing may be.
func furnish(t *testing.T, db *DB, rows int) {
	t.Helper()
	tables, err := db.names(t.Context(), `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'goose_%'`)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := db.write.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	run := func(query string, args ...any) {
		t.Helper()
		if _, err := conn.ExecContext(t.Context(), query, args...); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	run(`PRAGMA foreign_keys = 0`) // there is no order in which they would always hold
	for _, table := range tables {
		columns, err := db.names(t.Context(), `SELECT name || ' ' || type || ' ' || CASE WHEN "notnull" = 1 OR pk > 0 THEN '' ELSE 'or nothing' END FROM pragma_table_info($1)`, table)
		if err != nil {
			t.Fatal(err)
		}
		for row := range rows {
			var names, marks []string
			var values []any
			for _, column := range columns {
				part := strings.SplitN(column, " ", 3)
				var value any
				switch {
				case part[2] != "" && row == rows-1:
				case part[1] == "INTEGER":
					value = int64(row + 1)
				case part[1] == "TEXT":
					value = fmt.Sprintf("text %d, \U0001f6a2\x00\xff", row+1)
				case part[1] == "BLOB":
					value = []byte{0, 255, byte(row)}
				default:
					t.Fatalf("%s: what is %s?", table, column)
				}
				names, marks, values = append(names, part[0]), append(marks, "?"), append(values, value)
			}
			run(`INSERT INTO `+table+` (`+strings.Join(names, ", ")+`) VALUES (`+strings.Join(marks, ", ")+`)`, values...)
		}
	}
	run(`PRAGMA foreign_keys = 1`)
}

// rows are all of a table, as text.
func (db *DB) rows(t *testing.T, table string, columns []string) []string {
	t.Helper()
	var all []string
	err := db.read.each(t.Context(), `SELECT `+strings.Join(columns, ", ")+` FROM `+table, nil, func(rows *sql.Rows) error {
		values, err := (&copiedRows{rows: rows, columns: len(columns)}).Values()
		all = append(all, fmt.Sprintf("%q", fmt.Sprint(values...)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func TestACopyHasEverything(t *testing.T) {
	from, to := openAt(t, t.TempDir()+"/catalog.db"), openURL(t, server.Database(t))
	const keys = `SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1`
	before, err := to.names(t.Context(), keys)
	if err != nil || len(before) < 20 {
		t.Fatalf("%q, %v", before, err)
	}
	isNew := func(want bool) {
		t.Helper()
		if is, err := to.New(t.Context()); err != nil || is != want {
			t.Errorf("it is new: %t, %v, want %t", is, err, want)
		}
	}
	isNew(true)
	update(t, to, func(tx *Tx) error { return errors.Join(tx.KeepSetting("kept", 1), tx.KeepSetting("other", 1)) })
	isNew(false)

	furnish(t, from, 3)
	update(t, from, func(tx *Tx) error {
		_, err := tx.AddUser(User{Name: "late"}, "")
		return errors.Join(err, tx.DeleteUser("late"))
	})
	ctx, cut := context.WithCancel(t.Context())
	if err := to.CopyFrom(ctx, from, "kept", func(int64) { cut() }); !errors.Is(err, context.Canceled) {
		t.Errorf("a copy that is cut short: %v", err)
	}
	if got := to.rows(t, "settings", []string{"name"}); len(got) != 2 {
		t.Errorf("it has left the settings %q", got)
	}
	for range 2 { // what is there already goes
		sent := int64(0)
		if err := to.CopyFrom(t.Context(), from, "kept", func(n int64) { sent += n }); err != nil {
			t.Fatal(err)
		}
		compare(t, to, from, sent)
	}

	after, err := to.names(t.Context(), keys)
	if err != nil || !slices.Equal(after, before) {
		t.Errorf("keys that point to other tables: %q, %v, want %q", after, err, before)
	}
	var value int
	if err := to.Setting(t.Context(), "kept", &value); err != nil || value != 1 {
		t.Errorf("the setting that was to be kept is %d, %v", value, err)
	}
	if _, err := to.write.db.ExecContext(t.Context(), `UPDATE audit SET actor = 'nobody'`); err == nil {
		t.Error("the audit log can be changed")
	}
	update(t, to, func(tx *Tx) error {
		id, err := tx.AddUser(User{Name: "next"}, "")
		if id != 5 {
			t.Errorf("the next user is number %d, want 5: 4 was given to one who went", id)
		}
		return err
	})
	if err := from.CopyFrom(t.Context(), to, "", func(int64) {}); err == nil {
		t.Error("copied into a file")
	}
}

func compare(t *testing.T, to, from *DB, sent int64) {
	t.Helper()
	tables, err := from.Tables(t.Context())
	if err != nil || len(tables) < 15 {
		t.Fatalf("%v, %v", tables, err)
	}
	all := int64(0)
	for table, n := range tables {
		all += n
		columns, err := from.names(t.Context(), `SELECT name FROM pragma_table_info($1)`, table)
		if err != nil {
			t.Fatal(err)
		}
		want, got := from.rows(t, table, columns), to.rows(t, table, columns)
		if table == "settings" {
			got = slices.DeleteFunc(got, func(row string) bool { return strings.Contains(row, "kept") })
		}
		if int64(len(want)) != n || !slices.Equal(got, want) {
			t.Errorf("%s has %q\nwant %q", table, got, want)
		}
	}
	if sent != all {
		t.Errorf("%d rows were told of, want %d", sent, all)
	}
	for _, table := range passing {
		if _, there := tables[table]; there {
			t.Errorf("%s would be copied", table)
		}
	}
	left, err := to.names(t.Context(), `SELECT id FROM nodes`)
	if err != nil || len(left) > 0 {
		t.Errorf("nodes %q were copied, %v", left, err)
	}
}
