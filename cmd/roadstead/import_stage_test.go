package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// readerFunc reads by calling.
type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// importings are runs of imports into a data directory of their own.
func importings(t *testing.T, n int) (all []*importing) {
	t.Helper()
	up := map[string]map[string]any{"up.example": {"endpoints": []string{"http://127.0.0.1:1"}, "allow_private": true}}
	cfg, err := onDirectory{settings: settings{Config: configuration(t, up, nil)}}.load()
	if err != nil {
		t.Fatal(err)
	}
	data, err := openForImport(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := data.Close(); err != nil {
			t.Error(err)
		}
	})
	for range n {
		i, err := newImporting(t.Context(), cfg, data, streams{io.Discard, io.Discard})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, i)
	}
	return all
}

// A layer arrives for longer than an import is believed in, behind one that is staged, and another import
// ends meanwhile. What is staged stays, and goes once nobody imports.
func TestSlowLayerOfAnImport(t *testing.T) {
	both := importings(t, 2)
	i, other, data := both[0], both[1], both[0].data
	i.beat = time.Millisecond
	var head bytes.Buffer
	w := tar.NewWriter(&head)
	staged := []byte("a layer that is here")
	w.WriteHeader(&tar.Header{Name: "one/layer.tar", Size: int64(len(staged)), Mode: 0o644, Typeflag: tar.TypeReg})
	w.Write(staged)
	w.WriteHeader(&tar.Header{Name: "two/layer.tar", Size: 1 << 30, Mode: 0o644, Typeflag: tar.TypeReg})

	collect := func() (err error) {
		updated := data.Catalog.Update(t.Context(), func(tx *catalog.Tx) error {
			_, _, err = tx.ForgetUnheld(digest.FromBytes(staged))
			return nil
		})
		return errors.Join(err, updated)
	}
	slow := readerFunc(func([]byte) (int, error) {
		if err := other.ended(t.Context(), true); err != nil {
			t.Error(err)
		}
		// The time that this layer takes, in a moment.
		for range 3 {
			err := data.Catalog.Update(t.Context(), func(tx *catalog.Tx) error { return tx.Importing(i.id, time.Now().Add(-time.Hour)) })
			if err != nil {
				t.Error(err)
			}
			for late := time.Now().Add(10 * time.Second); !errors.Is(collect(), catalog.ErrStaging); {
				if time.Now().After(late) {
					t.Error("what is staged is collected beside the import")
					break
				}
				time.Sleep(time.Millisecond)
			}
		}
		return 0, io.ErrUnexpectedEOF
	})
	if err := i.run(t.Context(), []*supply{{name: "slow", file: io.MultiReader(&head, slow)}}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	// The same again may want it, so it stays a while; and goes when that has come to its end.
	if err := collect(); !errors.Is(err, catalog.ErrStaging) {
		t.Errorf("after one that was cut off: %v", err)
	}
	if err := i.ended(t.Context(), true); err != nil {
		t.Error(err)
	}
	if err := collect(); err != nil {
		t.Errorf("with nobody importing: %v", err)
	}
}

// An index may name one manifest as often as it likes, and each time it is read anew.
func TestManifestsOfAnArchiveAreBounded(t *testing.T) {
	i := importings(t, 1)[0]
	i.progress = newTransfer(i.std, "importing", 0)
	manifest := []byte(`{"schemaVersion":2,"mediaType":"` + registry.MediaTypeOCIManifest + `"}`)
	d := registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: digest.FromBytes(manifest), Size: int64(len(manifest))}
	var named []string
	for n := range 3 {
		named = append(named, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"annotations":{"io.containerd.image.name":"up.example/app:%d"}}`, d.MediaType, d.Digest, d.Size, n))
	}
	layout := fstest.MapFS{
		"oci-layout":                         {Data: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		"index.json":                         {Data: []byte(`{"schemaVersion":2,"manifests":[` + strings.Join(named, ",") + `]}`)},
		"blobs/sha256/" + d.Digest.Encoded(): {Data: manifest},
	}
	i.room = 3*d.Size - 1
	if err := i.archive(t.Context(), &supply{name: "layout", dir: layout}); err == nil || !strings.Contains(err.Error(), "split the archive") || i.done > 0 {
		t.Errorf("%v, and %d images are here", err, i.done)
	}
	i.room = 3 * d.Size
	if err := i.archive(t.Context(), &supply{name: "layout", dir: layout}); err != nil || i.done != 3 {
		t.Errorf("%v, and %d images are here, want 3", err, i.done)
	}
}
