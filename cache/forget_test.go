package cache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distribution/distribution/v3"
	stock "github.com/distribution/distribution/v3/registry/storage"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/distribution/reference"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
)

// layout lists the links that a repository has in the layout: digests and tags.
func (h *house) layout(t testing.TB, repo registry.Repo) []string {
	t.Helper()
	var all []string
	err := h.Cache.store.Repositories(t.Context(), func(r storage.Repository) error {
		if r.Name != repo.String() {
			return nil
		}
		for _, d := range slices.Concat(r.Layers, r.Manifests) {
			all = append(all, short(string(d)))
		}
		all = append(all, slices.Collect(maps.Keys(r.Tags))...)
		for _, p := range r.Problems {
			t.Errorf("%s: %s", r.Name, p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func (h *house) wantLayout(t testing.TB, repo registry.Repo, want ...string) {
	t.Helper()
	for i, w := range want {
		want[i] = short(w)
	}
	slices.Sort(want)
	if got := h.layout(t, repo); !slices.Equal(got, want) {
		t.Errorf("the layout of %s has %q, want %q", repo, got, want)
	}
}

// stockTags are the tags of a repository as a stock registry on the directory sees them.
func (h *house) stockTags(t testing.TB, repo registry.Repo) []string {
	t.Helper()
	driver, err := filesystem.FromParameters(map[string]any{"rootdirectory": h.dir})
	if err != nil {
		t.Fatal(err)
	}
	ns, err := stock.NewRegistry(t.Context(), driver)
	if err != nil {
		t.Fatal(err)
	}
	name, err := reference.WithName(repo.String())
	if err != nil {
		t.Fatal(err)
	}
	r, err := ns.Repository(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	tags, err := r.Tags(t.Context()).All(t.Context())
	if err != nil && !errors.As(err, &distribution.ErrRepositoryUnknown{}) {
		t.Fatal(err)
	}
	return tags
}

// finished fails if a removal is still to be finished, which a start does at once.
func (h *house) finished(t testing.TB) {
	t.Helper()
	for range 100 {
		left, _ := h.catalog.Removals(t.Context(), "", -1)
		if h.catalog.Unlinks(t.Context(), func(catalog.Unlinked) error { return errors.New("one") }) == nil && len(left) == 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if left, err := h.catalog.Removals(t.Context(), "", -1); err != nil || len(left) > 0 {
		t.Errorf("unfinished removals: %+v, %v", left, err)
	}
	if err := h.catalog.Unlinks(t.Context(), func(u catalog.Unlinked) error { return fmt.Errorf("%+v is still to be unlinked", u) }); err != nil {
		t.Error(err)
	}
}

func wantCode(t testing.TB, err error, code registry.Code) {
	t.Helper()
	if !errors.Is(err, code) {
		t.Errorf("got %v, want %s", err, code)
	}
}

// What is forgotten is gone from memory, catalog, layout and disk, but for what another repository
// has; the next pull costs what the first one did.
func TestForget(t *testing.T) {
	for _, by := range []string{"digest", "tag", "repository"} {
		t.Run(by, func(t *testing.T) {
			o := newOrigin()
			shared := noise(100<<10, 1)
			a, b := o.putImage(t, "library/a", "1", shared), o.putImage(t, "library/b", "2", shared)
			h := proxy(t, o)
			h.fetch(t, "library/a", "1")
			h.fetch(t, "library/b", "2")
			o.asked()
			var err error
			switch by {
			case "digest":
				err = h.Forget(t.Context(), hub("library/a"), a.manifest.Digest)
			case "tag":
				err = h.ForgetTag(t.Context(), hub("library/a"), "1")
			case "repository":
				err = h.ForgetRepository(t.Context(), hub("library/a"))
			}
			if err != nil {
				t.Fatal(err)
			}
			if h.stored(a.manifest.Digest) || h.stored(a.config) || !h.stored(a.layer) || !h.stored(b.manifest.Digest) {
				t.Error("other content is stored than the other repository has")
			}
			h.wantLayout(t, hub("library/a"))
			h.wantLayout(t, hub("library/b"), "2", string(b.manifest.Digest), string(b.config), string(b.layer))
			if tags := h.stockTags(t, hub("library/a")); len(tags) > 0 {
				t.Errorf("a stock registry sees %v", tags)
			}
			if has, err := h.catalog.HasRepository(t.Context(), hub("library/a")); has || err != nil {
				t.Errorf("the catalog has the repository: %v, %v", has, err)
			}
			h.finished(t)
			agree(t, h)
			wantAsked(t, o)
			wantCode(t, h.Forget(t.Context(), hub("library/a"), a.manifest.Digest), registry.NameUnknown)
			wantCode(t, h.ForgetTag(t.Context(), hub("library/a"), "1"), registry.NameUnknown)
			wantCode(t, h.ForgetRepository(t.Context(), hub("library/a")), registry.NameUnknown)
			wantCode(t, h.Forget(t.Context(), hub("library/b"), a.manifest.Digest), registry.ManifestUnknown)
			wantCode(t, h.ForgetTag(t.Context(), hub("library/b"), "1"), registry.ManifestUnknown)
			wantCode(t, h.ForgetRepository(t.Context(), registry.Repo{Project: "quay.io", Name: "b"}), registry.NameUnknown)

			h.fetch(t, "library/b", "2")
			wantAsked(t, o)
			h.fetch(t, "library/a", "1")
			wantAsked(t, o, "tagged library/a 1", "blob library/a "+short(string(a.config))) // the layer is lent
			h.wantLayout(t, hub("library/a"), "1", string(a.manifest.Digest), string(a.config), string(a.layer))
		})
	}
}

// putIndex adds an index of some images, and tags it.
func (o *origin) putIndex(t testing.TB, repo, tag string, children map[string]registry.Manifest) registry.Manifest {
	t.Helper()
	var list []any
	for _, platform := range slices.Sorted(maps.Keys(children)) {
		d := map[string]any{"mediaType": children[platform].MediaType, "digest": children[platform].Digest, "size": children[platform].Size}
		if os, arch, ok := strings.Cut(platform, "/"); ok {
			arch, variant, _ := strings.Cut(arch, "/")
			d["platform"] = map[string]any{"os": os, "architecture": arch, "variant": variant}
		}
		list = append(list, d)
	}
	return o.putManifest(t, repo, tag, map[string]any{"schemaVersion": 2, "mediaType": registry.MediaTypeOCIIndex, "manifests": list})
}

// An index takes with it what it is made of and what is about it, but for what has another lead.
func TestForgetIndex(t *testing.T) {
	o := newOrigin()
	repo := hub("library/a")
	amd := o.putImage(t, repo.Name, "amd64", noise(100<<10, 1))
	arm := o.putImage(t, repo.Name, "arm64", noise(100<<10, 2))
	index := o.putIndex(t, repo.Name, "1", map[string]registry.Manifest{"linux/amd64": amd.manifest, "linux/arm64": arm.manifest})
	signed := o.putManifest(t, repo.Name, "", map[string]any{
		"schemaVersion": 2, "mediaType": registry.MediaTypeOCIManifest, "layers": []any{},
		"config":  map[string]any{"mediaType": "application/x", "digest": amd.config, "size": 28},
		"subject": map[string]any{"mediaType": index.MediaType, "digest": index.Digest, "size": index.Size},
	})
	h := proxy(t, o)
	for _, tag := range []string{"amd64", "arm64"} {
		h.fetch(t, repo.Name, tag)
	}
	h.settle(t)
	if _, err := h.Resolve(t.Context(), repo, "1"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Manifest(t.Context(), repo, signed.Digest); err != nil {
		t.Fatal(err)
	}
	h.settle(t)
	if err := h.ForgetTag(t.Context(), repo, "arm64"); err != nil {
		t.Fatal(err)
	}
	if !h.stored(arm.manifest.Digest) || !h.stored(arm.layer) {
		t.Error("a manifest went that an index is made of")
	}
	if err := h.ForgetTag(t.Context(), repo, "1"); err != nil {
		t.Fatal(err)
	}
	for d, want := range map[registry.Digest]bool{
		index.Digest: false, signed.Digest: false, arm.manifest.Digest: false, arm.layer: false, arm.config: false,
		amd.manifest.Digest: true, amd.layer: true, amd.config: true,
	} {
		if got := h.stored(d); got != want {
			t.Errorf("%s is stored: %v, want %v", short(string(d)), got, want)
		}
	}
	h.wantLayout(t, repo, "amd64", string(amd.manifest.Digest), string(amd.layer), string(amd.config))
	h.finished(t)
	agree(t, h)
}

func TestForgetPinned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		tagged, whole := hub("library/a"), hub("library/whole")
		kept := o.putImage(t, tagged.Name, "kept", noise(100<<10, 1))
		o.putIndex(t, tagged.Name, "v1", map[string]registry.Manifest{"linux/amd64": kept.manifest})
		o.putImage(t, tagged.Name, "free", noise(100<<10, 2))
		all := o.putImage(t, whole.Name, "1", noise(100<<10, 3))
		h := proxy(t, o, func(p *Project) { p.Pin = []string{"library/a:v*", "library/whole"} })
		h.fetch(t, tagged.Name, "kept")
		h.fetch(t, tagged.Name, "free")
		if _, err := h.Resolve(t.Context(), tagged, "v1"); err != nil {
			t.Fatal(err)
		}
		h.fetch(t, whole.Name, "1")
		for tag, want := range map[string]bool{"v1": true, "kept": false} {
			if got := h.Pinned(tagged, tag); got != want {
				t.Errorf("%s is pinned: %v", tag, got)
			}
		}
		if !h.Pinned(whole, "1") || h.Pinned(registry.Repo{Project: "quay.io", Name: "a"}, "v1") {
			t.Error("a pin on a repository, or of no project, is not told")
		}
		o.set(func() { delete(o.tags, "library/a:v1") })
		time.Sleep(2 * time.Minute)
		h.Resolve(t.Context(), tagged, "v1") // which is gone upstream, and pinned all the same
		h.settle(t)
		for _, err := range []error{
			h.ForgetTag(t.Context(), tagged, "v1"), h.Forget(t.Context(), tagged, kept.manifest.Digest), h.Forget(t.Context(), tagged, kept.layer),
			h.ForgetRepository(t.Context(), tagged), h.ForgetRepository(t.Context(), whole),
			h.ForgetTag(t.Context(), whole, "1"), h.Forget(t.Context(), whole, all.layer),
		} {
			wantCode(t, err, registry.Denied)
		}
		if err := h.ForgetTag(t.Context(), tagged, "kept"); err != nil { // the tag alone
			t.Error(err)
		}
		for _, d := range []registry.Digest{kept.manifest.Digest, kept.layer, all.layer} {
			if !h.stored(d) {
				t.Errorf("%s went, which is pinned", short(string(d)))
			}
		}
		if err := h.SetProjects([]Project{{Name: "docker.io", Upstream: o}}); err != nil {
			t.Fatal(err)
		}
		for _, repo := range []registry.Repo{tagged, whole} {
			if err := h.ForgetRepository(t.Context(), repo); err != nil {
				t.Error(err)
			}
			h.wantLayout(t, repo)
		}
		agree(t, h)
		h.stop()
	})
}

// What is just being brought is not taken away, and is told of.
func TestForgetWhatIsComing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		repo := hub("library/a")
		img := o.putImage(t, repo.Name, "1", noise(1<<20, 1))
		h := proxy(t, o)
		if _, err := h.Resolve(t.Context(), repo, "1"); err != nil {
			t.Fatal(err)
		}
		h.settle(t)
		g := gated(o, img.content, 100<<10)
		b, err := h.Blob(t.Context(), repo, img.layer)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		wantCode(t, h.Forget(t.Context(), repo, img.layer), registry.Conflict)
		g.open(1<<20, nil)
		h.settle(t)
		if !h.stored(img.layer) {
			t.Error("the layer did not come whose removal was refused")
		}
		h.store.Traffic.Come(img.layer, awayPatience)
		wantCode(t, h.ForgetRepository(t.Context(), repo), registry.Conflict)
		h.store.Traffic.Came(img.layer)
		if err := h.Forget(t.Context(), repo, img.layer); err != nil || h.stored(img.layer) {
			t.Errorf("%v; the layer is stored: %v", err, h.stored(img.layer))
		}
		// A pull whose manifest is still on its way into the store is waited for.
		h.calm.quiet = time.Minute
		if _, err := h.Resolve(t.Context(), repo, "1"); err != nil {
			t.Fatal(err)
		}
		if err := h.ForgetTag(t.Context(), repo, "1"); err != nil || h.stored(img.manifest.Digest) {
			t.Errorf("%v; the manifest is stored: %v", err, h.stored(img.manifest.Digest))
		}
		h.wantLayout(t, repo)
		h.stop()
	})
}

// A crash at any step leaves what the next start finishes.
func TestForgetCrashes(t *testing.T) {
	for _, by := range []string{"digest", "tag", "repository"} {
		for n := range 20 {
			o, dir := newOrigin(), t.TempDir()
			shared := noise(100<<10, 1)
			a, b := o.putImage(t, "library/a", "1", shared), o.putImage(t, "library/b", "2", shared)
			o.set(func() { // so that there is one to be unlinked, with its tag
				o.manifests["library/b@"+string(a.manifest.Digest)] = a.manifest
				o.tags["library/b:1"] = a.manifest.Digest
				o.blobs["library/b@"+string(a.config)] = o.blobs["library/a@"+string(a.config)]
			})
			projects := []Project{{Name: "docker.io", Upstream: o}}
			h := newHouse(t, dir, Config{Projects: projects})
			for _, pull := range [][2]string{{"library/a", "1"}, {"library/b", "1"}, {"library/b", "2"}} {
				h.fetch(t, pull[0], pull[1])
			}
			run := func() error {
				switch by {
				case "digest":
					return h.Forget(t.Context(), hub("library/b"), a.manifest.Digest)
				case "tag":
					return h.ForgetTag(t.Context(), hub("library/b"), "1")
				}
				return h.ForgetRepository(t.Context(), hub("library/b"))
			}
			left := n
			h.at = func(step string) {
				if left--; left < 0 {
					h.at = nil
					panic(step)
				}
			}
			ended := func() (step string) {
				defer func() {
					if p := recover(); p != nil {
						step = p.(string)
					}
				}()
				if err := run(); err != nil {
					t.Error(err)
				}
				return ""
			}()
			h.stop()
			h = newHouse(t, dir, Config{Projects: projects})
			h.finished(t)
			agree(t, h)
			h.linksAgree(t)
			h.wantLayout(t, hub("library/a"), "1", string(a.manifest.Digest), string(a.config), string(a.layer))
			if err := run(); err != nil && !registry.Unknown(err) {
				t.Errorf("again: %v", err)
			}
			if by == "repository" {
				h.wantLayout(t, hub("library/b"))
			} else if tags := h.stockTags(t, hub("library/b")); !slices.Equal(tags, []string{"2"}) || !h.stored(b.manifest.Digest) {
				t.Errorf("a stock registry sees %v", tags)
			}
			h.stop()
			if ended == "" {
				if n < 2 {
					t.Errorf("%s: only %d steps", by, n)
				}
				break
			}
		}
	}
}

// linksAgree checks that the layout and the catalog say the same of what repositories have.
func (h *house) linksAgree(t testing.TB) {
	t.Helper()
	err := h.catalog.ProjectRepositories(t.Context(), "docker.io", func(repo registry.Repo) error {
		var want []string
		err := h.catalog.RepositoryContent(t.Context(), repo, func(d registry.Digest) error {
			if found, err := h.catalog.Find(t.Context(), repo, d); err != nil || found.Direct {
				want = append(want, short(string(d)))
			}
			return nil
		})
		tags, tagErr := h.catalog.Tags(t.Context(), repo, "", -1)
		h.wantLayout(t, repo, append(want, tags...)...)
		return errors.Join(err, tagErr)
	})
	if err != nil {
		t.Error(err)
	}
}

// A large repository goes page by page, and ctx ends it between two of them.
func TestForgetLargeRepository(t *testing.T) {
	o := newOrigin()
	repo := hub("library/large")
	h := proxy(t, o)
	for i := range atOnce {
		o.putImage(t, repo.Name, fmt.Sprint("v", i), noise(100+i, byte(i)))
		if err := h.pull(t, repo, fmt.Sprint("v", i)); err != nil {
			t.Fatal(err)
		}
	}
	h.settle(t)
	ctx, cancel := context.WithCancel(t.Context())
	h.at = func(string) { cancel() }
	if err := h.ForgetRepository(ctx, repo); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was cut short", err)
	}
	h.at = nil
	h.finished(t)
	h.linksAgree(t)
	if left := len(h.layout(t, repo)); left == 0 || left >= 4*atOnce {
		t.Errorf("%d links are left", left)
	}
	if err := h.ForgetRepository(t.Context(), repo); err != nil {
		t.Fatal(err)
	}
	h.wantLayout(t, repo)
	agree(t, h)
	if n := h.Stats().StoredCount; n != 0 {
		t.Errorf("%d pieces are counted as stored", n)
	}
}

// Pulls and removals at the same time: every pull ends well, and afterwards the catalog and the
// layout say the same.
func TestForgetBesidePulls(t *testing.T) {
	const images, pullers, removals = 8, 3, 25
	o := newOrigin()
	var all []image
	for i := range images {
		all = append(all, o.putImage(t, fmt.Sprintf("library/img%d", i), "1", noise(80<<10+i/2, byte(i/2)))) // each layer twice
	}
	h := proxy(t, o)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var group sync.WaitGroup
	for i := range pullers {
		rnd := rand.New(rand.NewPCG(uint64(i), 7))
		group.Go(func() {
			for ctx.Err() == nil {
				if err := h.pull(t, hub(fmt.Sprintf("library/img%d", rnd.IntN(images))), "1"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := 0
	rnd := rand.New(rand.NewPCG(1, 8))
	for ctx.Err() == nil && done < removals {
		i := rnd.IntN(images)
		repo := hub(fmt.Sprintf("library/img%d", i))
		var err error
		switch rnd.IntN(3) {
		case 0:
			err = h.Forget(ctx, repo, all[i].manifest.Digest)
		case 1:
			err = h.ForgetTag(ctx, repo, "1")
		case 2:
			err = h.ForgetRepository(ctx, repo)
		}
		switch {
		case err == nil:
			done++
		case !registry.Unknown(err) && !errors.Is(err, registry.Conflict) && ctx.Err() == nil:
			t.Error(err)
		}
	}
	cancel()
	group.Wait()
	h.settle(t)
	t.Logf("%d removals", done)
	h.forgetTries()
	for i := range images { // each is whole again, whatever its last pull met
		if err := h.pull(t, hub(fmt.Sprintf("library/img%d", i)), "1"); err != nil {
			t.Error(err)
		}
	}
	h.settle(t)
	if err := errors.Join(h.finishRemovals(t.Context()), h.finishUnlinks(t.Context())); err != nil {
		t.Error(err)
	}
	h.finished(t)
	agree(t, h)
	h.linksAgree(t)
}
