package catalog

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"roadstead/registry"
)

func testProjects(t *testing.T, db *DB) {
	production := Project{
		Name: "production", Configured: true, Public: true, Quota: 1 << 40, Immutable: []string{"**:v*", "web:1"},
		Retention: Retention{Newest: 10, Pulled: 30 * 24 * time.Hour, Rules: []Rule{
			{Repositories: Selector{Glob: "web"}, Tags: Selector{Glob: "v*", Except: true}, Untagged: true, Newest: 1, LastPulled: 2, Pushed: time.Hour, Pulled: time.Minute}, {},
		}},
	}
	generation := func() int64 {
		n, err := db.Generation(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	projects := func() []Project {
		all, err := db.Projects(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range all {
			all[i] = undated(t, all[i])
		}
		return all
	}
	first := generation()
	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.PutProject(production), tx.PutProject(Project{Name: "a", Immutable: []string{}}))
	})
	if want := []Project{{Name: "a", Immutable: []string{}}, production}; !reflect.DeepEqual(projects(), want) {
		t.Errorf("projects = %+v, want %+v", projects(), want)
	}
	if generation() <= first {
		t.Error("two projects came and the generation is the old one")
	}
	first = generation()
	production.Quota, production.Immutable = 0, []string{}
	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.PutProject(production), manifest{name: "m"}.add(tx, etcd), tx.PutProject(Project{Name: etcd.Project}))
	})
	update(t, db, func(tx *Tx) error {
		got, err := tx.Project("production")
		if got = undated(t, got); err != nil || !reflect.DeepEqual(got, production) {
			t.Errorf("production = %+v, %v, want %+v", got, err, production)
		}
		if _, err := tx.Project("none"); !errors.Is(err, ErrNotFound) {
			t.Errorf("a project that is not there: %v, want ErrNotFound", err)
		}
		if err := tx.DeleteProject("none"); !errors.Is(err, ErrNotFound) {
			t.Errorf("deletion of a project that is not there: %v, want ErrNotFound", err)
		}
		if err := tx.DeleteProject(etcd.Project); !errors.Is(err, ErrNotEmpty) {
			t.Errorf("deletion of a project with content: %v, want ErrNotEmpty", err)
		}
		return tx.DeleteProject("a") // and what came before has not spoiled it
	})
	if all := projects(); len(all) != 2 || all[0].Name != "production" || all[1].Name != etcd.Project {
		t.Errorf("projects after a deletion = %+v", all)
	}
	if generation() <= first {
		t.Error("a project went and the generation is the old one")
	}
}

// A project goes with all that is not listed of it: nobody could take that away before.
func testDeleteUnlisted(t *testing.T, db *DB) {
	of := registry.Repo{Project: "empty", Name: "app"}
	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.PutProject(Project{Name: "empty"}), tx.PutTag(of, "1", Tag{Gone: true, CheckedAt: noon}))
	})
	update(t, db, func(tx *Tx) error { return tx.DeleteProject("empty") })
	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.PutProject(Project{Name: "empty"}), manifest{name: "m"}.add(tx, of))
	})
	if _, err := db.Tag(t.Context(), of, "1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a tag of a project that went: %v, want ErrNotFound", err)
	}
	if s, err := db.Summary(t.Context(), "empty"); err != nil || s.Repositories != 1 || s.Artifacts != 1 {
		t.Errorf("the next project of its name has %+v, %v, want one repository", s, err)
	}
}

// undated is a project without what the catalog has said of it by itself.
func undated(t *testing.T, p Project) Project {
	t.Helper()
	if p.ID == 0 || time.Since(p.CreatedAt) > time.Minute || time.Since(p.UpdatedAt) > time.Minute {
		t.Errorf("%s has the number %d, was created at %s and changed at %s", p.Name, p.ID, p.CreatedAt, p.UpdatedAt)
	}
	p.ID, p.CreatedAt, p.UpdatedAt = 0, time.Time{}, time.Time{}
	return p
}
