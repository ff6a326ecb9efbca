package hosted

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/distribution/distribution/v3"
	stock "github.com/distribution/distribution/v3/registry/storage"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// stockTags are the tags of a repository as a stock registry on the directory sees them.
func (h *house) stockTags(repo registry.Repo) ([]string, error) {
	h.t.Helper()
	driver, err := filesystem.FromParameters(map[string]any{"rootdirectory": h.dir + "/content"})
	if err != nil {
		h.t.Fatal(err)
	}
	ns, err := stock.NewRegistry(context.Background(), driver)
	if err != nil {
		h.t.Fatal(err)
	}
	name, err := reference.WithName(repo.String())
	if err != nil {
		h.t.Fatal(err)
	}
	r, err := ns.Repository(context.Background(), name)
	if err != nil {
		h.t.Fatal(err)
	}
	return r.Tags(context.Background()).All(context.Background())
}

func TestDeleteRepository(t *testing.T) {
	h := newHouse(t)
	config, layer := h.blob(web, "config"), h.blob(web, "layer")
	h.blob(web, "loose")
	h.blob(api, "config")
	kept := h.push(api, image(config), "v1")
	h.push(web, image(config), "same")
	a := h.push(web, image(config, layer), "a")
	h.push(web, index(a, h.push(web, image(layer, config))), "index", "latest")
	about := image(config)
	about.Subject = &a
	h.push(web, about)

	if err := h.DeleteRepository(t.Context(), web); err != nil {
		t.Fatal(err)
	}
	_, err := h.Tags(t.Context(), web, "", -1)
	want(t, err, registry.NameUnknown)
	_, err = h.Blob(t.Context(), web, layer.Digest)
	want(t, err, registry.BlobUnknown)
	want(t, h.DeleteRepository(t.Context(), web), registry.NameUnknown)
	want(t, h.DeleteRepository(t.Context(), proxy), registry.NameUnknown)
	if tags, err := h.stockTags(web); len(tags) > 0 || err != nil && !errors.As(err, &distribution.ErrRepositoryUnknown{}) {
		t.Errorf("a stock registry sees %v, %v", tags, err)
	}
	if tags, err := h.stockTags(api); err != nil || fmt.Sprint(tags) != "[v1]" {
		t.Errorf("a stock registry sees %v, %v beside it", tags, err)
	}
	h.agree(never)
	if !h.stored(layer.Digest) {
		t.Error("content went before a collection")
	}
	if _, err := h.Collect(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if h.stored(layer.Digest) || h.stored(a.Digest) {
		t.Error("content of a deleted repository stays")
	}
	if err := h.wholeImage(api, kept.Digest); err != nil {
		t.Error(err)
	}
	h.agree(never)
}

// With one immutable tag nothing goes at all.
func TestDeleteRepositoryWithAnImmutableTag(t *testing.T) {
	h := newHouse(t, catalog.Project{Name: "production", Immutable: []string{"**:v*"}})
	config := h.blob(web, "config")
	h.blob(web, "loose")
	h.push(web, image(config, config), "a")
	m := h.push(web, image(config), "v1")
	want(t, h.DeleteRepository(t.Context(), web), registry.Denied, "v1")
	h.wantTag(web, "v1", m.Digest)
	if tags, err := h.Tags(t.Context(), web, "", -1); err != nil || len(tags) != 2 {
		t.Errorf("tags = %v, %v", tags, err)
	}
	if _, err := h.read(web, digest.FromString("loose")); err != nil {
		t.Error(err)
	}
}

// A large one goes page by page: what ctx cuts short leaves whole images, and goes on the next time.
func TestDeleteLargeRepository(t *testing.T) {
	h := newHouseIn(t, memory(t))
	const images = 3*atOneGo + 1
	for i := range images {
		m := h.push(web, image(h.blob(web, fmt.Sprint("layer ", i))))
		h.push(web, index(m), fmt.Sprint("v", i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	pages := 0
	h.at = func(step string) {
		if step == "delete: forgotten" {
			if pages++; pages == 2 {
				cancel()
			}
		}
	}
	if err := h.DeleteRepository(ctx, web); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was cut short", err)
	}
	h.agree(never)
	if tags, err := h.Tags(t.Context(), web, "", -1); err != nil || len(tags) == 0 || len(tags) == images {
		t.Errorf("%d tags are left, %v", len(tags), err)
	}
	if err := h.DeleteRepository(t.Context(), web); err != nil {
		t.Fatal(err)
	}
	_, err := h.Tags(t.Context(), web, "", -1)
	want(t, err, registry.NameUnknown)
	if got := h.Stats().Deleted; got != 3*images {
		t.Errorf("%d deletions are counted, want %d", got, 3*images)
	}
	h.agree(never)
}

// What is pushed while its repository is being deleted stays, with all that it is made of.
func TestPushBesideDeleteRepository(t *testing.T) {
	h := newHouse(t)
	config := h.blob(web, "config")
	child := h.push(web, image(config), "old")
	h.push(web, image(config, config), "other")
	time.Sleep(5 * time.Millisecond) // times are exact to the millisecond
	first := true
	var pushed registry.Digest
	h.at = func(step string) {
		if step == "delete: forgotten" && first {
			first = false
			h.at = nil
			pushed = h.push(web, index(), "new").Digest
		}
	}
	if err := h.DeleteRepository(t.Context(), web); err != nil {
		t.Fatal(err)
	}
	h.wantTag(web, "new", pushed)
	if tags, err := h.Tags(t.Context(), web, "", -1); err != nil || fmt.Sprint(tags) != "[new]" {
		t.Errorf("tags = %v, %v", tags, err)
	}
	_, err := h.Manifest(t.Context(), web, child.Digest)
	want(t, err, registry.ManifestUnknown)
	h.agree(never)
}

func TestCopyTag(t *testing.T) {
	h := newHouse(t, catalog.Project{Name: "production", Immutable: []string{"**:v*"}, Quota: 1})
	h.set(catalog.Project{Name: "production", Immutable: []string{"**:v*"}}, catalog.Project{Name: "other"})
	config := h.blob(web, "config")
	a, b := h.push(web, image(config), "a"), h.push(web, image(config, config), "b")
	h.set(catalog.Project{Name: "production", Immutable: []string{"**:v*"}, Quota: 1}, catalog.Project{Name: "other"}) // which is full
	copied := func(reference, tag string, code registry.Code, says ...string) {
		t.Helper()
		_, err := h.CopyTag(t.Context(), web, reference, tag)
		want(t, err, code, says...)
	}
	copied("a", "v1", "")
	copied(string(b.Digest), "c", "")
	copied(string(b.Digest), "c", "") // again
	h.wantTag(web, "v1", a.Digest)
	h.wantTag(web, "c", b.Digest)
	copied("b", "v1", registry.Denied, "immutable")
	copied("a", "v1", "") // it is there
	copied("none", "x", registry.ManifestUnknown)
	copied(string(digest.FromString("none")), "x", registry.ManifestUnknown)
	copied(string(config.Digest), "x", registry.ManifestUnknown)
	copied("c", "a", "") // moves it
	h.wantTag(web, "a", b.Digest)
	_, err := h.CopyTag(t.Context(), other, string(a.Digest), "x")
	want(t, err, registry.ManifestUnknown)
	_, err = h.CopyTag(t.Context(), proxy, "a", "x")
	want(t, err, registry.NameUnknown)
	if tags, err := h.stockTags(web); err != nil || strings.Join(tags, " ") != "a b c v1" {
		t.Errorf("a stock registry sees %v, %v", tags, err)
	}
	h.agree(never)
}

// A manifest that is deleted while it gets a tag leaves none behind, neither in the catalog nor in
// the layout.
func TestCopyTagOfWhatIsBeingDeleted(t *testing.T) {
	h := newHouse(t)
	a := h.push(web, image(h.blob(web, "config")), "a")
	deleted := make(chan error, 1)
	h.at = func(step string) {
		if step == "push: linked" {
			h.at = nil
			go func() { deleted <- h.DeleteManifest(context.Background(), web, a.Digest) }()
			time.Sleep(20 * time.Millisecond)
		}
	}
	_, err := h.CopyTag(t.Context(), web, "a", "b")
	want(t, err, "") // the deletion waits for it, and then takes it too
	want(t, <-deleted, "")
	for _, tag := range []string{"a", "b"} {
		_, err := h.Resolve(t.Context(), web, tag)
		want(t, err, registry.ManifestUnknown)
		if d := h.linked(web, tag); d != "" {
			t.Errorf("%s is still in the layout as %s", tag, d)
		}
	}
	h.agree(never)
}
