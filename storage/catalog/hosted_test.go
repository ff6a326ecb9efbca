package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
)

var (
	web = registry.Repo{Project: "production", Name: "web"}
	api = registry.Repo{Project: "production", Name: "api"}
)

// testHosted: in a hosted project content is held by links of its own only, which come and go.
func testHosted(t *testing.T, db *DB) {
	update(t, db, func(tx *Tx) error {
		return errors.Join(
			tx.PutProject(Project{Name: "production"}),
			tx.AddBlob(etcd, dg("theirs"), 1000),
			tx.AddBlob(web, dg("config"), 10), tx.AddBlob(web, dg("layer"), 20), tx.AddBlob(api, dg("layer"), 20),
			manifest{name: "image", config: "config", layers: []string{"layer", "theirs"}}.add(tx, web),
			manifest{name: "index", children: []string{"image"}}.add(tx, web),
			manifest{name: "about", config: "config", subject: "image"}.add(tx, web),
			tx.PutTag(web, "1", Tag{Descriptor: blob("image", 100)}), tx.PutTag(web, "2", Tag{Descriptor: blob("image", 100)}),
		)
	})
	held := func(repo registry.Repo, name string) string {
		t.Helper()
		h, err := db.Held(t.Context(), repo, dg(name))
		if errors.Is(err, ErrNotFound) {
			return "none"
		}
		if err != nil {
			t.Fatal(err)
		}
		if time.Since(h.LinkedAt) > time.Minute {
			t.Errorf("%s was linked at %s", name, h.LinkedAt)
		}
		return fmt.Sprintf("%d loose %v manifest %v", h.Size, h.Loose, h.MediaType != "")
	}
	check := func(repo registry.Repo, name, want string) {
		t.Helper()
		if got := held(repo, name); got != want {
			t.Errorf("%s in %s is %s, want %s", name, repo, got, want)
		}
	}
	usage := func(project string, bytes int64) {
		t.Helper()
		all, err := db.ByProject(t.Context())
		if err != nil || all[project].Bytes != bytes {
			t.Errorf("%s has %+v, %v, want %d bytes", project, all[project], err, bytes)
		}
		update(t, db, func(tx *Tx) error {
			u, err := tx.ProjectUsage(project)
			if u != all[project] {
				t.Errorf("%s has %+v in a transaction, want %+v", project, u, all[project])
			}
			return err
		})
		recount(t, db)
	}
	check(web, "theirs", "none")
	check(web, "layer", "20 loose false manifest false")
	check(api, "layer", "20 loose true manifest false")
	check(web, "image", "100 loose false manifest true")
	usage("production", 330)
	if has, err := db.Has(t.Context(), web, dgs("layer", "theirs", "image", "none")); err != nil || len(has) != 2 || has[dg("layer")] || !has[dg("image")] {
		t.Errorf("Has = %v, %v, want the layer and the image", has, err)
	}
	if repos, err := db.Holders(t.Context(), dg("layer"), "", 10); err != nil || !slices.Equal(repos, []registry.Repo{api, web}) {
		t.Errorf("Holders = %v, %v", repos, err)
	}
	loose := func(want ...string) {
		t.Helper()
		var got []string
		err := db.LooseBlobs(t.Context(), time.Now().Add(time.Hour), func(l Loose) error {
			got = append(got, l.Repo.Name+" "+string(l.Digest[7:15]))
			return nil
		})
		for i, w := range want {
			repo, name, _ := strings.Cut(w, " ")
			want[i] = repo + " " + string(dg(name)[7:15])
		}
		slices.Sort(got)
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("loose blobs %q, %v, want %q", got, err, want)
		}
	}
	loose("api layer")

	unlink := func(name string, links int) {
		t.Helper()
		update(t, db, func(tx *Tx) error {
			all, err := tx.Unlink(web, dg(name))
			if len(all) != links {
				t.Errorf("Unlink(%s) = %+v, want %d links", name, all, links)
			}
			return err
		})
	}
	unlink("image", 3) // with its tags; the index still names it
	check(web, "image", "none")
	if all, err := db.DirectReferrers(t.Context(), web, dg("image"), ""); err != nil || len(all) != 1 {
		t.Errorf("referrers of what went = %v, %v, want the one that stays", all, err)
	}
	usage("production", 230)
	unlink("image", 0)
	unlink("about", 1)
	if all, err := db.DirectReferrers(t.Context(), web, dg("image"), ""); err != nil || len(all) != 0 {
		t.Errorf("referrers = %v, %v, want none", all, err)
	}
	unlink("index", 1)
	loose("api layer", "web layer", "web config")
	unlink("layer", 1)
	usage("production", 30)
	usage("quay.io", 1000)
	var left int
	if err := db.Unlinks(t.Context(), func(u Unlinked) error { left++; return nil }); err != nil || left != 6 {
		t.Errorf("%d links are listed to be removed, %v, want 6", left, err)
	}
	update(t, db, func(tx *Tx) error { return tx.Relinked(Unlinked{web, "1", dg("image")}) })
	if err := db.Unlinks(t.Context(), func(u Unlinked) error { left--; return nil }); err != nil || left != 1 {
		t.Errorf("%v, want one link less than before", err)
	}
	cold, _, err := db.Coldest(t.Context(), nil, time.Now().Add(time.Hour), Mark{}, -1)
	if err != nil || len(cold) != 3 {
		t.Errorf("content of nobody: %v, %v, want image, index and about", cold, err)
	}
}

// testLoose: what is asked for again when it is to go.
func testLoose(t *testing.T, db *DB) {
	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.PutProject(Project{Name: "production"}), tx.AddBlob(web, dg("a"), 1), tx.AddBlob(web, dg("b"), 1),
			manifest{name: "image", config: "b"}.add(tx, web))
	})
	forget := func(name string, before time.Time) (gone bool) {
		t.Helper()
		update(t, db, func(tx *Tx) error {
			all, err := tx.ForgetLoose(web, dg(name), before)
			gone = len(all) > 0
			return err
		})
		return gone
	}
	later := time.Now().Add(time.Hour).Truncate(time.Millisecond) // as it is stored
	for _, name := range []string{"b", "image", "unknown"} {
		if forget(name, later) {
			t.Errorf("%s went", name)
		}
	}
	update(t, db, func(tx *Tx) error {
		here, err := tx.Renew(web, dg("a"), later)
		none, err2 := tx.Renew(api, dg("a"), later)
		if !here || none {
			t.Errorf("Renew = %v, elsewhere %v", here, none)
		}
		return errors.Join(err, err2)
	})
	if forget("a", later) {
		t.Error("what was renewed went")
	}
	if !forget("a", later.Add(time.Second)) {
		t.Error("what is of no use stayed")
	}
	// A blob is of no use from the moment that the last manifest made of it goes.
	update(t, db, func(tx *Tx) error {
		_, err := tx.exec(`UPDATE links SET linked_at = 1`)
		return err
	})
	before := time.Now().Add(-time.Second)
	update(t, db, func(tx *Tx) error {
		_, err := tx.Unlink(web, dg("image"))
		return err
	})
	if forget("b", before) {
		t.Error("a blob went that had been of use just before")
	}
}
