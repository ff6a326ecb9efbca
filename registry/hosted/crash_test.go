package hosted

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
)

// ended is what a process that ends at a step panics with.
type ended string

// crashAt runs something and ends it at the n-th step, and everything else with it: nothing that
// comes later is done, as if the process had been killed. It returns the step, or "" when there are
// not as many. Then it opens what is left.
func (h *house) crashAt(n int, run func()) (at string) {
	h.t.Helper()
	h.at = func(step string) {
		if n--; n < 0 {
			h.at = nil
			panic(ended(step))
		}
	}
	defer func() {
		if p := recover(); p != nil {
			step, ok := p.(ended)
			if !ok {
				panic(p)
			}
			at = string(step)
		}
		h.open(Config{})
		if err := h.finish(context.Background()); err != nil {
			h.t.Fatal(err)
		}
	}()
	run()
	return ""
}

// agree fails unless the catalog and the layout say the same of all hosted projects and everything
// is whole. The layout may be ahead by what ahead allows: links that nobody was told of.
func (h *house) agree(ahead func(registry.Repo, registry.Digest) bool) {
	h.t.Helper()
	ctx := context.Background()
	layout := map[string]registry.Digest{}
	err := h.store.Repositories(ctx, func(r storage.Repository) error {
		for _, p := range r.Problems {
			h.t.Errorf("%s: %s", r.Name, p)
		}
		for _, d := range slices.Concat(r.Layers, r.Manifests) {
			layout[r.Name+"@"+string(d)] = d
		}
		for tag, d := range r.Tags {
			layout[r.Name+":"+tag] = d
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	known := map[string]registry.Digest{}
	for _, project := range []string{"production", "other"} {
		err := h.catalog.ProjectRepositories(ctx, project, func(repo registry.Repo) error {
			err := h.catalog.RepositoryTags(ctx, repo, func(tag string, t catalog.Tag) error {
				known[repo.String()+":"+tag] = t.Digest
				return h.wholeImage(repo, t.Digest)
			})
			if err != nil {
				return err
			}
			return h.catalog.ProjectContent(ctx, project, func(r registry.Repo) bool { return r == repo }, func(d registry.Digest) error {
				held, err := h.catalog.Held(ctx, repo, d)
				if err != nil {
					return err
				}
				known[repo.String()+"@"+string(d)] = d
				if held.MediaType != "" {
					return h.wholeImage(repo, d)
				}
				_, err = h.read(repo, d)
				return err
			})
		})
		if err != nil {
			h.t.Error(err)
		}
	}
	for name, d := range known {
		if layout[name] == d {
			continue
		}
		if repo, _, _ := strings.Cut(name, ":"); strings.Contains(name, "@") || !ahead(registry.SplitRepo(repo), layout[name]) {
			h.t.Errorf("the catalog has %s as %s and the layout as %q", name, d, layout[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(layout)) {
		repo, _, _ := strings.Cut(name, "@")
		repo, _, _ = strings.Cut(repo, ":")
		if known[name] == "" && !ahead(registry.SplitRepo(repo), layout[name]) {
			h.t.Errorf("the layout has %s and the catalog does not", name)
		}
	}
	err = h.catalog.Unlinks(ctx, func(u catalog.Unlinked) error { return fmt.Errorf("%+v is still to be unlinked", u) })
	if err != nil {
		h.t.Error(err)
	}
}

func never(registry.Repo, registry.Digest) bool { return false }

// TestCrashAtEveryStep ends a push, a deletion, a collection and a retention at each of their steps.
// What was acknowledged before is there and whole, the catalog and the layout agree, and what was
// ended can be done again.
func TestCrashAtEveryStep(t *testing.T) {
	for _, tt := range []struct {
		name  string
		run   func(h *house) error
		steps []string                     // those that it ends at
		ahead func(d registry.Digest) bool // what it may leave in the layout
		after func(h *house)               // when it has been done again
	}{
		{
			name:  "push of a blob",
			run:   func(h *house) error { return h.tryBlob(web, digest.FromString("new"), []byte("new")) },
			steps: []string{"push: begun", "push: linked", "push: written down"},
			ahead: func(d registry.Digest) bool { return d == digest.FromString("new") },
			after: func(h *house) {
				if _, err := h.read(web, digest.FromString("new")); err != nil {
					h.t.Error(err)
				}
			},
		},
		{
			name:  "push of a manifest",
			run:   func(h *house) error { return h.try(web, crashNew, "moved", "fresh") },
			steps: []string{"push: begun", "push: linked", "push: written down"},
			ahead: func(d registry.Digest) bool { return d == digest.FromBytes(encode(crashNew)) },
			after: func(h *house) {
				h.wantTag(web, "moved", digest.FromBytes(encode(crashNew)))
				h.wantTag(web, "fresh", digest.FromBytes(encode(crashNew)))
			},
		},
		{
			name: "mount",
			run: func(h *house) error {
				return h.Mount(context.Background(), other, digest.FromString("layer"), func(registry.Repo) bool { return true })
			},
			steps: []string{"push: begun", "push: linked", "push: written down"},
			ahead: func(d registry.Digest) bool { return d == digest.FromString("layer") },
			after: func(h *house) {
				if _, err := h.read(other, digest.FromString("layer")); err != nil {
					h.t.Error(err)
				}
			},
		},
		{
			name:  "deletion of a tag",
			run:   func(h *house) error { return known404(h.DeleteTag(context.Background(), web, "moved")) },
			steps: []string{"delete: forgotten", "delete: unlinked"},
			after: func(h *house) {
				_, err := h.Resolve(context.Background(), web, "moved")
				want(h.t, err, registry.ManifestUnknown)
			},
		},
		{
			name: "deletion of a manifest",
			run: func(h *house) error {
				return known404(h.DeleteManifest(context.Background(), web, digest.FromBytes(encode(crashOld))))
			},
			steps: []string{"delete: forgotten", "delete: unlinked", "delete: unlinked", "delete: unlinked"},
			after: func(h *house) {
				_, err := h.Manifest(context.Background(), web, digest.FromBytes(encode(crashOld)))
				want(h.t, err, registry.ManifestUnknown)
			},
		},
		{
			name: "deletion of a blob",
			run: func(h *house) error {
				return known404(h.DeleteBlob(context.Background(), web, digest.FromString("loose")))
			},
			steps: []string{"delete: forgotten", "delete: unlinked"},
			after: func(h *house) {},
		},
		{
			name: "tag on what is here",
			run: func(h *house) error {
				_, err := h.CopyTag(context.Background(), web, "earlier", "moved")
				return err
			},
			steps: []string{"push: begun", "push: linked", "push: written down"},
			ahead: func(d registry.Digest) bool { return d == digest.FromBytes(encode(crashEarlier)) },
			after: func(h *house) { h.wantTag(web, "moved", digest.FromBytes(encode(crashEarlier))) },
		},
		{
			name: "deletion of a repository",
			run:  func(h *house) error { return known404(h.DeleteRepository(context.Background(), web)) },
			steps: []string{
				// Two manifests with three tags, and then three blobs.
				"delete: forgotten", "delete: unlinked", "delete: unlinked", "delete: unlinked", "delete: unlinked", "delete: unlinked",
				"delete: forgotten", "delete: unlinked", "delete: unlinked", "delete: unlinked",
			},
			after: func(h *house) {
				_, err := h.Tags(context.Background(), web, "", -1)
				want(h.t, err, registry.NameUnknown)
			},
		},
		{
			name: "collection",
			run: func(h *house) error {
				_, err := h.Collect(context.Background(), false)
				return err
			},
			steps: []string{"collect: listed", "collect: forgotten", "delete: unlinked", "collect: orphan listed", "collect: content forgotten", "collect: content removed"},
			after: func(h *house) {
				if h.stored(digest.FromString("loose")) {
					h.t.Error("what was to be collected is still stored")
				}
			},
		},
		{
			name: "retention",
			run: func(h *house) error {
				_, err := h.Retain(context.Background(), "production", false)
				return err
			},
			steps: []string{"retain: chosen", "delete: unlinked", "delete: unlinked"},
			after: func(h *house) {
				if tags, err := h.Tags(context.Background(), web, "", -1); err != nil || len(tags) != 2 {
					h.t.Errorf("tags = %v, %v, want the two newest", tags, err)
				}
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for n, step := range append(tt.steps, "") {
				h := newHouseIn(t, memory(t))
				h.set(catalog.Project{Name: "production", Retention: catalog.Retention{Newest: 2}}, catalog.Project{Name: "other"})
				for _, text := range []string{"config", "layer", "loose"} {
					h.blob(web, text)
				}
				h.push(web, crashEarlier, "earlier")
				h.push(web, crashOld, "moved", "old")
				h.age(web, longAgo, digest.FromString("loose"))
				if got := h.crashAt(n, func() { want(t, tt.run(h), "") }); got != step {
					t.Fatalf("step %d is %q, want %q", n, got, step)
				}
				h.agree(func(_ registry.Repo, d registry.Digest) bool { return tt.ahead != nil && tt.ahead(d) })
				if strings.HasPrefix(tt.name, "push") || tt.name == "mount" {
					// What was acknowledged before is as it was, unless the push was written down.
					if _, err := h.Resolve(t.Context(), web, "fresh"); err != nil {
						h.wantTag(web, "moved", digest.FromBytes(encode(crashOld)))
					}
				}
				want(t, tt.run(h), "")
				tt.after(h)
				h.agree(never)
			}
		})
	}
}

var (
	crashEarlier = image(text("config"))
	crashOld     = image(text("config"), text("layer"))
	crashNew     = image(text("layer"), text("config"))
)

// known404 forgives that something has been deleted already.
func known404(err error) error {
	if registry.Unknown(err) {
		return nil
	}
	return err
}

// TestRefusedPushIsTakenBack: when the row is refused after the links are there, the layout is as it
// was before.
func TestRefusedPushIsTakenBack(t *testing.T) {
	h := newHouse(t)
	h.blob(web, "config")
	layer := h.blob(web, "layer")
	h.push(web, crashEarlier, "moved")
	h.age(web, longAgo, layer.Digest)
	h.at = func(step string) {
		if step == "push: linked" {
			h.at = nil
			want(t, h.DeleteBlob(t.Context(), web, layer.Digest), "") // which the push had found here
		}
	}
	want(t, h.try(web, crashOld, "moved", "fresh"), registry.ManifestBlobUnknown)
	h.wantTag(web, "moved", digest.FromBytes(encode(crashEarlier)))
	if h.stored(digest.FromBytes(encode(crashOld))) {
		t.Error("a manifest that was refused is stored")
	}
	h.agree(never)
}

// TestDeletedAndPushedAgain: a deletion that a crash cut short does not take what has been pushed
// since.
func TestDeletedAndPushedAgain(t *testing.T) {
	h := newHouse(t)
	h.blob(web, "config")
	h.push(web, crashEarlier, "a", "b")
	h.at = func(step string) {
		if step == "delete: forgotten" {
			panic(ended(step))
		}
	}
	func() {
		defer func() { recover() }()
		h.DeleteManifest(t.Context(), web, digest.FromBytes(encode(crashEarlier)))
	}()
	h.open(Config{})
	h.push(web, crashEarlier, "b")
	if err := h.finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.wantTag(web, "b", digest.FromBytes(encode(crashEarlier)))
	h.agree(never)
}

// A tag that is deleted goes from the layout too, whatever a push that was cut short has pointed it to.
func TestDeletedAfterACrash(t *testing.T) {
	h := newHouse(t)
	h.blob(web, "config")
	a := h.push(web, image(text("config")), "v1")
	h.blob(web, "layer")
	h.at = func(step string) {
		if step == "push: linked" {
			panic(ended(step))
		}
	}
	func() {
		defer func() { recover() }()
		h.try(web, image(text("config"), text("layer")), "v1")
	}()
	h.open(Config{})
	h.finish(t.Context())
	h.wantTag(web, "v1", a.Digest)
	if err := h.DeleteTag(t.Context(), web, "v1"); err != nil {
		t.Fatal(err)
	}
	h.finish(t.Context())
	if d := h.linked(web, "v1"); d != "" {
		t.Errorf("deleted tag is still in the layout as %s", d)
	}
}
