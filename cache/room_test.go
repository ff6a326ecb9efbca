package cache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
	"roadstead/storage/catalogtest"
)

// On a disk without room each flight makes the room that it needs, whoever else does so at the
// same time, and what goes is no more than that and what the housekeeping adds.
func TestFlightsMakeRoomTogether(t *testing.T) {
	h, o := onSmallDisk(t, 40<<20)
	const layers, size = 8, 1 << 20
	before := h.Stats()
	var images []image
	var pulls sync.WaitGroup
	for i := range layers {
		repo := fmt.Sprintf("library/new%d", i)
		images = append(images, o.putImage(t, repo, "1", noise(size, byte(100+i))))
		pulls.Go(func() {
			if err := h.pull(t, hub(repo), "1"); err != nil {
				t.Error(err)
			}
		})
	}
	pulls.Wait()
	h.settle(t)
	for i, img := range images {
		if !h.stored(img.layer) {
			t.Errorf("layer %d was not kept", i)
		}
	}
	// Each flight takes up to a piece more than is lacking, and what it does not take of the room
	// is a twentieth of what is stored, with a piece more, for each look of the housekeeping.
	evicted := h.Stats().EvictedBytes - before.EvictedBytes
	if most := int64(2*layers*size + 4*before.StoredBytes/slack); evicted < layers*size/2 || evicted > most {
		t.Errorf("%d bytes were evicted for %d, want at most %d", evicted, layers*size, most)
	}
}

// A flight that lacks a little waits for the removal of that, and not for the housekeeping, which
// has more to do.
func TestFlightsDoNotWaitForTheHousekeeping(t *testing.T) {
	h, o := onSmallDisk(t, 40<<20)
	e, err := h.newEviction(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const all = 20 << 20
	img := o.putImage(t, "library/new", "1", noise(2<<20, 101))
	var pulled Evicted // what the housekeeping had done when the flight had its room
	for first := true; e.done.Bytes < all && !e.end; first = false {
		if err := e.some(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		if first {
			if err := h.pull(t, hub("library/new"), "1"); err != nil {
				t.Fatal(err)
			}
			pulled = e.done
		}
	}
	h.settle(t)
	if !h.stored(img.layer) || pulled.Bytes*2 > e.done.Bytes {
		t.Errorf("stored: %v, when the housekeeping had removed %d of %d bytes", h.stored(img.layer), pulled.Bytes, e.done.Bytes)
	}
}

// Lowering the limit far takes what is above it and a little more, and not the rest.
func TestSlackIsOfWhatStays(t *testing.T) {
	o, dir := newOrigin(), t.TempDir()
	project := Project{Name: "docker.io", Upstream: o, Keep: -1}
	h := newHouse(t, dir, Config{Projects: []Project{project}})
	for i := range 40 {
		repo := fmt.Sprintf("library/img%d", i)
		o.putImage(t, repo, "1", noise(50<<10, byte(i)))
		if err := h.pull(t, hub(repo), "1"); err != nil {
			t.Fatal(err)
		}
	}
	h.settle(t)
	h.stop()
	time.Sleep(2 * time.Millisecond) // what was used just now is not cold yet
	h = newHouse(t, dir, Config{MaxSize: 200 << 10, Projects: []Project{project}})
	if _, err := h.Evict(t.Context()); err != nil {
		t.Fatal(err)
	}
	if stored := h.Stats().StoredBytes; stored > 200<<10 || stored < 100<<10 {
		t.Errorf("%d bytes are left under a limit of %d", stored, 200<<10)
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
	h, o := onSmallDisk(t, 24<<20)
	h.stop() // nobody but the test evicts
	db, err := catalogtest.Open(t.Context(), "sqlite:"+filepath.Join(h.dir, "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store := smallStore(t, h.dir)
	defer store.Close()
	still, err := New(Config{Store: store, Catalog: db, Projects: []Project{{Name: "docker.io", Upstream: o, Keep: -1}}})
	if err != nil {
		t.Fatal(err)
	}
	h = &house{Cache: still, dir: h.dir}

	fillUp(t, filepath.Join(h.dir, "junk"))
	for round := 0; err == nil && round < 100; round++ { // the log of the database has some pages left
		err = db.Update(t.Context(), func(tx *catalog.Tx) error {
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
	e, err := h.newEviction(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for e.done.Bytes < 6<<20 && !e.end {
		if err := e.some(t.Context(), 6<<20); err != nil {
			t.Fatalf("after %+v: %v", e.done, err)
		}
	}
	if lack, err := store.Lack(0); err != nil || lack > 0 {
		t.Errorf("evicted %+v; %d bytes are lacking of the floor, %v", e.done, lack, err)
	}
	if err := h.finishRemovals(t.Context()); err != nil { // the house that was stopped may have been at one
		t.Error(err)
	}
	agree(t, h)
}

// fillUp writes a file until the disk has no byte left.
func fillUp(t *testing.T, path string) {
	t.Helper()
	junk, err := os.Create(path)
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
	store := smallStore(t, dir)
	h := newHouse(t, dir, Config{Store: store, Projects: []Project{{Name: "docker.io", Upstream: o, Keep: -1}}})
	for i := 0; h.Stats().EvictedCount == 0; i++ {
		repo := fmt.Sprintf("library/old%d", i)
		o.putImage(t, repo, "1", noise(1<<20, byte(i)))
		if lack, err := store.Lack(1 << 20); err != nil || lack > 0 {
			break
		}
		h.fetch(t, repo, "1")
	}
	return h, o
}

func smallStore(t *testing.T, dir string) *storage.Store {
	t.Helper()
	store, err := storage.New(storage.Config{Root: dir, Floor: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return store
}
