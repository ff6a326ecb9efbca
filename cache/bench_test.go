package cache

import (
	"testing"

	"roadstead/registry"
)

// What a hit costs in this room: no question to the catalog, none to a driver.
func BenchmarkHit(b *testing.B) {
	o := newOrigin()
	img := o.putImage(b, "library/busybox", "1.35", noise(4<<10, 1))
	h := proxy(b, o)
	if err := h.pull(b, hub("library/busybox"), "1.35"); err != nil {
		b.Fatal(err)
	}
	h.settle(b)
	repo := hub("library/busybox")
	ctx := registry.WithTrace(b.Context(), &registry.Trace{})
	b.Run("resolve", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := h.Resolve(ctx, repo, "1.35"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("manifest", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := h.Manifest(ctx, repo, img.manifest.Digest); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("blob", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			blob, err := h.Blob(ctx, repo, img.layer)
			if err != nil {
				b.Fatal(err)
			}
			blob.Close()
		}
	})
}
