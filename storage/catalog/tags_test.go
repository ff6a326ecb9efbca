package catalog

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"roadstead/registry"
)

func testTagRoundTrip(t *testing.T, db *DB) {
	put := Tag{
		Descriptor: registry.Descriptor{MediaType: registry.MediaTypeOCIIndex, Digest: dg("index"), Size: 1234},
		CheckedAt:  noon.Add(1500 * time.Microsecond), ChangedAt: noon.In(time.FixedZone("", 7200)),
	}
	want := put
	want.CheckedAt, want.ChangedAt = noon.Add(time.Millisecond), noon
	gone := Tag{CheckedAt: noon, Gone: true}
	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.PutTag(busybox, "latest", gone), tx.PutTag(busybox, "latest", put), tx.PutTag(busybox, "never", gone))
	})
	for tag, want := range map[string]Tag{"latest": want, "never": gone} {
		got, err := db.Tag(t.Context(), busybox, tag)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Tag(%s) = %+v, %v, want %+v", tag, got, err, want)
		}
	}
	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.DeleteTag(busybox, "latest"), tx.DeleteTag(busybox, "nothing"), tx.DeleteTag(etcd, "latest"))
	})
	for _, repo := range []registry.Repo{busybox, etcd} {
		if got, err := db.Tag(t.Context(), repo, "latest"); !errors.Is(err, ErrNotFound) {
			t.Errorf("Tag of %s after its end = %+v, %v, want ErrNotFound", repo, got, err)
		}
	}
}

func testTags(t *testing.T, db *DB) {
	update(t, db, func(tx *Tx) error {
		for _, tag := range []string{"b", "_x", "1.10", "B", "a-b", "1.9", "a.b", "a", "A", "a_b", "10"} {
			if err := tx.PutTag(busybox, tag, Tag{Descriptor: blob("m", 1)}); err != nil {
				return err
			}
		}
		return errors.Join(tx.PutTag(busybox, "aa", Tag{Descriptor: blob("m", 1), Gone: true}), tx.PutTag(alpine, "3", Tag{}))
	})
	all := []string{"1.10", "1.9", "10", "A", "B", "_x", "a", "a-b", "a.b", "a_b", "b"}
	if !slices.IsSorted(all) {
		t.Fatal("the expectation is not in byte order")
	}
	for _, tt := range []struct {
		name  string
		after string
		n     int
		want  []string
	}{
		{"all", "", -1, all},
		{"the first two", "", 2, all[:2]},
		{"two after one that is there", "1.9", 2, all[2:4]},
		{"after one that is not there", "AA", -1, all[4:]},
		{"after the last", "b", -1, nil},
		{"none", "", 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := db.Tags(t.Context(), busybox, tt.after, tt.n)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("Tags(%q, %d) = %q, %v, want %q", tt.after, tt.n, got, err, tt.want)
			}
		})
	}
	if got, err := db.Tags(t.Context(), etcd, "", -1); err != nil || len(got) != 0 {
		t.Errorf("Tags of a repository that is not here = %q, %v, want none", got, err)
	}
}

func testTagsOf(t *testing.T, db *DB) {
	update(t, db, func(tx *Tx) error {
		for _, tag := range []string{"2", "latest", "1"} {
			if err := tx.PutTag(busybox, tag, Tag{Descriptor: blob("image", 1)}); err != nil {
				return err
			}
		}
		return errors.Join(
			tx.PutTag(busybox, "gone", Tag{Descriptor: blob("image", 1), Gone: true}),
			tx.PutTag(busybox, "other", Tag{Descriptor: blob("other image", 1)}),
			tx.PutTag(busybox, "never", Tag{Gone: true}),
			tx.PutTag(alpine, "3", Tag{Descriptor: blob("image", 1)}),
		)
	})
	for _, tt := range []struct {
		repo   registry.Repo
		digest string
		want   []string
	}{
		{busybox, "image", []string{"1", "2", "latest"}},
		{alpine, "image", []string{"3"}},
		{alpine, "other image", nil},
		{etcd, "image", nil},
	} {
		update(t, db, func(tx *Tx) error {
			if err := tx.PutTag(alpine, "in this update", Tag{Descriptor: blob("yet another", 1)}); err != nil {
				return err
			}
			got, err := tx.TagsOf(tt.repo, dg(tt.digest))
			if !slices.Equal(got, tt.want) {
				t.Errorf("TagsOf(%s, %s) = %q, want %q", tt.repo, tt.digest, got, tt.want)
			}
			if got, _ := tx.TagsOf(alpine, dg("yet another")); len(got) != 1 {
				t.Errorf("TagsOf what this update put = %q, want it", got)
			}
			return err
		})
	}
}

func testRepositories(t *testing.T, db *DB) {
	// As (project, name) "a" sorts before "a-b"; as a full name it does not.
	all := []string{"a-b/x", "a.b/x", "a/x", "a/x-y", "a/x/y", "b/1", "docker.io/library/busybox"}
	if !slices.IsSorted(all) {
		t.Fatal("the expectation is not in byte order")
	}
	update(t, db, func(tx *Tx) error {
		for i := range all {
			repo := registry.SplitRepo(all[len(all)-1-i])
			if err := tx.PutTag(repo, "latest", Tag{Descriptor: blob("m", 1)}); err != nil {
				return err
			}
		}
		return tx.PutTag(etcd, "latest", Tag{Gone: true})
	})
	for _, tt := range []struct {
		name  string
		after string
		n     int
		want  []string
	}{
		{"all but the one whose only tag is gone", "", -1, all},
		{"a page", "", 3, all[:3]},
		{"the next page", "a/x", 3, all[3:6]},
		{"the last page", "b/1", 3, all[6:]},
		{"none", "", 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := db.Repositories(t.Context(), tt.after, tt.n)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("Repositories(%q, %d) = %q, %v, want %q", tt.after, tt.n, got, err, tt.want)
			}
		})
	}
}

func testEmptyRepository(t *testing.T, db *DB) {
	update(t, db, func(tx *Tx) error {
		return errors.Join(
			tx.AddBlob(busybox, dg("blob"), 10),
			tx.PutTag(alpine, "3", Tag{Descriptor: blob("m", 1)}),
			manifest{name: "image", layers: []string{"layer"}}.add(tx, etcd),
		)
	})
	update(t, db, func(tx *Tx) error {
		_, err := tx.Forget(dg("blob"))
		_, err2 := tx.Forget(dg("image"))
		return errors.Join(err, err2, tx.DeleteTag(alpine, "3"))
	})
	if got, err := db.Repositories(t.Context(), "", -1); err != nil || len(got) != 0 {
		t.Errorf("Repositories after all is gone = %q, %v, want none", got, err)
	}
	recount(t, db)
	for _, table := range []string{"repositories", "content", "links", "refs", "tags"} {
		if n := rows(t, db, table); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
}

func testProjectTags(t *testing.T, db *DB) {
	type seen struct {
		repo   registry.Repo
		tag    string
		digest registry.Digest
	}
	var want []seen
	update(t, db, func(tx *Tx) error {
		for _, repo := range []registry.Repo{alpine, busybox} {
			for i := range 2*page + 10 {
				tag := fmt.Sprintf("%05d", i)
				want = append(want, seen{repo, tag, dg(tag)})
				if err := tx.PutTag(repo, tag, Tag{Descriptor: blob(tag, 1), Gone: i%7 == 0}); err != nil {
					return err
				}
			}
		}
		return errors.Join(
			tx.PutTag(alpine, "never", Tag{Gone: true}),
			tx.PutTag(etcd, "v3", Tag{Descriptor: blob("etcd", 1)}),
			tx.PutTag(registry.Repo{Project: "docker.io.example", Name: "x"}, "v3", Tag{Descriptor: blob("x", 1)}),
		)
	})
	var got []seen
	err := db.ProjectTags(t.Context(), "docker.io", func(repo registry.Repo, tag string, d registry.Digest) error {
		got = append(got, seen{repo, tag, d})
		if len(got) == 5 { // nothing is held while fn runs
			return db.Update(t.Context(), func(tx *Tx) error { return aged(tx, dgs("any"), noon) })
		}
		return nil
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("ProjectTags called fn %d times, %v, want %d", len(got), err, len(want))
	}
	stop := errors.New("enough")
	calls := 0
	err = db.ProjectTags(t.Context(), "docker.io", func(registry.Repo, string, registry.Digest) error {
		calls++
		return stop
	})
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("ProjectTags with an error of fn: %v after %d calls, want it after 1", err, calls)
	}
}
