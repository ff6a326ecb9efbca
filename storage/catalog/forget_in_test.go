package catalog

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"roadstead/registry"
)

// testForgetIn: a repository loses content as a link when another one has it, however, and for good
// when none has.
func testForgetIn(t *testing.T, db *DB) {
	img := manifest{name: "image", config: "config", layers: []string{"layer"}}
	list := manifest{name: "index", children: []string{"image"}}
	note := manifest{name: "signature", config: "config", subject: "image"}
	update(t, db, func(tx *Tx) error {
		err := errors.Join(img.add(tx, busybox), list.add(tx, busybox), note.add(tx, busybox), list.add(tx, alpine))
		for _, name := range []string{"config", "layer"} {
			err = errors.Join(err, tx.AddBlob(busybox, dg(name), 10))
		}
		for tag, gone := range map[string]bool{"v1": false, "v0": true} {
			err = errors.Join(err, tx.PutTag(busybox, tag, Tag{Descriptor: blob("index", 100), Gone: gone}))
		}
		return errors.Join(err, tx.PutTag(busybox, "x", Tag{Descriptor: blob("image", 100)}))
	})
	forget := func(name string, unlinked []Unlinked, removed, want bool) {
		t.Helper()
		update(t, db, func(tx *Tx) error {
			p, ok, err := tx.ForgetIn(busybox, dg(name))
			if ok != want || !slices.Equal(p.Unlinked, unlinked) || (p.Removal != nil) != removed {
				t.Errorf("%s: %+v, %v, %v", name, p, ok, err)
			}
			return err
		})
	}
	update(t, db, func(tx *Tx) error {
		for question, row := range map[string]struct {
			got func() ([]registry.Digest, error)
			of  []string
		}{
			"parts of the image": {func() ([]registry.Digest, error) { return tx.Parts(dg("image")) }, []string{"config", "layer"}},
			"parts of a blob":    {func() ([]registry.Digest, error) { return tx.Parts(dg("layer")) }, nil},
			"parts of nothing":   {func() ([]registry.Digest, error) { return tx.Parts(dg("absent")) }, nil},
			"about the image":    {func() ([]registry.Digest, error) { return tx.About(busybox, dg("image")) }, []string{"signature"}},
			"about it elsewhere": {func() ([]registry.Digest, error) { return tx.About(alpine, dg("image")) }, nil},
		} {
			if got, err := row.got(); err != nil || !slices.Equal(got, dgs(row.of...)) {
				t.Errorf("%s: %v, %v, want %v", question, got, err, dgs(row.of...))
			}
		}
		if tags, err := tx.EverTagged(busybox, dg("index")); err != nil || fmt.Sprint(tags) != "[v0 v1]" {
			t.Errorf("tags %v, %v", tags, err)
		}
		return nil
	})
	forget("absent", nil, false, false)
	forget("index", []Unlinked{{busybox, "v1", dg("index")}, {busybox, "", dg("index")}}, false, true) // alpine has it
	forget("index", nil, false, false)
	forget("image", []Unlinked{{busybox, "x", dg("image")}, {busybox, "", dg("image")}}, false, true) // alpine has an index of it
	forget("layer", nil, true, true)
	forget("config", nil, true, true) // the signature claims it still
	if f := found(t, db, busybox, "config"); !f.Linked || f.Direct || f.Stored {
		t.Errorf("config: %+v", f)
	}
	forget("signature", nil, true, true)
	if f := found(t, db, busybox, "config"); f.Linked {
		t.Errorf("config: %+v", f)
	}
	if f := found(t, db, alpine, "image"); !f.Linked || !f.Stored {
		t.Errorf("what another repository has: %+v", f)
	}
	n := 0
	if err := db.Unlinks(t.Context(), func(Unlinked) error { n++; return nil }); err != nil || n != 4 {
		t.Errorf("%d links to be removed, %v", n, err)
	}
	if all, err := db.Removals(t.Context(), "", -1); err != nil || len(all) != 3 {
		t.Errorf("removals: %+v, %v", all, err)
	}
}
