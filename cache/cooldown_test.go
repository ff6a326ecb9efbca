package cache

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

func TestATagFollowsWhenItHasBeenThereForLong(t *testing.T) {
	const repo = "team/app"
	const day = 24 * time.Hour
	cooling := func(p *Project) { p.Cooldown = 3 * day }
	points := func(t *testing.T, h *house, tag string, want image, held bool) {
		t.Helper()
		var trace registry.Trace
		d, err := h.Resolve(registry.WithTrace(t.Context(), &trace), hub(repo), tag)
		if err != nil || d.Digest != want.manifest.Digest {
			t.Errorf("%s points to %s, %v, want %s", tag, d.Digest, err, want.manifest.Digest)
		}
		if (trace.Held != "") != held || (trace.Outcome == registry.Held) != held {
			t.Errorf("%s is answered as %s, held %q, want held %v", tag, trace.Outcome, trace.Held, held)
		}
	}
	count := func(t *testing.T, h *house, want int64) {
		t.Helper()
		h.settle(t)
		if n, err := h.catalog.HeldTags(t.Context()); err != nil || n["docker.io"] != want {
			t.Errorf("%v tags are held, %v, want %d", n, err, want)
		}
	}
	release := func(t *testing.T, h *house, tag string) {
		t.Helper()
		err := h.catalog.Update(t.Context(), func(tx *catalog.Tx) error {
			_, err := tx.Release(hub(repo), tag)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, run := range map[string]func(t *testing.T, o *origin, h *house, first image){
		"and not before": func(t *testing.T, o *origin, h *house, first image) {
			next := o.putImage(t, repo, "latest", []byte("next"))
			points(t, h, "latest", first, true)
			count(t, h, 1)
			if _, err := h.Manifest(t.Context(), hub(repo), next.manifest.Digest); err != nil {
				t.Errorf("the new one by its digest: %v", err)
			}
			e, err := h.Explain(t.Context(), hub(repo), "latest")
			if err != nil || e.Held == nil || e.Held.Digest != next.manifest.Digest || e.Held.Until.Sub(e.Held.Since) != 3*day || e.Digest != first.manifest.Digest {
				t.Errorf("it is explained as %+v, %v", e, err)
			}
			time.Sleep(2 * day)
			points(t, h, "latest", first, true)
			time.Sleep(day)
			points(t, h, "latest", next, false)
			count(t, h, 0)
		},
		"and the time begins anew when it moves on": func(t *testing.T, o *origin, h *house, first image) {
			o.putImage(t, repo, "latest", []byte("next"))
			points(t, h, "latest", first, true)
			time.Sleep(2 * day)
			last := o.putImage(t, repo, "latest", []byte("last"))
			points(t, h, "latest", first, true)
			time.Sleep(2 * day)
			points(t, h, "latest", first, true)
			time.Sleep(day)
			points(t, h, "latest", last, false)
		},
		"and never where upstream takes it back": func(t *testing.T, o *origin, h *house, first image) {
			o.putImage(t, repo, "latest", []byte("next"))
			points(t, h, "latest", first, true)
			o.putImage(t, repo, "latest", []byte("first"))
			time.Sleep(2 * day)
			points(t, h, "latest", first, false)
			count(t, h, 0)
			o.putImage(t, repo, "latest", []byte("next"))
			time.Sleep(2 * day)
			points(t, h, "latest", first, true)
		},
		"or when somebody says so": func(t *testing.T, o *origin, h *house, first image) {
			next := o.putImage(t, repo, "latest", []byte("next"))
			points(t, h, "latest", first, true)
			release(t, h, "latest")
			if moved, _, err := h.Refresh(t.Context(), hub(repo), "latest"); err != nil || !moved {
				t.Errorf("after the release it has moved %v, %v", moved, err)
			}
			points(t, h, "latest", next, false)
			count(t, h, 0)
		},
		"also when where it was is evicted": func(t *testing.T, o *origin, h *house, first image) {
			next := o.putImage(t, repo, "latest", []byte("next"))
			points(t, h, "latest", first, true)
			h.settle(t)
			h.dismiss(t, first)
			e, err := h.Explain(t.Context(), hub(repo), "latest")
			if err != nil || e.Held == nil || e.Digest != first.manifest.Digest {
				t.Errorf("it is explained as %+v, %v, want that it stays where it was", e, err)
			}
			points(t, h, "latest", first, true)
			h.settle(t)
			if !h.stored(first.manifest.Digest) {
				t.Error("where it was is not here again")
			}
			count(t, h, 1)
			time.Sleep(3 * day)
			points(t, h, "latest", next, false)
		},
		"and does not follow what nobody has seen there, because it was evicted": func(t *testing.T, o *origin, h *house, first image) {
			o.putImage(t, repo, "latest", []byte("next"))
			points(t, h, "latest", first, true)
			h.settle(t)
			h.dismiss(t, first)
			time.Sleep(4 * day) // nobody asks, and upstream moves it on
			last := o.putImage(t, repo, "latest", []byte("last"))
			points(t, h, "latest", first, true)
			time.Sleep(3 * day)
			points(t, h, "latest", last, false)
		},
		"nor leads to what is not here when it comes again after it was gone": func(t *testing.T, o *origin, h *house, first image) {
			o.set(func() { delete(o.tags, repo+":latest") })
			time.Sleep(day)
			if _, err := h.Resolve(t.Context(), hub(repo), "latest"); !registry.Unknown(err) {
				t.Errorf("it is gone, and asked for: %v", err)
			}
			h.settle(t)
			h.dismiss(t, first)
			o.putImage(t, repo, "latest", []byte("next"))
			time.Sleep(day)
			points(t, h, "latest", first, true)
			h.settle(t)
			if !h.stored(first.manifest.Digest) {
				t.Error("where it was is not here again")
			}
		},
		"and is denied when upstream has that no more either": func(t *testing.T, o *origin, h *house, first image) {
			next := o.putImage(t, repo, "latest", []byte("next"))
			points(t, h, "latest", first, true)
			h.settle(t)
			h.dismiss(t, first)
			o.set(func() { delete(o.manifests, repo+"@"+string(first.manifest.Digest)) })
			for range 2 {
				wantDenied(t, "without where it was", h.pull(t, hub(repo), "latest"), "serves nothing before")
			}
			time.Sleep(3 * day)
			points(t, h, "latest", next, false)
		},
		"and is denied when somebody had it forgotten": func(t *testing.T, o *origin, h *house, first image) {
			next := o.putImage(t, repo, "latest", []byte("next"))
			points(t, h, "latest", first, true)
			h.settle(t)
			if err := h.ForgetTag(t.Context(), hub(repo), "latest"); err != nil {
				t.Fatal(err)
			}
			wantDenied(t, "forgotten", h.pull(t, hub(repo), "latest"), "when an administrator releases the tag")
			e, err := h.Explain(t.Context(), hub(repo), "latest")
			if err != nil || e.Held == nil || e.Digest != "" {
				t.Errorf("it is explained as %+v, %v, want that nothing is served", e, err)
			}
			release(t, h, "latest")
			points(t, h, "latest", next, false)
		},
		"also after it was gone": func(t *testing.T, o *origin, h *house, first image) {
			o.set(func() { delete(o.tags, repo+":latest") })
			if _, err := h.Resolve(t.Context(), hub(repo), "latest"); !registry.Unknown(err) {
				t.Errorf("gone, it is %v", err)
			}
			o.putImage(t, repo, "latest", []byte("next"))
			time.Sleep(time.Hour)
			points(t, h, "latest", first, true)
		},
		"but a new one is there at once": func(t *testing.T, o *origin, h *house, _ image) {
			points(t, h, "other", o.putImage(t, repo, "other", []byte("other")), false)
		},
		"unless new ones wait too": func(t *testing.T, o *origin, h *house, _ image) {
			if err := h.SetProjects([]Project{{Name: "docker.io", Upstream: o, Cooldown: 3 * day, CooldownNew: true}}); err != nil {
				t.Fatal(err)
			}
			other := o.putImage(t, repo, "other", []byte("other"))
			if _, err := h.Resolve(t.Context(), hub(repo), "other"); !errors.Is(err, registry.Denied) || !strings.Contains(err.Error(), "is new") {
				t.Errorf("a new tag is %v, want it denied", err)
			}
			time.Sleep(3 * day)
			points(t, h, "other", other, false)
			if asked := o.asked(); slices.ContainsFunc(asked, func(q string) bool { return strings.HasPrefix(q, "tagged") && strings.HasSuffix(q, "other") }) {
				t.Errorf("upstream was asked again what it is, which may be something else by then: %q", asked)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin()
				first := o.putImage(t, repo, "latest", []byte("first"))
				h := proxy(t, o, cooling)
				h.fetch(t, repo, "latest")
				time.Sleep(time.Hour)
				run(t, o, h, first)
				h.stop()
			})
		})
	}
}

// dismiss removes all of an image, as an eviction does that needs the room.
func (h *house) dismiss(t testing.TB, img image) {
	t.Helper()
	for _, d := range []registry.Digest{img.layer, img.config, img.manifest.Digest} {
		if ok, err := h.remove(t.Context(), d, []string{"docker.io"}, time.Now().Add(time.Hour)); err != nil || !ok {
			t.Fatalf("evict %s: %v, %v", d, ok, err)
		}
	}
}

// A catalog that is away makes no new tag of an old one, which would follow at once.
func TestATagIsHeldWithoutTheCatalog(t *testing.T) {
	const repo = "team/app"
	o := newOrigin()
	first := o.putImage(t, repo, "latest", []byte("first"))
	h := proxy(t, o)
	h.fetch(t, repo, "latest")
	h.stop()
	again := newHouse(t, h.dir, Config{Projects: []Project{{Name: "docker.io", Upstream: o, Cooldown: 72 * time.Hour}}})
	if err := again.catalog.Close(); err != nil {
		t.Fatal(err)
	}
	o.putImage(t, repo, "latest", []byte("next"))
	var trace registry.Trace
	d, err := again.Resolve(registry.WithTrace(t.Context(), &trace), hub(repo), "latest")
	if err != nil || d.Digest != first.manifest.Digest || trace.Held == "" {
		t.Errorf("it points to %s, %v, held %q, want it where it was", d.Digest, err, trace.Held)
	}
}

func TestAnOverrideLetsOneDigestThrough(t *testing.T) {
	const repo = "team/app"
	s, o := newSigner(t), newOrigin()
	img, other := o.putImage(t, repo, "1", []byte("one")), o.putImage(t, repo, "2", []byte("two"))
	h := proxy(t, o, enforcing(s))
	wantDenied(t, "before", h.pull(t, hub(repo), "1"), "no signature was found")
	say := func(fn func(tx *catalog.Tx) error) {
		t.Helper()
		if err := h.catalog.Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
		h.Reconsider(hub(repo))
	}
	say(func(tx *catalog.Tx) error {
		return Override(tx, hub(repo), img.manifest.Digest, "ada", "vendor signs from the next release on")
	})
	if err := h.pull(t, hub(repo), "1"); err != nil {
		t.Errorf("let through: %v", err)
	}
	e, err := h.Explain(t.Context(), hub(repo), "1")
	if err != nil || !e.Verified || e.By != "override" || e.Of != img.manifest.Digest || e.Actor != "ada" || !strings.Contains(e.Why, "next release") {
		t.Errorf("it is explained as %+v, %v", e, err)
	}
	wantDenied(t, "another", h.pull(t, hub(repo), "2"), "no signature was found")
	_, err = h.read(t, hub(repo), other.layer)
	wantDenied(t, "a layer of another", err, "belongs to no image")
	say(func(tx *catalog.Tx) error { return Withdraw(tx, hub(repo), img.manifest.Digest) })
	wantDenied(t, "taken back", h.pull(t, hub(repo), "1"), "no signature was found")
	_, err = h.read(t, hub(repo), img.layer)
	wantDenied(t, "a layer, taken back", err, "belongs to no image")
}
