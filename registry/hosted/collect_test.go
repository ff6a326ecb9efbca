package hosted

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// age has all blobs and manifests linked that long ago.
func (h *house) age(repo registry.Repo, by time.Duration, all ...registry.Digest) {
	h.t.Helper()
	h.update(func(tx *catalog.Tx) error {
		for _, d := range all {
			if _, err := tx.Renew(repo, d, time.Now().Add(-by)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (h *house) collect(dry bool) Collected {
	h.t.Helper()
	done, err := h.Collect(context.Background(), dry)
	if err != nil {
		h.t.Fatal(err)
	}
	return done
}

func (h *house) stored(d registry.Digest) bool {
	_, err := os.Stat(h.path(d))
	return err == nil
}

const longAgo = 3 * defaultAge

func TestCollect(t *testing.T) {
	h := newHouse(t)
	config, layer := h.blob(web, "config"), h.blob(web, "layer")
	foreign := v1.Descriptor{MediaType: "layer", Digest: digest.FromString("foreign"), URLs: []string{"https://example.com"}}
	child := h.push(web, image(config, layer, foreign))
	list := h.push(web, index(child), "v1")
	loose, young, shared, twice := h.blob(web, "loose"), h.blob(web, "young"), h.blob(web, "shared"), h.blob(web, "twice")
	h.blob(other, "shared") // where it is young
	h.blob(api, "twice")
	cached := h.blob(web, "cached")
	h.update(func(tx *catalog.Tx) error { return tx.AddBlob(proxy, cached.Digest, cached.Size) })
	h.age(web, longAgo, config.Digest, layer.Digest, child.Digest, list.Digest, loose.Digest, shared.Digest, twice.Digest, cached.Digest)
	h.age(api, longAgo, twice.Digest)

	dry := h.collect(true)
	if !h.stored(loose.Digest) {
		t.Fatal("a dry run has removed something")
	}
	done := h.collect(false)
	wantDone := Collected{Links: 5, Blobs: 2, Bytes: loose.Size + twice.Size}
	for name, got := range map[string]Collected{"dry": dry, "done": done} {
		if len(got.Gone) != 7 {
			t.Errorf("%s: %d things are listed, want 7", name, len(got.Gone))
		}
		if got.Gone = nil; got.Links != wantDone.Links || got.Blobs != wantDone.Blobs || got.Bytes != wantDone.Bytes {
			t.Errorf("%s: collected %+v, want %+v", name, got, wantDone)
		}
	}
	for name, d := range map[string]v1.Descriptor{"loose": loose, "twice": twice, "shared": shared, "cached": cached, "young": young, "layer": layer} {
		wantStored, wantHere := name != "loose" && name != "twice", name == "young" || name == "layer"
		if got := h.stored(d.Digest); got != wantStored {
			t.Errorf("%s is stored: %v", name, got)
		}
		if _, err := h.read(web, d.Digest); (err == nil) != wantHere {
			t.Errorf("%s in %s: %v", name, web, err)
		}
	}
	if _, err := h.read(other, shared.Digest); err != nil {
		t.Error(err)
	}
	if err := h.wholeImage(web, child.Digest); err == nil {
		t.Error("a foreign layer is here") // it is no part of what has to be whole
	}
	if again := h.collect(false); again.Links+again.Blobs != 0 {
		t.Errorf("a second collection finds %+v", again)
	}
	// What nobody has goes at once, manifests too.
	want(t, h.DeleteManifest(t.Context(), web, list.Digest), "")
	want(t, h.DeleteManifest(t.Context(), web, child.Digest), "")
	if done := h.collect(false); done.Blobs != 2 || h.stored(child.Digest) || h.stored(list.Digest) {
		t.Errorf("after the image is deleted: %+v, want its manifests to go", done)
	}
	// And what it was made of stays for the time of grace from now on.
	if _, err := h.read(web, layer.Digest); err != nil {
		t.Error(err)
	}
}

// What an import has stored nobody has, and it is not collected before that has ended.
func TestCollectBesideAnImport(t *testing.T) {
	h := newHouse(t)
	staged := h.blob(web, "staged")
	h.update(func(tx *catalog.Tx) error {
		_, err := tx.Unlink(web, staged.Digest)
		return err
	})
	h.update(func(tx *catalog.Tx) error {
		ok, err := tx.Stage("one", staged.Digest, staged.Size)
		if !ok {
			t.Error("it was not staged")
		}
		return err
	})
	if done := h.collect(false); done.Blobs != 0 || !h.stored(staged.Digest) {
		t.Errorf("beside an import: %+v", done)
	}
	want(t, h.Take(t.Context(), other, staged.Digest, staged.Size), "")
	if _, err := h.read(other, staged.Digest); err != nil {
		t.Error(err)
	}
	want(t, h.Take(t.Context(), other, digest.FromString("nowhere"), 1), registry.BlobUnknown)
	left := h.blob(web, "left")
	h.update(func(tx *catalog.Tx) error {
		_, err := tx.Unlink(web, left.Digest)
		return err
	})
	h.update(func(tx *catalog.Tx) error { return tx.Imported("one") })
	if done := h.collect(false); done.Blobs != 1 || h.stored(left.Digest) || !h.stored(staged.Digest) {
		t.Errorf("after it: %+v", done)
	}
}

// TestToldThatItIsHere: a client that was told so of a blob does not send it, and so it stays for the
// time of grace.
func TestToldThatItIsHere(t *testing.T) {
	tell := map[string]func(h *house, d registry.Digest) error{
		"HEAD": func(h *house, d registry.Digest) error { _, err := h.StatBlob(t.Context(), web, d); return err },
		"mount": func(h *house, d registry.Digest) error {
			return h.Mount(t.Context(), web, d, func(registry.Repo) bool { return true })
		},
		"upload": func(h *house, d registry.Digest) error { return h.tryBlob(web, d, []byte("layer")) },
	}
	for name, tell := range tell {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			layer := h.blob(web, "layer")
			h.age(web, longAgo, layer.Digest)
			want(t, tell(h, layer.Digest), "")
			h.collect(false)
			h.push(web, image(layer), "v1")
			if err := h.wholeImage(web, digest.FromBytes(encode(image(layer)))); err != nil {
				t.Error(err)
			}
		})
	}
	h := newHouse(t)
	layer := h.blob(web, "layer")
	h.age(web, longAgo, layer.Digest)
	if _, err := h.read(web, layer.Digest); err != nil { // to read it is no promise
		t.Fatal(err)
	}
	if h.collect(false); h.stored(layer.Digest) {
		t.Error("a blob that was only read stays")
	}
}

// TestCollectAsksAgain: what is put to use between the list and the removal stays. The control is
// the same without the question.
func TestCollectAsksAgain(t *testing.T) {
	for _, tt := range []struct {
		name      string
		at        string
		unchecked bool
		broken    bool
	}{
		{"pushed after the list", "collect: listed", false, false},
		{"control", "collect: listed", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouse(t)
			layer := h.blob(web, "layer")
			h.age(web, longAgo, layer.Digest)
			h.unchecked = tt.unchecked
			m := digest.FromBytes(encode(image(layer)))
			h.at = func(step string) {
				if step == tt.at {
					h.at = nil
					h.push(web, image(layer), "v1")
				}
			}
			h.collect(false)
			if err := h.wholeImage(web, m); (err != nil) != tt.broken {
				t.Errorf("the image that was acknowledged meanwhile: %v, want broken %v", err, tt.broken)
			}
		})
	}
}

// TestCollectLeavesWhatComes: content is mounted, or sent again, between the list and the removal.
func TestCollectLeavesWhatComes(t *testing.T) {
	h := newHouse(t)
	layer := h.blob(web, "layer")
	want(t, h.DeleteBlob(t.Context(), web, layer.Digest), "")
	h.at = func(step string) {
		if step == "collect: orphan listed" {
			h.at = nil
			h.blob(api, "layer")
		}
	}
	h.collect(false)
	if _, err := h.read(api, layer.Digest); err != nil {
		t.Error(err)
	}
	// One that is on its way in is not even asked for.
	want(t, h.DeleteBlob(t.Context(), api, layer.Digest), "")
	h.store.Traffic.Come(layer.Digest, time.Second)
	h.collect(false)
	h.store.Traffic.Came(layer.Digest)
	if !h.stored(layer.Digest) {
		t.Error("content was removed that somebody brings")
	}
}

// TestCollectAborts: an error ends a collection, and nothing more goes.
func TestCollectAborts(t *testing.T) {
	h := newHouse(t)
	for i := range 10 {
		d := h.blob(web, fmt.Sprint(i)).Digest
		h.age(web, longAgo, d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	removed := 0
	h.at = func(step string) {
		switch step {
		case "collect: forgotten":
			removed++
		case "collect: listed":
			if removed == 3 {
				cancel()
			}
		}
	}
	if _, err := h.Collect(ctx, false); !errors.Is(err, context.Canceled) || removed != 3 {
		t.Errorf("Collect = %v after %d removals, want it to end after 3", err, removed)
	}
	h.at = nil
	h.catalog.Close()
	if done, err := h.Collect(t.Context(), false); err == nil || done.Links+done.Blobs != 0 {
		t.Errorf("Collect without a catalog = %+v, %v, want an error", done, err)
	}
	for i := range 10 {
		if !h.stored(digest.FromString(fmt.Sprint(i))) {
			t.Errorf("blob %d is gone from the disk", i)
		}
	}
}

// TestD7_CollectRaces pushes images, mounts their layers elsewhere and deletes some again while one
// collection follows the other and has no grace at all: 0 of those acknowledged are broken.
func TestD7_CollectRaces(t *testing.T) {
	images := 10_700 // of which every sixteenth is deleted
	switch {
	case testing.Short():
		images = 500
	case raced:
		images = 1500
	}
	h := newHouseIn(t, memory(t))
	h.open(Config{Grace: time.Nanosecond})
	raceCollections(t, images, h, []*house{h}, h.wholeImage)
}

// raceCollections has one registry collect while several push so many images, and then asks of each that
// was acknowledged whether it is whole.
func raceCollections(t *testing.T, images int, collector *house, nodes []*house, whole func(registry.Repo, registry.Digest) error) {
	const pushers = 16
	var (
		all      sync.WaitGroup
		mu       sync.Mutex
		kept     = map[registry.Repo][]registry.Digest{}
		again    atomic.Int64
		rounds   atomic.Int64
		progress atomic.Int64
	)
	for p := range pushers {
		all.Go(func() {
			repo := registry.Repo{Project: []string{"production", "other"}[p%2], Name: fmt.Sprint("app", p%4)}
			h := nodes[p%len(nodes)]
			for n := progress.Add(1); n <= int64(images); n = progress.Add(1) {
				// Most layers are those of others too, a few at a time.
				layer := fmt.Sprint("layer ", n/8)
				if n%4 == 0 {
					layer = fmt.Sprint("own ", n)
				}
				d, err := h.race(repo, layer, fmt.Sprint("config ", n%100), n, &rounds, &again)
				if err != nil {
					t.Error(err)
					return
				}
				if n%16 == 0 {
					want(t, h.DeleteManifest(context.Background(), repo, d), "")
					continue
				}
				mu.Lock()
				kept[repo] = append(kept[repo], d)
				mu.Unlock()
			}
		})
	}
	stop := make(chan struct{})
	collected := make(chan Collected)
	go func() {
		var sum Collected
		for {
			done, err := collector.Collect(context.Background(), false)
			if err != nil {
				t.Error(err)
			}
			rounds.Add(1)
			sum.Links += done.Links
			sum.Blobs += done.Blobs
			select {
			case <-stop:
				collected <- sum
				return
			default:
			}
		}
	}()
	all.Wait()
	close(stop)
	sum := <-collected
	var broken, acknowledged atomic.Int64
	for repo, digests := range kept {
		all.Go(func() {
			for _, d := range digests {
				acknowledged.Add(1)
				if err := whole(repo, d); err != nil && broken.Add(1) <= 10 {
					t.Errorf("%s@%s: %v", repo, d, err)
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d acknowledged, %d broken, %d pushes had to begin again, collected %d links and %d pieces of content", acknowledged.Load(), broken.Load(), again.Load(), sum.Links, sum.Blobs)
	if sum.Links == 0 || sum.Blobs == 0 || again.Load() == 0 {
		t.Error("nothing that was being pushed was collected, so nothing was raced")
	}
}

// race pushes an image as a client does, again as long as what it has sent is collected before its
// manifest comes: with no grace at all that happens often.
func (h *house) race(repo registry.Repo, layer, config string, n int64, rounds, again *atomic.Int64) (registry.Digest, error) {
	for slow := n%128 == 5; ; slow = false {
		var blobs []v1.Descriptor
		for _, text := range []string{config, layer} {
			d := digest.FromString(text)
			_, err := h.StatBlob(context.Background(), repo, d)
			if errors.Is(err, registry.BlobUnknown) && n%3 == 0 {
				err = h.Mount(context.Background(), repo, d, func(registry.Repo) bool { return true })
			}
			if errors.Is(err, registry.BlobUnknown) {
				err = h.tryBlob(repo, d, []byte(text))
			}
			if err != nil {
				return "", err
			}
			blobs = append(blobs, v1.Descriptor{MediaType: "b", Digest: d, Size: int64(len(text))})
		}
		for at := rounds.Load(); slow && rounds.Load() < at+2; {
			time.Sleep(time.Millisecond) // so that a collection passes between the blobs and the manifest
		}
		m := image(blobs...)
		m.Annotations = map[string]string{"n": fmt.Sprint(n)}
		b := encode(m)
		var tags []string
		if n%4 == 0 {
			tags = []string{fmt.Sprint("t", n%50)}
		}
		_, err := h.PutManifest(context.Background(), repo, registry.ManifestPush{Bytes: b, Tags: tags})
		if err == nil {
			return digest.FromBytes(b), nil
		}
		if !errors.Is(err, registry.ManifestBlobUnknown) || !strings.Contains(err.Error(), "does not have") {
			return "", err
		}
		again.Add(1)
	}
}
