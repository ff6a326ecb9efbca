package cache

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"roadstead/registry"
)

func TestFreshness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		repo := hub("library/a")
		img := o.putImage(t, repo.Name, "1", noise(1000, 1))
		h := proxy(t, o)
		_, err := h.Freshness(t.Context(), repo, "1")
		wantCode(t, err, registry.ManifestUnknown)
		began := time.Now()
		h.fetch(t, repo.Name, "1")
		o.asked()
		want := func(checked, changed time.Duration, stale, gone bool) {
			t.Helper()
			f, err := h.Freshness(t.Context(), repo, "1")
			if err != nil {
				t.Fatal(err)
			}
			near := func(at time.Time, d time.Duration) bool { return at.Sub(began.Add(d)).Abs() < time.Second }
			if f.Digest != img.manifest.Digest || !near(f.CheckedAt, checked) || !near(f.ChangedAt, changed) || f.Stale != stale || f.Gone != gone {
				t.Errorf("%+v", f)
			}
		}
		want(0, 0, false, false)
		time.Sleep(time.Hour)
		want(0, 0, true, false)
		h.memory.untag(tagKey{repo, "1"}, img.manifest.Digest) // what only the catalog knows
		want(0, 0, true, false)
		wantAsked(t, o)
		if _, _, err := h.Refresh(t.Context(), repo, "1"); err != nil {
			t.Fatal(err)
		}
		want(time.Hour, 0, false, false)
		o.set(func() { delete(o.tags, "library/a:1") })
		_, _, err = h.Refresh(t.Context(), repo, "1")
		wantCode(t, err, registry.ManifestUnknown)
		want(time.Hour, time.Hour, false, true)
		h.Resolve(t.Context(), repo, "none")
		_, err = h.Freshness(t.Context(), repo, "none")
		wantCode(t, err, registry.ManifestUnknown)
		_, err = h.Freshness(t.Context(), registry.Repo{Project: "quay.io", Name: "a"}, "1")
		wantCode(t, err, registry.NameUnknown)
		h.stop()
	})
}

func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		repo := hub("library/a")
		o.putImage(t, repo.Name, "1", noise(1000, 1))
		h := proxy(t, o, func(p *Project) { p.Deny = []string{"library/denied"} })
		refresh := func(want bool) registry.Descriptor {
			t.Helper()
			moved, d, err := h.Refresh(t.Context(), repo, "1")
			if err != nil || moved != want {
				t.Errorf("moved: %v, %v", moved, err)
			}
			return d
		}
		refresh(true)
		wantAsked(t, o, "tagged library/a 1")
		refresh(false) // however fresh it is
		wantAsked(t, o, "resolve library/a 1")
		next := o.putImage(t, repo.Name, "1", noise(1000, 2))
		if d := refresh(true); d.Digest != next.manifest.Digest {
			t.Errorf("got %+v", d)
		}
		wantAsked(t, o, "resolve library/a 1", "manifest library/a "+short(string(next.manifest.Digest)))
		if d, err := h.Resolve(t.Context(), repo, "1"); err != nil || d.Digest != next.manifest.Digest {
			t.Errorf("a pull after it gets %+v, %v", d, err)
		}
		wantAsked(t, o)
		_, _, err := h.Refresh(t.Context(), hub("library/denied"), "1")
		wantCode(t, err, registry.Denied)
		wantAsked(t, o)

		answer := o.hang("resolve") // one question however many ask
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() { refresh(false) })
		}
		synctest.Wait()
		close(answer)
		all.Wait()
		wantAsked(t, o, "resolve library/a 1")

		o.set(func() { o.fail = down })
		_, _, err = h.Refresh(t.Context(), repo, "1")
		wantCode(t, err, registry.Unavailable)
		if d, err := h.Resolve(t.Context(), repo, "1"); err != nil || d.Digest != next.manifest.Digest {
			t.Errorf("a pull in the outage gets %+v, %v", d, err)
		}
		h.stop()
	})
}

// Flights are told of while they last: what they bring, how far they are, and for how many.
func TestFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		repo := hub("library/a")
		img := o.putImage(t, repo.Name, "1", noise(1<<20, 1))
		h := proxy(t, o)
		if all := h.Flights(); len(all) != 0 {
			t.Errorf("%+v", all)
		}
		began := time.Now()
		d, err := h.Resolve(t.Context(), repo, "1")
		if err != nil || d.Digest != img.manifest.Digest {
			t.Fatal(err)
		}
		g := gated(o, img.content, 100<<10)
		var readers []registry.Blob
		for range 3 {
			b, err := h.Blob(t.Context(), repo, img.layer)
			if err != nil {
				t.Fatal(err)
			}
			readers = append(readers, b)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		all := h.Flights()
		if len(all) != 1 {
			t.Fatalf("%+v", all)
		}
		want := Flight{
			Repo: repo, Digest: img.layer, MediaType: "application/vnd.oci.image.layer.v1.tar",
			Size: 1 << 20, Written: 100 << 10, Readers: 3, Since: all[0].Since,
		}
		if all[0] != want || all[0].Since.Before(began) || time.Since(all[0].Since) < time.Second {
			t.Errorf("got  %+v\nwant %+v", all[0], want)
		}
		for _, b := range readers[1:] {
			b.Close()
		}
		if all := h.Flights(); len(all) != 1 || all[0].Readers != 1 {
			t.Errorf("%+v", all)
		}
		h.calm.quiet = 2 * time.Second
		g.open(1<<20, nil)
		time.Sleep(time.Second)
		if all := h.Flights(); len(all) != 1 || !all[0].Whole || all[0].Written != 1<<20 {
			t.Errorf("while it is being stored: %+v", all)
		}
		readers[0].Close()
		h.settle(t)
		if all := h.Flights(); len(all) != 0 {
			t.Errorf("%+v", all)
		}
		h.stop()
	})
}

// Those without a size, and several, oldest first.
func TestFlightsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		o.sizeless = true
		h := proxy(t, o)
		answer := o.hang("blob")
		var want []registry.Digest
		for i := range 5 {
			img := o.putImage(t, "library/a", "1", noise(1000, byte(i)))
			want = append(want, img.layer)
			go h.read(t, hub("library/a"), img.layer)
			time.Sleep(time.Second)
		}
		all := h.Flights()
		for i, f := range all {
			if f.Digest != want[i] || f.Size != -1 || f.MediaType != "" || f.Readers != 1 {
				t.Errorf("%d: %+v", i, f)
			}
		}
		if len(all) != len(want) {
			t.Errorf("%d flights", len(all))
		}
		close(answer)
		h.settle(t)
		h.stop()
	})
}
