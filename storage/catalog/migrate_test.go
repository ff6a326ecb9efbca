package catalog

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
)

// again makes the steps again that were taken back, though later ones were made.
func again(t *testing.T, db *DB) {
	t.Helper()
	steps, err := fs.Sub(sqliteMigrations, "migrations/sqlite")
	if err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db.write.db, steps, goose.WithDisableGlobalRegistry(true), goose.WithAllowOutofOrder(true))
	if err == nil {
		_, err = provider.Up(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestBrowseMigration takes a catalog back to the schema before 00006 and makes that step again: whatever
// was kept up to date from then on is counted for what was there before.
func TestBrowseMigration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	db := openAt(t, path)
	gone := Tag{Descriptor: blob("two", 100), ChangedAt: noon, Gone: true}
	update(t, db, func(tx *Tx) error {
		return errors.Join(
			tx.PutProject(Project{Name: "production"}),
			tx.LinkOnly(alpine, dg("one")), // what it is made of was told later, to another repository
			manifest{name: "one", config: "config", layers: []string{"layer"}}.add(tx, busybox),
			manifest{name: "two", layers: []string{"layer"}}.add(tx, busybox),
			manifest{name: "index", children: []string{"one", "two"}}.add(tx, web),
			tx.AddBlob(api, dg("layer"), 10), tx.PutTag(etcd, "gone", gone),
			tx.PutTag(busybox, "1", Tag{Descriptor: blob("one", 100), ChangedAt: noon}),
			tx.PutTag(web, "1", Tag{Descriptor: blob("index", 100), ChangedAt: noon.Add(100_000 * time.Hour)}), tx.Pulled(web, "1", noon),
			aged(tx, dgs("two"), noon), tx.AddAudit(Entry{At: noon}),
		)
	})
	definitions := func() string {
		t.Helper()
		all, err := db.names(t.Context(), `SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name`)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(all, "\n")
	}
	schema := definitions()
	for _, statement := range []string{
		`UPDATE links SET linked_at = 0 WHERE content_id = (SELECT c.id FROM content c JOIN refs f ON f.manifest_id = c.id GROUP BY c.id ORDER BY c.id DESC LIMIT 1 OFFSET 1)`,
		`DROP INDEX links_manifests`, `DROP INDEX repositories_by_name`, `DROP INDEX repositories_by_update`, `DROP INDEX repositories_by_pull`,
		`ALTER TABLE links DROP COLUMN manifest`,
		`ALTER TABLE repositories DROP COLUMN description`, `ALTER TABLE repositories DROP COLUMN created_at`,
		`ALTER TABLE repositories DROP COLUMN updated_at`, `ALTER TABLE repositories DROP COLUMN pulled_at`,
		`ALTER TABLE repositories DROP COLUMN pulls`, `ALTER TABLE repositories DROP COLUMN manifests`, `ALTER TABLE repositories DROP COLUMN listed`,
		`DROP TABLE project_counts`, `DROP TRIGGER audit_is_not_shortened`, `DROP TABLE audit_pruning`,
		`DROP INDEX audit_by_time`, `DROP INDEX audit_by_actor`, `DROP INDEX audit_by_resource`, `CREATE INDEX audit_by_time ON audit (at)`,
		`CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END`,
		`DELETE FROM goose_db_version WHERE version_id = 6`,
	} {
		if _, err := db.write.db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	again(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openAt(t, path)
	recount(t, db)
	if got := definitions(); got != schema {
		t.Errorf("the schema is\n%s\nwant\n%s", got, schema)
	}
	r, err := db.Repository(t.Context(), web)
	if err != nil || r.Artifacts != 1 || !r.UpdatedAt.Equal(noon.Add(100_000*time.Hour)) || !r.PulledAt.Equal(noon) || time.Since(r.CreatedAt) > time.Minute {
		t.Errorf("Repository = %+v, %v", r, err)
	}
	if _, err := db.Repository(t.Context(), etcd); !errors.Is(err, ErrNotFound) {
		t.Errorf("a repository whose only tag is gone: %v", err)
	}
	if s, err := db.Summary(t.Context(), "docker.io"); err != nil || s.Repositories != 2 || s.Artifacts != 3 {
		t.Errorf("Summary = %+v, %v", s, err)
	}
	all, _, err := db.BrowseArtifacts(t.Context(), busybox, ArtifactFilter{}, Page{})
	if got := called(all, "one", "two"); err != nil || got != "one two" || !all[1].PushedAt.Equal(noon) {
		t.Errorf("artifacts %q, %+v, %v, want the one whose push is not known at its last use", got, all, err)
	}
}
