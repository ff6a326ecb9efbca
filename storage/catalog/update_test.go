package catalog

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"roadstead/registry"
)

func testForget(t *testing.T, db *DB) {
	update(t, db, func(tx *Tx) error {
		return errors.Join(
			manifest{name: "image", config: "config", layers: []string{"layer"}, subject: "subject"}.add(tx, busybox),
			manifest{name: "image", config: "config", layers: []string{"layer"}, subject: "subject"}.add(tx, etcd),
			tx.AddBlob(busybox, dg("layer"), 10),
			tx.AddBlob(busybox, dg("config"), 10),
			tx.PutTag(busybox, "latest", Tag{Descriptor: blob("image", 100)}),
		)
	})
	forget := func(name string) (repos []registry.Repo) {
		t.Helper()
		update(t, db, func(tx *Tx) (err error) {
			repos, err = tx.Forget(dg(name))
			return err
		})
		return repos
	}
	if got := forget("unknown"); len(got) != 0 {
		t.Errorf("Forget of an unknown digest = %v, want none", got)
	}
	// The layer goes: its manifests still name it.
	if got, want := forget("layer"), []registry.Repo{busybox}; !slices.Equal(got, want) {
		t.Errorf("Forget(layer) = %v, want %v", got, want)
	}
	for _, repo := range []registry.Repo{busybox, etcd} {
		if got, want := found(t, db, repo, "layer"), (Found{Linked: true, Size: 10}); got != want {
			t.Errorf("a layer in %s after it went = %+v, want %+v", repo, got, want)
		}
	}
	// The manifest goes: what is left is what was linked directly.
	if got, want := forget("image"), []registry.Repo{busybox, etcd}; !slices.Equal(got, want) {
		t.Errorf("Forget(image) = %v, want %v", got, want)
	}
	for _, tt := range []struct {
		digest string
		repo   registry.Repo
		want   Found
	}{
		{"image", busybox, Found{Size: -1}},
		{"layer", busybox, Found{Size: -1}},
		{"config", busybox, Found{Linked: true, Direct: true, Stored: true, Size: 10}},
		{"config", etcd, Found{Stored: true, Size: 10}},
	} {
		if got := found(t, db, tt.repo, tt.digest); got != tt.want {
			t.Errorf("%s in %s after its manifest went = %+v, want %+v", tt.digest, tt.repo, got, tt.want)
		}
	}
	if got, err := db.Referrers(t.Context(), busybox, dg("subject"), ""); err != nil || len(got) != 0 {
		t.Errorf("Referrers after the only one went = %v, %v, want none", got, err)
	}
	if got, err := db.Tag(t.Context(), busybox, "latest"); err != nil || got.Digest != dg("image") {
		t.Errorf("Tag after its manifest went = %+v, %v, want it as it was", got, err)
	}
	if n := rows(t, db, "content"); n != 1 {
		t.Errorf("%d digests are left, want only the config", n)
	}
	recount(t, db)
}

func testForgetAndAdd(t *testing.T, db *DB) {
	image := manifest{name: "image", config: "config", layers: []string{"layer"}, subject: "subject"}
	for range 3 {
		update(t, db, func(tx *Tx) error {
			_, err := tx.Forget(dg("image"))
			return errors.Join(err, image.add(tx, busybox), image.add(tx, etcd), tx.AddBlob(busybox, dg("layer"), 10))
		})
		if got := found(t, db, etcd, "layer"); !got.Linked {
			t.Errorf("Find = %+v, want it linked", got)
		}
		recount(t, db)
	}
	if usage, err := db.Usage(t.Context()); err != nil || usage != (Usage{Bytes: 110, Count: 2}) {
		t.Errorf("Usage = %+v, %v, want 110 bytes in 2", usage, err)
	}
}

func testUpdateAtomic(t *testing.T, db *DB) {
	broken := errors.New("broken off")
	canceled, cancel := context.WithCancel(t.Context())
	for _, tt := range []struct {
		name string
		ctx  context.Context
		fn   func(tx *Tx) error
		want error
	}{
		{"an error of fn", t.Context(), func(*Tx) error { return broken }, broken},
		{"an error of a method that fn ignores", t.Context(), func(tx *Tx) error {
			tx.AddBlob(busybox, "sha256:short", 1)
			return nil
		}, registry.DigestInvalid},
		{"ctx ends in fn", canceled, func(*Tx) error {
			cancel()
			return nil
		}, context.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := db.Update(tt.ctx, func(tx *Tx) error {
				err := errors.Join(
					manifest{name: "image", layers: []string{"layer"}}.add(tx, busybox),
					tx.AddBlob(etcd, dg("layer"), 10), tx.PutTag(busybox, "latest", Tag{Descriptor: blob("image", 1)}))
				if err != nil {
					t.Error(err)
				}
				return tt.fn(tx)
			})
			if !errors.Is(err, tt.want) {
				t.Errorf("Update = %v, want %v", err, tt.want)
			}
		})
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a panic of fn was swallowed")
			}
		}()
		db.Update(t.Context(), func(tx *Tx) error {
			if err := tx.AddBlob(busybox, dg("layer"), 1); err != nil {
				t.Error(err)
			}
			panic("in fn")
		})
	}()
	for _, table := range []string{"repositories", "content", "links", "refs", "tags"} {
		if n := rows(t, db, table); n != 0 {
			t.Errorf("%d rows of broken updates are in %s", n, table)
		}
	}
	// Nothing that the broken ones made is remembered as being there.
	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.AddBlob(busybox, dg("layer"), 1), tx.AddBlob(etcd, dg("layer"), 1))
	})
	recount(t, db)
}

func testUpdateQueue(t *testing.T, db *DB) {
	inside, done := make(chan struct{}), make(chan struct{})
	finished := make(chan error, 1)
	go func() {
		finished <- db.Update(context.WithoutCancel(t.Context()), func(*Tx) error {
			close(inside)
			<-done
			return nil
		})
	}()
	<-inside
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := db.Update(ctx, func(*Tx) error {
		t.Error("two writers at once")
		return nil
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Update behind another = %v, want it to give up with its ctx", err)
	}
	if _, err := db.Find(t.Context(), busybox, dg("layer")); err != nil {
		t.Errorf("Find beside a writer: %v", err)
	}
	close(done)
	if err := <-finished; err != nil {
		t.Error(err)
	}
}
