package cache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"roadstead/registry"
)

// states are the images of a batch and how they stand, in the order of the list.
func states(b *Batch) []string {
	var all []string
	for _, i := range b.Look(-1).Images {
		all = append(all, i.Repo.Name+":"+i.Reference+" "+string(i.State))
	}
	return all
}

// Images of three repositories share a layer and one a configuration; each comes once, and the same
// list again costs nothing.
func TestBatch(t *testing.T) {
	o := newOrigin()
	shared := noise(300<<10, 1)
	var targets []Target
	var total int64
	digests := map[registry.Digest]int64{}
	for i := range 6 {
		name, tag := fmt.Sprintf("library/i%d", i%3), fmt.Sprintf("v%d", i)
		img := o.putImage(t, name, tag, shared)
		digests[img.config] = int64(len(o.blobs[name+"@"+string(img.config)]))
		digests[img.layer] = int64(len(shared))
		targets = append(targets, Target{hub(name), tag})
	}
	for _, size := range digests {
		total += size
	}
	h := proxy(t, o)
	dry := listed(t, h, targets, true)
	if err := dry.Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if p := dry.Look(0); p.Done != 0 || p.Total != total || p.Ended != 6 || p.Images[5].State != ImageMissing {
		t.Errorf("dry: %+v", p)
	}
	if asks := o.asks(); slices.ContainsFunc(asks, func(s string) bool { return strings.HasPrefix(s, "blob") }) {
		t.Errorf("a dry run brings blobs: %q", asks)
	}

	b := listed(t, h, targets, false)
	var told sync.Mutex // blobs come beside each other
	var last int64
	step := func(done, total int64) {
		told.Lock()
		defer told.Unlock()
		last = max(last, done)
	}
	if err := b.Run(t.Context(), step); err != nil {
		t.Fatal(err)
	}
	p := b.Look(0)
	if p.Done != total || p.Total != total || p.Fetched != total || p.Blobs != len(digests) || p.Ended != 6 || p.Open != 0 || len(p.Layers) != 0 || last != total {
		t.Errorf("got %+v, told of %d, want %d bytes", p, last, total)
	}
	for n, i := range p.Images {
		if i.State != ImageHere || i.Err != nil || i.Ordinal != n+1 || i.Done != i.Total || i.Digest == "" {
			t.Errorf("%+v", i)
		}
	}
	came := map[string]int{}
	for _, ask := range o.asks() {
		kind, rest, _ := strings.Cut(ask, " ")
		_, what, _ := strings.Cut(rest, " ")
		if kind == "blob" {
			came[what]++
		}
	}
	for what, times := range came {
		if times != 1 {
			t.Errorf("blob %s was asked for %d times", what, times)
		}
	}
	if len(came) != len(digests) {
		t.Errorf("%d blobs were asked for, want %d", len(came), len(digests))
	}
	h.settle(t)
	again := listed(t, h, targets, false)
	if err := again.Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if p := again.Look(2); p.Done != total || p.Fetched != 0 || p.Blobs != 0 || len(p.Images) != 4 {
		t.Errorf("again: %+v", p)
	}
	wantAsks(t, o)
	agree(t, h)
}

// A dry run counts as missing what a warm-up would download: not what another repository has brought, be
// it that nobody may read it there, when upstream says that this one has it too.
func TestDryRunOfWhatOthersHave(t *testing.T) {
	o := newOrigin()
	shared := noise(300<<10, 1)
	quay := registry.Repo{Project: "quay.io", Name: "library/c"}
	for _, name := range []string{"library/a", "library/b", "library/c", "library/none"} {
		o.putImage(t, name, "1", shared)
	}
	o.set(func() {
		maps.DeleteFunc(o.blobs, func(at string, _ []byte) bool { return strings.HasPrefix(at, "library/none@") })
	})
	for _, private := range []bool{false, true} {
		h := newHouse(t, t.TempDir(), Config{Projects: []Project{
			{Name: "docker.io", Upstream: o, Private: private, TTL: time.Hour}, {Name: "quay.io", Upstream: o, Private: private, TTL: time.Hour},
		}})
		if err := listed(t, h, []Target{{hub("library/a"), "1"}}, false).Run(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if private {
			h.settle(t) // else the catalog may not know yet who could lend it
		}
		targets := []Target{{hub("library/a"), "1"}, {hub("library/b"), "1"}, {quay, "1"}}
		for _, dry := range []bool{true, false} {
			b := listed(t, h, targets, dry)
			if err := b.Run(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			p := b.Look(-1)
			for _, i := range p.Images {
				if i.State != ImageHere || i.Done != i.Total {
					t.Errorf("private %v, dry %v: %+v", private, dry, i)
				}
			}
			if p.Done != p.Total || p.Blobs != 0 {
				t.Errorf("private %v, dry %v: %+v", private, dry, p)
			}
		}
		if asks := o.asks(); slices.ContainsFunc(asks, func(s string) bool {
			return strings.HasPrefix(s, "blob library/b") || strings.HasPrefix(s, "blob library/c")
		}) {
			t.Errorf("private %v: blobs that are here came: %q", private, asks)
		}
	}

	// Of these the last repository has nothing by its upstream's word, and then nobody can be asked.
	h := newHouse(t, t.TempDir(), Config{Projects: []Project{{Name: "docker.io", Upstream: o, Private: true, TTL: time.Hour}, {Name: "quay.io", Upstream: o, Private: true, TTL: time.Hour}}})
	if err := listed(t, h, []Target{{hub("library/a"), "1"}}, false).Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	h.settle(t)
	none := registry.Repo{Project: "quay.io", Name: "library/none"}
	for _, row := range []struct {
		fail error
		want ImageState
	}{{nil, ImageMissing}, {&registry.Fault{Code: registry.Unavailable, Message: "away"}, ImageFailed}} {
		o.set(func() {
			o.fail = func(question, _, _ string) error {
				if question == "stat" {
					return row.fail
				}
				return nil
			}
		})
		target := Target{none, "1"}
		if row.fail != nil {
			target.Repo = quay
		}
		b := listed(t, h, []Target{target}, true)
		if err := b.Run(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if i := b.Look(-1).Images[0]; i.State != row.want || i.Done != 0 {
			t.Errorf("upstream fails with %v: %+v", row.fail, i)
		}
	}
}

func listed(t *testing.T, h *house, targets []Target, dry bool) *Batch {
	t.Helper()
	b, err := h.NewBatch(BatchOrder{Targets: targets, Dry: dry})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is wrong with one keeps no other from coming, and an upstream in trouble is left alone.
func TestBatchOfWhichSomeFail(t *testing.T) {
	o := newOrigin()
	targets := []Target{{hub("library/none"), "1"}}
	for i := range 8 {
		name := fmt.Sprintf("library/i%d", i)
		o.putImage(t, name, "1", noise(70<<10, byte(i)))
		targets = append(targets, Target{hub(name), "1"})
	}
	h := proxy(t, o)
	targets = append(targets, Target{registry.Repo{Project: "nowhere", Name: "a"}, "1"})
	b := listed(t, h, targets[:4], false)
	if err := b.Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got, want := states(b), []string{"library/none:1 failed", "library/i0:1 here", "library/i1:1 here", "library/i2:1 here"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	o.set(func() {
		o.fail = func(_, repo, _ string) error {
			return &registry.Fault{Code: registry.Throttled, Message: "slowly"}
		}
	})
	o.asked()
	b = listed(t, h, targets, false)
	if err := b.Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if asked := len(o.asked()); asked > 2*batchManifests {
		t.Errorf("an upstream that turns us away was asked %d times", asked)
	}
	p := b.Look(-1)
	if i := p.Images[8]; i.State != ImageFailed || !strings.HasPrefix(i.Err.Error(), "not tried, because ") {
		t.Errorf("%+v", i)
	}
	if i := p.Images[9]; i.State != ImageFailed || !errors.Is(i.Err, registry.NameUnknown) {
		t.Errorf("%+v", i)
	}
}

// putImages puts images of a layer of so many bytes, and returns what brings them all.
func putImages(t *testing.T, o *origin, images, bytes int) (targets []Target) {
	t.Helper()
	for i := range images {
		name := fmt.Sprintf("library/i%d", i)
		o.putImage(t, name, "1", noise(bytes, byte(i)))
		targets = append(targets, Target{hub(name), "1"})
	}
	return targets
}

func TestBatchThatIsStopped(t *testing.T) {
	o := newOrigin()
	targets := putImages(t, o, 20, 70<<10)
	answer := o.hang("blob")
	h := proxy(t, o)
	b := listed(t, h, targets, false)
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error)
	go func() { ended <- b.Run(ctx, nil) }()
	for len(b.Look(0).Layers) < batchBlobs {
		select {
		case err := <-ended:
			t.Fatal(err)
		default:
		}
	}
	why := errors.New("enough")
	cancel(why)
	if err := <-ended; !errors.Is(err, why) {
		t.Errorf("it ended with %v", err)
	}
	close(answer)
	p := b.Look(0)
	if p.Ended != len(targets) || len(p.Layers) != 0 || !errors.Is(p.Images[19].Err, why) {
		t.Errorf("%+v", p)
	}
}

// However long a list is, what is in mind of its images is bounded: some wait until others are here.
func TestBatchOfManyKeepsFewInMind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		targets := putImages(t, o, 12, 1<<10)
		answer := o.hang("blob")
		h := proxy(t, o)
		b := listed(t, h, targets, false)
		b.most = 6 // blobs, of three images
		ended := make(chan error)
		go func() { ended <- b.Run(t.Context(), nil) }()
		synctest.Wait()
		b.mu.Lock()
		if b.noted != b.most || b.open != len(targets)-3 {
			t.Errorf("%d blobs are in mind and %d images wait, want %d and %d", b.noted, b.open, b.most, len(targets)-3)
		}
		b.mu.Unlock()
		close(answer)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if p := b.Look(-1); p.Ended != len(targets) || p.Failed != 0 || b.noted != 0 || p.Blobs != len(targets)+1 {
			t.Errorf("%+v, and %d in mind", p, b.noted)
		}
		h.stop()
	})
}
