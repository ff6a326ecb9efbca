package catalog

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// dayAfter has all removals forgotten, as they are a day after their end.
func dayAfter(tx *Tx) error {
	_, err := tx.exec(`DELETE FROM removals`)
	for _, c := range tx.content {
		c.removal, c.asked = removal{}, false
	}
	return err
}

// unplaced is the error that err has to be.
func unplaced(t *testing.T, err error) *Unplaced {
	t.Helper()
	u, ok := errors.AsType[*Unplaced](err)
	if !ok {
		t.Fatalf("%v, want that it may be gone", err)
	}
	return u
}

// TestUnplaced: of two nodes one writes that content is here while the other removes it, in every order
// that there is.
func TestUnplaced(t *testing.T) {
	url := server.Database(t)
	one, two := openURL(t, url), openURL(t, url)
	// add is what whoever has put the content writes, knowing so much; nothing comes of it or all.
	add := func(p Placed) (err error) {
		update(t, two, func(tx *Tx) error {
			tx.Placed(busybox, dg("layer"), p)
			if err = tx.AddBlob(busybox, dg("layer"), 10); err == nil {
				return nil
			}
			unplaced(t, err)
			return nil
		})
		if f := found(t, two, busybox, "layer"); f.Stored != (err == nil) || f.Direct != (err == nil) {
			t.Errorf("after %v it is %+v", err, f)
		}
		recount(t, two)
		return err
	}
	forget := func() (r Removal) {
		t.Helper()
		update(t, one, func(tx *Tx) (err error) { r, err = tx.ForgetTagged(dg("layer")); return err })
		return r
	}
	end := func(r Removal) { t.Helper(); update(t, one, func(tx *Tx) error { return tx.Removed(r) }) }
	if err := add(Placed{}); err != nil {
		t.Fatal(err)
	}
	r := forget()
	u := unplaced(t, add(Placed{}))
	if !u.Going {
		t.Errorf("%+v, want that it is going", u)
	}
	if unplaced(t, add(u.Gone)); !slices.Equal(names(t, one), nil) {
		t.Error("a repository without anything in it is there")
	}
	if going, left, err := two.Going(t.Context(), dg("layer")); !going || left || err != nil {
		t.Errorf("Going = %v, %v, %v", going, left, err)
	}
	end(r)
	if going, _, err := two.Going(t.Context(), dg("layer")); going || err != nil {
		t.Errorf("Going after the end = %v, %v", going, err)
	}
	u = unplaced(t, add(Placed{}))
	if u.Going {
		t.Errorf("%+v after the end", u)
	}
	if err := add(u.Gone); err != nil {
		t.Errorf("put after the removal had ended: %v", err)
	}
	if all, err := one.Removals(t.Context(), "", -1); err != nil || len(all) != 0 {
		t.Errorf("removals: %+v, %v", all, err)
	}

	// What is known of one removal says nothing of the next.
	first := forget()
	if err := add(u.Gone); err == nil || !unplaced(t, err).Going {
		t.Errorf("%v, want that it is going", err)
	}
	// Whoever has it is left his time, and is not the one to end it once somebody else has it.
	over := func() (r Removal, ok bool) {
		t.Helper()
		update(t, two, func(tx *Tx) (err error) { r, ok, err = tx.TakeOver(dg("layer")); return err })
		return r, ok
	}
	if _, ok := over(); ok {
		t.Error("a removal is taken over at once")
	}
	if _, done, err := first.Claim(t.Context(), true); err != nil {
		t.Error(err)
	} else {
		done()
	}
	long := func() {
		t.Helper()
		update(t, two, func(tx *Tx) error { _, err := tx.exec(`UPDATE removals SET began_at = began_at - 31000`); return err })
	}
	long()
	if _, left, err := two.Going(t.Context(), dg("layer")); !left || err != nil {
		t.Errorf("after half a minute it is left to others: %v, %v", left, err)
	}
	update(t, one, func(tx *Tx) error { return tx.Prolong(&first) })
	if _, ok := over(); ok {
		t.Error("one that was prolonged is taken over")
	}
	long()
	second, ok := over()
	if !ok || len(second.Holdings) != 1 {
		t.Errorf("TakeOver = %+v, %v", second, ok)
	}
	update(t, one, func(tx *Tx) error {
		if err := tx.Prolong(&first); !errors.Is(err, ErrNotOurs) {
			t.Errorf("Prolong of what is somebody else's = %v", err)
		}
		return nil
	})
	end(first)
	if going, _, _ := one.Going(t.Context(), dg("layer")); !going {
		t.Error("whoever had a removal has ended it")
	}
	end(second)
	first.claim.since = first.claim.since.Add(-removing)
	if _, _, err := first.Claim(t.Context(), true); !errors.Is(err, ErrNotOurs) || !first.Late() {
		t.Errorf("Claim after its time = %v", err)
	}
	first.claim.since = time.Now().Round(0).Add(-removing) // the other clock
	if _, _, err := first.Claim(t.Context(), true); !errors.Is(err, ErrNotOurs) {
		t.Errorf("Claim after its time = %v", err)
	}

	// While one is under way another one is nobody's, until it is taken over.
	update(t, one, func(tx *Tx) error {
		r, ok, err := tx.ForgetStray(dg("layer"))
		if _, _, err := r.Claim(t.Context(), true); !ok || err != nil {
			t.Errorf("ForgetStray = %v, %v", ok, err)
		}
		return err
	})
	if _, _, err := forget().Claim(t.Context(), true); !errors.Is(err, ErrNotOurs) {
		t.Errorf("a second removal may begin: %v", err)
	}
	long()
	if r, ok := over(); !ok {
		t.Error("nobody ends it")
	} else {
		end(r)
	}
	u = unplaced(t, add(Placed{}))
	if err := add(u.Gone); err != nil {
		t.Error(err)
	}
	update(t, one, func(tx *Tx) error {
		if _, ok, err := tx.ForgetStray(dg("layer")); ok || err != nil {
			t.Errorf("ForgetStray of what is stored = %v, %v", ok, err)
		}
		return nil
	})
	// A day later nobody needs to know.
	update(t, one, func(tx *Tx) error {
		_, err := tx.exec(`UPDATE removals SET ended_at = ended_at - 2 * 86400000`)
		return err
	})
	if err := one.DropEnded(t.Context()); err != nil {
		t.Error(err)
	}
	if err := add(Placed{}); err != nil {
		t.Error(err)
	}
}

// TestSuspect: what is under a digest goes and its row stays, and whoever stores it meanwhile on another
// node puts it once more.
func TestSuspect(t *testing.T) {
	url := server.Database(t)
	one, two := openURL(t, url), openURL(t, url)
	add := func(p Placed) (err error) {
		update(t, two, func(tx *Tx) error {
			tx.Placed(busybox, dg("layer"), p)
			if err = tx.AddBlob(busybox, dg("layer"), 10); err != nil {
				unplaced(t, err)
			}
			return nil
		})
		return err
	}
	if err := add(Placed{}); err != nil {
		t.Fatal(err)
	}
	var r Removal
	update(t, one, func(tx *Tx) (err error) { r, err = tx.Suspect(dg("layer")); return err })
	if _, done, err := r.Claim(t.Context(), true); err != nil {
		t.Error(err)
	} else {
		done()
	}
	if u := unplaced(t, add(Placed{})); !u.Going {
		t.Errorf("%+v, want that it is going", u)
	}
	update(t, two, func(tx *Tx) error {
		if _, err := tx.Suspect(dg("layer")); !errors.Is(err, ErrNotOurs) {
			t.Errorf("what is going anyway: %v", err)
		}
		return nil
	})
	update(t, one, func(tx *Tx) error { return tx.Removed(r) })
	u := unplaced(t, add(Placed{}))
	if err := add(u.Gone); u.Going || err != nil {
		t.Errorf("put after the end: %+v, %v", u, err)
	}
	if f := found(t, one, busybox, "layer"); !f.Stored || !f.Direct {
		t.Errorf("its row is %+v", f)
	}
}

// TestUnplacedLink is the same for links: one that is just going is put back by whoever takes it away.
func TestUnplacedLink(t *testing.T) {
	url := server.Database(t)
	one, two := openURL(t, url), openURL(t, url)
	add := func(p Placed) (err error) {
		update(t, two, func(tx *Tx) error {
			tx.Placed(busybox, dg("layer"), p)
			err = tx.AddBlob(busybox, dg("layer"), 10)
			return nil
		})
		return err
	}
	u := Unlinked{Repo: busybox, Digest: dg("layer")}
	unlink := func() {
		t.Helper()
		update(t, one, func(tx *Tx) error { _, err := tx.Unlink(busybox, dg("layer")); return err })
	}
	relink := func(want bool) {
		t.Helper()
		update(t, one, func(tx *Tx) error {
			if is, err := tx.Wanted(u); err != nil || (is.Digest != "") != want {
				t.Errorf("wanted: %+v, %v, want %v", is, err, want)
			}
			return tx.Relinked(u)
		})
	}
	update(t, two, func(tx *Tx) error { return tx.AddBlob(alpine, dg("layer"), 10) })
	if err := add(Placed{}); err != nil {
		t.Fatal(err)
	}
	unlink()
	if err := add(Placed{}); err != nil {
		t.Errorf("linked again before the end: %v", err)
	}
	relink(true)
	unlink()
	relink(false)
	old := unplaced(t, add(Placed{}))
	if old.Going {
		t.Errorf("%+v", old)
	}
	if err := add(old.Gone); err != nil {
		t.Error(err)
	}
	// Two have taken it away, and each says so.
	unlink()
	relink(false)
	now := unplaced(t, add(old.Gone))
	relink(false)
	if unplaced(t, add(now.Gone)); errors.Is(add(old.Gone), nil) {
		t.Error("what is known of one end is taken for another")
	}
	update(t, one, func(tx *Tx) error {
		ok, err := tx.NoteUnlinked(u)
		if !ok {
			t.Error("what the catalog does not have is not noted")
		}
		return err
	})
	if err := add(Placed{}); err != nil {
		t.Error(err)
	}
	update(t, one, func(tx *Tx) error {
		ok, err := tx.NoteUnlinked(u)
		if ok {
			t.Error("what the catalog has is noted")
		}
		return err
	})
}

// TestForgottenTag: what was found out of a tag before it was forgotten elsewhere does not bring it back.
func TestForgottenTag(t *testing.T) {
	url := server.Database(t)
	one, two := openURL(t, url), openURL(t, url)
	for _, way := range []struct {
		name   string
		forget func(tx *Tx) error
	}{
		{"the tag", func(tx *Tx) error {
			gone, err := tx.Untag(busybox, "latest")
			return errors.Join(err, tx.Relinked(gone))
		}},
		{"what it points to", func(tx *Tx) error {
			p, _, err := tx.ForgetIn(busybox, dg("image"))
			return errors.Join(err, tx.Removed(*p.Removal), dayAfter(tx))
		}},
		{"what it points to, damaged", func(tx *Tx) error {
			r, err := tx.ForgetTagged(dg("image"))
			return errors.Join(err, tx.Removed(r), dayAfter(tx))
		}},
		{"what it points to, evicted", func(tx *Tx) error {
			r, ok, err := tx.ForgetCold(dg("image"), []string{busybox.Project}, time.Now().Add(time.Hour))
			if !ok {
				t.Error("it is not cold")
			}
			return errors.Join(err, tx.Removed(r), dayAfter(tx))
		}},
	} {
		look := func() Seen {
			t.Helper()
			was, seen, err := two.LookTag(t.Context(), busybox, "latest")
			if is, e := two.Tag(t.Context(), busybox, "latest"); is.Digest != was.Digest || errors.Is(e, ErrNotFound) != errors.Is(err, ErrNotFound) {
				t.Errorf("%s: LookTag = %+v, %v, and Tag %+v, %v", way.name, was, err, is, e)
			}
			return seen
		}
		save := func(name string, seen Seen, wantSaved, wantMoved bool) {
			t.Helper()
			update(t, two, func(tx *Tx) error {
				saved, moved, err := tx.SaveTag(busybox, "latest", Tag{Descriptor: blob(name, 100), CheckedAt: noon}, seen)
				if saved != wantSaved || moved != wantMoved {
					t.Errorf("%s: SaveTag = %v, %v, want %v, %v", way.name, saved, moved, wantSaved, wantMoved)
				}
				return err
			})
		}
		update(t, two, func(tx *Tx) error { return manifest{name: "image"}.add(tx, busybox) })
		update(t, two, func(tx *Tx) error { return tx.DeleteTag(busybox, "latest") })
		before := look()
		save("image", before, true, true)
		save("image", before, true, false)
		save("other", before, true, true)
		save("image", before, true, true)
		update(t, one, way.forget)
		save("image", before, false, false)
		if tags, err := two.Tags(t.Context(), busybox, "", -1); err != nil || len(tags) > 0 {
			t.Errorf("%s: tags %q, %v", way.name, tags, err)
		}
		save("image", look(), true, true)
		update(t, one, func(tx *Tx) error {
			if is, err := tx.Untagged(busybox, "latest"); !is || err != nil {
				t.Errorf("%s: Untagged = %v, %v", way.name, is, err)
			}
			return nil
		})
	}
	recount(t, two)
}

// names are the repositories that have a row.
func names(t *testing.T, db *DB) []string {
	t.Helper()
	all, err := db.names(t.Context(), `SELECT name FROM repositories`)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
