package catalog

import (
	"cmp"
	_ "crypto/sha512" // go-digest hashes with what is there
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
)

func testFind(t *testing.T, db *DB) {
	update(t, db, func(tx *Tx) error {
		return errors.Join(
			manifest{name: "index", children: []string{"image", "other image"}, subject: "subject"}.add(tx, busybox),
			manifest{name: "image", config: "config", layers: []string{"layer", "layer", "common"}}.add(tx, alpine),
			manifest{name: "signature", config: "empty", layers: []string{"sig"}, subject: "image"}.add(tx, etcd),
			tx.AddBlob(alpine, dg("layer"), 77),
			tx.AddBlob(alpine, dg("bare"), 5),
			tx.AddBlob(alpine, dg("nothing"), 0),
			tx.LinkOnly(etcd, dg("bare")),
			tx.LinkOnly(etcd, dg("hearsay")),
			tx.LinkOnly(etcd, dg("subject")),
		)
	})
	const image, index = registry.MediaTypeOCIManifest, registry.MediaTypeOCIIndex
	for _, tt := range []struct {
		name   string
		repo   registry.Repo
		digest string
		want   Found
	}{
		{"an index where it was added", busybox, "index", Found{Linked: true, Direct: true, Stored: true, Size: 100, MediaType: index}},
		{"a manifest that is linked and a child as well", alpine, "image", Found{Linked: true, Direct: true, Stored: true, Size: 100, MediaType: image}},
		{"an index elsewhere", alpine, "index", Found{Stored: true, Size: 100, MediaType: index}},
		{"a child that is stored through another repository", busybox, "image", Found{Linked: true, Stored: true, Size: 100, MediaType: image}},
		{"a child that is not stored", busybox, "other image", Found{Linked: true, Size: 10, MediaType: image}},
		{"a child that is not stored, elsewhere", alpine, "other image", Found{Size: -1}},
		{"a config that is not stored", alpine, "config", Found{Linked: true, Size: 10}},
		{"a layer with another size than its manifest says", alpine, "layer", Found{Linked: true, Direct: true, Stored: true, Size: 77}},
		{"a layer of an image that only an index names", busybox, "layer", Found{Linked: true, Stored: true, Size: 77}},
		{"the same not stored", busybox, "common", Found{Linked: true, Size: 10}},
		{"a layer in an unrelated repository", etcd, "layer", Found{Stored: true, Size: 77}},
		{"the subject of a manifest", etcd, "image", Found{Stored: true, Size: 100, MediaType: image}},
		{"a layer of the subject of a manifest", etcd, "layer", Found{Stored: true, Size: 77}},
		{"the subject of an index that is not here", busybox, "subject", Found{Size: -1}},
		{"the same linked elsewhere", etcd, "subject", Found{Linked: true, Direct: true, Size: -1}},
		{"a blob linked after it was stored", etcd, "bare", Found{Linked: true, Direct: true, Stored: true, Size: 5}},
		{"an empty blob", alpine, "nothing", Found{Linked: true, Direct: true, Stored: true}},
		{"a link without content", etcd, "hearsay", Found{Linked: true, Direct: true, Size: -1}},
		{"a link without content, elsewhere", alpine, "hearsay", Found{Size: -1}},
		{"a digest that is not known", alpine, "unknown", Found{Size: -1}},
		{"a repository that is not known", registry.Repo{Project: "docker.io", Name: "x"}, "layer", Found{Stored: true, Size: 77}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := found(t, db, tt.repo, tt.digest); got != tt.want {
				t.Errorf("Find = %+v, want %+v", got, tt.want)
			}
		})
	}
	recount(t, db)
}

func testLinkBeforeContent(t *testing.T, db *DB) {
	update(t, db, func(tx *Tx) error { return tx.LinkOnly(busybox, dg("image")) })
	update(t, db, func(tx *Tx) error { return manifest{name: "image", layers: []string{"layer"}}.add(tx, alpine) })
	update(t, db, func(tx *Tx) error { return tx.LinkOnly(etcd, dg("image")) })
	for _, repo := range []registry.Repo{busybox, alpine, etcd} {
		if got := found(t, db, repo, "layer"); !got.Linked {
			t.Errorf("Find of the layer in %s = %+v, want it linked", repo, got)
		}
	}
	recount(t, db)
}

func testLyingManifest(t *testing.T, db *DB) {
	update(t, db, func(tx *Tx) error {
		lie := registry.References{Layers: []registry.Descriptor{blob("layer", 999)}}
		m := registry.Manifest{Descriptor: registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: dg("liar"), Size: 1}}
		return errors.Join(tx.AddManifest(etcd, m, lie), manifest{name: "image", layers: []string{"layer"}}.add(tx, busybox))
	})
	if got, want := found(t, db, busybox, "layer"), (Found{Linked: true, Size: 10}); got != want {
		t.Errorf("Find = %+v, want %+v", got, want)
	}
	if got, want := found(t, db, etcd, "layer"), (Found{Linked: true, Size: 999}); got != want {
		t.Errorf("Find in the liar's repository = %+v, want %+v", got, want)
	}
}

func testManyParents(t *testing.T, db *DB) {
	update(t, db, func(tx *Tx) error {
		if err := (manifest{name: "first", layers: []string{"empty layer"}}).add(tx, busybox); err != nil {
			return err
		}
		for i := range 1500 {
			if err := (manifest{name: fmt.Sprint("image ", i), layers: []string{"empty layer"}}).add(tx, alpine); err != nil {
				return err
			}
		}
		return nil
	})
	update(t, db, func(tx *Tx) error { return manifest{name: "last", layers: []string{"empty layer"}}.add(tx, etcd) })
	for _, tt := range []struct {
		name string
		repo registry.Repo
		want Found
	}{
		{"one of the many", alpine, Found{Linked: true, Size: 10}},
		{"the newest", etcd, Found{Linked: true, Size: 10}},
		// What it says is behind a thousand others and not looked for; that it links is known.
		{"the oldest", busybox, Found{Linked: true, Size: -1}},
		{"none", registry.Repo{Project: "docker.io", Name: "x"}, Found{Size: -1}},
	} {
		if got := found(t, db, tt.repo, "empty layer"); got != tt.want {
			t.Errorf("Find where the parent is %s = %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func testReferrers(t *testing.T, db *DB) {
	notes := map[string]string{"org.opencontainers.image.created": "2026-05-01", `"quoted"`: "Größe\n"}
	update(t, db, func(tx *Tx) error {
		return errors.Join(
			manifest{name: "signature", subject: "image", kind: "application/sig", notes: notes}.add(tx, busybox),
			manifest{name: "sbom", subject: "image", kind: "application/sbom"}.add(tx, busybox),
			manifest{name: "other sbom", subject: "image", kind: "application/sbom"}.add(tx, etcd),
			manifest{name: "list of sboms", children: []string{"nested sbom"}, subject: "other image"}.add(tx, busybox),
			manifest{name: "nested sbom", subject: "image", kind: "application/nested"}.add(tx, alpine),
		)
	})
	desc := func(name, kind string, notes map[string]string) registry.Descriptor {
		return registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: dg(name), Size: 100, ArtifactType: kind, Annotations: notes}
	}
	signature, sbom := desc("signature", "application/sig", notes), desc("sbom", "application/sbom", nil)
	nested, other := desc("nested sbom", "application/nested", nil), desc("other sbom", "application/sbom", nil)
	for _, tt := range []struct {
		name    string
		repo    registry.Repo
		subject string
		kind    string
		want    []registry.Descriptor
	}{
		{"all of a subject that is not here", busybox, "image", "", []registry.Descriptor{signature, sbom, nested}},
		{"of one type", busybox, "image", "application/sbom", []registry.Descriptor{sbom}},
		{"of a type that none has", busybox, "image", "application/x", nil},
		{"in another repository", etcd, "image", "", []registry.Descriptor{other}},
		{"of a digest that nothing refers to", busybox, "sbom", "", nil},
		{"of a digest that is not known", busybox, "unknown", "", nil},
		{"in a repository that is not known", registry.Repo{Project: "x", Name: "y"}, "image", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			slices.SortFunc(tt.want, func(a, b registry.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
			got, err := db.Referrers(t.Context(), tt.repo, dg(tt.subject), tt.kind)
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("Referrers = %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func testProjectContent(t *testing.T, db *DB) {
	const many = 2*page + 10
	want := map[registry.Digest]int{dg("image"): 1, dg("layer"): 1, dg("both"): 2}
	update(t, db, func(tx *Tx) error {
		for i := range many {
			name := fmt.Sprint("blob ", i)
			want[dg(name)] = 1
			if err := tx.AddBlob(alpine, dg(name), 1); err != nil {
				return err
			}
		}
		return errors.Join(
			manifest{name: "image", layers: []string{"layer", "absent"}}.add(tx, busybox), tx.AddBlob(busybox, dg("layer"), 10),
			tx.AddBlob(busybox, dg("both"), 1), tx.AddBlob(alpine, dg("both"), 1),
			tx.AddBlob(etcd, dg("of another project"), 1),
			tx.AddBlob(registry.Repo{Project: "docker.io", Name: "unwanted"}, dg("unwanted"), 1),
		)
	})
	got := map[registry.Digest]int{}
	err := db.ProjectContent(t.Context(), "docker.io", func(repo registry.Repo) bool { return repo.Name != "unwanted" }, func(d registry.Digest) error {
		got[d]++
		return nil
	})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("ProjectContent has %d digests, %v, want %d", len(got), err, len(want))
	}
	stop := errors.New("enough")
	err = db.ProjectContent(t.Context(), "docker.io", func(registry.Repo) bool { return true }, func(registry.Digest) error { return stop })
	if !errors.Is(err, stop) {
		t.Errorf("ProjectContent with an error of fn: %v", err)
	}
}

func testClosure(t *testing.T, db *DB) {
	var many []string // more children than one question asks for
	update(t, db, func(tx *Tx) error {
		for i := range 3 * step {
			image := fmt.Sprint("image ", i)
			many = append(many, image)
			if err := (manifest{name: image, layers: []string{"common", "layer of " + image}}).add(tx, busybox); err != nil {
				return err
			}
		}
		return errors.Join(
			manifest{name: "index", children: many}.add(tx, busybox),
			manifest{name: "nested", children: []string{"index", "absent"}}.add(tx, busybox),
			manifest{name: "signature", layers: []string{"sig"}, subject: "image 1"}.add(tx, etcd),
			tx.AddBlob(busybox, dg("blob"), 1),
		)
	})
	deep := append([]string{"nested", "index", "absent", "common"}, many...)
	for _, image := range many {
		deep = append(deep, "layer of "+image)
	}
	for _, tt := range []struct {
		name  string
		roots []string
		want  []string
	}{
		{"nothing", nil, nil},
		{"a blob and a digest that is not known", []string{"blob", "unknown"}, []string{"blob", "unknown"}},
		{"an image", []string{"image 2"}, []string{"image 2", "common", "layer of image 2"}},
		{"an image and its layer", []string{"common", "image 2"}, []string{"image 2", "common", "layer of image 2"}},
		{"a subject and its layers", []string{"signature"}, []string{"signature", "sig", "image 1", "common", "layer of image 1"}},
		{"an index of indexes", []string{"nested"}, deep},
		{"more roots than one question asks for", many, deep[3:]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := db.Closure(t.Context(), dgs(tt.roots...))
			want := map[registry.Digest]bool{}
			for _, name := range tt.want {
				want[dg(name)] = true
			}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("Closure has %d digests, %v, want %d", len(got), err, len(want))
			}
		})
	}
}

func testAlgorithms(t *testing.T, db *DB) {
	long := digest.SHA512.FromString("long")
	update(t, db, func(tx *Tx) error {
		refs := registry.References{Layers: []registry.Descriptor{{Digest: long, Size: 9}}}
		m := registry.Manifest{Descriptor: registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: digest.SHA512.FromString("image"), Size: 1}}
		return errors.Join(tx.AddManifest(busybox, m, refs), tx.AddBlob(busybox, long, 9), tx.AddBlob(busybox, dg("long"), 3),
			tx.PutTag(busybox, "long", Tag{Descriptor: m.Descriptor}), aged(tx, []registry.Digest{long}, noon))
	})
	if got, err := db.Find(t.Context(), busybox, long); err != nil || got != (Found{Linked: true, Direct: true, Stored: true, Size: 9}) {
		t.Errorf("Find = %+v, %v", got, err)
	}
	if got, err := db.Tag(t.Context(), busybox, "long"); err != nil || got.Digest != digest.SHA512.FromString("image") {
		t.Errorf("Tag = %+v, %v", got, err)
	}
	got, _, err := db.Coldest(t.Context(), []string{"docker.io"}, noon.Add(time.Millisecond), Mark{}, -1)
	if want := []Cold{{long, 9, noon}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("Coldest = %v, %v, want %v", got, err, want)
	}
}

func testMalformedDigest(t *testing.T, db *DB) {
	for _, d := range []registry.Digest{"", "sha256:", "sha256:../../etc/passwd", "md5:d41d8cd98f00b204e9800998ecf8427e", dg("x") + "0", "SHA256:" + registry.Digest(dg("x").Encoded())} {
		if _, err := db.Find(t.Context(), busybox, d); !errors.Is(err, registry.DigestInvalid) {
			t.Errorf("Find(%q) = %v, want DIGEST_INVALID", d, err)
		}
		if _, err := db.Referrers(t.Context(), busybox, d, ""); !errors.Is(err, registry.DigestInvalid) {
			t.Errorf("Referrers(%q) = %v, want DIGEST_INVALID", d, err)
		}
		err := db.Update(t.Context(), func(tx *Tx) error { return tx.AddBlob(busybox, d, 1) })
		if !errors.Is(err, registry.DigestInvalid) {
			t.Errorf("AddBlob(%q) = %v, want DIGEST_INVALID", d, err)
		}
	}
}
