package cache

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"roadstead/registry"
)

// asks is what upstream was asked since the last call, in byte order: blobs come side by side.
func (o *origin) asks() []string {
	log := o.asked()
	slices.Sort(log)
	return log
}

func wantAsks(t testing.TB, o *origin, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := o.asks(); !slices.Equal(got, want) {
		t.Errorf("upstream was asked %q, want %q", got, want)
	}
}

func question(kind string, repo registry.Repo, d registry.Digest) string {
	return kind + " " + repo.Name + " " + short(string(d))
}

// An index comes with the images of the platforms, each piece once; again it costs nothing.
func TestWarm(t *testing.T) {
	o := newOrigin()
	repo := hub("library/a")
	shared := noise(300<<10, 1)
	amd := o.putImage(t, repo.Name, "x1", shared)
	arm := o.putImage(t, repo.Name, "x2", shared) // the same layer
	v7 := o.putImage(t, repo.Name, "x3", noise(200<<10, 3))
	index := o.putIndex(t, repo.Name, "1", map[string]registry.Manifest{
		"linux/amd64": amd.manifest, "linux/arm64": arm.manifest, "linux/arm/v7": v7.manifest,
	})
	h := proxy(t, o)
	var done, total int64
	progress := func(d, of int64) {
		if d < done || d > of {
			t.Errorf("%d of %d bytes after %d", d, of, done)
		}
		done, total = d, of
	}
	got, err := h.Warm(t.Context(), repo, "1", []string{"linux/amd64", "linux/arm64/v8"}, progress)
	if err != nil {
		t.Fatal(err)
	}
	configs := int64(len(o.blobs[repo.Name+"@"+string(amd.config)]) + len(o.blobs[repo.Name+"@"+string(arm.config)]))
	blobs := 300<<10 + configs
	want := Warmed{Digest: index.Digest, Images: 2, Blobs: 3, Bytes: blobs + index.Size + amd.manifest.Size + arm.manifest.Size}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if done != blobs || total != blobs {
		t.Errorf("progress ended at %d of %d, want %d", done, total, blobs)
	}
	wantAsks(t, o, "tagged library/a 1", question("manifest", repo, amd.manifest.Digest), question("manifest", repo, arm.manifest.Digest),
		question("blob", repo, amd.config), question("blob", repo, arm.config), question("blob", repo, amd.layer))
	for _, d := range []registry.Digest{index.Digest, amd.manifest.Digest, arm.manifest.Digest, amd.layer, arm.config} {
		if !h.stored(d) {
			t.Errorf("%s is not stored", short(string(d)))
		}
	}

	done = 0
	got, err = h.Warm(t.Context(), repo, string(index.Digest), []string{"linux/amd64"}, progress)
	if want := (Warmed{Digest: index.Digest, Images: 1}); err != nil || got != want {
		t.Errorf("again: %+v, %v", got, err)
	}
	wantAsks(t, o)
	got, err = h.Warm(t.Context(), repo, "1", nil, nil)
	if err != nil || got.Images != 3 || got.Blobs != 2 {
		t.Errorf("all platforms: %+v, %v", got, err)
	}
	wantAsks(t, o, question("manifest", repo, v7.manifest.Digest), question("blob", repo, v7.config), question("blob", repo, v7.layer))
	h.settle(t)
	o.set(func() { o.fail = down })
	if err := h.pull(t, repo, "1"); err != nil {
		t.Error(err)
	}
	agree(t, h)
}

// By the rules of the project, as a pull.
func TestWarmIsAPull(t *testing.T) {
	o := newOrigin()
	img := o.putImage(t, "library/a", "1", noise(1000, 1))
	h := proxy(t, o, func(p *Project) { p.Allow, p.Deny = []string{"library/a:1", "library/b"}, []string{"library/b:2"} })
	for _, row := range []struct {
		repo      registry.Repo
		reference string
		code      registry.Code
	}{
		{hub("library/a"), "2", registry.Denied},
		{hub("library/a"), string(img.manifest.Digest), registry.Denied}, // no allowed tag has led there
		{hub("library/b"), "2", registry.Denied},
		{hub("library/c"), "1", registry.Denied},
		{registry.Repo{Project: "quay.io", Name: "a"}, "1", registry.NameUnknown},
	} {
		_, err := h.Warm(t.Context(), row.repo, row.reference, nil, nil)
		wantCode(t, err, row.code)
	}
	wantAsked(t, o)
	if _, err := h.Warm(t.Context(), hub("library/a"), "1", []string{"linux/amd64"}, nil); err != nil {
		t.Error(err) // no index: there is nothing to choose from
	}
	if _, err := h.Warm(t.Context(), hub("library/a"), string(img.manifest.Digest), nil, nil); err != nil {
		t.Error(err)
	}
	_, err := h.Warm(t.Context(), hub("library/b"), "1", nil, nil)
	wantCode(t, err, registry.ManifestUnknown)
	for _, text := range []string{"", "linux", "linux/", "/amd64", "linux/arm/", "linux/arm/v7/x"} {
		if _, err := h.Warm(t.Context(), hub("library/a"), "1", []string{text}, nil); !errors.Is(err, registry.ManifestInvalid) {
			t.Errorf("platform %q: %v", text, err)
		}
	}
}

// What cannot be had is named, and the rest is here.
func TestWarmInPart(t *testing.T) {
	o := newOrigin()
	repo := hub("library/a")
	whole, broken := o.putImage(t, repo.Name, "x1", noise(1000, 1)), o.putImage(t, repo.Name, "x2", noise(1000, 2))
	o.putIndex(t, repo.Name, "1", map[string]registry.Manifest{"linux/amd64": whole.manifest, "linux/arm64": broken.manifest})
	o.set(func() { delete(o.blobs, repo.Name+"@"+string(broken.layer)) })
	h := proxy(t, o)
	got, err := h.Warm(t.Context(), repo, "1", []string{"linux/amd64", "linux/arm64", "linux/s390x"}, nil)
	if !errors.Is(err, registry.BlobUnknown) || !strings.Contains(err.Error(), string(broken.layer)) || !strings.Contains(err.Error(), "linux/s390x") {
		t.Errorf("%v does not name what is missing", err)
	}
	if got.Images != 1 || got.Blobs != 3 || !h.stored(whole.layer) || !h.stored(broken.config) {
		t.Errorf("%+v", got)
	}

	// An upstream that has had enough is left alone.
	other := hub("library/b")
	img := o.putImage(t, other.Name, "1", noise(1000, 3))
	o.set(func() {
		o.fail = func(q, _, _ string) error {
			if q == "blob" {
				return &registry.Fault{Code: registry.Throttled, Message: "slow down"}
			}
			return nil
		}
	})
	got, err = h.Warm(t.Context(), other, "1", nil, nil)
	if !errors.Is(err, registry.Throttled) || got.Images != 0 || !strings.Contains(err.Error(), "not tried") {
		t.Errorf("%+v, %v", got, err)
	}
	o.set(func() { o.fail = nil })
	if got, err = h.Warm(t.Context(), other, "1", nil, nil); err != nil || got.Images != 1 || !h.stored(img.layer) {
		t.Errorf("%+v, %v", got, err)
	}
}

// Three at a time, nothing of it goes before the end, and what nobody waits for any more ends.
func TestWarmHoldsWhatItBrings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		repo := hub("library/a")
		var layers []any
		var digests []registry.Digest
		for i := range 5 {
			img := o.putImage(t, repo.Name, "x", noise(100<<10, byte(i)))
			layers = append(layers, map[string]any{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": img.layer, "size": 100 << 10})
			digests = append(digests, img.layer)
		}
		first := o.putImage(t, repo.Name, "x", noise(1000, 9))
		m := o.putManifest(t, repo.Name, "1", map[string]any{
			"schemaVersion": 2, "mediaType": registry.MediaTypeOCIManifest, "layers": layers,
			"config": map[string]any{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": first.config, "size": 24},
		})
		h := proxy(t, o, func(p *Project) { p.Keep = -1 })
		if _, err := h.read(t, repo, digests[0]); err != nil { // long ago
			t.Fatal(err)
		}
		h.settle(t)
		time.Sleep(24 * time.Hour)
		o.asked()
		answer := o.hang("blob")
		warmed := make(chan error)
		go func() {
			_, err := h.Warm(t.Context(), repo, "1", nil, nil)
			warmed <- err
		}()
		time.Sleep(time.Hour)
		if n := len(h.Flights()); n != warmers {
			t.Errorf("%d downloads at once", n)
		}
		if _, err := h.evict(t.Context(), 1<<30); err != nil || !h.stored(digests[0]) || !h.stored(m.Digest) {
			t.Errorf("an eviction took what is being warmed, %v", err)
		}
		wantCode(t, h.Forget(t.Context(), repo, digests[0]), registry.Conflict)
		close(answer)
		if err := <-warmed; err != nil {
			t.Error(err)
		}
		h.settle(t)
		time.Sleep(24 * time.Hour)
		if _, err := h.evict(t.Context(), 1<<30); err != nil || h.stored(digests[0]) {
			t.Errorf("what was warmed is held for ever, %v", err)
		}

		answer = o.hang("blob")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := h.Warm(ctx, repo, "1", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want that it was ended", err)
		}
		close(answer)
		h.settle(t)
		h.stop()
	})
}
