package storage

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// TestLinkThatIsHere: a link that is here is synced and not written again, unless the disk has
// failed before: then what can be read may not be what is on it.
func TestLinkThatIsHere(t *testing.T) {
	s := openStore(t, fastDir(t))
	d := sum(digest.SHA256, []byte("x"))
	link := func() error { return s.LinkBlob(t.Context(), "a/b", d) }
	if err := link(); err != nil {
		t.Fatal(err)
	}
	var creates, syncs int
	fail := false
	s.disk.seam = func(op, name string, do func() error) error {
		if op == "create" {
			creates++
		}
		if strings.HasPrefix(op, "sync") {
			if syncs++; fail {
				return &os.PathError{Op: op, Path: name, Err: unix.EIO}
			}
		}
		return do()
	}
	if err := link(); err != nil || creates != 0 || syncs < 2 {
		t.Errorf("again: %v, with %d files and %d syncs", err, creates, syncs)
	}
	fail = true
	if err := link(); !errors.Is(err, unix.EIO) {
		t.Errorf("when the disk fails: %v", err)
	}
	fail = false
	if err := link(); err != nil || creates != 1 {
		t.Errorf("afterwards: %v, with %d files", err, creates)
	}
}

// TestUntagFromIsOneStep: a tag that is moved while somebody untags it from where it was is
// still there, with its history.
func TestUntagFromIsOneStep(t *testing.T) {
	root := fastDir(t)
	s := openStore(t, root)
	from, to := sum(digest.SHA256, []byte("from")), sum(digest.SHA256, []byte("to"))
	for n := range 200 {
		tag := fmt.Sprintf("t%d", n)
		if err := s.Tag(t.Context(), "a/b", tag, from); err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		both.Go(func() {
			if err := s.UntagFrom(t.Context(), "a/b", tag, from); err != nil {
				t.Error(err)
			}
		})
		both.Go(func() {
			if err := s.Tag(t.Context(), "a/b", tag, to); err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		have := mustLook(t, root)
		history := "a/b/_manifests/tags/" + tag + "/index/sha256/" + to.Encoded() + "/link"
		if got := have.value("tag a/b " + tag); got != to.String() || have.links[history] != to.String() {
			t.Fatalf("tag %d points to %q, its history to %q", n, got, have.links[history])
		}
		if err := s.Untag(t.Context(), "a/b", tag); err != nil {
			t.Fatal(err)
		}
	}
}
