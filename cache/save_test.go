package cache

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

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
