package cache

import (
	"errors"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// What is cached is served by what the layout says of it after a restart without the catalog, upstream
// down too (FAULTS I8), and in no repository that upstream has not given it (I6).
func TestTheLayoutStandsInForTheCatalog(t *testing.T) {
	o := newOrigin()
	img := o.putImage(t, "library/known", "1", noise(100<<10, 31))
	before := proxy(t, o)
	before.fetch(t, "library/known", "1")
	before.stop()

	open := func(change func(*Project)) *house {
		p := Project{Name: "docker.io", Upstream: o}
		change(&p)
		away, err := catalog.Later("postgres://nobody@127.0.0.1:1/nothing")
		if err != nil {
			t.Fatal(err)
		}
		return newHouse(t, before.dir, Config{Projects: []Project{p}, Catalog: away})
	}
	o.set(func() { o.fail = down })
	h := open(func(*Project) {})
	for range 2 {
		if err := h.pull(t, hub("library/known"), "1"); err != nil {
			t.Errorf("without catalog and upstream: %v", err)
		}
	}
	if _, err := h.StatBlob(t.Context(), hub("library/known"), img.layer); err != nil {
		t.Errorf("HEAD of a blob: %v", err)
	}
	for what, ask := range map[string]func() error{
		"a blob in another repository":     func() error { _, err := h.read(t, hub("library/other"), img.layer); return err },
		"a manifest in another repository": func() error { _, err := h.Manifest(t.Context(), hub("library/other"), img.manifest.Digest); return err },
		"a tag that is not here":           func() error { _, err := h.Resolve(t.Context(), hub("library/known"), "2"); return err },
	} {
		if err := ask(); !errors.Is(err, registry.Unavailable) {
			t.Errorf("%s: %v, want Unavailable", what, err)
		}
	}
	if s := h.Stats(); s.LaidOut == 0 {
		t.Error("no answer of the layout is counted")
	}
	h.stop()

	// Nobody can say how old the tag is, so that a project with a limit does without it.
	limited := open(func(p *Project) { p.StaleFor = time.Hour })
	if _, err := limited.Resolve(t.Context(), hub("library/known"), "1"); !errors.Is(err, registry.Unavailable) {
		t.Errorf("a tag of unknown age in a project with a limit: %v", err)
	}
	if _, err := limited.Manifest(t.Context(), hub("library/known"), img.manifest.Digest); err != nil {
		t.Errorf("its manifest by digest: %v", err)
	}

	// What upstream says goes before what the layout has.
	o.putImage(t, "library/known", "1", noise(100<<10, 32))
	o.set(func() { o.fail = nil })
	again := open(func(*Project) {})
	if d, err := again.Resolve(t.Context(), hub("library/known"), "1"); err != nil || d.Digest == img.manifest.Digest {
		t.Errorf("a tag that has moved: %v, %v", d, err)
	}
}
