package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
)

// What is used between its choice and its removal stays, whether the catalog has heard of that
// yet or not; so does what somebody is just bringing.
func TestNothingInUseIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		img := o.putImage(t, "library/a", "1", noise(100<<10, 1))
		h := proxy(t, o)
		if err := h.pull(t, hub("library/a"), "1"); err != nil {
			t.Fatal(err)
		}
		h.settle(t)
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
		h.traffic.come(img.layer)
		if remove("docker.io") {
			t.Error("content went that somebody brings")
		}
		h.traffic.came(img.layer)
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

// Whoever wants content that is leaving waits until it is gone, and not for ever.
func TestTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var way traffic
		const d = registry.Digest("sha256:1")
		gone, ok := way.leave(d)
		if !ok {
			t.Fatal("content of which nobody knows cannot leave")
		}
		if _, ok := way.leave(d); ok {
			t.Error("it leaves twice")
		}
		came := make(chan time.Time, 2)
		for range 2 {
			go func() { way.come(d); came <- time.Now() }()
		}
		time.Sleep(time.Second)
		left := time.Now()
		gone()
		for range 2 {
			if at := <-came; !at.Equal(left) {
				t.Errorf("it came %s after it was gone", at.Sub(left))
			}
		}
		if _, ok := way.leave(d); ok {
			t.Error("it leaves while two bring it")
		}
		way.came(d)
		if _, ok := way.leave(d); ok {
			t.Error("it leaves while one brings it")
		}
		way.came(d)
		gone, ok = way.leave(d)
		if !ok {
			t.Fatal("it cannot leave any more")
		}
		start := time.Now()
		way.come(d) // a removal that hangs
		if waited := time.Since(start); waited != awayPatience {
			t.Errorf("waited %s for a removal that hangs", waited)
		}
		gone()
		way.came(d)
		if len(way.coming)+len(way.leaving) > 0 {
			t.Errorf("left over: %v, %v", way.coming, way.leaving)
		}
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

// Pulls and evictions at the same time: every pull ends well, and afterwards the catalog and the
// layout say the same.
func TestEvictionsBesidePulls(t *testing.T) {
	const images, pullers = 12, 6
	o := newOrigin()
	for i := range images {
		o.putImage(t, fmt.Sprintf("library/img%d", i), "1", noise(80<<10+i, byte(i)))
	}
	h := proxy(t, o, func(p *Project) { p.Keep = -1 })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
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
			done, err := h.evict(t.Context(), lacking(300<<10))
			if err != nil {
				t.Error(err)
			}
			evicted += done.Count
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
				if err := h.pull(t, hub("library/a"), "latest"); err != nil {
					t.Fatal(err)
				}
				h.settle(t)
				time.Sleep(2 * time.Hour)
				if _, err := h.evict(t.Context(), lacking(1<<30)); err != nil {
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

// On a disk without room each flight makes the room that it needs, and no more goes than that:
// those that wait for an eviction look again whether they still need one of their own.
func TestFlightsMakeRoomTogether(t *testing.T) {
	h, o := onSmallDisk(t, 40<<20)
	const layers, size = 8, 1 << 20
	var pulls sync.WaitGroup
	for i := range layers {
		repo := fmt.Sprintf("library/new%d", i)
		img := o.putImage(t, repo, "1", noise(size, byte(100+i)))
		pulls.Go(func() {
			if err := h.pull(t, hub(repo), "1"); err != nil {
				t.Error(err)
			}
			h.work.group.Wait()
			if !h.stored(img.layer) {
				t.Errorf("%s was not kept", repo)
			}
		})
	}
	pulls.Wait()
	evicted := h.Stats().EvictedBytes
	// Each eviction takes a twentieth of what is stored beyond what is lacking.
	if most := int64(2 * layers * size); evicted < layers*size/2 || evicted > most {
		t.Errorf("%d bytes were evicted for %d, want at most %d", evicted, layers*size, most)
	}
	if passed := h.Stats().PassThrough; passed > 0 {
		t.Errorf("%d pieces were not kept", passed)
	}
}

// A blob of a size that nothing has, which upstream may claim of any, does not cost the cache what
// it holds. Its manifest may still need some room.
func TestImpossibleSizeEmptiesNothing(t *testing.T) {
	h, o := onSmallDisk(t, 24<<20)
	for _, size := range []int64{1 << 30, math.MaxInt64} {
		o.set(func() {
			o.body = func(registry.Digest, []byte) io.ReadSeekCloser { return closer{bytes.NewReader(nil)} }
			o.claimed = size
		})
		d := o.putImage(t, "library/huge", "1", noise(1000, 77)).layer
		if got, err := h.read(t, hub("library/huge"), d); err == nil {
			t.Errorf("%d bytes of %d", len(got), size)
		}
	}
	if done := h.Stats(); done.EvictedBytes > 4<<20 || done.StoredBytes < 12<<20 {
		t.Errorf("%d bytes were evicted, %d are left", done.EvictedBytes, done.StoredBytes)
	}
}

// Without a max_size too, a blob of which upstream does not tell the size finds room the next time.
func TestBlobWithoutSizeFindsRoom(t *testing.T) {
	h, o := onSmallDisk(t, 24<<20)
	o.set(func() { o.sizeless = true })
	img := o.putImage(t, "library/new", "1", noise(6<<20, 99))
	get := func() error {
		// Without a manifest nobody knows how long it is.
		_, err := h.read(t, hub("library/new"), img.layer)
		return err
	}
	if err := get(); err == nil {
		t.Fatal("it fits at once: this shows nothing")
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := get()
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("there is still no room: %v", err)
		}
	}
	h.work.group.Wait()
	if !h.stored(img.layer) {
		t.Error("it was not kept")
	}
}

// On a disk without a single byte left an eviction still makes room: the catalog cannot write down
// what it forgets, so the bytes go first.
func TestEvictionOnAFullDisk(t *testing.T) {
	h, _ := onSmallDisk(t, 24<<20)
	junk, err := os.Create(filepath.Join(h.dir, "junk"))
	if err != nil {
		t.Fatal(err)
	}
	defer junk.Close()
	for page := make([]byte, 4096); err == nil; {
		_, err = junk.Write(page)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	err = nil
	for round := 0; err == nil && round < 100; round++ { // the log of the database has some pages left
		err = h.catalog.Update(t.Context(), func(tx *catalog.Tx) error {
			for i := range 1000 {
				if err := tx.AddBlob(registry.Repo{Project: "quay.io", Name: "junk"}, digest.FromString(fmt.Sprint(round, i)), 1); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the catalog can still write: %v", err)
	}
	done, err := h.Evict(t.Context()) // or the housekeeping does it
	if lack, lackErr := h.Cache.store.Lack(0); err != nil || lackErr != nil || lack > 0 || h.Stats().EvictedBytes < 4<<20 {
		t.Errorf("evicted %+v, %v; %d bytes are lacking of the floor, %v", done, err, lack, lackErr)
	}
	agree(t, h)
}

// onSmallDisk returns a house on a file system of its own that is full of layers which may go.
func onSmallDisk(t *testing.T, size int64) (*house, *origin) {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("mounting a small file system needs root")
		}
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", size), "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	o := newOrigin()
	store, err := storage.New(storage.Config{Root: dir, Floor: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, dir, Config{Store: store, Projects: []Project{{Name: "docker.io", Upstream: o, Keep: -1}}})
	for i := 0; h.Stats().EvictedCount == 0; i++ {
		repo := fmt.Sprintf("library/old%d", i)
		o.putImage(t, repo, "1", noise(1<<20, byte(i)))
		if lack, err := store.Lack(1 << 20); err != nil || lack > 0 {
			break
		}
		if err := h.pull(t, hub(repo), "1"); err != nil {
			t.Fatal(err)
		}
		h.settle(t)
	}
	return h, o
}

// A record that is older does not overtake a newer one on its way to the layout and the catalog.
func TestTagsAreWrittenInOrder(t *testing.T) {
	o := newOrigin()
	h := proxy(t, o, func(p *Project) { p.TTL, p.Negative = -1, -1 })
	var last registry.Digest
	for round := range 100 {
		img := o.putImage(t, "library/a", "latest", noise(100, byte(round)))
		last = img.manifest.Digest
		if round%10 == 9 {
			o.set(func() { delete(o.tags, "library/a:latest") })
			if _, err := h.Resolve(t.Context(), hub("library/a"), "latest"); !registry.Unknown(err) {
				t.Fatalf("a tag that is gone: %v", err)
			}
			o.set(func() { o.tags["library/a:latest"] = last })
		}
		if desc, err := h.Resolve(t.Context(), hub("library/a"), "latest"); err != nil || desc.Digest != last {
			t.Fatalf("round %d: %s, %v, want %s", round, desc.Digest, err, last)
		}
	}
	h.settle(t)
	tag, err := h.catalog.Tag(t.Context(), hub("library/a"), "latest")
	if err != nil || tag.Digest != last || tag.Gone {
		t.Errorf("the catalog has %+v, %v, want %s", tag, err, last)
	}
	link, err := os.ReadFile(filepath.Join(h.dir, "docker/registry/v2/repositories/docker.io/library/a/_manifests/tags/latest/current/link"))
	if err != nil || string(link) != string(last) {
		t.Errorf("the layout has %q, %v, want %s", link, err, last)
	}
	if len(h.saves.next) > 0 {
		t.Errorf("%d tags still have a writer", len(h.saves.next))
	}
}

// Of several records that wait for the one before, the newest is written, and the link with it if
// any of them needs one.
func TestSaves(t *testing.T) {
	var w saves
	k := tagKey{hub("library/a"), "1"}
	at := func(n int64, moved bool) save {
		return save{record: tagRecord{Tag: catalog.Tag{CheckedAt: time.Unix(n, 0)}}, moved: moved}
	}
	if !w.begin(k, at(1, true)) {
		t.Fatal("the first has to wait")
	}
	if w.begin(k, at(2, true)) || w.begin(k, at(3, false)) {
		t.Error("a tag has two writers")
	}
	if !w.begin(tagKey{hub("library/a"), "2"}, at(1, false)) {
		t.Error("another tag has to wait")
	}
	if next := w.end(k); next == nil || !next.record.CheckedAt.Equal(time.Unix(3, 0)) || !next.moved {
		t.Errorf("next is %+v, want the third, with the link of the second", next)
	}
	if next := w.end(k); next != nil {
		t.Errorf("after all are written there is %+v", next)
	}
	if !w.begin(k, at(4, false)) {
		t.Error("the tag still has a writer")
	}
}

// Stored content that cannot be read is put aside and comes anew. What is upstream's trouble, or
// the client's, says nothing of it.
func TestDoubtedContentComesAnew(t *testing.T) {
	o := newOrigin()
	img := o.putImage(t, "library/a", "1", noise(200<<10, 1))
	h := proxy(t, o)
	if err := h.pull(t, hub("library/a"), "1"); err != nil {
		t.Fatal(err)
	}
	h.settle(t)
	file := filepath.Join(h.dir, "docker/registry/v2/blobs/sha256", img.layer.Encoded()[:2], img.layer.Encoded(), "data")
	damage := func() {
		t.Helper()
		if err := os.WriteFile(file, noise(200<<10, 2), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	io5 := &os.PathError{Op: "read", Path: file, Err: syscall.EIO}

	h.Doubt(hub("library/a"), img.layer, io5) // it passes by
	h.settle(t)
	if !h.stored(img.layer) {
		t.Error("whole content was put aside")
	}
	damage()
	for _, err := range []error{context.Canceled, fmt.Errorf("read: %w", &registry.Fault{Code: registry.Unavailable})} {
		h.Doubt(hub("library/a"), img.layer, err)
	}
	h.settle(t)
	if !h.stored(img.layer) {
		t.Error("content was read again for an error that has nothing to do with it")
	}
	o.asked()
	h.Doubt(hub("library/a"), img.layer, io5)
	h.settle(t)
	if h.stored(img.layer) {
		t.Error("damaged content is still there")
	}
	b, err := h.Blob(t.Context(), hub("library/a"), img.layer)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if got, err := io.ReadAll(b); err != nil || string(got) != string(img.content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	wantAsked(t, o, "blob library/a "+short(string(img.layer)))
	h.settle(t)
	if !h.stored(img.layer) {
		t.Error("it was not kept again")
	}
}
