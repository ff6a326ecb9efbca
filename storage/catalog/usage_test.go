package catalog

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
)

func testColdest(t *testing.T, db *DB) {
	update(t, db, func(tx *Tx) error {
		err := errors.Join(
			tx.AddBlob(busybox, dg("docker"), 1),
			tx.AddBlob(busybox, dg("docker twice"), 2), tx.AddBlob(alpine, dg("docker twice"), 2),
			tx.AddBlob(busybox, dg("both"), 3), tx.AddBlob(etcd, dg("both"), 3),
			tx.AddBlob(etcd, dg("quay"), 4),
			// Linked in one project, a layer in another.
			tx.AddBlob(busybox, dg("layer of etcd"), 5),
			manifest{name: "image of etcd", layers: []string{"layer of etcd"}}.add(tx, etcd),
		)
		if err != nil {
			return err
		}
		for i, name := range []string{"docker twice", "both", "docker", "quay", "layer of etcd", "image of etcd"} {
			if err := aged(tx, dgs(name), noon.Add(time.Duration(i)*time.Hour)); err != nil {
				return err
			}
		}
		return aged(tx, dgs("unknown"), noon)
	})
	orphan := orphaned(t, db)
	cold := func(name string, size int64, hours int) Cold {
		return Cold{dg(name), size, noon.Add(time.Duration(hours) * time.Hour)}
	}
	both, later := []string{"docker.io", "quay.io"}, noon.Add(24*time.Hour)
	for _, tt := range []struct {
		name     string
		projects []string
		before   time.Time
		n        int
		want     []Cold
	}{
		{"of no project", nil, later, -1, []Cold{orphan}},
		{"of one project", []string{"docker.io"}, later, -1, []Cold{orphan, cold("docker twice", 2, 0), cold("docker", 1, 2)}},
		{"of the other", []string{"quay.io"}, later, -1, []Cold{orphan, cold("quay", 4, 3), cold("image of etcd", 100, 5)}},
		{"of both", both, later, -1, []Cold{orphan, cold("docker twice", 2, 0), cold("both", 3, 1), cold("docker", 1, 2), cold("quay", 4, 3), cold("layer of etcd", 5, 4), cold("image of etcd", 100, 5)}},
		{"the first three", both, later, 3, []Cold{orphan, cold("docker twice", 2, 0), cold("both", 3, 1)}},
		{"used before", both, noon.Add(time.Hour), -1, []Cold{orphan, cold("docker twice", 2, 0)}},
		{"none", both, later, 0, nil},
		{"of a project without content", []string{"gcr.io"}, later, -1, []Cold{orphan}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _, err := db.Coldest(t.Context(), tt.projects, tt.before, Mark{}, tt.n)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("Coldest = %v, %v, want %v", got, err, tt.want)
			}
		})
	}
	recount(t, db)
}

// testColdestPages walks content of which many pieces were last used in the same millisecond, as
// after an adoption, while what has been walked over goes.
func testColdestPages(t *testing.T, db *DB) {
	const pieces = 100
	var want []registry.Digest
	update(t, db, func(tx *Tx) error {
		for i := range pieces {
			name, repo := fmt.Sprint("piece ", i), busybox
			if i%2 == 1 {
				repo = etcd
			}
			want = append(want, dg(name))
			if err := errors.Join(tx.AddBlob(repo, dg(name), 1), aged(tx, dgs(name), noon.Add(time.Duration(i/40)*time.Hour))); err != nil {
				return err
			}
		}
		return nil
	})
	var got []registry.Digest
	for mark := (Mark{}); ; {
		cold, next, err := db.Coldest(t.Context(), []string{"docker.io", "quay.io"}, noon.Add(24*time.Hour), mark, 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cold {
			got = append(got, c.Digest)
		}
		if len(cold) < 7 {
			break
		}
		mark = next
		update(t, db, func(tx *Tx) error {
			_, err := tx.ForgetTagged(cold[3].Digest)
			return errors.Join(err, aged(tx, []registry.Digest{cold[4].Digest}, noon.Add(-time.Hour)))
		})
	}
	if !slices.Equal(got, want) {
		t.Errorf("the walk passed %d pieces, want each of %d once, in the order of their times", len(got), len(want))
	}
}

func testForgetCold(t *testing.T, db *DB) {
	update(t, db, func(tx *Tx) error {
		return errors.Join(
			manifest{name: "image", layers: []string{"layer"}}.add(tx, busybox),
			tx.AddBlob(busybox, dg("layer"), 10), tx.AddBlob(busybox, dg("shared"), 10), tx.AddBlob(etcd, dg("shared"), 10),
			tx.PutTag(busybox, "1", Tag{Descriptor: blob("image", 100)}), tx.PutTag(busybox, "latest", Tag{Descriptor: blob("image", 100)}),
			tx.PutTag(etcd, "not of these", Tag{Descriptor: blob("image", 100)}),
			aged(tx, dgs("image", "layer", "shared"), noon),
		)
	})
	both := []string{"docker.io", "quay.io"}
	for _, tt := range []struct {
		name     string
		digest   string
		projects []string
		before   time.Time
		want     bool
	}{
		{"used since", "image", both, noon, false},
		{"of another project as well", "shared", []string{"docker.io"}, noon.Add(time.Hour), false},
		{"unknown", "unknown", both, noon.Add(time.Hour), false},
		{"cold", "image", []string{"docker.io"}, noon.Add(time.Millisecond), true},
		{"gone already", "image", both, noon.Add(time.Hour), false},
		{"shared and cold", "shared", both, noon.Add(time.Hour), true},
	} {
		before := found(t, db, busybox, tt.digest)
		update(t, db, func(tx *Tx) error {
			r, ok, err := tx.ForgetCold(dg(tt.digest), tt.projects, tt.before)
			if ok != tt.want || ok && r.Digest != dg(tt.digest) {
				t.Errorf("%s: ForgetCold = %+v, %v", tt.name, r, ok)
			}
			return err
		})
		if after := found(t, db, busybox, tt.digest); tt.want && after.Stored || !tt.want && after != before {
			t.Errorf("%s: it is %+v, was %+v", tt.name, after, before)
		}
	}
	if tags, err := db.Tags(t.Context(), busybox, "", -1); err != nil || len(tags) != 0 {
		t.Errorf("tags of what went: %q, %v", tags, err)
	}
	if tags, err := db.Tags(t.Context(), etcd, "", -1); err != nil || len(tags) != 1 {
		t.Errorf("tags of a repository that did not have it: %q, %v, want it to stay", tags, err)
	}
	recount(t, db)
}

// testForgetLost: what is gone is forgotten unless somebody has stored it again, or only a push could.
func testForgetLost(t *testing.T, db *DB) {
	web := registry.Repo{Project: "production", Name: "web"}
	update(t, db, func(tx *Tx) error {
		return errors.Join(
			tx.PutProject(Project{Name: "production"}),
			tx.AddBlob(busybox, dg("gone"), 1), tx.AddBlob(busybox, dg("healed"), 1),
			tx.AddBlob(busybox, dg("pushed"), 1), tx.AddBlob(web, dg("pushed"), 1),
			aged(tx, dgs("gone", "pushed"), noon), aged(tx, dgs("healed"), noon.Add(time.Hour)),
		)
	})
	for name, want := range map[string]bool{"gone": true, "healed": false, "pushed": false, "unknown": true} {
		update(t, db, func(tx *Tx) error {
			r, ok, err := tx.ForgetLost(dg(name), noon.Add(time.Minute))
			if ok != want || ok && r.Digest != dg(name) {
				t.Errorf("%s: ForgetLost = %+v, %v", name, r, ok)
			}
			return err
		})
		if f := found(t, db, busybox, name); f.Stored != (!want && name != "unknown") {
			t.Errorf("%s: it is %+v", name, f)
		}
	}
	recount(t, db)
}

func testRemovals(t *testing.T, db *DB) {
	removals := func() []Removal {
		t.Helper()
		var all []Removal
		for after := registry.Digest(""); ; {
			page, err := db.Removals(t.Context(), after, 1)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				return all
			}
			all, after = append(all, page...), page[0].Digest
		}
	}
	add := func(tx *Tx) error {
		return errors.Join(
			manifest{name: "image"}.add(tx, busybox), manifest{name: "image"}.add(tx, alpine), tx.AddBlob(etcd, dg("layer"), 10),
			tx.PutTag(busybox, "1", Tag{Descriptor: blob("image", 100)}),
		)
	}
	forget := func(tx *Tx) error {
		_, err := tx.ForgetTagged(dg("image"))
		_, err2 := tx.ForgetTagged(dg("layer"))
		return errors.Join(err, err2)
	}
	want := []Removal{
		{Digest: dg("image"), Holdings: []Holding{{alpine, nil}, {busybox, []string{"1"}}}},
		{Digest: dg("layer"), Holdings: []Holding{{etcd, nil}}},
	}
	slices.SortFunc(want, func(a, b Removal) int { return strings.Compare(string(a.Digest), string(b.Digest)) })

	update(t, db, add)
	update(t, db, forget)
	if got := removals(); !reflect.DeepEqual(got, want) {
		t.Errorf("Removals = %+v, want %+v", got, want)
	}
	// Forgotten again, before the links of the first time are gone, it has these still.
	update(t, db, forget)
	if got := removals(); !reflect.DeepEqual(got, want) {
		t.Errorf("Removals after one more = %+v, want %+v", got, want)
	}
	if db.Shared() {
		return // nothing is stored again before it has ended: TestUnplaced
	}
	// What is stored again is not to be removed any more.
	update(t, db, add)
	if got := removals(); len(got) != 0 {
		t.Errorf("Removals of what is stored again = %+v, want none", got)
	}
	// And when it goes again, its links of the first time go too.
	update(t, db, func(tx *Tx) error { return tx.Removed(Removal{Digest: dg("image")}) })
	update(t, db, forget)
	update(t, db, func(tx *Tx) error { return tx.AddBlob(etcd, dg("image"), 100) })
	update(t, db, forget)
	for _, r := range removals() {
		if want := []Holding{{alpine, nil}, {busybox, []string{"1"}}, {etcd, nil}}; r.Digest == dg("image") && !reflect.DeepEqual(r.Holdings, want) {
			t.Errorf("it was held by %+v, want %+v", r.Holdings, want)
		}
	}
	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.Removed(Removal{Digest: dg("layer")}), tx.Removed(Removal{Digest: dg("unknown")}))
	})
	if got := removals(); len(got) != 1 || got[0].Digest != dg("image") {
		t.Errorf("Removals after one has come to its end = %+v, want the other", got)
	}
}

// orphaned makes stored content that no repository has. No update leaves such; it is what an
// upload that is not linked yet will be.
func orphaned(t *testing.T, db *DB) Cold {
	t.Helper()
	cold := Cold{dg("orphan"), 6, noon.Add(-time.Hour)}
	key, err := pack(cold.Digest)
	if err != nil {
		t.Fatal(err)
	}
	update(t, db, func(tx *Tx) error {
		return tx.save(&content{key: key, row: row{stored: true, size: cold.Size, usedAt: millis(cold.UsedAt), holders: nobody}})
	})
	return cold
}

func testNewContentIsWarm(t *testing.T, db *DB) {
	start := time.Now().Truncate(time.Millisecond)
	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.AddBlob(busybox, dg("layer"), 1), manifest{name: "image", layers: []string{"layer"}}.add(tx, busybox))
	})
	if got, _, err := db.Coldest(t.Context(), []string{"docker.io"}, start, Mark{}, -1); err != nil || len(got) != 0 {
		t.Errorf("Coldest before the content was added = %v, %v, want none", got, err)
	}
	update(t, db, func(tx *Tx) error { return aged(tx, dgs("layer"), noon) })
	update(t, db, func(tx *Tx) error { return tx.AddBlob(alpine, dg("layer"), 1) })
	got, _, err := db.Coldest(t.Context(), []string{"docker.io"}, start, Mark{}, -1)
	if want := []Cold{{dg("layer"), 1, noon}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("Coldest after one more link = %v, %v, want %v: a link is no use", got, err, want)
	}
	// In one transaction the later of two writes counts.
	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.AddBlob(etcd, dg("layer"), 1), aged(tx, dgs("layer"), noon.Add(time.Hour)), tx.AddBlob(etcd, dg("layer"), 2))
	})
	got, _, err = db.Coldest(t.Context(), []string{"docker.io", "quay.io"}, start, Mark{}, -1)
	if want := []Cold{{dg("layer"), 2, noon.Add(time.Hour)}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("Coldest after a touch between two adds = %v, %v, want %v", got, err, want)
	}
}

func testUsage(t *testing.T, db *DB) {
	update(t, db, func(tx *Tx) error {
		return errors.Join(
			manifest{name: "image", config: "config", layers: []string{"layer", "absent"}}.add(tx, busybox),
			tx.AddBlob(busybox, dg("layer"), 1000), tx.AddBlob(etcd, dg("layer"), 1000),
			tx.AddBlob(busybox, dg("config"), 50), tx.AddBlob(busybox, dg("config"), 60),
			tx.LinkOnly(etcd, dg("hearsay")),
		)
	})
	if got, err := db.Usage(t.Context()); err != nil || got != (Usage{Bytes: 1160, Count: 3}) {
		t.Errorf("Usage = %+v, %v, want 1160 bytes in 3", got, err)
	}
	some := []registry.Digest{dg("image"), dg("layer"), dg("config")}
	slices.Sort(some)
	for n, want := range map[int]int{2: 2, 3: 3, 10: 3} { // and never what nobody has stored
		got, err := db.Sample(t.Context(), n)
		slices.Sort(got)
		if err != nil || len(got) != want || slices.ContainsFunc(got, func(d registry.Digest) bool { return !slices.Contains(some, d) }) || len(slices.Compact(got)) != want {
			t.Errorf("Sample(%d) = %v, %v, want %d of %v", n, got, err, want, some)
		}
	}
	want := map[string]Usage{"docker.io": {1160, 3}, "quay.io": {1000, 1}}
	if got, err := db.ByProject(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("ByProject = %+v, %v, want %+v", got, err, want)
	}
	update(t, db, func(tx *Tx) error {
		_, err := tx.Forget(dg("layer"))
		return err
	})
	want = map[string]Usage{"docker.io": {160, 2}}
	if got, err := db.ByProject(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("ByProject after the shared layer went = %+v, %v, want %+v", got, err, want)
	}
}
