package cache

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"roadstead/registry"
)

// Offline, what is here is served however old it is, and nobody is asked for it.
func TestOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		repo := hub("library/busybox")
		img := o.putImage(t, repo.Name, "1.35", []byte("a layer"))
		online := proxy(t, o)
		if err := online.pull(t, repo, "1.35"); err != nil {
			t.Fatal(err)
		}
		online.stop()
		o.asked()
		o.set(func() { o.fail = down })

		h := newHouse(t, online.dir, Config{Projects: []Project{{Name: "docker.io", Upstream: o, Offline: true, TTL: -1, StaleFor: time.Minute}}})
		for _, age := range []time.Duration{0, time.Hour, 10 * time.Hour} {
			time.Sleep(age)
			if err := h.pull(t, repo, "1.35"); err != nil {
				t.Errorf("after %s more: %v", age, err)
			}
			if tags, err := h.Tags(t.Context(), repo, "", -1); err != nil || len(tags) != 1 {
				t.Errorf("tags: %q, %v", tags, err)
			}
			if all, err := h.Referrers(t.Context(), repo, img.manifest.Digest, ""); err != nil || len(all) != 0 {
				t.Errorf("referrers: %v, %v", all, err)
			}
		}
		if _, err := h.Tags(t.Context(), hub("library/other"), "", -1); !errors.Is(err, registry.Unavailable) {
			t.Errorf("tags of what is not here: %v", err)
		}
		if _, err := h.Warm(t.Context(), repo, "1.35", nil, nil); !errors.Is(err, registry.Unavailable) {
			t.Errorf("warm: %v", err)
		}
		wantAsked(t, o)
		h.stop()
	})
}
