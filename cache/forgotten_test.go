package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"roadstead/registry"
)

// unknownHere fails if anything of a repository is in the catalog, the layout or memory.
func (h *house) unknownHere(t testing.TB, repo registry.Repo) {
	t.Helper()
	if has, err := h.catalog.HasRepository(t.Context(), repo); has || err != nil {
		t.Errorf("the catalog has %s: %v, %v", repo, has, err)
	}
	h.wantLayout(t, repo)
	h.memory.mu.Lock()
	defer h.memory.mu.Unlock()
	for _, k := range h.memory.tags.Keys() {
		if k.repo == repo {
			t.Errorf("memory has the tag %s", k.tag)
		}
	}
}

// idle fails if somebody is still taken to be writing.
func (h *house) idle(t testing.TB) {
	t.Helper()
	h.forgotten.mu.Lock()
	defer h.forgotten.mu.Unlock()
	if n := len(h.forgotten.writing); n > 0 {
		t.Errorf("%d pieces of work are being written down", n)
	}
}

// A check of a tag that upstream keeps waiting while the tag, what it leads to or all of its
// repository is forgotten has its answer, and leaves nothing behind.
func TestForgottenWhileTagIsChecked(t *testing.T) {
	for _, by := range []string{"digest", "tag", "repository"} {
		t.Run(by, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin()
				repo, other := hub("library/a"), hub("library/b")
				img := o.putImage(t, repo.Name, "1", noise(100<<10, 1))
				o.set(func() { // another repository keeps the content here
					o.manifests[other.Name+"@"+string(img.manifest.Digest)] = img.manifest
					o.tags[other.Name+":1"] = img.manifest.Digest
					o.blobs[other.Name+"@"+string(img.config)] = o.blobs[repo.Name+"@"+string(img.config)]
				})
				h := proxy(t, o)
				h.fetch(t, repo.Name, "1")
				h.fetch(t, other.Name, "1")
				time.Sleep(time.Hour) // so that the check would be written down
				o.asked()
				answer := o.hang("resolve")
				checked := make(chan error)
				go func() {
					moved, d, err := h.Refresh(t.Context(), repo, "1")
					if moved || d.Digest != img.manifest.Digest {
						err = errors.Join(err, fmt.Errorf("it points to %s", d.Digest))
					}
					checked <- err
				}()
				synctest.Wait()
				var err error
				switch by {
				case "digest":
					err = h.Forget(t.Context(), repo, img.manifest.Digest)
				case "tag":
					err = h.ForgetTag(t.Context(), repo, "1")
				case "repository":
					err = h.ForgetRepository(t.Context(), repo)
				}
				if err != nil {
					t.Fatal(err)
				}
				close(answer)
				if err := <-checked; err != nil {
					t.Error(err)
				}
				h.settle(t)
				wantAsked(t, o, "resolve library/a 1")
				h.unknownHere(t, repo)
				h.idle(t)

				h.fetch(t, repo.Name, "1")
				wantAsked(t, o, "tagged library/a 1") // the rest is lent
				h.wantLayout(t, repo, "1", string(img.manifest.Digest), string(img.config), string(img.layer))
				h.linksAgree(t)
				h.stop()
			})
		})
	}
}

// Who asks after the forgetting does not share the answer of who asked before it: the first leaves
// nothing behind, whatever comes last, and what the second asked for is kept.
func TestForgottenWhileTwoAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		repo := hub("library/a")
		o.putImage(t, repo.Name, "1", noise(100<<10, 1))
		img := o.putImage(t, repo.Name, "2", noise(100<<10, 2))
		h := proxy(t, o)
		h.fetch(t, repo.Name, "1")
		o.asked()
		first := o.hang("tagged")
		asked := make(chan error, 2)
		ask := func() {
			_, err := h.Resolve(t.Context(), repo, "2")
			asked <- err
		}
		go ask()
		synctest.Wait()
		if err := h.ForgetRepository(t.Context(), repo); err != nil {
			t.Fatal(err)
		}
		second := o.hang("tagged")
		go ask()
		synctest.Wait()
		close(first)
		if err := <-asked; err != nil {
			t.Error(err)
		}
		h.quiesce(t)
		h.unknownHere(t, repo)
		close(second)
		if err := <-asked; err != nil {
			t.Error(err)
		}
		h.settle(t)
		wantAsked(t, o, "tagged library/a 2", "tagged library/a 2")
		h.wantLayout(t, repo, "2", string(img.manifest.Digest))
		h.linksAgree(t)
		h.idle(t)
		h.stop()
	})
}

// quiesce waits until nothing moves but what upstream keeps waiting, and until that is written.
func (h *house) quiesce(t testing.TB) {
	t.Helper()
	time.Sleep(time.Second)
	synctest.Wait()
	if err := h.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A download that is under way when its repository, or the manifest that led to it, is forgotten goes
// to its readers whole and is not kept, unless somebody has joined it since.
func TestForgottenWhileBlobComes(t *testing.T) {
	for _, by := range []string{"digest", "tag", "repository"} {
		for _, joined := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, joined since: %v", by, joined), func(t *testing.T) {
				o := newOrigin()
				repo := hub("library/a")
				img := o.putImage(t, repo.Name, "1", noise(1<<20, 1))
				h := proxy(t, o)
				if _, err := h.Resolve(t.Context(), repo, "1"); err != nil {
					t.Fatal(err)
				}
				h.settle(t)
				g := gated(o, img.content, 100<<10)
				readers := make([]registry.Blob, 1, 2)
				var err error
				if readers[0], err = h.Blob(t.Context(), repo, img.layer); err != nil {
					t.Fatal(err)
				}
				switch by {
				case "digest":
					err = h.Forget(t.Context(), repo, img.manifest.Digest)
				case "tag":
					err = h.ForgetTag(t.Context(), repo, "1")
				case "repository":
					err = h.ForgetRepository(t.Context(), repo)
				}
				if err != nil {
					t.Fatal(err)
				}
				if joined {
					b, err := h.Blob(t.Context(), repo, img.layer)
					if err != nil {
						t.Fatal(err)
					}
					readers = append(readers, b)
				}
				g.open(1<<20, nil)
				for _, b := range readers {
					if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, img.content) {
						t.Errorf("a reader got %d bytes, %v", len(got), err)
					}
					b.Close()
				}
				h.settle(t)
				wantAsked(t, o, "tagged library/a 1", "blob library/a "+short(string(img.layer)))
				if got := h.stored(img.layer); got != joined {
					t.Errorf("the layer is stored: %v", got)
				}
				if !joined {
					h.unknownHere(t, repo)
				}
				h.idle(t)

				o.set(func() { o.body = nil })
				h.fetch(t, repo.Name, "1")
				want := []string{"tagged library/a 1", "blob library/a " + short(string(img.config)), "blob library/a " + short(string(img.layer))}
				if joined {
					want = want[:2]
				}
				wantAsked(t, o, want...)
				h.wantLayout(t, repo, "1", string(img.manifest.Digest), string(img.config), string(img.layer))
				agree(t, h)
				h.linksAgree(t)
			})
		}
	}
}

// What an index is made of and is still being asked for does not come after the index is forgotten.
func TestForgottenWhilePartIsFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		repo := hub("library/a")
		amd := o.putImage(t, repo.Name, "amd64", noise(100<<10, 1))
		o.putIndex(t, repo.Name, "1", map[string]registry.Manifest{"linux/amd64": amd.manifest})
		h := proxy(t, o)
		index, err := h.Resolve(t.Context(), repo, "1")
		if err != nil {
			t.Fatal(err)
		}
		h.settle(t)
		answer := o.hang("manifest")
		asked := make(chan error)
		go func() {
			_, err := h.Manifest(t.Context(), repo, amd.manifest.Digest)
			asked <- err
		}()
		synctest.Wait()
		if err := h.Forget(t.Context(), repo, index.Digest); err != nil {
			t.Fatal(err)
		}
		close(answer)
		if err := <-asked; err != nil {
			t.Error(err)
		}
		h.settle(t)
		wantAsked(t, o, "tagged library/a 1", "manifest library/a "+short(string(amd.manifest.Digest)))
		h.unknownHere(t, repo)
		if h.stored(amd.manifest.Digest) {
			t.Error("the manifest is stored, and nothing leads to it")
		}
		// The client goes on with what it has got, and asks for that after the forgetting.
		if _, err := h.Manifest(t.Context(), repo, amd.manifest.Digest); err != nil {
			t.Error(err)
		}
		h.settle(t)
		wantAsked(t, o)
		h.wantLayout(t, repo, string(amd.manifest.Digest))
		h.linksAgree(t)
		h.stop()
	})
}

// The proof that upstream has a blob here as well, which somebody else has brought, comes too late.
func TestForgottenWhileBlobIsProved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		repo, other := hub("library/a"), hub("library/b")
		o.putImage(t, repo.Name, "1", noise(100<<10, 1))
		img := o.putImage(t, other.Name, "2", noise(100<<10, 2))
		o.set(func() { o.blobs[repo.Name+"@"+string(img.layer)] = img.content })
		h := proxy(t, o)
		h.fetch(t, repo.Name, "1")
		h.fetch(t, other.Name, "2")
		o.asked()
		answer := o.hang("stat")
		asked := make(chan error)
		go func() {
			_, err := h.read(t, repo, img.layer)
			asked <- err
		}()
		synctest.Wait()
		if err := h.ForgetRepository(t.Context(), repo); err != nil {
			t.Fatal(err)
		}
		close(answer)
		if err := <-asked; err != nil {
			t.Error(err)
		}
		h.settle(t)
		h.unknownHere(t, repo)
		if _, err := h.read(t, repo, img.layer); err != nil {
			t.Error(err)
		}
		h.settle(t)
		stat := "stat library/a " + short(string(img.layer))
		wantAsked(t, o, stat, stat)
		h.wantLayout(t, repo, string(img.layer))
		h.linksAgree(t)
		h.stop()
	})
}

// A forgetting waits for what is being written down, so that it takes that along, but not for ever.
func TestForgottenWhileWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := proxy(t, newOrigin())
		repo := hub("library/a")
		left, ok := h.forgotten.enter(0, repo, "one")
		if !ok {
			t.Fatal("nothing has been forgotten yet")
		}
		wantCode(t, h.bar(t.Context(), repo, ""), registry.Conflict)
		wantCode(t, h.bar(t.Context(), repo, "one"), registry.Conflict)
		begin := time.Now()
		if err := errors.Join(h.bar(t.Context(), repo, "another"), h.bar(t.Context(), hub("library/b"), "")); err != nil || time.Since(begin) > 0 {
			t.Errorf("it waited for something else: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := h.bar(ctx, repo, ""); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		time.AfterFunc(time.Second, left)
		if err := h.bar(t.Context(), repo, ""); err != nil {
			t.Error(err)
		}
		h.stop()
	})
}

// The notes are bounded. Work that is older than the oldest of them is barred whatever it is about.
func TestForgottenBounds(t *testing.T) {
	var f forgotten
	f.start()
	repo := hub("library/a")
	f.note(repo, []string{"one"})
	young := f.number.Load()
	for born, want := range map[uint64]bool{0: true, young: false} {
		if got := f.since(born, repo, "two", "one"); got != want {
			t.Errorf("work of %d is barred: %v", born, got)
		}
	}
	if f.since(0, repo, "two") || f.since(0, hub("library/b"), "one") {
		t.Error("what was not forgotten is barred")
	}
	for i := range mostForgotten {
		f.note(hub(fmt.Sprint("many/", i)), []string{""})
	}
	if !f.since(0, hub("library/b"), "one") {
		t.Error("work is written down of which nobody knows whether it was forgotten")
	}
	if f.since(young, hub("library/b"), "one") || f.notes.Len() > mostForgotten {
		t.Errorf("%d notes, and work younger than the lost ones is barred", f.notes.Len())
	}
}
