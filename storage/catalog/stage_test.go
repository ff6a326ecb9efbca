package catalog

import (
	"errors"
	"testing"
	"time"

	"roadstead/registry"
)

// What is staged nobody has, and it stays as long as the import is under way.
func testStage(t *testing.T, db *DB) {
	update := func(fn func(*Tx) error) {
		t.Helper()
		if err := db.Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	stage := func(d registry.Digest) (ok bool) {
		t.Helper()
		update(func(tx *Tx) (err error) { ok, err = tx.Stage("one", d, 10); return err })
		return ok
	}
	forget := func(d registry.Digest) (r Removal, err error) {
		update(func(tx *Tx) error {
			r, _, err = tx.ForgetUnheld(d)
			if errors.Is(err, ErrStaging) {
				return nil
			}
			return err
		})
		return r, err
	}
	// What another import says at its end, and one of an older release, means nothing to this one.
	update(func(tx *Tx) error { return tx.Importing("two", time.Now()) })
	update(func(tx *Tx) error { return tx.KeepSetting(importing, time.Time{}) })
	for range 2 {
		if !stage(dg("layer")) {
			t.Error("new content was not staged")
		}
	}
	if found, err := db.Find(t.Context(), busybox, dg("layer")); err != nil || found.Linked || !found.Stored || found.Size != 10 {
		t.Errorf("staged: %+v, %v", found, err)
	}
	update(func(tx *Tx) error { return tx.Imported("two") })
	if _, err := forget(dg("layer")); !errors.Is(err, ErrStaging) {
		t.Errorf("collected beside the import: %v", err)
	}
	update(func(tx *Tx) error {
		if _, ok, err := tx.ForgetCold(dg("layer"), []string{busybox.Project}, time.Now().Add(time.Hour)); ok || err != nil {
			t.Errorf("evicted beside the import: %v, %v", ok, err)
		}
		return nil
	})
	update(func(tx *Tx) error { return tx.Importing("one", time.Now().Add(-importTrust)) })
	removal, err := forget(dg("layer"))
	if err != nil || removal.Digest != dg("layer") {
		t.Errorf("after an import that has died: %+v, %v", removal, err)
	}
	if stage(dg("layer")) {
		t.Error("content was staged that is just being removed")
	}
	if found, _ := db.Find(t.Context(), busybox, dg("layer")); found.Stored {
		t.Error("it is stored all the same")
	}
	update(func(tx *Tx) error { return tx.Removed(removal) })
	if !stage(dg("layer")) {
		t.Error("it was not staged after that")
	}
	update(func(tx *Tx) error {
		err := tx.AddBlob(busybox, dg("layer"), 10)
		if gone, ok := errors.AsType[*Unplaced](err); ok {
			// Where several nodes write, whoever links it says that he knows of the removal.
			tx.Placed(busybox, dg("layer"), gone.Gone)
			err = tx.AddBlob(busybox, dg("layer"), 10)
		}
		return err
	})
	update(func(tx *Tx) error { return tx.Imported("one") })
	if r, err := forget(dg("layer")); err != nil || r.Digest != "" {
		t.Errorf("what a repository has was forgotten: %+v, %v", r, err)
	}
}
