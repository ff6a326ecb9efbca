package catalog

import (
	"io/fs"
	"slices"
	"strings"
	"testing"
)

// TestSchemasAreTheSame: both databases have the same steps, tables, columns and unique keys. Whoever
// adds a step to one finds out here that the other needs it too.
func TestSchemasAreTheSame(t *testing.T) {
	file, elsewhere := openAt(t, t.TempDir()+"/catalog.db"), openURL(t, server.Database(t))
	for _, tt := range []struct{ what, sqlite, postgres string }{
		{"columns", `SELECT m.name || '.' || p.name || CASE WHEN p."notnull" = 1 OR p.pk > 0 THEN '' ELSE ' or nothing' END
				FROM sqlite_master m JOIN pragma_table_info(m.name) p
				WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name NOT LIKE 'goose_%'`,
			`SELECT table_name || '.' || column_name || CASE WHEN is_nullable = 'NO' THEN '' ELSE ' or nothing' END
				FROM information_schema.columns WHERE table_schema = 'public' AND table_name NOT LIKE 'goose_%'`},
		{"what numbers are given once for", `SELECT name FROM sqlite_sequence WHERE name NOT LIKE 'goose_%'
				UNION SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%' AND name NOT LIKE 'goose_%'`,
			`SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' AND is_identity = 'YES' AND table_name NOT LIKE 'goose_%'
				AND table_name NOT IN ('content', 'holders', 'repositories')`},
		{"indexes that are made by name", `SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL`,
			`SELECT i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
				WHERE n.nspname = 'public' AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = i.oid)`},
	} {
		want, err := file.names(t.Context(), tt.sqlite)
		if err != nil {
			t.Fatal(err)
		}
		got, err := elsewhere.names(t.Context(), tt.postgres)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(want)
		slices.Sort(got)
		if len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("%s of PostgreSQL\n%s\nwant those of SQLite\n%s", tt.what, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	// Text that is not compared byte by byte would be out of order, and is found nowhere else by a test.
	folded, err := elsewhere.names(t.Context(), `SELECT table_name || '.' || column_name FROM information_schema.columns
		WHERE table_schema = 'public' AND table_name NOT LIKE 'goose_%' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'`)
	if err != nil || len(folded) > 0 {
		t.Errorf("%q are not COLLATE \"C\", %v", folded, err)
	}
	steps := func(files fs.FS, dir string) (names []string) {
		t.Helper()
		entries, err := fs.ReadDir(files, dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	if got, want := steps(postgresMigrations, "migrations/postgres"), steps(sqliteMigrations, "migrations/sqlite"); !slices.Equal(got, want) {
		t.Errorf("the steps of PostgreSQL are %q, want those of SQLite, %q", got, want)
	}
}
