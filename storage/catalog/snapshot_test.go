package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"roadstead/registry"
)

func testLinks(t *testing.T, db *DB) {
	const many = 2*page + 10
	want := map[registry.Digest]bool{dg("image"): true, dg("layer"): false}
	update(t, db, func(tx *Tx) error {
		for i := range many {
			name := fmt.Sprint("blob ", i)
			want[dg(name)] = false
			if err := tx.AddBlob(busybox, dg(name), 1); err != nil {
				return err
			}
		}
		return errors.Join(
			tx.AddBlob(busybox, dg("layer"), 10), tx.AddBlob(alpine, dg("through a manifest"), 10), tx.AddBlob(etcd, dg("of others"), 1),
			manifest{name: "image", layers: []string{"layer", "absent", "through a manifest"}}.add(tx, busybox),
		)
	})
	got := map[registry.Digest]bool{}
	err := db.Links(t.Context(), busybox, func(d registry.Digest, manifest bool) error {
		if _, twice := got[d]; twice {
			t.Errorf("%s comes twice", d)
		}
		got[d] = manifest
		return nil
	})
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("Links has %d digests, %v, want %d", len(got), err, len(want))
	}
	stop := errors.New("enough")
	if err := db.Links(t.Context(), busybox, func(registry.Digest, bool) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Links with an error of fn: %v", err)
	}
}

// A snapshot that is taken while somebody writes has all of a transaction or nothing of it, and all that
// was written before.
func TestSnapshot(t *testing.T) {
	dir := t.TempDir()
	db := openAt(t, filepath.Join(dir, "catalog.db"))
	pair := func(n int) error {
		return db.Update(t.Context(), func(tx *Tx) error {
			return errors.Join(tx.AddBlob(busybox, numbered('a', n), 1), tx.AddBlob(busybox, numbered('b', n), 1))
		})
	}
	const before = 20
	for n := range before {
		if err := pair(n); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	written := make(chan error)
	go func() {
		for n := before; ctx.Err() == nil; n++ {
			if err := pair(n); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	for i := range 5 {
		to := filepath.Join(dir, fmt.Sprintf("copy-%d.db", i))
		if err := Snapshot(t.Context(), filepath.Join(dir, "catalog.db"), to); err != nil {
			t.Fatal(err)
		}
		copied := openAt(t, to)
		whole(t, copied)
		usage, err := copied.Usage(t.Context())
		if err != nil || usage.Count < 2*before || usage.Count%2 != 0 {
			t.Errorf("it has %+v, %v, want at least %d and an even number", usage, err, 2*before)
		}
	}
	stop()
	if err := <-written; err != nil {
		t.Error(err)
	}
}

func TestSnapshotRefuses(t *testing.T) {
	older := func(t *testing.T) string {
		path := t.TempDir() + "/catalog.db"
		db := openAt(t, path)
		if _, err := db.write.db.ExecContext(t.Context(), `DELETE FROM goose_db_version WHERE version_id = (SELECT MAX(version_id) FROM goose_db_version)`); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tt := range []struct {
		name string
		from func(t *testing.T) string
		want string
		is   error
	}{
		{"a catalog that is not there", func(t *testing.T) string { return t.TempDir() + "/catalog.db" }, "", os.ErrNotExist},
		{"a link", func(t *testing.T) string {
			path := t.TempDir() + "/catalog.db"
			if err := os.Symlink(older(t), path); err != nil {
				t.Fatal(err)
			}
			return path
		}, "no regular file", nil},
		{"an older schema", older, "this program's is", ErrOtherSchema},
		{"a newer schema", func(t *testing.T) string { return strings.TrimPrefix(newerSchema(t), "sqlite:") }, "it is 1000000", ErrOtherSchema},
		{"no database", func(t *testing.T) string {
			path := t.TempDir() + "/catalog.db"
			if err := os.WriteFile(path, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}, "move", ErrDamaged},
	} {
		t.Run(tt.name, func(t *testing.T) {
			to := t.TempDir() + "/copy.db"
			err := Snapshot(t.Context(), tt.from(t), to)
			if err == nil || !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("Snapshot: %v, want %q in it and %v", err, tt.want, tt.is)
			}
			if _, err := os.Lstat(to); err == nil {
				t.Error("there is a copy")
			}
		})
	}
	t.Run("to what is there", func(t *testing.T) {
		dir := t.TempDir()
		openAt(t, dir+"/catalog.db")
		if err := os.WriteFile(dir+"/copy.db", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Snapshot(t.Context(), dir+"/catalog.db", dir+"/copy.db"); err == nil || !strings.Contains(err.Error(), "is there already") {
			t.Errorf("Snapshot: %v", err)
		}
	})
}
