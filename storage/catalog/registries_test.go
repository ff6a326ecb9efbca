package catalog

import (
	"errors"
	"reflect"
	"testing"
	"time"
)

func testRegistries(t *testing.T, db *DB) {
	hub := Registry{Name: "hub", Kind: "docker-hub", URL: "https://hub.docker.com", Username: "robot", Password: "sealed", CA: "pem", Insecure: true, AllowPrivate: true}
	ttl := time.Hour
	proxy := Project{Name: "docker.io", Public: true, Immutable: []string{}, Policy: Policy{TTL: &ttl, Deny: []string{"evil/**"}}, Metadata: map[string]string{"auto_scan": "false"}}
	update(t, db, func(tx *Tx) error {
		var err error
		if hub.ID, err = tx.AddRegistry(hub); err != nil {
			return err
		}
		if _, err := tx.AddRegistry(hub); !errors.Is(err, ErrExists) {
			t.Errorf("a second registry of the name: %v, want ErrExists", err)
		}
		proxy.Registry = hub.ID
		return errors.Join(tx.PutProject(proxy), tx.PutProject(Project{Name: "production"}))
	})
	update(t, db, func(tx *Tx) error {
		got, err := tx.Registry(hub.ID)
		if got.CreatedAt.IsZero() || got.UpdatedAt.IsZero() {
			t.Errorf("registry made at %s, changed at %s", got.CreatedAt, got.UpdatedAt)
		}
		got.CreatedAt, got.UpdatedAt = time.Time{}, time.Time{}
		if err != nil || got != hub {
			t.Errorf("registry = %+v, %v, want %+v", got, err, hub)
		}
		one, err := tx.AnyProject("docker.io")
		if one = undated(t, one); err != nil || !reflect.DeepEqual(one, proxy) {
			t.Errorf("proxy = %+v, %v, want %+v", one, err, proxy)
		}
		if _, err := tx.Project("docker.io"); !errors.Is(err, ErrNotFound) {
			t.Errorf("a proxy as a hosted project: %v, want ErrNotFound", err)
		}
		if hosted, err := tx.hosted("docker.io"); hosted || err != nil {
			t.Errorf("a proxy is hosted: %v, %v", hosted, err)
		}
		if err := tx.DeleteRegistry(hub.ID); !errors.Is(err, ErrNotEmpty) {
			t.Errorf("delete a registry that has a proxy: %v, want ErrNotEmpty", err)
		}
		if err := tx.SetRegistry(Registry{ID: hub.ID + 1, Name: "none"}); !errors.Is(err, ErrNotFound) {
			t.Errorf("set a registry that is not there: %v, want ErrNotFound", err)
		}
		return nil
	})
	if all, err := db.Projects(t.Context()); err != nil || len(all) != 1 || all[0].Name != "production" {
		t.Errorf("hosted projects = %+v, %v, want production", all, err)
	}
	if all, err := db.AllProjects(t.Context()); err != nil || len(all) != 2 {
		t.Errorf("projects = %+v, %v, want two", all, err)
	}
	err := db.Update(t.Context(), func(tx *Tx) error { return tx.PutProject(Project{Name: "docker.io"}) })
	if err == nil {
		t.Error("a proxy became a hosted project")
	}

	// What is gone leaves its number to nobody.
	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.DeleteProject("docker.io"), tx.DeleteRegistry(hub.ID))
	})
	update(t, db, func(tx *Tx) error {
		id, err := tx.AddRegistry(hub)
		if id <= hub.ID {
			t.Errorf("the next registry has the number %d, and the one before had %d", id, hub.ID)
		}
		return err
	})
}

func testSettings(t *testing.T, db *DB) {
	type when struct{ Cron string }
	var got when
	if err := db.Setting(t.Context(), "collect", &got); !errors.Is(err, ErrNotFound) {
		t.Errorf("a setting that nobody has made: %v, want ErrNotFound", err)
	}
	for _, want := range []when{{"0 0 0 * * *"}, {"0 0 1 * * *"}} {
		update(t, db, func(tx *Tx) error { return tx.PutSetting("collect", want) })
		if err := db.Setting(t.Context(), "collect", &got); err != nil || got != want {
			t.Errorf("setting = %+v, %v, want %+v", got, err, want)
		}
	}
}
