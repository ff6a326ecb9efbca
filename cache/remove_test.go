package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// What is used between its choice and its removal stays, whether the catalog has heard of that
// yet or not; so does what somebody is just bringing.
func TestNothingInUseIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		img := o.putImage(t, "library/a", "1", noise(100<<10, 1))
		h := proxy(t, o)
		h.fetch(t, "library/a", "1")
		time.Sleep(2 * time.Hour)
		remove := func(projects ...string) bool {
			t.Helper()
			removed, err := h.remove(t.Context(), img.layer, projects, time.Now().Add(-time.Hour))
			if err != nil || removed == h.stored(img.layer) {
				t.Errorf("removed: %v, %v; stored: %v", removed, err, h.stored(img.layer))
			}
			return removed
		}
		if remove("quay.io") {
			t.Error("content went that another project has")
		}
		h.store.Traffic.Come(img.layer, awayPatience)
		if remove("docker.io") {
			t.Error("content went that somebody brings")
		}
		h.store.Traffic.Came(img.layer)
		if _, err := h.read(t, hub("library/a"), img.layer); err != nil {
			t.Fatal(err)
		}
		if remove("docker.io") {
			t.Error("content went that was used since, which only the recorder knows")
		}
		touched := h.recorder.startTouches() // on their way to the catalog
		if remove("docker.io") {
			t.Error("content went whose use is being written")
		}
		h.recorder.mu.Lock()
		h.recorder.touched = touched
		h.recorder.mu.Unlock()
		h.settle(t)
		if remove("docker.io") {
			t.Error("content went that was used since, which the catalog knows")
		}
		time.Sleep(2 * time.Hour)
		if !remove("docker.io") {
			t.Error("cold content stays")
		}
		h.stop()
	})
}

// A crash between the halves of a removal leaves nothing behind for good, and takes nothing away
// that has come again.
func TestRemovalIsFinishedAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, dir := newOrigin(), t.TempDir()
		cut, again := o.putImage(t, "library/cut", "1", noise(100<<10, 1)), o.putImage(t, "library/again", "1", noise(100<<10, 2))
		project := Project{Name: "docker.io", Upstream: o}
		h := newHouse(t, dir, Config{Projects: []Project{project}})
		for _, repo := range []string{"library/cut", "library/again"} {
			if err := h.pull(t, hub(repo), "1"); err != nil {
				t.Fatal(err)
			}
		}
		h.settle(t)
		err := h.catalog.Update(t.Context(), func(tx *catalog.Tx) error {
			for _, d := range []registry.Digest{cut.layer, cut.manifest.Digest, again.layer, again.manifest.Digest} {
				if _, err := tx.ForgetTagged(d); err != nil {
					return err
				}
			}
			return errors.Join(
				tx.AddManifest(hub("library/again"), again.manifest, registry.References{}), tx.AddBlob(hub("library/again"), again.layer, 100<<10))
		})
		if err != nil {
			t.Fatal(err)
		}
		h.stop() // here the machine went down

		h = newHouse(t, dir, Config{Projects: []Project{project}})
		synctest.Wait()
		for d, want := range map[registry.Digest]bool{cut.layer: false, cut.manifest.Digest: false, again.layer: true, again.manifest.Digest: true} {
			if got := h.stored(d); got != want {
				t.Errorf("%s is stored: %v, want %v", d, got, want)
			}
		}
		links := "docker/registry/v2/repositories/docker.io/library/%s/%s/link"
		for name, want := range map[string]bool{
			fmt.Sprintf(links, "cut", "_manifests/tags/1/current"):                                  false,
			fmt.Sprintf(links, "cut", "_manifests/revisions/sha256/"+cut.manifest.Digest.Encoded()): false,
			fmt.Sprintf(links, "cut", "_layers/sha256/"+cut.layer.Encoded()):                        false,
			fmt.Sprintf(links, "again", "_manifests/tags/1/current"):                                true,
			fmt.Sprintf(links, "again", "_layers/sha256/"+again.layer.Encoded()):                    true,
		} {
			if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
				t.Errorf("%s: %v, want it there: %v", name, err, want)
			}
		}
		if left, err := h.catalog.Removals(t.Context(), "", -1); err != nil || len(left) > 0 {
			t.Errorf("unfinished: %+v, %v", left, err)
		}
		if err := h.pull(t, hub("library/cut"), "1"); err != nil {
			t.Error(err)
		}
		h.stop()
	})
}

// What was damaged and has come again is as young as what has come for the first time, although
// its row is the old one.
func TestContentThatCameAgainIsYoung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		img := o.putImage(t, "library/a", "1", noise(100<<10, 1))
		h := proxy(t, o)
		h.fetch(t, "library/a", "1")
		time.Sleep(10 * 24 * time.Hour)
		if err := h.Cache.store.Quarantine(t.Context(), img.layer); err != nil {
			t.Fatal(err)
		}
		if _, err := h.read(t, hub("library/a"), img.layer); err != nil {
			t.Fatal(err)
		}
		h.settle(t)
		if done, err := h.evict(t.Context(), 1<<30); err != nil || done.Count == 0 {
			t.Errorf("nothing went that is old: %+v, %v", done, err)
		}
		if !h.stored(img.layer) {
			t.Error("what has just come went")
		}
		h.stop()
	})
}

// A tag whose manifest is evicted while upstream is asked about it is whole again after the next
// pull: row, link and manifest.
func TestTagThatIsEvictedWhileItIsChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		img := o.putImage(t, "library/a", "1", noise(100<<10, 1))
		h := proxy(t, o, func(p *Project) { p.Keep = -1 })
		h.fetch(t, "library/a", "1")
		time.Sleep(time.Hour)
		answer := o.hang("resolve")
		pulled := make(chan error)
		go func() { pulled <- h.pull(t, hub("library/a"), "1") }()
		time.Sleep(time.Second)
		if _, err := h.evict(t.Context(), 1<<30); err != nil || h.stored(img.manifest.Digest) {
			t.Fatalf("the manifest is still there, %v", err)
		}
		close(answer)
		if err := <-pulled; err != nil {
			t.Error(err)
		}
		for range 2 {
			h.settle(t)
			time.Sleep(2 * time.Minute)
			if err := h.pull(t, hub("library/a"), "1"); err != nil {
				t.Error(err)
			}
		}
		h.settle(t)
		link, err := os.ReadFile(filepath.Join(h.dir, "docker/registry/v2/repositories/docker.io/library/a/_manifests/tags/1/current/link"))
		if err != nil || string(link) != string(img.manifest.Digest) || !h.stored(img.manifest.Digest) {
			t.Errorf("the link says %q, %v; the manifest is stored: %v", link, err, h.stored(img.manifest.Digest))
		}
		if tag, err := h.catalog.Tag(t.Context(), hub("library/a"), "1"); err != nil || tag.Digest != img.manifest.Digest {
			t.Errorf("the catalog has %+v, %v", tag, err)
		}
		h.stop()
	})
}

// Pulls and evictions at the same time: every pull ends well, and afterwards the catalog and the
// layout say the same.
func TestEvictionsBesidePulls(t *testing.T) {
	const images, pullers = 12, 6
	o := newOrigin()
	for i := range images {
		o.putImage(t, fmt.Sprintf("library/img%d", i), "1", noise(80<<10+i, byte(i)))
	}
	h := proxy(t, o, func(p *Project) { p.Keep = -1 })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // or until there were enough
	defer cancel()
	var all sync.WaitGroup
	pulls, evicted := [pullers]int{}, 0
	for i := range pullers {
		rnd := rand.New(rand.NewPCG(uint64(i), 5))
		all.Go(func() {
			for ctx.Err() == nil {
				if err := h.pull(t, hub(fmt.Sprintf("library/img%d", rnd.IntN(images))), "1"); err != nil {
					t.Error(err)
				}
				pulls[i]++
			}
		})
	}
	all.Go(func() {
		for ctx.Err() == nil {
			done, err := h.evict(t.Context(), 300<<10)
			if err != nil {
				t.Error(err)
			}
			if evicted += done.Count; evicted >= 10*images {
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	})
	all.Wait()
	h.settle(t)
	h.forgetTries()
	t.Logf("%d pulls, %d pieces evicted", pulls, evicted)
	if evicted < images {
		t.Errorf("only %d pieces were evicted: this shows nothing", evicted)
	}
	agree(t, h)
	h.stop()
}

// agree checks that what the catalog counts as stored is in the layout, and the other way round.
func agree(t *testing.T, h *house) {
	t.Helper()
	known := map[registry.Digest]bool{}
	cold, _, err := h.catalog.Coldest(t.Context(), []string{"docker.io"}, time.Now().Add(time.Hour), catalog.Mark{}, -1)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cold {
		known[c.Digest] = true
		if n, err := h.Cache.store.Stat(t.Context(), c.Digest); err != nil || n != c.Size {
			t.Errorf("the catalog has %s with %d bytes, the layout %d, %v", c.Digest, c.Size, n, err)
		}
	}
	err = h.Cache.store.Contents(t.Context(), func(d registry.Digest, _ int64) error {
		if !known[d] {
			t.Errorf("the layout has %s and the catalog does not", d)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if left, err := h.catalog.Removals(t.Context(), "", -1); err != nil || len(left) > 0 {
		t.Errorf("unfinished removals: %+v, %v", left, err)
	}
}

// A pin on a repository holds what was pulled from it by digest alone, and what its tags have
// left behind; one on its tags holds what these lead to.
func TestPinOnARepository(t *testing.T) {
	for _, row := range []struct {
		pin                   string
		byDigest, old, tagged bool // what stays
	}{
		{"library/a", true, true, true},
		{"library/*", true, true, true},
		{"library/a:*", false, false, true},
		{"library/b", false, false, false},
	} {
		t.Run(row.pin, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin()
				byDigest := o.putImage(t, "library/a", "unpulled", noise(100<<10, 1))
				old := o.putImage(t, "library/a", "latest", noise(100<<10, 2))
				h := proxy(t, o, func(p *Project) { p.Keep, p.Pin = -1, []string{row.pin} })
				if _, err := h.Manifest(t.Context(), hub("library/a"), byDigest.manifest.Digest); err != nil {
					t.Fatal(err)
				}
				if _, err := h.read(t, hub("library/a"), byDigest.layer); err != nil {
					t.Fatal(err)
				}
				if err := h.pull(t, hub("library/a"), "latest"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Minute)
				tagged := o.putImage(t, "library/a", "latest", noise(100<<10, 3))
				h.fetch(t, "library/a", "latest")
				time.Sleep(2 * time.Hour)
				if _, err := h.evict(t.Context(), 1<<30); err != nil {
					t.Fatal(err)
				}
				for what, piece := range map[string]struct {
					digest registry.Digest
					want   bool
				}{
					"layer pulled by digest": {byDigest.layer, row.byDigest}, "manifest pulled by digest": {byDigest.manifest.Digest, row.byDigest},
					"layer that the tag has left": {old.layer, row.old}, "layer of the tag": {tagged.layer, row.tagged},
				} {
					if got := h.stored(piece.digest); got != piece.want {
						t.Errorf("%s stays: %v, want %v", what, got, piece.want)
					}
				}
				h.stop()
			})
		})
	}
}
