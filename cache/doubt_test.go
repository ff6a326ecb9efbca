package cache

import (
	"context"
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
)

// Closing the house does not wait until a large blob is read again.
func TestRecheckEndsWithTheHouse(t *testing.T) {
	o := newOrigin()
	h := proxy(t, o)
	content := noise(64<<20, 1)
	d := digest.FromBytes(content)
	if err := h.Cache.store.Put(t.Context(), d, content); err != nil {
		t.Fatal(err)
	}
	h.end() // which is what closing begins with
	h.Doubt(hub("library/a"), d, syscall.EIO)
	h.work.group.Wait()
	if !h.stored(d) {
		t.Error("content was put aside that was not read")
	}
}

// Stored content that cannot be read is put aside and comes anew. What is upstream's trouble, or
// the client's, says nothing of it.
func TestDoubtedContentComesAnew(t *testing.T) {
	o := newOrigin()
	img := o.putImage(t, "library/a", "1", noise(200<<10, 1))
	h := proxy(t, o)
	h.fetch(t, "library/a", "1")
	file := h.file(img.layer)
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
