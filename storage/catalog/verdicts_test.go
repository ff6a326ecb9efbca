package catalog

import (
	"errors"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
)

func testVerdicts(t *testing.T, db *DB) {
	repo, other := registry.Repo{Project: "docker.io", Name: "library/web"}, registry.Repo{Project: "docker.io", Name: "library/db"}
	d, root := digest.FromString("manifest"), digest.FromString("index")
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	update(t, db, func(tx *Tx) error {
		return errors.Join(
			tx.PutVerdicts(repo, Verdict{Digest: d, Basis: "key", Root: root, At: at}, Verdict{Digest: d, Basis: "", Reason: "nothing", At: at.Add(-time.Hour)}),
			tx.PutVerdicts(repo, Verdict{Digest: d, Basis: "key", Whole: true, Root: root, At: at.Add(time.Second)}),
			tx.PutVerdicts(repo, Verdict{Digest: d, Basis: "key", Root: root, At: at.Add(time.Minute)}),
			tx.PutVerdicts(other, Verdict{Digest: d, Basis: "said", Actor: "ada", At: at}))
	})
	all, err := db.Verdicts(t.Context(), repo, d)
	want := Verdict{Digest: d, Basis: "key", Root: root, Whole: true, At: at.Add(time.Minute)}
	if err != nil || len(all) != 2 || all[0] != want || all[1].Reason != "nothing" {
		t.Errorf("verdicts are %+v, %v, want %+v and that nothing was found", all, err, want)
	}
	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.DropVerdicts(repo, d, ""), tx.PruneVerdicts(at.Add(time.Hour)))
	})
	if all, err := db.Verdicts(t.Context(), repo, d); err != nil || len(all) != 0 {
		t.Errorf("after a pruning of what is not here there are %+v, %v", all, err)
	}
	if all, err := db.Verdicts(t.Context(), other, d); err != nil || len(all) != 1 || all[0].Actor != "ada" {
		t.Errorf("what somebody has said is %+v after a pruning, %v", all, err)
	}
	update(t, db, func(tx *Tx) error {
		for basis, want := range map[string]bool{"said": true, "key": false} {
			if said, err := tx.Said(other, d, basis); err != nil || said != want {
				t.Errorf("%s is said %v, %v, want %v", basis, said, err, want)
			}
		}
		return nil
	})
	update(t, db, func(tx *Tx) error { return tx.forgetPolicies("docker.io") })
	if all, err := db.Verdicts(t.Context(), other, d); err != nil || len(all) != 0 {
		t.Errorf("after its project has gone there are %+v, %v", all, err)
	}
}

func testHolds(t *testing.T, db *DB) {
	repo := registry.Repo{Project: "docker.io", Name: "library/web"}
	of := func(text string) registry.Descriptor {
		return registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: digest.FromString(text), Size: 7}
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	hold := func(what string, now time.Time) (h Hold) {
		t.Helper()
		update(t, db, func(tx *Tx) (err error) {
			h, err = tx.Hold(repo, "latest", of(what), now)
			return err
		})
		return h
	}
	update(t, db, func(tx *Tx) error {
		return tx.PutTag(repo, "latest", Tag{Descriptor: of("old"), CheckedAt: at, ChangedAt: at})
	})
	if _, err := db.HoldOf(t.Context(), repo, "latest"); !errors.Is(err, ErrNotFound) {
		t.Errorf("what is not held: %v", err)
	}
	if h := hold("new", at); !h.SeenAt.Equal(at) || h.Released {
		t.Errorf("at first it is %+v", h)
	}
	if h := hold("new", at.Add(time.Hour)); !h.SeenAt.Equal(at) {
		t.Errorf("later it is %+v", h)
	}
	if held, err := db.HeldTags(t.Context()); err != nil || held["docker.io"] != 1 {
		t.Errorf("held are %v, %v", held, err)
	}
	if all, err := db.Holds(t.Context()); err != nil || len(all) != 1 || all[0].Repo != repo || all[0].Tag != "latest" || all[0].Digest != of("new").Digest {
		t.Errorf("those that wait are %+v, %v", all, err)
	}
	update(t, db, func(tx *Tx) error {
		if d, err := tx.Release(repo, "latest"); err != nil || d != of("new").Digest {
			t.Errorf("released is %s, %v", d, err)
		}
		if _, err := tx.Release(repo, "latest"); !errors.Is(err, ErrNotFound) {
			t.Errorf("released twice: %v", err)
		}
		return nil
	})
	if h, err := db.HoldOf(t.Context(), repo, "latest"); err != nil || !h.Released || h.Digest != of("new").Digest || h.Size != 7 {
		t.Errorf("after the release it is %+v, %v", h, err)
	}
	if h := hold("newer", at.Add(2*time.Hour)); !h.SeenAt.Equal(at.Add(2*time.Hour)) || h.Released {
		t.Errorf("moved on it is %+v", h)
	}
	update(t, db, func(tx *Tx) error { return tx.Unhold(repo, "latest") })
	if held, err := db.HeldTags(t.Context()); err != nil || held["docker.io"] != 0 {
		t.Errorf("taken back, held are %v, %v", held, err)
	}
}

// What is held keeps where it was when the content of that goes, until its hold is old; what is not goes.
func testEvictedTags(t *testing.T, db *DB) {
	repo := registry.Repo{Project: "docker.io", Name: "library/web"}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	old := registry.Manifest{Descriptor: registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: digest.FromString("old"), Size: 7}}
	next := registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: digest.FromString("next"), Size: 7}
	update(t, db, func(tx *Tx) error {
		err := tx.AddManifest(repo, old, registry.References{})
		for _, tag := range []string{"held", "released", "free"} {
			err = errors.Join(err, tx.PutTag(repo, tag, Tag{Descriptor: old.Descriptor, CheckedAt: at, ChangedAt: at}))
			if tag != "free" {
				_, held := tx.Hold(repo, tag, next, at)
				err = errors.Join(err, held)
			}
		}
		_, released := tx.Release(repo, "released")
		return errors.Join(err, released)
	})
	update(t, db, func(tx *Tx) error {
		r, err := tx.ForgetTagged(old.Digest)
		if err == nil && (len(r.Holdings) != 1 || len(r.Holdings[0].Tags) != 3) {
			t.Errorf("from the layout goes %+v, want all three tags", r.Holdings)
		}
		return errors.Join(err, tx.Removed(r))
	})
	for tag, want := range map[string]bool{"held": true, "released": false, "free": false} {
		is, err := db.Tag(t.Context(), repo, tag)
		if err != nil && !errors.Is(err, ErrNotFound) || want != is.Evicted() || want && is.Digest != old.Digest {
			t.Errorf("%s is %+v, %v, want evicted %v", tag, is, err, want)
		}
	}
	if tags, err := db.Tags(t.Context(), repo, "", -1); err != nil || len(tags) != 0 {
		t.Errorf("tags are %q, %v, want none", tags, err)
	}
	if held, err := db.HeldTags(t.Context()); err != nil || held["docker.io"] != 1 {
		t.Errorf("held are %v, %v", held, err)
	}
	update(t, db, func(tx *Tx) error { return tx.PruneVerdicts(at.Add(-time.Second)) })
	if is, err := db.Tag(t.Context(), repo, "held"); err != nil || !is.Evicted() {
		t.Errorf("before its hold is old it is %+v, %v", is, err)
	}
	update(t, db, func(tx *Tx) error {
		// Upstream moved it back, and nobody could bring what it led to.
		err := tx.PutTag(repo, "back", Tag{Descriptor: old.Descriptor, ChangedAt: at, Gone: true})
		return errors.Join(err, tx.PruneVerdicts(at.Add(time.Second)))
	})
	for _, tag := range []string{"held", "back"} {
		if is, err := db.Tag(t.Context(), repo, tag); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s is %+v, %v with its hold, want it gone", tag, is, err)
		}
	}
	if all, err := db.Holds(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("those that wait are %+v, %v", all, err)
	}
	if has, err := db.HasRepository(t.Context(), repo); err != nil || has {
		t.Errorf("the repository is there %v, %v", has, err)
	}
}
