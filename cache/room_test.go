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
)

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
