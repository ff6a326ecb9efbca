package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// stored reports whether the content of d is in the layout.
func (h *house) stored(d registry.Digest) bool {
	_, err := os.Stat(h.file(d))
	return err == nil
}

func TestEviction(t *testing.T) {
	const layer = 100 << 10
	rows := []struct {
		name    string
		project Project
		wait    time.Duration // between the pulls and the eviction
		gone    []int         // layers that went, of images 0 to 4, pulled in that order
	}{
		{"least recently used goes first", Project{Keep: -1}, time.Hour, []int{0, 1, 2}},
		{"nothing younger than keep goes", Project{Keep: 24 * time.Hour}, time.Hour, nil},
		{"what is older than keep goes", Project{Keep: 24 * time.Hour}, 22*time.Hour + 50*time.Minute, []int{0, 1}},
		{"pinned content stays", Project{Keep: -1, Pin: []string{"library/img0:1", "library/img2"}}, time.Hour, []int{1, 3, 4}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin()
				dir := t.TempDir()
				project := row.project
				project.Name, project.Upstream = "docker.io", o
				project.Pin = append(project.Pin, "nothing")
				h := newHouse(t, dir, Config{Projects: []Project{project}})
				var images []image
				for i := range 5 {
					img := o.putImage(t, fmt.Sprintf("library/img%d", i), "1", noise(layer, byte(100+i)))
					if err := h.pull(t, hub(fmt.Sprintf("library/img%d", i)), "1"); err != nil {
						t.Fatal(err)
					}
					images = append(images, img)
					h.settle(t)
					time.Sleep(20 * time.Minute)
				}
				h.stop()
				time.Sleep(row.wait)
				h = newHouse(t, dir, Config{MaxSize: 250 << 10, Projects: []Project{project}})
				done, err := h.Evict(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				gone := map[int]bool{}
				for _, i := range row.gone {
					gone[i] = true
				}
				for i, img := range images {
					if h.stored(img.layer) == gone[i] {
						t.Errorf("layer %d is stored: %v (%+v)", i, !gone[i], done)
					}
				}
				usage, err := h.catalog.Usage(t.Context())
				if err != nil || len(row.gone) >= 3 && (usage.Bytes > 250<<10 || done.Short != 0) {
					t.Errorf("after %+v the usage is %+v, %v", done, usage, err)
				}

				// Whatever went is only one download away, and a tag never promises a
				// manifest that went.
				for i := range images {
					if err := h.pull(t, hub(fmt.Sprintf("library/img%d", i)), "1"); err != nil {
						t.Errorf("pull of image %d after the eviction: %v", i, err)
					}
				}
				h.settle(t)
				h.stop()
			})
		})
	}
}

// A hit makes content young again, whatever order it came in.
func TestUseKeepsContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		a := o.putImage(t, "library/a", "1", noise(100<<10, 1))
		b := o.putImage(t, "library/b", "1", noise(100<<10, 2))
		h := newHouse(t, t.TempDir(), Config{MaxSize: 1 << 30, Projects: []Project{{Name: "docker.io", Upstream: o, Keep: -1}}})
		for _, repo := range []string{"library/a", "library/b", "library/a"} {
			h.fetch(t, repo, "1")
			time.Sleep(2 * time.Hour)
		}
		if _, err := h.evict(t.Context(), 50<<10); err != nil {
			t.Fatal(err)
		}
		if !h.stored(a.layer) || h.stored(b.layer) {
			t.Errorf("a is stored: %v, b is stored: %v", h.stored(a.layer), h.stored(b.layer))
		}
		h.stop()
	})
}

// Pressure alone, without anybody calling Evict, keeps the cache below its mark.
func TestHighWaterMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		h := newHouse(t, t.TempDir(), Config{MaxSize: 500 << 10, Projects: []Project{{Name: "docker.io", Upstream: o, Keep: -1}}})
		for i := range 20 {
			repo := fmt.Sprintf("library/img%d", i)
			o.putImage(t, repo, "1", noise(100<<10, byte(i)))
			if err := h.pull(t, hub(repo), "1"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Minute)
		}
		synctest.Wait()
		if s := h.Stats(); s.StoredBytes > 500<<10 || s.EvictedCount == 0 {
			t.Errorf("figures are %+v", s)
		}
		h.stop()
	})
}

// What a project left behind that the configuration no longer names does not stay for ever.
func TestContentOfARemovedProjectGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, dir := newOrigin(), t.TempDir()
		old := o.putImage(t, "library/old", "1", noise(100<<10, 1))
		h := newHouse(t, dir, Config{Projects: []Project{{Name: "docker.io", Upstream: o}}})
		h.fetch(t, "library/old", "1")
		h.stop()
		time.Sleep(8 * 24 * time.Hour)
		h = newHouse(t, dir, Config{MaxSize: 10 << 10, Projects: []Project{{Name: "quay.io", Upstream: o}}})
		if _, err := h.Evict(t.Context()); err != nil || h.stored(old.layer) {
			t.Errorf("%v; its layer is stored: %v", err, h.stored(old.layer))
		}
		h.stop()
	})
}

// Uses that cannot be written down wait for the next time: on a full disk an eviction begins with
// writing them, and must not take what was used just now.
func TestUsesWaitForTheCatalog(t *testing.T) {
	h := proxy(t, newOrigin())
	h.stop() // and with it the catalog
	old, d := time.Now(), registry.Digest("sha256:1")
	h.recorder.touched[d] = old
	for i := range 2 * touchBatch {
		h.recorder.touched[digest.FromString(fmt.Sprint(i))] = old
	}
	h.writeTouches()
	if at := h.recorder.usedAt(d); !at.Equal(old) || len(h.recorder.writing) > 0 || len(h.recorder.touched) != 2*touchBatch+1 {
		t.Errorf("used at %s, want %s; %d are still being written, %d wait", at, old, len(h.recorder.writing), len(h.recorder.touched))
	}
	touched := h.recorder.startTouches()
	newer := old.Add(time.Hour)
	h.recorder.touched[d] = newer
	h.recorder.endTouches(touched, []registry.Digest{d}, false)
	if at := h.recorder.usedAt(d); !at.Equal(newer) {
		t.Errorf("used at %s, want the newer %s", at, newer)
	}
}

// More uses than share a transaction are all written.
func TestUsesAreWrittenByParts(t *testing.T) {
	h := proxy(t, newOrigin())
	at := time.Now().Add(time.Hour).Truncate(time.Millisecond).UTC()
	want, used := 2*touchBatch+1, map[registry.Digest]time.Time{}
	if err := h.catalog.Update(t.Context(), func(tx *catalog.Tx) error {
		for i := range want {
			d := digest.FromString(fmt.Sprint(i))
			if err := tx.AddBlob(registry.Repo{Project: "docker.io", Name: "library/a"}, d, 1); err != nil {
				return err
			}
			used[d] = at
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	h.recorder.mu.Lock()
	h.recorder.touched = used
	h.recorder.mu.Unlock()
	h.writeTouches()
	cold, _, err := h.catalog.Coldest(t.Context(), []string{"docker.io"}, at.Add(time.Second), catalog.Mark{}, -1)
	if err != nil || len(cold) != want {
		t.Fatalf("%d of %d are there, %v", len(cold), want, err)
	}
	for _, one := range cold {
		if !one.UsedAt.Equal(at) {
			t.Fatalf("%s was used at %s, want %s", one.Digest, one.UsedAt, at)
		}
	}
	if at := h.recorder.usedAt(cold[0].Digest); !at.IsZero() {
		t.Error("what is written still waits")
	}
}

// evict removes so many bytes, as far as they may go, whether there is too much or not.
func (h *house) evict(ctx context.Context, bytes int64) (Evicted, error) {
	e, err := h.newEviction(ctx)
	if err != nil {
		return Evicted{}, err
	}
	for err == nil && e.done.Bytes < bytes && !e.end {
		err = e.some(ctx, bytes)
	}
	return e.done, err
}

// TestHostedContentIsNeverEvicted: what a hosted project has stays however old it is, also when a
// proxy project has it too, and also when the project becomes a hosted one after the choice. It
// does not count as what there is too much of.
func TestHostedContentIsNeverEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const layer = 100 << 10
		o := newOrigin()
		dir := t.TempDir()
		project := Project{Name: "docker.io", Upstream: o, Keep: -1}
		h := newHouse(t, dir, Config{Projects: []Project{project}})
		shared := o.putImage(t, "library/shared", "1", noise(layer, 1))
		cached := o.putImage(t, "library/cached", "1", noise(layer, 2))
		h.fetch(t, "library/shared", "1")
		h.fetch(t, "library/cached", "1")
		web := registry.Repo{Project: "production", Name: "web"}
		pushed := digest.FromString("pushed")
		if err := h.store.Put(t.Context(), pushed, []byte("pushed")); err != nil {
			t.Fatal(err)
		}
		update := func(fn func(tx *catalog.Tx) error) {
			if err := h.catalog.Update(t.Context(), fn); err != nil {
				t.Fatal(err)
			}
		}
		update(func(tx *catalog.Tx) error {
			return errors.Join(tx.PutProject(catalog.Project{Name: "production"}), tx.AddBlob(web, pushed, 1<<30), tx.AddBlob(web, shared.layer, layer))
		})
		h.stop()
		time.Sleep(24 * time.Hour)
		h = newHouse(t, dir, Config{MaxSize: layer / 2, Projects: []Project{project}})
		if done, err := h.Evict(t.Context()); err != nil || done.Bytes < layer || done.Bytes > 2*layer {
			t.Errorf("Evict = %+v, %v, want the cached image and not as much as a gigabyte", done, err)
		}
		if h.stored(cached.layer) || !h.stored(shared.layer) || !h.stored(pushed) {
			t.Errorf("stored: cached %v, shared %v, pushed %v; want the last two", h.stored(cached.layer), h.stored(shared.layer), h.stored(pushed))
		}
		// It has become a hosted one since somebody looked.
		late := digest.FromString("late")
		update(func(tx *catalog.Tx) error { return tx.AddBlob(registry.Repo{Project: "late", Name: "web"}, late, 1) })
		update(func(tx *catalog.Tx) error { return tx.PutProject(catalog.Project{Name: "late"}) })
		removed, err := h.remove(t.Context(), late, []string{"late"}, time.Now().Add(time.Hour))
		if err != nil || removed {
			t.Errorf("remove = %v, %v, want it to stay", removed, err)
		}
	})
}
