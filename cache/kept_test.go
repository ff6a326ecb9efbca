package cache

import (
	"bytes"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"roadstead/registry"
)

// owner is another node that a cache asks in place of upstream, which keeps what it sends or does
// not.
type owner struct {
	*origin
	keeps  atomic.Bool
	shares atomic.Bool
}

func (o *owner) Kept(registry.Digest) bool { return o.keeps.Load() }

// shared is a body of which another node says where it comes from.
type shared struct {
	io.ReadSeekCloser
	owner *owner
}

func (s shared) Shared() bool { return s.owner.shares.Load() }

func newOwner() *owner {
	o := &owner{origin: newOrigin()}
	o.body = func(_ registry.Digest, content []byte) io.ReadSeekCloser {
		return shared{closer{bytes.NewReader(content)}, o}
	}
	return o
}

// What another node was to keep for all and has not, because it has ended, is stored by who has got it,
// be there a copy of it or not.
func TestWhatAnotherNodeHasNotKept(t *testing.T) {
	for name, copies := range map[string]bool{"with copies": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			o := newOwner()
			o.shares.Store(true)
			img := o.putImage(t, "app", "1", noise(1<<20, 1))
			h := withCopies(t, o.origin)
			if !copies {
				h = newHouse(t, t.TempDir(), Config{})
			}
			if err := h.SetProjects([]Project{{Name: "docker.io", Upstream: o}}); err != nil {
				t.Fatal(err)
			}
			h.assures = []time.Duration{time.Millisecond, 200 * time.Millisecond}
			if _, err := h.Manifest(t.Context(), hub("app"), img.manifest.Digest); err != nil {
				t.Fatal(err)
			}
			o.keeps.Store(true)
			for _, d := range []registry.Digest{img.config, img.layer} {
				if _, err := h.read(t, hub("app"), d); err != nil {
					t.Fatal(err)
				}
			}
			for _, d := range []registry.Digest{img.config, img.layer} {
				for late := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
					found, err := h.catalog.Find(t.Context(), hub("app"), d)
					if err == nil && found.Stored && found.Direct {
						break
					}
					if time.Now().After(late) {
						t.Fatalf("%s is never known: %+v, %v", short(string(d)), found, err)
					}
				}
				linked, err := h.store.Linked(t.Context(), hub("app").String(), d)
				if err != nil || !linked || !h.stored(d) {
					t.Errorf("%s is linked: %v, %v, and stored: %v", short(string(d)), linked, err, h.stored(d))
				}
			}
		})
	}
}

// What another node keeps for all is not stored a second time, and is served all the same; what it
// could not keep is.
func TestWhatAnotherNodeKeeps(t *testing.T) {
	for _, row := range []struct {
		name          string
		keeps, shares bool
	}{
		{"it keeps all", true, true},
		{"it broke off, and upstream gave the rest", false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := newOwner()
			o.keeps.Store(row.keeps)
			o.shares.Store(row.shares)
			img := o.putImage(t, "app", "1", noise(1<<20, 1))
			h := newHouse(t, t.TempDir(), Config{Projects: []Project{{Name: "docker.io", Upstream: o}}})
			h.storing = time.Millisecond
			if err := h.pull(t, hub("app"), "1"); err != nil {
				t.Fatal(err)
			}
			(&node{house: h}).settle(t) // and not until it is looked whether that other node has kept it
			if err := h.flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if tag, err := h.catalog.Tag(t.Context(), hub("app"), "1"); err != nil || tag.Digest != img.manifest.Digest {
				t.Errorf("the catalog has the tag as %s, %v", tag.Digest, err)
			}
			for _, d := range []registry.Digest{img.manifest.Digest, img.config, img.layer} {
				_, err := h.store.Stat(t.Context(), d)
				found, err2 := h.catalog.Find(t.Context(), hub("app"), d)
				if err2 != nil {
					t.Fatal(err2)
				}
				// Nobody stores the manifest in the other node's place here, so that this one does
				// in the end: without it the tag could not be written down.
				want := !row.keeps || d == img.manifest.Digest
				if here := err == nil; here != want || found.Stored != want {
					t.Errorf("%s is stored: %v, and in the catalog: %v", short(string(d)), here, found.Stored)
				}
			}
			s := h.Stats()
			if got := s.Projects["docker.io"].BytesUpstream; (got == 0) != row.shares {
				t.Errorf("%d bytes are counted as upstream's", got)
			}
			if s.Faults != 0 {
				t.Errorf("%d faults: this is none", s.Faults)
			}
			if err := h.pull(t, hub("app"), "1"); err != nil {
				t.Error(err)
			}
		})
	}
}
