package hosted

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

func TestPushAndPull(t *testing.T) {
	h := newHouse(t)
	amd, arm := h.push(web, image(h.blob(web, "config"), h.blob(web, "amd"))), h.push(web, image(h.blob(web, "config"), h.blob(web, "arm")))
	list := h.push(web, index(amd, arm), "latest", "v1")
	for _, tag := range []string{"latest", "v1"} {
		got, err := h.Resolve(t.Context(), web, tag)
		if err != nil || got.Digest != list.Digest || got.MediaType != list.MediaType || got.Size != list.Size {
			t.Errorf("Resolve(%s) = %+v, %v, want %+v", tag, got, err, list)
		}
		if got := h.linked(web, tag); got != list.Digest {
			t.Errorf("the layout has %s for tag %s, want %s", got, tag, list.Digest)
		}
	}
	if err := h.wholeImage(web, list.Digest); err != nil {
		t.Error(err)
	}
	if tags, err := h.Tags(t.Context(), web, "latest", 10); err != nil || !slices.Equal(tags, []string{"v1"}) {
		t.Errorf("tags behind latest = %v, %v, want v1", tags, err)
	}
	if b, err := h.Blob(t.Context(), web, digest.FromString("amd")); err != nil {
		t.Error(err)
	} else if _, ok := b.ReadSeekCloser.(*os.File); !ok {
		t.Errorf("a blob is read through a %T, want a bare file", b.ReadSeekCloser)
	} else {
		b.Close()
	}
	_, err := h.Tags(t.Context(), api, "", -1)
	want(t, err, registry.NameUnknown)
	_, err = h.Resolve(t.Context(), web, "none")
	want(t, err, registry.ManifestUnknown)
	_, err = h.Resolve(t.Context(), proxy, "latest")
	want(t, err, registry.NameUnknown)
	_, err = h.Manifest(t.Context(), web, digest.FromString("amd"))
	want(t, err, registry.ManifestUnknown)
}

// TestB1_OneMeaning: what two readers could understand in two ways is refused.
func TestB1_OneMeaning(t *testing.T) {
	h := newHouse(t)
	config := h.blob(web, "config")
	desc := string(encode(config))
	oci := `{"schemaVersion":2,"mediaType":"` + registry.MediaTypeOCIManifest + `","config":` + desc + `,"layers":[]}`
	bare := `{"schemaVersion":2,"config":` + desc + `,"layers":[]}`
	for _, tt := range []struct {
		name, contentType, body string
		code                    registry.Code
	}{
		{"as it says", registry.MediaTypeOCIManifest, oci, ""},
		{"parameters are ignored", registry.MediaTypeOCIManifest + "; charset=utf-8", oci, ""},
		{"no Content-Type", "", oci, ""},
		{"a type of its own", "application/vnd.example+json", `{"schemaVersion":2,"mediaType":"application/vnd.example+json","config":` + desc + `}`, ""},
		{"no media type inside", registry.MediaTypeOCIManifest, bare, ""},
		{"another type outside", registry.MediaTypeDockerManifest, oci, registry.ManifestInvalid},
		{"an unknown type outside", "application/json", oci, registry.ManifestInvalid},
		{"an index outside", registry.MediaTypeOCIIndex, oci, registry.ManifestInvalid},
		{"nothing inside and an unknown type outside", "application/json", bare, registry.ManifestInvalid},
		{"a Docker manifest that does not say so", registry.MediaTypeDockerManifest, bare, registry.ManifestInvalid},
		{"image and index at once", "", `{"schemaVersion":2,"config":` + desc + `,"layers":[],"manifests":[]}`, registry.ManifestInvalid},
		{"a key twice", "", `{"schemaVersion":2,"config":` + desc + `,"layers":[],"layers":[]}`, registry.ManifestInvalid},
		{"a key in another case", "", `{"schemaVersion":2,"config":` + desc + `,"Layers":[]}`, registry.ManifestInvalid},
		{"schema 1", "", `{"schemaVersion":1}`, registry.ManifestInvalid},
		{"no JSON", "", `<html>`, registry.ManifestInvalid},
		{"too long", "", `{"a":"` + strings.Repeat("a", registry.MaxManifest) + `"}`, registry.TooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := h.PutManifest(t.Context(), web, registry.ManifestPush{ContentType: tt.contentType, Bytes: []byte(tt.body)})
			want(t, err, tt.code)
		})
	}
}

func TestPushNeedsWhatItIsMadeOf(t *testing.T) {
	h := newHouse(t)
	config := h.blob(web, "config")
	absent := func(name string) v1.Descriptor {
		return v1.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: digest.FromString(name), Size: 1}
	}
	h.blob(other, "elsewhere")
	many := []v1.Descriptor{config}
	for i := range 300 {
		many = append(many, absent(fmt.Sprint(i)))
	}
	foreign := absent("foreign") // FAULTS B15
	foreign.URLs = []string{"https://example.com/layer"}
	about := image(config)
	missing := absent("subject")
	about.Subject = &missing
	asBlob := config
	asBlob.MediaType = registry.MediaTypeOCIManifest
	for _, tt := range []struct {
		name string
		v    any
		code registry.Code
		says string
	}{
		{"a config that is missing", image(absent("none")), registry.ManifestBlobUnknown, string(digest.FromString("none"))},
		{"a layer that is missing", image(config, absent("none")), registry.ManifestBlobUnknown, string(digest.FromString("none"))},
		{"very many", image(many...), registry.ManifestBlobUnknown, "and 295 more"},
		{"B8: a layer that somebody else has", image(config, absent("elsewhere")), registry.ManifestBlobUnknown, ""},
		{"a manifest that is missing", index(absent("none")), registry.ManifestBlobUnknown, ""},
		{"a manifest that is here as a blob", index(asBlob), registry.ManifestBlobUnknown, ""},
		{"B15: a layer that lives elsewhere", image(config, foreign), "", ""},
		{"a subject that is missing", about, "", ""},
		{"an index of nothing", index(), "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := h.try(web, tt.v, "tag")
			if tt.says == "" {
				want(t, err, tt.code)
			} else {
				want(t, err, tt.code, tt.says)
			}
			if tt.code != "" && h.linked(web, "tag") == digest.FromBytes(encode(tt.v)) {
				t.Error("a refused manifest is tagged in the layout")
			}
		})
	}
	if referrers, err := h.Referrers(t.Context(), web, missing.Digest, ""); err != nil || len(referrers) != 1 {
		t.Errorf("referrers of a missing subject = %v, %v, want one", referrers, err)
	}
	if referrers, err := h.Referrers(t.Context(), web, missing.Digest, "none"); err != nil || len(referrers) != 0 {
		t.Errorf("referrers of another type = %v, %v, want none", referrers, err)
	}
}

// TestB8_OnlyWhereItIsLinked: knowing a digest opens nothing, and neither does a manifest that
// names it.
func TestB8_OnlyWhereItIsLinked(t *testing.T) {
	h := newHouse(t)
	secret := h.blob(other, "secret")
	secret.URLs = []string{"https://example.com/"} // may be missing, and is stored
	h.push(web, image(h.blob(web, "config"), secret), "v1")
	for _, tt := range []struct {
		name string
		err  func() error
	}{
		{"blob", func() error { _, err := h.Blob(t.Context(), web, secret.Digest); return err }},
		{"stat", func() error { _, err := h.StatBlob(t.Context(), web, secret.Digest); return err }},
		{"a blob that is nowhere", func() error { _, err := h.Blob(t.Context(), web, digest.FromString("nowhere")); return err }},
		{"delete", func() error { return h.DeleteBlob(t.Context(), web, secret.Digest) }},
	} {
		t.Run(tt.name, func(t *testing.T) { want(t, tt.err(), registry.BlobUnknown) })
	}
	// Nor does it count for the project that only names it.
	usage, err := h.catalog.ByProject(t.Context())
	if err != nil || usage["other"].Bytes != secret.Size || usage["production"].Count != 2 {
		t.Errorf("usage = %+v, %v, want the secret to count for its owner only", usage, err)
	}
}

// TestB13_Sha512: a digest of either algorithm is as good.
func TestB13_Sha512(t *testing.T) {
	h := newHouse(t)
	text := []byte("config")
	d := digest.SHA512.FromBytes(text)
	if err := h.tryBlob(web, d, text); err != nil {
		t.Fatal(err)
	}
	b := encode(image(v1.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: int64(len(text))}))
	m := digest.SHA512.FromBytes(b)
	pushed, err := h.PutManifest(t.Context(), web, registry.ManifestPush{Digest: m, Bytes: b, Tags: []string{"v1"}})
	if err != nil || pushed.Digest != m {
		t.Fatalf("PutManifest = %+v, %v, want %s", pushed, err, m)
	}
	h.wantTag(web, "v1", m)
	if err := h.wholeImage(web, m); err != nil {
		t.Error(err)
	}
	_, err = h.Manifest(t.Context(), web, digest.FromBytes(b))
	want(t, err, registry.ManifestUnknown)
	_, err = h.PutManifest(t.Context(), web, registry.ManifestPush{Digest: digest.SHA512.FromString("other"), Bytes: b})
	want(t, err, registry.DigestInvalid)
}

func TestPushHeals(t *testing.T) {
	damage := map[string]func(path string) error{
		"flipped": func(path string) error {
			b, err := os.ReadFile(path)
			if err == nil {
				b[0] ^= 1
				err = os.WriteFile(path, b, 0o600)
			}
			return err
		},
		"truncated": func(path string) error { return os.Truncate(path, 1) },
		"gone":      os.Remove,
	}
	for name, damage := range damage {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			layer := h.blob(web, "layer")
			m := h.push(web, image(h.blob(web, "config"), layer), "v1")
			for _, d := range []registry.Digest{layer.Digest, m.Digest} {
				if err := damage(h.path(d)); err != nil {
					t.Fatal(err)
				}
			}
			_, err := h.Manifest(t.Context(), web, m.Digest)
			want(t, err, registry.Unavailable, "pushing it again heals")
			if name != "flipped" { // which a reader finds, and Doubt is told of
				_, err = h.Blob(t.Context(), web, layer.Digest)
				want(t, err, registry.Unavailable, "pushing it again heals")
				_, err = h.StatBlob(t.Context(), web, layer.Digest) // so that it is sent again
				want(t, err, registry.BlobUnknown)
				want(t, h.Mount(t.Context(), api, layer.Digest, func(registry.Repo) bool { return true }), registry.BlobUnknown)
			}
			if h.Stats().Damaged == 0 || !strings.Contains(h.log.String(), "level=ERROR") {
				t.Error("the damage is neither counted nor logged")
			}
			h.blob(web, "layer")
			h.push(web, image(h.blob(web, "config"), layer))
			if err := h.wholeImage(web, m.Digest); err != nil {
				t.Errorf("after another push: %v", err)
			}
		})
	}
}

func TestMount(t *testing.T) {
	h := newHouse(t)
	blob := h.blob(other, "blob")
	cached := h.blob(other, "cached")
	h.update(func(tx *catalog.Tx) error { return tx.AddBlob(proxy, cached.Digest, cached.Size) })
	only := func(from registry.Repo) func(registry.Repo) bool {
		return func(repo registry.Repo) bool { return repo == from }
	}
	// B9: not from where the caller may not read.
	want(t, h.Mount(t.Context(), web, blob.Digest, func(registry.Repo) bool { return false }), registry.BlobUnknown)
	want(t, h.Mount(t.Context(), web, blob.Digest, only(api)), registry.BlobUnknown)
	want(t, h.Mount(t.Context(), web, digest.FromString("none"), only(other)), registry.BlobUnknown)
	if _, err := h.read(web, blob.Digest); err == nil {
		t.Error("a blob is readable that was not mounted")
	}
	want(t, h.Mount(t.Context(), web, blob.Digest, only(other)), "")
	want(t, h.Mount(t.Context(), web, blob.Digest, only(other)), "") // again is harmless
	want(t, h.Mount(t.Context(), web, cached.Digest, only(proxy)), "")
	for _, d := range []registry.Digest{blob.Digest, cached.Digest} {
		if _, err := h.read(web, d); err != nil {
			t.Error(err)
		}
	}
	// B5: what goes from there stays here.
	want(t, h.DeleteBlob(t.Context(), other, blob.Digest), "")
	_, err := h.read(other, blob.Digest)
	want(t, err, registry.BlobUnknown)
	if _, err := h.read(web, blob.Digest); err != nil {
		t.Error(err)
	}
	_, err = h.read(other, blob.Digest) // nor does reading it here bring it back
	want(t, err, registry.BlobUnknown)
}

func TestMountLooksAtSomeRepositories(t *testing.T) {
	h := newHouse(t)
	blob := h.blob(other, "blob")
	h.update(func(tx *catalog.Tx) error {
		for i := range mostSources + 10 {
			if err := tx.AddBlob(registry.Repo{Project: "p", Name: fmt.Sprintf("r%05d", i)}, blob.Digest, blob.Size); err != nil {
				return err
			}
		}
		return nil
	})
	asked := 0
	want(t, h.Mount(t.Context(), web, blob.Digest, func(registry.Repo) bool { asked++; return false }), registry.BlobUnknown)
	if asked != mostSources {
		t.Errorf("%d repositories were looked at, want %d", asked, mostSources)
	}
	want(t, h.Mount(t.Context(), web, blob.Digest, func(repo registry.Repo) bool { return repo.Name == "r00150" }), "")
}

func TestDelete(t *testing.T) {
	h := newHouse(t)
	layer := h.blob(web, "layer")
	m := h.push(web, image(h.blob(web, "config"), layer), "a", "b", "c")
	want(t, h.DeleteTag(t.Context(), web, "none"), registry.ManifestUnknown)
	want(t, h.DeleteTag(t.Context(), web, "a"), "")
	want(t, h.DeleteTag(t.Context(), web, "a"), registry.ManifestUnknown)
	h.wantTag(web, "b", m.Digest)
	want(t, h.DeleteBlob(t.Context(), web, layer.Digest), registry.Denied)
	want(t, h.DeleteBlob(t.Context(), web, m.Digest), registry.BlobUnknown) // not round the rules for tags
	want(t, h.DeleteManifest(t.Context(), web, layer.Digest), registry.ManifestUnknown)
	want(t, h.DeleteManifest(t.Context(), other, m.Digest), registry.ManifestUnknown)
	want(t, h.DeleteManifest(t.Context(), web, m.Digest), "")
	want(t, h.DeleteManifest(t.Context(), web, m.Digest), registry.ManifestUnknown)
	if tags, err := h.Tags(t.Context(), web, "", -1); err != nil || len(tags) != 0 {
		t.Errorf("tags = %v, %v, want none", tags, err)
	}
	for _, tag := range []string{"a", "b", "c"} {
		if d := h.linked(web, tag); d != "" {
			t.Errorf("the layout still has tag %s", tag)
		}
	}
	want(t, h.DeleteBlob(t.Context(), web, layer.Digest), "")
	want(t, h.DeleteBlob(t.Context(), web, layer.Digest), registry.BlobUnknown)
	_, err := h.read(web, layer.Digest)
	want(t, err, registry.BlobUnknown)
	if err := h.catalog.Unlinks(t.Context(), func(u catalog.Unlinked) error { return fmt.Errorf("%+v", u) }); err != nil {
		t.Errorf("a deletion is left unfinished: %v", err)
	}
}

var pinned = catalog.Project{Name: "production", Immutable: []string{"**:v*"}}

// TestB7_ImmutableTags: a tag that is immutable is made once, and neither moves nor goes, nor does
// anything that it leads to.
func TestB7_ImmutableTags(t *testing.T) {
	h := newHouse(t, pinned)
	config := h.blob(web, "config")
	child := h.push(web, image(config))
	list := h.push(web, index(child), "v1", "latest")
	another := image(config, h.blob(web, "layer"))
	h.push(web, index(child), "v1") // the same again
	want(t, h.try(web, another, "v1"), registry.Denied, "immutable")
	want(t, h.try(web, another, "new", "v1"), registry.Denied, "immutable")
	if _, err := h.Resolve(t.Context(), web, "new"); err == nil {
		t.Error("half of a refused push is here")
	}
	h.push(web, another, "latest") // which is not
	want(t, h.DeleteTag(t.Context(), web, "v1"), registry.Denied, "immutable")
	want(t, h.DeleteTag(t.Context(), web, "v2"), registry.ManifestUnknown)
	want(t, h.DeleteManifest(t.Context(), web, list.Digest), registry.Denied, "immutable")
	want(t, h.DeleteManifest(t.Context(), web, child.Digest), registry.Denied, "immutable")
	want(t, h.DeleteBlob(t.Context(), web, config.Digest), registry.Denied)
	h.wantTag(web, "v1", list.Digest)
	if got := h.linked(web, "v1"); got != list.Digest {
		t.Errorf("the layout has %s for v1, want %s", got, list.Digest)
	}
	if err := h.wholeImage(web, list.Digest); err != nil {
		t.Error(err)
	}
	if n := h.Stats().Refused; n != 6 {
		t.Errorf("%d refusals are counted, want 6", n)
	}
}

// TestB10_OneCreates: of those who create an immutable tag at once, one does.
func TestB10_OneCreates(t *testing.T) {
	h := newHouse(t, pinned)
	const racers = 8
	var images [racers]v1.Manifest
	for i := range images {
		images[i] = image(h.blob(web, fmt.Sprint(i)))
	}
	var (
		all  sync.WaitGroup
		errs [racers]error
	)
	for i := range images {
		all.Go(func() { errs[i] = h.try(web, images[i], "v1") })
	}
	all.Wait()
	won := -1
	for i, err := range errs {
		if err != nil {
			want(t, err, registry.Denied)
			continue
		}
		if won >= 0 {
			t.Errorf("%d and %d both created it", won, i)
		}
		won = i
	}
	if won < 0 {
		t.Fatal("nobody created it")
	}
	h.wantTag(web, "v1", digest.FromBytes(encode(images[won])))
	if got := h.linked(web, "v1"); got != digest.FromBytes(encode(images[won])) {
		t.Error("the layout has another winner than the catalog")
	}
}

// TestQuota: what would be too much is refused and leaves nothing, and what is here already
// counts once.
func TestQuota(t *testing.T) {
	h := newHouse(t, catalog.Project{Name: "production", Quota: 1000}, catalog.Project{Name: "other"})
	h.blob(web, strings.Repeat("a", 600))
	h.blob(api, strings.Repeat("a", 600))
	tooMuch := strings.Repeat("b", 500)
	err := h.tryBlob(web, digest.FromString(tooMuch), []byte(tooMuch))
	want(t, err, registry.TooLarge, "600 B of its quota of 1000 B", "would add 500 B")
	if _, err := os.Stat(h.path(digest.FromString(tooMuch))); err == nil {
		t.Error("what was refused is stored")
	}
	from := h.blob(other, tooMuch)
	want(t, h.Mount(t.Context(), web, from.Digest, func(registry.Repo) bool { return true }), registry.TooLarge)
	// A rule that came after the look at it counts all the same, and what was linked is taken back.
	h.update(func(tx *catalog.Tx) error { return tx.PutProject(catalog.Project{Name: "production", Quota: 700}) })
	late := strings.Repeat("c", 200)
	want(t, h.tryBlob(web, digest.FromString(late), []byte(late)), registry.TooLarge)
	if _, err := os.Stat(h.path(digest.FromString(late))); err == nil {
		t.Error("what was refused late is stored")
	}
	// One that is above its quota may still push what it has.
	h.update(func(tx *catalog.Tx) error { return tx.PutProject(catalog.Project{Name: "production", Quota: 10}) })
	h.blob(web, strings.Repeat("a", 600))
}

// TestQuotaRace: however many push at once, no more than the quota gets in.
func TestQuotaRace(t *testing.T) {
	h := newHouse(t, catalog.Project{Name: "production", Quota: 1000})
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			text := fmt.Sprintf("%0300d", i)
			if err := h.tryBlob(web, digest.FromString(text), []byte(text)); err != nil {
				want(t, err, registry.TooLarge)
			}
		})
	}
	all.Wait()
	usage, err := h.catalog.ByProject(t.Context())
	if err != nil || usage["production"].Bytes != 900 {
		t.Errorf("usage = %+v, %v, want 900 bytes", usage, err)
	}
}

// A manifest is not mounted as a blob: it would be one there without what it is made of.
func TestManifestsAreNotMounted(t *testing.T) {
	h := newHouse(t)
	h.blob(other, "c")
	child := h.push(other, image(text("c")), "v1")
	want(t, h.Mount(t.Context(), web, child.Digest, func(registry.Repo) bool { return true }), registry.BlobUnknown)
	want(t, h.try(web, index(child), "v1"), registry.ManifestBlobUnknown)
}
