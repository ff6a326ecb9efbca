package catalog

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"
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
			if err := tx.Touch(dgs(name), noon.Add(time.Duration(i)*time.Hour)); err != nil {
				return err
			}
		}
		return tx.Touch(dgs("unknown"), noon)
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
			got, err := db.Coldest(t.Context(), tt.projects, tt.before, tt.n)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("Coldest = %v, %v, want %v", got, err, tt.want)
			}
		})
	}
	recount(t, db)
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
	if got, err := db.Coldest(t.Context(), []string{"docker.io"}, start, -1); err != nil || len(got) != 0 {
		t.Errorf("Coldest before the content was added = %v, %v, want none", got, err)
	}
	update(t, db, func(tx *Tx) error { return tx.Touch(dgs("layer"), noon) })
	update(t, db, func(tx *Tx) error { return tx.AddBlob(alpine, dg("layer"), 1) })
	got, err := db.Coldest(t.Context(), []string{"docker.io"}, start, -1)
	if want := []Cold{{dg("layer"), 1, noon}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("Coldest after one more link = %v, %v, want %v: a link is no use", got, err, want)
	}
	// In one transaction the later of two writes counts.
	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.AddBlob(etcd, dg("layer"), 1), tx.Touch(dgs("layer"), noon.Add(time.Hour)), tx.AddBlob(etcd, dg("layer"), 2))
	})
	got, err = db.Coldest(t.Context(), []string{"docker.io", "quay.io"}, start, -1)
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
