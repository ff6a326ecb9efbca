package catalog

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"roadstead/registry"
)

// pushed gives the direct links of a repository, in the order of some names, the minutes after noon.
func pushed(tx *Tx, repo registry.Repo, names ...string) error {
	for i, name := range names {
		if _, err := tx.Renew(repo, dg(name), noon.Add(time.Duration(i)*time.Minute)); err != nil {
			return err
		}
	}
	return nil
}

// called says what artifacts are called, of those with some names.
func called(all []Artifact, names ...string) string {
	byDigest := map[registry.Digest]string{}
	for _, name := range names {
		byDigest[dg(name)] = name
	}
	var list []string
	for _, a := range all {
		list = append(list, byDigest[a.Digest])
	}
	return strings.Join(list, " ")
}

func testBrowseArtifacts(t *testing.T, db *DB) {
	names := []string{"a", "b", "c", "index", "d"}
	update(t, db, func(tx *Tx) error {
		return errors.Join(
			manifest{name: "a", layers: []string{"layer"}}.add(tx, busybox), manifest{name: "b", layers: []string{"layer"}}.add(tx, busybox),
			manifest{name: "c", layers: []string{"layer"}}.add(tx, busybox), manifest{name: "d", layers: []string{"layer"}}.add(tx, busybox),
			manifest{name: "index", children: []string{"b", "c", "elsewhere"}}.add(tx, busybox),
			manifest{name: "elsewhere"}.add(tx, alpine), tx.AddBlob(busybox, dg("layer"), 10), tx.LinkOnly(busybox, dg("to come")),
			tx.PutTag(busybox, "V_1", Tag{Descriptor: blob("a", 100)}), tx.PutTag(busybox, "v1%", Tag{Descriptor: blob("b", 100)}),
			tx.PutTag(busybox, "v2", Tag{Descriptor: blob("a", 100)}), tx.PutTag(busybox, "old", Tag{Descriptor: blob("c", 100), Gone: true}),
			tx.PutTag(busybox, "list", Tag{Descriptor: blob("index", 100)}), tx.PutTag(alpine, "d", Tag{Descriptor: blob("d", 100)}),
			tx.PutTag(busybox, "lost", Tag{Descriptor: blob("lost", 100)}), tx.PutTag(busybox, "never", Tag{CheckedAt: noon}),
			pushed(tx, busybox, names...),
		)
	})
	for _, test := range []struct {
		name   string
		filter ArtifactFilter
		page   Page
		want   string
		total  int
	}{
		{"all, the newest first", ArtifactFilter{}, Page{}, "d index c b a", 5},
		{"the first page", ArtifactFilter{}, Page{0, 2}, "d index", 5},
		{"the last page", ArtifactFilter{}, Page{4, 2}, "a", 5},
		{"just behind the end", ArtifactFilter{}, Page{5, 2}, "", 5},
		{"far behind the end", ArtifactFilter{}, Page{500, 2}, "", 5},
		{"tagged", ArtifactFilter{Tagged: true}, Page{}, "index b a", 3},
		{"a full page of tagged", ArtifactFilter{Tagged: true}, Page{0, 2}, "index b", 3},
		{"behind the end of tagged", ArtifactFilter{Tagged: true}, Page{7, 2}, "", 3},
		{"untagged", ArtifactFilter{Untagged: true}, Page{0, 1}, "d", 2},
		{"roots", ArtifactFilter{Roots: true}, Page{}, "d index b a", 4},
		{"by tag", ArtifactFilter{Tag: "v"}, Page{0, 1}, "b", 2},
		{"by a tag in another case", ArtifactFilter{Tag: "v_1"}, Page{}, "a", 1},
		{"by a tag with %", ArtifactFilter{Tag: "%"}, Page{}, "b", 1},
		{`by a tag with \`, ArtifactFilter{Tag: `\`}, Page{}, "", 0},
		{"by a tag that is gone", ArtifactFilter{Tag: "old"}, Page{}, "", 0},
		{"by tag and untagged", ArtifactFilter{Tag: "v", Untagged: true}, Page{}, "", 0},
		{"by media type", ArtifactFilter{MediaType: registry.MediaTypeOCIIndex}, Page{}, "index", 1},
		{"by digest", ArtifactFilter{Digest: dg("c")}, Page{}, "c", 1},
		{"by digest and tag", ArtifactFilter{Digest: dg("a"), Tag: "v2", Tagged: true, MediaType: registry.MediaTypeOCIManifest}, Page{0, 1}, "a", 1},
		{"by the digest of a blob", ArtifactFilter{Digest: dg("layer")}, Page{}, "", 0},
		{"by the digest of what an index names only", ArtifactFilter{Digest: dg("elsewhere")}, Page{}, "", 0},
	} {
		all, total, err := db.BrowseArtifacts(t.Context(), busybox, test.filter, test.page)
		if got := called(all, names...); err != nil || got != test.want || total != test.total {
			t.Errorf("%s: %q, %d in all, %v, want %q, %d", test.name, got, total, err, test.want, test.total)
		}
	}
	if _, _, err := db.BrowseArtifacts(t.Context(), etcd, ArtifactFilter{}, Page{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("artifacts of a repository that is not there: %v", err)
	}
	if _, _, err := db.BrowseArtifacts(t.Context(), busybox, ArtifactFilter{Digest: "sha256:x"}, Page{}); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("a malformed digest: %v", err)
	}
}

func testArtifact(t *testing.T, db *DB) {
	pulled := noon.Add(time.Hour)
	update(t, db, func(tx *Tx) error {
		return errors.Join(
			tx.PutProject(Project{Name: "production"}),
			manifest{name: "image", layers: []string{"layer"}}.add(tx, web),
			manifest{name: "signature", layers: []string{"layer"}, subject: "image", kind: "application/signature"}.add(tx, web),
			tx.PutTag(web, "1", Tag{Descriptor: blob("image", 100), ChangedAt: noon}), tx.PutTag(web, "2", Tag{Descriptor: blob("image", 100), ChangedAt: noon}),
			tx.PutTag(web, "gone", Tag{Descriptor: blob("image", 100), Gone: true}), tx.PutTag(web, "never", Tag{CheckedAt: noon}),
			tx.PutTag(web, "lost", Tag{Descriptor: blob("lost", 100)}), aged(tx, dgs("image", "signature"), noon),
			pushed(tx, web, "image", "signature"), tx.Pulled(web, "2", pulled),
		)
	})
	for _, reference := range []string{"1", string(dg("image"))} {
		a, err := db.Artifact(t.Context(), web, reference)
		if err != nil || a.Digest != dg("image") || a.MediaType != registry.MediaTypeOCIManifest || a.Size != 100 || a.Total != 110 ||
			a.Subject != "" || a.ArtifactType != "" || !a.PushedAt.Equal(noon) || !a.PulledAt.Equal(pulled) {
			t.Errorf("%s is %+v, %v", reference, a, err)
		}
		if len(a.Tags) != 2 || a.Tags[0].Name != "1" || a.Tags[1].Name != "2" || !a.Tags[1].PulledAt.Equal(pulled) || !a.Tags[0].ChangedAt.Equal(noon) {
			t.Errorf("%s has tags %+v", reference, a.Tags)
		}
	}
	a, err := db.Artifact(t.Context(), web, string(dg("signature")))
	if err != nil || a.Subject != dg("image") || a.ArtifactType != "application/signature" || !a.PulledAt.IsZero() || len(a.Tags) != 0 {
		t.Errorf("the signature is %+v, %v", a, err)
	}
	for want, filter := range map[string]ArtifactFilter{"image": {Own: true}, "signature": {Subject: dg("image")}} {
		if all, total, err := db.BrowseArtifacts(t.Context(), web, filter, Page{}); err != nil || total != 1 || called(all, "image", "signature") != want {
			t.Errorf("%+v: %q of %d, %v, want %s", filter, called(all, "image", "signature"), total, err, want)
		}
	}
	shown, err := db.Repository(t.Context(), web)
	if err != nil {
		t.Fatal(err)
	}
	if counts, err := db.CountArtifacts(t.Context(), []int64{shown.ID, 999}); err != nil || len(counts) != 1 || counts[shown.ID] != 1 {
		t.Errorf("counted %v, %v, want the image", counts, err)
	}
	for _, reference := range []string{"gone", "never", "lost", "absent", string(dg("layer")), string(dg("absent"))} {
		if a, err := db.Artifact(t.Context(), web, reference); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s is %+v, %v", reference, a, err)
		}
	}
	for _, repo := range []registry.Repo{api, {Project: "production"}, {}} {
		if a, err := db.Artifact(t.Context(), repo, "1"); !errors.Is(err, ErrNotFound) {
			t.Errorf("in %s it is %+v, %v", repo, a, err)
		}
	}
	if _, err := db.Artifact(t.Context(), web, "sha256:x"); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("a malformed digest: %v", err)
	}
}

// testArtifactParts: each piece counts once, across all that an index is made of.
func testArtifactParts(t *testing.T, db *DB) {
	huge := registry.References{}
	for i := range 10 {
		huge.Layers = append(huge.Layers, registry.Descriptor{Digest: dg(fmt.Sprint("huge", i)), Size: 1<<63 - 1})
	}
	update(t, db, func(tx *Tx) error {
		return errors.Join(
			manifest{name: "one", config: "config", layers: []string{"base", "base", "own"}}.add(tx, busybox),
			manifest{name: "two", config: "config", layers: []string{"base"}}.add(tx, busybox),
			manifest{name: "inner", children: []string{"two"}}.add(tx, busybox),
			manifest{name: "outer", children: []string{"one", "inner", "absent"}, subject: "other"}.add(tx, busybox),
			tx.AddManifest(busybox, registry.Manifest{Descriptor: blob("liar", 100)}, huge),
		)
	})
	for name, want := range map[string]int64{
		"one": 100 + 3*10, "two": 100 + 2*10, "inner": 100 + 10 + 2*10,
		"outer": 100 + 3*10 + 10 + 3*10, // one, inner and absent; two; config, base and own
		"liar":  100 + 10*mostClaimed,
	} {
		if a, err := db.Artifact(t.Context(), busybox, string(dg(name))); err != nil || a.Total != want {
			t.Errorf("%s has %d bytes in all, %v, want %d", name, a.Total, err, want)
		}
	}
	children, err := db.Children(t.Context(), busybox, dg("outer"))
	stored := map[registry.Digest]bool{}
	for _, c := range children {
		stored[c.Digest] = c.Stored
		if c.Size != 10 || c.MediaType != registry.MediaTypeOCIManifest {
			t.Errorf("child %+v", c)
		}
	}
	if want := map[registry.Digest]bool{dg("one"): true, dg("inner"): true, dg("absent"): false}; err != nil || fmt.Sprint(stored) != fmt.Sprint(want) {
		t.Errorf("children %v, %v, want %v", stored, err, want)
	}
	if children, err := db.Children(t.Context(), busybox, dg("one")); err != nil || len(children) != 0 {
		t.Errorf("children of an image: %v, %v", children, err)
	}
	for _, name := range []string{"base", "absent", "nothing"} {
		if _, err := db.Children(t.Context(), busybox, dg(name)); !errors.Is(err, ErrNotFound) {
			t.Errorf("children of %s: %v", name, err)
		}
	}
	if _, err := db.Children(t.Context(), alpine, dg("outer")); !errors.Is(err, ErrNotFound) {
		t.Errorf("children in a repository that is not there: %v", err)
	}
}

// testBrowseHosted: who pushes an index that names a manifest of another project learns nothing of
// it: neither what it is made of, nor that it is here, nor when it was pulled.
func testBrowseHosted(t *testing.T, db *DB) {
	secret := registry.Repo{Project: "secret", Name: "web"}
	update(t, db, func(tx *Tx) error {
		return errors.Join(
			tx.PutProject(Project{Name: "production"}), tx.PutProject(Project{Name: "secret"}),
			tx.AddBlob(secret, dg("their layer"), 10),
			manifest{name: "theirs", layers: []string{"their layer"}}.add(tx, secret),
			manifest{name: "their index", children: []string{"theirs"}}.add(tx, secret),
			tx.PutTag(secret, "theirs", Tag{Descriptor: blob("theirs", 100)}),
			manifest{name: "shared"}.add(tx, secret), manifest{name: "shared"}.add(tx, web),
			manifest{name: "index", children: []string{"theirs", "their index"}}.add(tx, web),
			pushed(tx, web, "shared", "index"), pushed(tx, secret, "shared"), aged(tx, dgs("theirs", "shared"), noon.Add(time.Hour)),
		)
	})
	if a, err := db.Artifact(t.Context(), web, string(dg("index"))); err != nil || a.Total != 100+2*10 {
		t.Errorf("the index has %d bytes in all, %v, want what it says itself", a.Total, err)
	}
	if a, err := db.Artifact(t.Context(), web, string(dg("shared"))); err != nil || !a.PulledAt.IsZero() {
		t.Errorf("the manifest that both have was pulled at %s, %v", a.PulledAt, err)
	}
	children, err := db.Children(t.Context(), web, dg("index"))
	if err != nil || len(children) != 2 || children[0].Stored || children[1].Stored {
		t.Errorf("children %+v, %v", children, err)
	}
	if _, err := db.Children(t.Context(), web, dg("their index")); !errors.Is(err, ErrNotFound) {
		t.Errorf("the children of their index: %v", err)
	}
	for _, reference := range []string{"theirs", string(dg("theirs")), string(dg("their index"))} {
		if a, err := db.Artifact(t.Context(), web, reference); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %+v, %v", reference, a, err)
		}
	}
	all, total, err := db.BrowseArtifacts(t.Context(), web, ArtifactFilter{}, Page{})
	if got := called(all, "shared", "index", "theirs", "their index"); err != nil || total != 2 || got != "index shared" {
		t.Errorf("artifacts %q, %d in all, %v", got, total, err)
	}
	if r, err := db.Repository(t.Context(), web); err != nil || r.Artifacts != 2 {
		t.Errorf("Repository = %+v, %v", r, err)
	}
	if a, err := db.Artifact(t.Context(), secret, "theirs"); err != nil || !a.PulledAt.IsZero() && a.PulledAt.Before(noon) {
		t.Errorf("theirs where it belongs: %+v, %v", a, err)
	}
}

func testBrowseTags(t *testing.T, db *DB) {
	update(t, db, func(tx *Tx) error {
		for _, tag := range []string{"1", "1_0", "1x0", "A%", "b", `c\`} {
			if err := tx.PutTag(busybox, tag, Tag{Descriptor: blob("image", 100), ChangedAt: noon}); err != nil {
				return err
			}
		}
		return errors.Join(tx.PutTag(busybox, "gone", Tag{Descriptor: blob("image", 100), Gone: true}), tx.PutTag(alpine, "other", Tag{}))
	})
	for _, test := range []struct {
		contains string
		page     Page
		want     string
		total    int
	}{
		{"", Page{}, `1 1_0 1x0 A% b c\`, 6},
		{"", Page{0, 2}, "1 1_0", 6},
		{"", Page{4, 2}, `b c\`, 6},
		{"", Page{6, 2}, "", 6},
		{"", Page{5, 0}, `c\`, 6},
		{"a", Page{}, "A%", 1},
		{"_", Page{}, "1_0", 1},
		{"%", Page{}, "A%", 1},
		{`\`, Page{}, `c\`, 1},
		{"1", Page{1, 1}, "1_0", 3},
		{"gone", Page{}, "", 0},
	} {
		all, total, err := db.BrowseTags(t.Context(), busybox, test.contains, test.page)
		var names []string
		for _, x := range all {
			names = append(names, x.Name)
			if x.Digest != dg("image") || !x.ChangedAt.Equal(noon) {
				t.Errorf("tag %+v", x)
			}
		}
		if got := strings.Join(names, " "); err != nil || got != test.want || total != test.total {
			t.Errorf("tags with %q %+v: %q, %d in all, %v, want %q, %d", test.contains, test.page, got, total, err, test.want, test.total)
		}
	}
	if _, _, err := db.BrowseTags(t.Context(), etcd, "", Page{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("tags of a repository that is not there: %v", err)
	}
}
