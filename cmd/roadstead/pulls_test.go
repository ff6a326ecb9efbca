package main

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

func TestPullsAreCounted(t *testing.T) {
	db, err := catalog.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	web, gone := registry.Repo{Project: "production", Name: "web"}, registry.Repo{Project: "production", Name: "gone"}
	err = db.Durable(t.Context(), func(tx *catalog.Tx) error {
		if err := tx.PutProject(catalog.Project{Name: "production"}); err != nil {
			return err
		}
		return tx.AddBlob(web, digest.FromString("a"), 1)
	})
	if err != nil {
		t.Fatal(err)
	}
	var p pulls
	at := time.Now().Truncate(time.Millisecond)
	for range 3 {
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() { p.add(web, at) })
		}
		all.Wait()
		p.add(gone, at)
		if err := p.write(t.Context(), db); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := db.Repository(t.Context(), web); err != nil || r.Pulls != 30 || !r.PulledAt.Equal(at) {
		t.Errorf("repository = %+v, %v, want 30 pulls, the last at %s", r, err, at)
	}

	for i := range 2 * mostPulled {
		p.add(registry.Repo{Project: "p", Name: fmt.Sprint(i)}, at)
	}
	if n := len(p.take()); n != mostPulled {
		t.Errorf("%d repositories are remembered, want at most %d", n, mostPulled)
	}
}
