package cache

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
)

// withCopies is a house whose content is elsewhere, with copies of it here.
func withCopies(t *testing.T, o *origin) *house {
	t.Helper()
	dir := t.TempDir()
	store, err := storage.New(storage.Config{
		Driver: filesystem.New(filesystem.DriverParameters{RootDirectory: dir, MaxThreads: 100}),
		Drafts: filepath.Join(dir, "drafts"), Floor: -1, Hot: storage.Hot{Dir: filepath.Join(t.TempDir(), "hot"), Size: 1 << 30},
	})
	if err != nil {
		t.Fatal(err)
	}
	return newHouse(t, dir, Config{Store: store, Projects: []Project{{Name: "docker.io", Upstream: o}}})
}

// The copy on this node of what upstream has sent is served, until the catalog forgets the content,
// here or elsewhere: a copy makes nothing known.
func TestCopiesOfWhatIsForgotten(t *testing.T) {
	for name, forget := range map[string]func(*house, image) error{
		"here": func(h *house, img image) error { return h.ForgetTag(t.Context(), hub("app"), "1") },
		"on another node": func(h *house, img image) error {
			var all []catalog.Change
			for _, d := range []registry.Digest{img.manifest.Digest, img.config, img.layer} {
				err := h.Cache.catalog.Update(t.Context(), func(tx *catalog.Tx) error {
					_, cold, err := tx.ForgetCold(d, []string{"docker.io"}, time.Now().Add(time.Hour))
					if err == nil && !cold {
						err = errors.New("it is not cold")
					}
					return err
				})
				if err != nil {
					return err
				}
				all = append(all, catalog.Change{Topic: catalog.ContentGone, Digest: d})
			}
			h.Gone(append(all, catalog.Change{Topic: catalog.Anything}))
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin()
			img := o.putImage(t, "app", "1", noise(1<<20, 1))
			h := withCopies(t, o)
			h.fetch(t, "app", "1")
			h.fetch(t, "app", "1")
			if stats, ok := h.Cache.store.Hot(); !ok || stats.Hits == 0 || stats.Count < 3 {
				t.Errorf("%+v", stats)
			}
			o.asked()
			if err := forget(h, img); err != nil {
				t.Fatal(err)
			}
			if h.Cache.store.Cool(img.layer) {
				t.Error("there is a copy of what was forgotten")
			}
			o.set(func() { o.fail = down })
			if b, err := h.read(t, hub("app"), img.layer); err == nil {
				t.Errorf("%d bytes of what was forgotten", len(b))
			}
			o.set(func() { o.fail = nil })
			h.fetch(t, "app", "1")
			agree(t, h)
		})
	}
}

// Nor does a copy answer, by a manifest's word alone, for what was taken away without a word of it.
func TestCopiesAfterMissedNews(t *testing.T) {
	o := newOrigin()
	layer := noise(1<<20, 1)
	img := o.putImage(t, "app", "1", layer)
	h := withCopies(t, o)
	h.fetch(t, "app", "1")
	other := o.putImage(t, "other", "1", layer)
	o.set(func() { delete(o.blobs, "other@"+string(other.layer)) })
	if _, err := h.Manifest(t.Context(), hub("other"), other.manifest.Digest); err != nil {
		t.Fatal(err)
	}
	h.settle(t)
	err := h.Cache.catalog.Update(t.Context(), func(tx *catalog.Tx) error { _, err := tx.ForgetTagged(img.layer); return err })
	if err := errors.Join(err, os.Remove(h.file(img.layer))); err != nil {
		t.Fatal(err)
	}
	h.Gone([]catalog.Change{{Topic: catalog.Anything}})
	if b, err := h.read(t, hub("other"), img.layer); !errors.Is(err, registry.BlobUnknown) {
		t.Errorf("%d bytes of what was taken away, %v", len(b), err)
	}
	if h.Cache.store.Cool(img.layer) {
		t.Error("there is a copy of it still")
	}
}

// A copy that cannot be read is dropped, and what it is a copy of stays and answers.
func TestADoubtedCopyIsDropped(t *testing.T) {
	o := newOrigin()
	img := o.putImage(t, "app", "1", noise(1<<20, 1))
	h := withCopies(t, o)
	h.fetch(t, "app", "1")
	o.asked()
	h.Doubt(hub("app"), img.layer, syscall.EIO)
	h.settle(t)
	if h.Cache.store.Cool(img.layer) || !h.stored(img.layer) {
		t.Error("the copy is still there, or the content is not")
	}
	if _, err := h.read(t, hub("app"), img.layer); err != nil {
		t.Error(err)
	}
	wantAsked(t, o)
}
