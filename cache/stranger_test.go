package cache

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// Upstream does not have the blob in the repository that asks first. The one that asks next
// has it, by its manifest's word, and does not get the other's answer.
func TestFlightOfAnotherRepositoryFails(t *testing.T) {
	o := newOrigin()
	img := o.putImage(t, "library/a", "1", noise(200<<10, 1))
	h := proxy(t, o)
	if _, err := h.Resolve(t.Context(), hub("library/a"), "1"); err != nil {
		t.Fatal(err)
	}
	asked, answer := make(chan bool, 1), make(chan bool)
	o.set(func() {
		o.fail = func(question, repo, _ string) error {
			if question == "blob" && repo == "evil/b" {
				asked <- true
				<-answer
			}
			return nil
		}
	})
	ended := make(chan error)
	go func() {
		_, err := h.read(t, hub("evil/b"), img.layer)
		ended <- err
	}()
	<-asked
	go func() {
		time.Sleep(20 * time.Millisecond) // by now the other has joined
		close(answer)
	}()
	if got, err := h.read(t, hub("library/a"), img.layer); err != nil || !bytes.Equal(got, img.content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if err := <-ended; !errors.Is(err, registry.BlobUnknown) {
		t.Errorf("the repository without the blob: %v", err)
	}
}

// That the bytes are on their way for another repository proves nothing of one's own.
func TestFlightOfAnotherRepositoryIsNoProof(t *testing.T) {
	o := newOrigin()
	img := o.putImage(t, "team/private", "1", noise(1<<20, 2))
	h := proxy(t, o)
	g := gated(o, img.content, 100<<10)
	defer g.open(1<<20, nil)
	p, err := h.project(hub("team/private"))
	if err != nil {
		t.Fatal(err)
	}
	f, _ := h.flight(t.Context(), p, contentKey{hub("team/private"), img.layer}, nil)
	defer f.leave()
	if _, err := h.Blob(t.Context(), hub("team/other"), img.layer); !errors.Is(err, registry.BlobUnknown) {
		t.Errorf("got %v", err)
	}
}

func TestUnknownAsABlobIsNotUnknownAsAManifest(t *testing.T) {
	o := newOrigin()
	img := o.putImage(t, "library/a", "1", []byte("x"))
	h := proxy(t, o)
	if _, err := h.StatBlob(t.Context(), hub("library/a"), img.manifest.Digest); !errors.Is(err, registry.BlobUnknown) {
		t.Errorf("as a blob: %v", err)
	}
	if _, err := h.Manifest(t.Context(), hub("library/a"), img.manifest.Digest); err != nil {
		t.Errorf("as a manifest: %v", err)
	}
}

// A flipped byte in a blob that is read whole heals with one download.
func TestDamagedSmallBlobHeals(t *testing.T) {
	o := newOrigin()
	img := o.putImage(t, "library/a", "1", []byte("layer"))
	h := proxy(t, o)
	h.fetch(t, "library/a", "1")
	h.stop()
	file := h.file(img.config)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	content[0]++
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	again := newHouse(t, h.dir, Config{Projects: []Project{{Name: "docker.io", Upstream: o}}})
	o.asked()
	for range 3 {
		if err := again.pull(t, hub("library/a"), "1"); err != nil {
			t.Fatal(err)
		}
		again.settle(t)
	}
	wantAsked(t, o, "blob library/a "+short(string(img.config)))
	if healed, err := os.ReadFile(file); err != nil || bytes.Equal(healed, content) {
		t.Errorf("the file is as it was, %v", err)
	}
}

// An upstream that hangs is waited for by one request, and by no other until it answers again.
func TestHungUpstreamIsWaitedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		h := proxy(t, o)
		for _, repo := range []string{"library/a", "library/b"} {
			o.putImage(t, repo, "1", noise(100, 1))
			if err := h.pull(t, hub(repo), "1"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		answer := o.hang("resolve")
		resolve := func(repo string, want time.Duration, outcome registry.Outcome) {
			t.Helper()
			var trace registry.Trace
			start := time.Now()
			_, err := h.Resolve(registry.WithTrace(t.Context(), &trace), hub(repo), "1")
			if took := time.Since(start); err != nil || took != want || trace.Outcome != outcome {
				t.Errorf("%s: %v, %q after %s, want %q after %s", repo, err, trace.Outcome, took, outcome, want)
			}
		}
		resolve("library/a", patience, registry.Stale)
		resolve("library/a", 0, registry.Stale)
		resolve("library/b", 0, registry.Stale)
		close(answer)
		synctest.Wait()
		resolve("library/a", 0, registry.Hit)
		time.Sleep(time.Hour)
		resolve("library/b", 0, registry.Hit)
		h.stop()
	})
}

// A pin holds what upstream has thrown away: that is what it is for.
func TestPinHoldsATagThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		img := o.putImage(t, "library/a", "1", noise(100<<10, 3))
		h := newHouse(t, t.TempDir(), Config{MaxSize: 1 << 30, Projects: []Project{{Name: "docker.io", Upstream: o, Keep: -1, Pin: []string{"library/a:1"}}}})
		h.fetch(t, "library/a", "1")
		time.Sleep(2 * time.Minute)
		o.set(func() { delete(o.tags, "library/a:1") })
		if _, err := h.Resolve(t.Context(), hub("library/a"), "1"); !errors.Is(err, registry.ManifestUnknown) {
			t.Fatal(err)
		}
		h.settle(t)
		time.Sleep(time.Hour)
		if _, err := h.evict(t.Context(), 1<<30); err != nil {
			t.Fatal(err)
		}
		if !h.stored(img.layer) {
			t.Error("the pinned layer went")
		}
		h.stop()
	})
}

// A write that the catalog has not taken is made up for when the content is used again.
func TestDroppedWriteIsMadeUpFor(t *testing.T) {
	o := newOrigin()
	o.putImage(t, "library/a", "1", noise(100<<10, 4))
	h := proxy(t, o)
	broken := errors.New("no")
	for range queued { // the queue is full, and nothing in it can be written
		h.later(func(*catalog.Tx) error { return broken }, func(bool) {})
	}
	full := row{func(*catalog.Tx) error { return broken }, func(bool) {}}
	for h.recorder.take(full) {
	}
	if err := h.pull(t, hub("library/a"), "1"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		h.settle(t)
		h.forgetTries()
		if err := h.pull(t, hub("library/a"), "1"); err != nil {
			t.Fatal(err)
		}
	}
	h.settle(t)
	if usage, err := h.catalog.Usage(t.Context()); err != nil || usage.Count != 3 {
		t.Errorf("the catalog counts %d pieces of content, %v; want 3", usage.Count, err)
	}
}

// forgetTries lets every link be tried again at once.
func (h *house) forgetTries() {
	h.memory.mu.Lock()
	defer h.memory.mu.Unlock()
	for _, k := range h.memory.links.Keys() {
		if l, ok := h.memory.links.Peek(k); ok {
			l.triedAt.Store(0)
		}
	}
}
