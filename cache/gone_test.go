package cache

import (
	"testing"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// What another node has taken away is not answered from memory any more, and is brought again as if
// it had been taken away here.
func TestGone(t *testing.T) {
	for _, row := range []struct {
		name string
		told func(image) []catalog.Change
	}{
		{"what was forgotten", func(img image) (all []catalog.Change) {
			all = append(all, catalog.Change{Topic: catalog.TagGone, Repo: hub("app"), Tag: "1"})
			for _, d := range []registry.Digest{img.manifest.Digest, img.config, img.layer} {
				all = append(all, catalog.Change{Topic: catalog.ContentGone, Repo: hub("app"), Digest: d})
			}
			return all
		}},
		{"what was evicted", func(img image) (all []catalog.Change) {
			all = append(all, catalog.Change{Topic: catalog.TagGone, Repo: hub("app"), Tag: "1"})
			for _, d := range []registry.Digest{img.manifest.Digest, img.config, img.layer} {
				all = append(all, catalog.Change{Topic: catalog.ContentGone, Digest: d})
			}
			return all
		}},
		{"whatever it was", func(image) []catalog.Change { return []catalog.Change{{Topic: catalog.Anything}} }},
		{"what is no project here", func(image) []catalog.Change {
			return []catalog.Change{{Topic: catalog.ContentGone, Repo: registry.Repo{Project: "hosted", Name: "app"}, Digest: "sha256:"}, {Topic: catalog.Rules}}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := newOrigin()
			img := o.putImage(t, "app", "1", noise(1<<20, 1))
			projects := []Project{{Name: "docker.io", Upstream: o}}
			dir := t.TempDir()
			here, elsewhere := newHouse(t, dir, Config{Projects: projects}), newHouse(t, dir, Config{Projects: projects})
			here.fetch(t, "app", "1")
			here.settle(t)
			o.asked()
			if row.name == "what is no project here" {
				here.Gone(row.told(img))
				here.fetch(t, "app", "1")
				wantAsked(t, o)
				return
			}
			if err := elsewhere.ForgetTag(t.Context(), hub("app"), "1"); err != nil {
				t.Fatal(err)
			}
			if elsewhere.stored(img.layer) {
				t.Fatal("the layer is still stored")
			}
			here.Gone(row.told(img))
			here.fetch(t, "app", "1")
			wantAsked(t, o, "tagged app 1", "blob app "+short(string(img.config)), "blob app "+short(string(img.layer)))
			here.settle(t)
			here.wantLayout(t, hub("app"), "1", string(img.manifest.Digest), string(img.config), string(img.layer))
			agree(t, here)
		})
	}
}
