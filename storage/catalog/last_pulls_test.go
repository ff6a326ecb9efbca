package catalog

import (
	"errors"
	"testing"
	"time"

	"roadstead/registry"
)

// testLastPulls: who pulled last is known of each repository by itself, and only as long as it has
// what was pulled.
func testLastPulls(t *testing.T, db *DB) {
	first, later := noon.Add(time.Hour), noon.Add(2*time.Hour)
	pull := func(repo registry.Repo, name string, at time.Time, by string, want bool) {
		t.Helper()
		update(t, db, func(tx *Tx) error {
			kept, err := tx.PutLastPull(repo, dg(name), LastPull{at, by})
			if kept != want {
				t.Errorf("a pull of %s in %s is kept: %t, want %t", name, repo, kept, want)
			}
			return err
		})
	}
	last := func(repo registry.Repo, name string, at time.Time, by string) {
		t.Helper()
		a, err := db.Artifact(t.Context(), repo, string(dg(name)))
		if err != nil || !a.LastPull.At.Equal(at) || a.LastPull.By != by || !at.IsZero() && !a.PulledAt.Equal(at) {
			t.Errorf("%s in %s was pulled last by %q at %s (%s), %v, want %q at %s", name, repo, a.LastPull.By, a.LastPull.At, a.PulledAt, err, by, at)
		}
	}
	image := manifest{name: "image", layers: []string{"layer"}}
	add := func(tx *Tx) error {
		return errors.Join(image.add(tx, web), image.add(tx, api), pushed(tx, web, "image"), pushed(tx, api, "image"))
	}
	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.PutProject(Project{Name: "production"}), add(tx),
			tx.PutTag(web, "1", Tag{Descriptor: blob("image", 100), ChangedAt: noon}))
	})
	last(web, "image", time.Time{}, "")
	pull(web, "image", first, "alice", true)
	pull(web, "layer", first, "alice", false)
	pull(web, "absent", first, "alice", false)
	pull(registry.Repo{Project: "production", Name: "absent"}, "image", first, "alice", false)
	last(web, "image", first, "alice")
	last(api, "image", time.Time{}, "")

	pull(web, "image", noon, "Alice", true) // another node is late with it
	last(web, "image", first, "alice")
	update(t, db, func(tx *Tx) error {
		return errors.Join(aged(tx, dgs("image"), later), tx.Pulled(web, "1", later))
	})
	last(web, "image", first, "alice")
	pull(web, "image", later, "", true)
	last(web, "image", later, "")
	pull(api, "image", first, "robot$ci", true)
	if all, _, err := db.BrowseArtifacts(t.Context(), api, ArtifactFilter{}, Page{}); err != nil || len(all) != 1 || all[0].LastPull.By != "robot$ci" {
		t.Errorf("the artifacts of %s are %+v, %v", api, all, err)
	}

	update(t, db, func(tx *Tx) error { _, err := tx.Unlink(web, dg("image")); return err })
	last(api, "image", first, "robot$ci")
	update(t, db, add)
	last(web, "image", time.Time{}, "")
	pull(web, "image", first, "bob", true)
	update(t, db, func(tx *Tx) error { _, err := tx.ForgetTagged(dg("image")); return errors.Join(err, dayAfter(tx)) })
	recount(t, db)
	update(t, db, add)
	last(web, "image", time.Time{}, "")
	last(api, "image", time.Time{}, "")
	recount(t, db)
}
