package catalog

import (
	"cmp"
	"context"
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

// suite is what every database behind a catalog has to pass. open returns an empty catalog that
// is closed when its test ends.
func suite(t *testing.T, open func(t *testing.T) *DB) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *DB)
	}{
		{"a tag comes back as it was put", testTagRoundTrip},
		{"tags are listed in byte order without the gone ones", testTags},
		{"tags of a digest", testTagsOf},
		{"repositories are listed in byte order", testRepositories},
		{"a repository without tags and content is not listed", testEmptyRepository},
		{"project tags are walked across pages", testProjectTags},
		{"find", testFind},
		{"a manifest linked before its content came lends its layers", testLinkBeforeContent},
		{"a lying manifest in one repository says nothing in another", testLyingManifest},
		{"content with very many parents", testManyParents},
		{"forget", testForget},
		{"forget then add again", testForgetAndAdd},
		{"referrers", testReferrers},
		{"closure", testClosure},
		{"coldest", testColdest},
		{"new content is warm", testNewContentIsWarm},
		{"usage counts shared content once", testUsage},
		{"an update is all or nothing", testUpdateAtomic},
		{"a turn to write is waited for no longer than ctx", testUpdateQueue},
		{"digests of both algorithms", testAlgorithms},
		{"a malformed digest is refused", testMalformedDigest},
		{"random operations agree with a model", testModel},
		{"readers beside a writer see whole updates", testReadersBesideWriter},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

var (
	busybox = registry.Repo{Project: "docker.io", Name: "library/busybox"}
	alpine  = registry.Repo{Project: "docker.io", Name: "library/alpine"}
	etcd    = registry.Repo{Project: "quay.io", Name: "coreos/etcd"}
	noon    = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
)

// dg is the digest of a name.
func dg(name string) registry.Digest { return digest.FromString(name) }

func dgs(names ...string) []registry.Digest {
	var digests []registry.Digest
	for _, name := range names {
		digests = append(digests, dg(name))
	}
	return digests
}

func blob(name string, size int64) registry.Descriptor {
	return registry.Descriptor{MediaType: "application/octet-stream", Digest: dg(name), Size: size}
}

// manifest is an image, or an index, of the given name; each piece it names is 10 bytes long.
type manifest struct {
	name     string
	config   string
	layers   []string
	children []string
	subject  string
	kind     string // artifact type
	notes    map[string]string
}

func (m manifest) add(tx *Tx, repo registry.Repo) error {
	made := registry.Manifest{Descriptor: registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: dg(m.name), Size: 100}}
	refs := registry.References{ArtifactType: m.kind, Annotations: m.notes}
	if m.children != nil {
		made.MediaType = registry.MediaTypeOCIIndex
	}
	if m.config != "" {
		config := blob(m.config, 10)
		refs.Config = &config
	}
	for _, layer := range m.layers {
		refs.Layers = append(refs.Layers, blob(layer, 10))
	}
	for _, child := range m.children {
		refs.Manifests = append(refs.Manifests, registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: dg(child), Size: 10})
	}
	if m.subject != "" {
		subject := blob(m.subject, 10)
		refs.Subject = &subject
	}
	return tx.AddManifest(repo, made, refs)
}

func update(t testing.TB, db *DB, fn func(tx *Tx) error) {
	t.Helper()
	if err := db.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func found(t testing.TB, db *DB, repo registry.Repo, name string) Found {
	t.Helper()
	f, err := db.Find(t.Context(), repo, dg(name))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func testTagRoundTrip(t *testing.T, db *DB) {
	put := Tag{
		Descriptor: registry.Descriptor{MediaType: registry.MediaTypeOCIIndex, Digest: dg("index"), Size: 1234},
		CheckedAt:  noon.Add(1500 * time.Microsecond), ChangedAt: noon.In(time.FixedZone("", 7200)),
	}
	want := put
	want.CheckedAt, want.ChangedAt = noon.Add(time.Millisecond), noon
	gone := Tag{CheckedAt: noon, Gone: true}
	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.PutTag(busybox, "latest", gone), tx.PutTag(busybox, "latest", put), tx.PutTag(busybox, "never", gone))
	})
	for tag, want := range map[string]Tag{"latest": want, "never": gone} {
		got, err := db.Tag(t.Context(), busybox, tag)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Tag(%s) = %+v, %v, want %+v", tag, got, err, want)
		}
	}
	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.DeleteTag(busybox, "latest"), tx.DeleteTag(busybox, "nothing"), tx.DeleteTag(etcd, "latest"))
	})
	for _, repo := range []registry.Repo{busybox, etcd} {
		if got, err := db.Tag(t.Context(), repo, "latest"); !errors.Is(err, ErrNotFound) {
			t.Errorf("Tag of %s after its end = %+v, %v, want ErrNotFound", repo, got, err)
		}
	}
}

func testTags(t *testing.T, db *DB) {
	update(t, db, func(tx *Tx) error {
		for _, tag := range []string{"b", "_x", "1.10", "B", "a-b", "1.9", "a.b", "a", "A", "a_b", "10"} {
			if err := tx.PutTag(busybox, tag, Tag{Descriptor: blob("m", 1)}); err != nil {
				return err
			}
		}
		return errors.Join(tx.PutTag(busybox, "aa", Tag{Descriptor: blob("m", 1), Gone: true}), tx.PutTag(alpine, "3", Tag{}))
	})
	all := []string{"1.10", "1.9", "10", "A", "B", "_x", "a", "a-b", "a.b", "a_b", "b"}
	if !slices.IsSorted(all) {
		t.Fatal("the expectation is not in byte order")
	}
	for _, tt := range []struct {
		name  string
		after string
		n     int
		want  []string
	}{
		{"all", "", -1, all},
		{"the first two", "", 2, all[:2]},
		{"two after one that is there", "1.9", 2, all[2:4]},
		{"after one that is not there", "AA", -1, all[4:]},
		{"after the last", "b", -1, nil},
		{"none", "", 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := db.Tags(t.Context(), busybox, tt.after, tt.n)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("Tags(%q, %d) = %q, %v, want %q", tt.after, tt.n, got, err, tt.want)
			}
		})
	}
	if got, err := db.Tags(t.Context(), etcd, "", -1); err != nil || len(got) != 0 {
		t.Errorf("Tags of a repository that is not here = %q, %v, want none", got, err)
	}
}

func testTagsOf(t *testing.T, db *DB) {
	update(t, db, func(tx *Tx) error {
		for _, tag := range []string{"2", "latest", "1"} {
			if err := tx.PutTag(busybox, tag, Tag{Descriptor: blob("image", 1)}); err != nil {
				return err
			}
		}
		return errors.Join(
			tx.PutTag(busybox, "gone", Tag{Descriptor: blob("image", 1), Gone: true}),
			tx.PutTag(busybox, "other", Tag{Descriptor: blob("other image", 1)}),
			tx.PutTag(busybox, "never", Tag{Gone: true}),
			tx.PutTag(alpine, "3", Tag{Descriptor: blob("image", 1)}),
		)
	})
	for _, tt := range []struct {
		repo   registry.Repo
		digest string
		want   []string
	}{
		{busybox, "image", []string{"1", "2", "latest"}},
		{alpine, "image", []string{"3"}},
		{alpine, "other image", nil},
		{etcd, "image", nil},
	} {
		update(t, db, func(tx *Tx) error {
			if err := tx.PutTag(alpine, "in this update", Tag{Descriptor: blob("yet another", 1)}); err != nil {
				return err
			}
			got, err := tx.TagsOf(tt.repo, dg(tt.digest))
			if !slices.Equal(got, tt.want) {
				t.Errorf("TagsOf(%s, %s) = %q, want %q", tt.repo, tt.digest, got, tt.want)
			}
			if got, _ := tx.TagsOf(alpine, dg("yet another")); len(got) != 1 {
				t.Errorf("TagsOf what this update put = %q, want it", got)
			}
			return err
		})
	}
}

func testRepositories(t *testing.T, db *DB) {
	// As (project, name) "a" sorts before "a-b"; as a full name it does not.
	all := []string{"a-b/x", "a.b/x", "a/x", "a/x-y", "a/x/y", "b/1", "docker.io/library/busybox"}
	if !slices.IsSorted(all) {
		t.Fatal("the expectation is not in byte order")
	}
	update(t, db, func(tx *Tx) error {
		for i := range all {
			repo := registry.SplitRepo(all[len(all)-1-i])
			if err := tx.PutTag(repo, "latest", Tag{Descriptor: blob("m", 1)}); err != nil {
				return err
			}
		}
		return tx.PutTag(etcd, "latest", Tag{Gone: true})
	})
	for _, tt := range []struct {
		name  string
		after string
		n     int
		want  []string
	}{
		{"all but the one whose only tag is gone", "", -1, all},
		{"a page", "", 3, all[:3]},
		{"the next page", "a/x", 3, all[3:6]},
		{"the last page", "b/1", 3, all[6:]},
		{"none", "", 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := db.Repositories(t.Context(), tt.after, tt.n)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("Repositories(%q, %d) = %q, %v, want %q", tt.after, tt.n, got, err, tt.want)
			}
		})
	}
}

func testEmptyRepository(t *testing.T, db *DB) {
	update(t, db, func(tx *Tx) error {
		return errors.Join(
			tx.AddBlob(busybox, dg("blob"), 10),
			tx.PutTag(alpine, "3", Tag{Descriptor: blob("m", 1)}),
			manifest{name: "image", layers: []string{"layer"}}.add(tx, etcd),
		)
	})
	update(t, db, func(tx *Tx) error {
		_, err := tx.Forget(dg("blob"))
		_, err2 := tx.Forget(dg("image"))
		return errors.Join(err, err2, tx.DeleteTag(alpine, "3"))
	})
	if got, err := db.Repositories(t.Context(), "", -1); err != nil || len(got) != 0 {
		t.Errorf("Repositories after all is gone = %q, %v, want none", got, err)
	}
	recount(t, db)
	for _, table := range []string{"repositories", "content", "links", "refs", "tags"} {
		if n := rows(t, db, table); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
}

func testProjectTags(t *testing.T, db *DB) {
	type seen struct {
		repo   registry.Repo
		tag    string
		digest registry.Digest
	}
	var want []seen
	update(t, db, func(tx *Tx) error {
		for _, repo := range []registry.Repo{alpine, busybox} {
			for i := range 2*page + 10 {
				tag := fmt.Sprintf("%05d", i)
				want = append(want, seen{repo, tag, dg(tag)})
				if err := tx.PutTag(repo, tag, Tag{Descriptor: blob(tag, 1), Gone: i%7 == 0}); err != nil {
					return err
				}
			}
		}
		return errors.Join(
			tx.PutTag(alpine, "never", Tag{Gone: true}),
			tx.PutTag(etcd, "v3", Tag{Descriptor: blob("etcd", 1)}),
			tx.PutTag(registry.Repo{Project: "docker.io.example", Name: "x"}, "v3", Tag{Descriptor: blob("x", 1)}),
		)
	})
	var got []seen
	err := db.ProjectTags(t.Context(), "docker.io", func(repo registry.Repo, tag string, d registry.Digest) error {
		got = append(got, seen{repo, tag, d})
		if len(got) == 5 { // nothing is held while fn runs
			return db.Update(t.Context(), func(tx *Tx) error { return tx.Touch(dgs("any"), noon) })
		}
		return nil
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("ProjectTags called fn %d times, %v, want %d", len(got), err, len(want))
	}
	stop := errors.New("enough")
	calls := 0
	err = db.ProjectTags(t.Context(), "docker.io", func(registry.Repo, string, registry.Digest) error {
		calls++
		return stop
	})
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("ProjectTags with an error of fn: %v after %d calls, want it after 1", err, calls)
	}
}

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

func testForget(t *testing.T, db *DB) {
	update(t, db, func(tx *Tx) error {
		return errors.Join(
			manifest{name: "image", config: "config", layers: []string{"layer"}, subject: "subject"}.add(tx, busybox),
			manifest{name: "image", config: "config", layers: []string{"layer"}, subject: "subject"}.add(tx, etcd),
			tx.AddBlob(busybox, dg("layer"), 10),
			tx.AddBlob(busybox, dg("config"), 10),
			tx.PutTag(busybox, "latest", Tag{Descriptor: blob("image", 100)}),
		)
	})
	forget := func(name string) (repos []registry.Repo) {
		t.Helper()
		update(t, db, func(tx *Tx) (err error) {
			repos, err = tx.Forget(dg(name))
			return err
		})
		return repos
	}
	if got := forget("unknown"); len(got) != 0 {
		t.Errorf("Forget of an unknown digest = %v, want none", got)
	}
	// The layer goes: its manifests still name it.
	if got, want := forget("layer"), []registry.Repo{busybox}; !slices.Equal(got, want) {
		t.Errorf("Forget(layer) = %v, want %v", got, want)
	}
	for _, repo := range []registry.Repo{busybox, etcd} {
		if got, want := found(t, db, repo, "layer"), (Found{Linked: true, Size: 10}); got != want {
			t.Errorf("a layer in %s after it went = %+v, want %+v", repo, got, want)
		}
	}
	// The manifest goes: what is left is what was linked directly.
	if got, want := forget("image"), []registry.Repo{busybox, etcd}; !slices.Equal(got, want) {
		t.Errorf("Forget(image) = %v, want %v", got, want)
	}
	for _, tt := range []struct {
		digest string
		repo   registry.Repo
		want   Found
	}{
		{"image", busybox, Found{Size: -1}},
		{"layer", busybox, Found{Size: -1}},
		{"config", busybox, Found{Linked: true, Direct: true, Stored: true, Size: 10}},
		{"config", etcd, Found{Stored: true, Size: 10}},
	} {
		if got := found(t, db, tt.repo, tt.digest); got != tt.want {
			t.Errorf("%s in %s after its manifest went = %+v, want %+v", tt.digest, tt.repo, got, tt.want)
		}
	}
	if got, err := db.Referrers(t.Context(), busybox, dg("subject"), ""); err != nil || len(got) != 0 {
		t.Errorf("Referrers after the only one went = %v, %v, want none", got, err)
	}
	if got, err := db.Tag(t.Context(), busybox, "latest"); err != nil || got.Digest != dg("image") {
		t.Errorf("Tag after its manifest went = %+v, %v, want it as it was", got, err)
	}
	if n := rows(t, db, "content"); n != 1 {
		t.Errorf("%d digests are left, want only the config", n)
	}
	recount(t, db)
}

func testForgetAndAdd(t *testing.T, db *DB) {
	image := manifest{name: "image", config: "config", layers: []string{"layer"}, subject: "subject"}
	for range 3 {
		update(t, db, func(tx *Tx) error {
			_, err := tx.Forget(dg("image"))
			return errors.Join(err, image.add(tx, busybox), image.add(tx, etcd), tx.AddBlob(busybox, dg("layer"), 10))
		})
		if got := found(t, db, etcd, "layer"); !got.Linked {
			t.Errorf("Find = %+v, want it linked", got)
		}
		recount(t, db)
	}
	if usage, err := db.Usage(t.Context()); err != nil || usage != (Usage{Bytes: 110, Count: 2}) {
		t.Errorf("Usage = %+v, %v, want 110 bytes in 2", usage, err)
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

func testColdest(t *testing.T, db *DB) {
	update(t, db, func(tx *Tx) error {
		err := errors.Join(
			tx.AddBlob(busybox, dg("docker"), 1),
			tx.AddBlob(busybox, dg("docker twice"), 2), tx.AddBlob(alpine, dg("docker twice"), 2),
			tx.AddBlob(busybox, dg("both"), 3), tx.AddBlob(etcd, dg("both"), 3),
			tx.AddBlob(etcd, dg("quay"), 4),
			// Linked in one project, a layer in another.
			tx.AddBlob(busybox, dg("layer of etcd"), 5),
			manifest{name: "image of etcd", layers: []string{"layer of etcd"}}.add(tx, etcd),
		)
		if err != nil {
			return err
		}
		for i, name := range []string{"docker twice", "both", "docker", "quay", "layer of etcd", "image of etcd"} {
			if err := tx.Touch(dgs(name), noon.Add(time.Duration(i)*time.Hour)); err != nil {
				return err
			}
		}
		return tx.Touch(dgs("unknown"), noon)
	})
	orphan := orphaned(t, db)
	cold := func(name string, size int64, hours int) Cold {
		return Cold{dg(name), size, noon.Add(time.Duration(hours) * time.Hour)}
	}
	both, later := []string{"docker.io", "quay.io"}, noon.Add(24*time.Hour)
	for _, tt := range []struct {
		name     string
		projects []string
		before   time.Time
		n        int
		want     []Cold
	}{
		{"of no project", nil, later, -1, []Cold{orphan}},
		{"of one project", []string{"docker.io"}, later, -1, []Cold{orphan, cold("docker twice", 2, 0), cold("docker", 1, 2)}},
		{"of the other", []string{"quay.io"}, later, -1, []Cold{orphan, cold("quay", 4, 3), cold("image of etcd", 100, 5)}},
		{"of both", both, later, -1, []Cold{orphan, cold("docker twice", 2, 0), cold("both", 3, 1), cold("docker", 1, 2), cold("quay", 4, 3), cold("layer of etcd", 5, 4), cold("image of etcd", 100, 5)}},
		{"the first three", both, later, 3, []Cold{orphan, cold("docker twice", 2, 0), cold("both", 3, 1)}},
		{"used before", both, noon.Add(time.Hour), -1, []Cold{orphan, cold("docker twice", 2, 0)}},
		{"none", both, later, 0, nil},
		{"of a project without content", []string{"gcr.io"}, later, -1, []Cold{orphan}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := db.Coldest(t.Context(), tt.projects, tt.before, tt.n)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("Coldest = %v, %v, want %v", got, err, tt.want)
			}
		})
	}
	recount(t, db)
}

// orphaned makes stored content that no repository has. No update leaves such; it is what an
// upload that is not linked yet will be.
func orphaned(t *testing.T, db *DB) Cold {
	t.Helper()
	cold := Cold{dg("orphan"), 6, noon.Add(-time.Hour)}
	key, err := pack(cold.Digest)
	if err != nil {
		t.Fatal(err)
	}
	update(t, db, func(tx *Tx) error {
		return tx.save(&content{key: key, row: row{stored: true, size: cold.Size, usedAt: millis(cold.UsedAt), holders: nobody}})
	})
	return cold
}

func testNewContentIsWarm(t *testing.T, db *DB) {
	start := time.Now().Truncate(time.Millisecond)
	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.AddBlob(busybox, dg("layer"), 1), manifest{name: "image", layers: []string{"layer"}}.add(tx, busybox))
	})
	if got, err := db.Coldest(t.Context(), []string{"docker.io"}, start, -1); err != nil || len(got) != 0 {
		t.Errorf("Coldest before the content was added = %v, %v, want none", got, err)
	}
	update(t, db, func(tx *Tx) error { return tx.Touch(dgs("layer"), noon) })
	update(t, db, func(tx *Tx) error { return tx.AddBlob(alpine, dg("layer"), 1) })
	got, err := db.Coldest(t.Context(), []string{"docker.io"}, start, -1)
	if want := []Cold{{dg("layer"), 1, noon}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("Coldest after one more link = %v, %v, want %v: a link is no use", got, err, want)
	}
	// In one transaction the later of two writes counts.
	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.AddBlob(etcd, dg("layer"), 1), tx.Touch(dgs("layer"), noon.Add(time.Hour)), tx.AddBlob(etcd, dg("layer"), 2))
	})
	got, err = db.Coldest(t.Context(), []string{"docker.io", "quay.io"}, start, -1)
	if want := []Cold{{dg("layer"), 2, noon.Add(time.Hour)}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("Coldest after a touch between two adds = %v, %v, want %v", got, err, want)
	}
}

func testUsage(t *testing.T, db *DB) {
	update(t, db, func(tx *Tx) error {
		return errors.Join(
			manifest{name: "image", config: "config", layers: []string{"layer", "absent"}}.add(tx, busybox),
			tx.AddBlob(busybox, dg("layer"), 1000), tx.AddBlob(etcd, dg("layer"), 1000),
			tx.AddBlob(busybox, dg("config"), 50), tx.AddBlob(busybox, dg("config"), 60),
			tx.LinkOnly(etcd, dg("hearsay")),
		)
	})
	if got, err := db.Usage(t.Context()); err != nil || got != (Usage{Bytes: 1160, Count: 3}) {
		t.Errorf("Usage = %+v, %v, want 1160 bytes in 3", got, err)
	}
	want := map[string]Usage{"docker.io": {1160, 3}, "quay.io": {1000, 1}}
	if got, err := db.ByProject(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("ByProject = %+v, %v, want %+v", got, err, want)
	}
	update(t, db, func(tx *Tx) error {
		_, err := tx.Forget(dg("layer"))
		return err
	})
	want = map[string]Usage{"docker.io": {160, 2}}
	if got, err := db.ByProject(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("ByProject after the shared layer went = %+v, %v, want %+v", got, err, want)
	}
}

func testUpdateAtomic(t *testing.T, db *DB) {
	broken := errors.New("broken off")
	canceled, cancel := context.WithCancel(t.Context())
	for _, tt := range []struct {
		name string
		ctx  context.Context
		fn   func(tx *Tx) error
		want error
	}{
		{"an error of fn", t.Context(), func(*Tx) error { return broken }, broken},
		{"an error of a method that fn ignores", t.Context(), func(tx *Tx) error {
			tx.AddBlob(busybox, "sha256:short", 1)
			return nil
		}, registry.DigestInvalid},
		{"ctx ends in fn", canceled, func(*Tx) error {
			cancel()
			return nil
		}, context.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := db.Update(tt.ctx, func(tx *Tx) error {
				err := errors.Join(
					manifest{name: "image", layers: []string{"layer"}}.add(tx, busybox),
					tx.AddBlob(etcd, dg("layer"), 10), tx.PutTag(busybox, "latest", Tag{Descriptor: blob("image", 1)}))
				if err != nil {
					t.Error(err)
				}
				return tt.fn(tx)
			})
			if !errors.Is(err, tt.want) {
				t.Errorf("Update = %v, want %v", err, tt.want)
			}
		})
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a panic of fn was swallowed")
			}
		}()
		db.Update(t.Context(), func(tx *Tx) error {
			if err := tx.AddBlob(busybox, dg("layer"), 1); err != nil {
				t.Error(err)
			}
			panic("in fn")
		})
	}()
	for _, table := range []string{"repositories", "content", "links", "refs", "tags"} {
		if n := rows(t, db, table); n != 0 {
			t.Errorf("%d rows of broken updates are in %s", n, table)
		}
	}
	// Nothing that the broken ones made is remembered as being there.
	update(t, db, func(tx *Tx) error {
		return errors.Join(tx.AddBlob(busybox, dg("layer"), 1), tx.AddBlob(etcd, dg("layer"), 1))
	})
	recount(t, db)
}

func testUpdateQueue(t *testing.T, db *DB) {
	inside, done := make(chan struct{}), make(chan struct{})
	finished := make(chan error, 1)
	go func() {
		finished <- db.Update(context.WithoutCancel(t.Context()), func(*Tx) error {
			close(inside)
			<-done
			return nil
		})
	}()
	<-inside
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := db.Update(ctx, func(*Tx) error {
		t.Error("two writers at once")
		return nil
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Update behind another = %v, want it to give up with its ctx", err)
	}
	if _, err := db.Find(t.Context(), busybox, dg("layer")); err != nil {
		t.Errorf("Find beside a writer: %v", err)
	}
	close(done)
	if err := <-finished; err != nil {
		t.Error(err)
	}
}

func testAlgorithms(t *testing.T, db *DB) {
	long := digest.SHA512.FromString("long")
	update(t, db, func(tx *Tx) error {
		refs := registry.References{Layers: []registry.Descriptor{{Digest: long, Size: 9}}}
		m := registry.Manifest{Descriptor: registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: digest.SHA512.FromString("image"), Size: 1}}
		return errors.Join(tx.AddManifest(busybox, m, refs), tx.AddBlob(busybox, long, 9), tx.AddBlob(busybox, dg("long"), 3),
			tx.PutTag(busybox, "long", Tag{Descriptor: m.Descriptor}), tx.Touch([]registry.Digest{long}, noon))
	})
	if got, err := db.Find(t.Context(), busybox, long); err != nil || got != (Found{Linked: true, Direct: true, Stored: true, Size: 9}) {
		t.Errorf("Find = %+v, %v", got, err)
	}
	if got, err := db.Tag(t.Context(), busybox, "long"); err != nil || got.Digest != digest.SHA512.FromString("image") {
		t.Errorf("Tag = %+v, %v", got, err)
	}
	got, err := db.Coldest(t.Context(), []string{"docker.io"}, noon.Add(time.Millisecond), -1)
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
