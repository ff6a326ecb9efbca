package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

func TestManyReadBehindTheWriter(t *testing.T) {
	s := openStore(t, fastDir(t))
	b := some(1, 4<<20)
	d, err := s.Draft(digest.SHA256, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	for r := range 4 {
		readers.Go(func() {
			buf := make([]byte, 10_000+r)
			for at := int64(0); at < int64(len(b)); {
				n, err := d.ReadAt(buf, at)
				if err != nil && err != io.EOF || !bytes.Equal(buf[:n], b[at:at+int64(n)]) {
					t.Errorf("read %d bytes at %d: %v", n, at, err)
					return
				}
				if at+int64(n) > d.Len() {
					t.Errorf("read to %d of %d", at+int64(n), d.Len())
				}
				at += int64(n)
			}
		})
	}
	for p := b; len(p) > 0; p = p[min(len(p), 7000):] {
		if _, err := d.Write(p[:min(len(p), 7000)]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(d.Verify(sum(digest.SHA256, b), -1), d.Commit(t.Context())); err != nil {
		t.Error(err)
	}
	readers.Wait()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := d.ReadAt(make([]byte, 1), 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
}

func TestManyCommitTheSame(t *testing.T) {
	root := fastDir(t)
	s := openStore(t, root)
	b := some(1, 10_000)
	want := sum(digest.SHA256, b)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				if err := commit(s, b); err != nil {
					t.Error(err)
				}
				if err := s.LinkBlob(t.Context(), "docker.io/library/busybox", want); err != nil {
					t.Error(err)
				}
				if err := s.Tag(t.Context(), "docker.io/library/busybox", "latest", want); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() { // and somebody removes it all the time
		for range 100 {
			if err := errors.Join(s.Remove(t.Context(), want), s.Unlink(t.Context(), "docker.io/library/busybox", want), s.Untag(t.Context(), "docker.io/library/busybox", "latest")); err != nil {
				t.Error(err)
			}
		}
	})
	all.Go(func() {
		for range 200 {
			got, err := s.Read(t.Context(), want, 10_000)
			if err == nil && !bytes.Equal(got, b) || err != nil && !errors.Is(err, ErrNotFound) {
				t.Errorf("read %d bytes: %v", len(got), err)
			}
		}
	})
	all.Wait()
	if have := mustLook(t, root); len(have.wrong)+len(have.drafts) > 0 {
		t.Errorf("left: %v %v", have.wrong, have.drafts)
	}
}

func TestOpenContentOutlivesItsName(t *testing.T) {
	s := openStore(t, t.TempDir())
	b := some(1, 100_000)
	d := mustCommit(t, s, b)
	for what, away := range map[string]func() error{
		"replaced":    func() error { return commit(s, b) },
		"removed":     func() error { return s.Remove(t.Context(), d) },
		"quarantined": func() error { return s.Quarantine(t.Context(), d) },
	} {
		mustCommit(t, s, b)
		c, err := s.Open(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := c.ReadSeekCloser.(*os.File); !ok {
			t.Errorf("content is a %T, which the kernel cannot send", c.ReadSeekCloser)
		}
		if err := away(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
		c.Close()
	}
}

func TestDraftsSharePromises(t *testing.T) {
	s := openStore(t, t.TempDir())
	free, total := int64(200<<20), int64(1000<<20)
	s.space.floor = 100 << 20
	written := map[string]int64{}
	s.disk.seam = func(op, name string, do func() error) error {
		err := do()
		if info, e := os.Stat(name); op == "write" && e == nil {
			free -= info.Size() - written[name] // as on a disk
			written[name] = info.Size()
		}
		return err
	}
	s.space.statfs = func(string) (int64, int64, error) { return free, total, nil }
	draft := func(size int64) *Draft {
		t.Helper()
		d, err := s.Draft(digest.SHA256, size)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	lacks := func(n, want int64) {
		t.Helper()
		if got, err := s.Lack(n); err != nil || got != want {
			t.Errorf("for %d bytes %d are lacking, %v; want %d", n, got, err, want)
		}
	}
	full := func(size int64) {
		t.Helper()
		if lack, err := s.Lack(size); err != nil || lack <= 0 {
			t.Errorf("for %d bytes %d are lacking, %v", size, lack, err)
		}
		if d, err := s.Draft(digest.SHA256, size); !errors.Is(err, ErrFull) {
			t.Errorf("draft of %d bytes: %v", size, err)
			d.Close()
		}
	}
	// 100 MiB are above the floor.
	a, b := draft(60<<20), draft(30<<20)
	full(11 << 20)
	lacks(11<<20, 1<<20)
	lacks(10<<20, 0)
	full(math.MaxInt64)
	c := draft(10 << 20)
	full(1)
	c.Close()
	c.Close()
	draft(10 << 20).Close()

	// What is written is not promised any more, and not free either.
	if _, err := a.Write(make([]byte, 50<<20)); err != nil {
		t.Fatal(err)
	}
	full(11 << 20)
	draft(10 << 20).Close()
	b.Close()
	draft(40 << 20).Close()

	// More than was announced is reserved when it comes, in small pieces near the floor.
	if _, err := a.Write(make([]byte, 10<<20)); err != nil {
		t.Fatal(err)
	}
	near := draft(39 << 20)
	if _, err := a.Write(make([]byte, 1<<20)); err != nil {
		t.Errorf("the last megabyte: %v", err)
	}
	if n, err := a.Write(make([]byte, 1)); !errors.Is(err, ErrFull) || n != 0 {
		t.Errorf("beyond the floor: %d, %v", n, err)
	}
	near.Close()
	if _, err := a.Write(make([]byte, 1)); !errors.Is(err, ErrFull) {
		t.Errorf("a draft that was refused goes on: %v", err)
	}
	a.Close()

	if err := s.Put(t.Context(), sum(digest.SHA256, nil), nil); err != nil {
		t.Errorf("put: %v", err)
	}
	free = 100<<20 - 1
	full(0)
	lacks(0, 1)
	full(math.MaxInt64)
	if err := s.Put(t.Context(), sum(digest.SHA256, nil), nil); !errors.Is(err, ErrFull) {
		t.Errorf("put below the floor: %v", err)
	}
	if err := s.LinkBlob(t.Context(), "a/b", sum(digest.SHA256, nil)); err != nil {
		t.Errorf("a link below the floor: %v", err)
	}
	if p := s.space.promised.Load(); p != 0 {
		t.Errorf("%d bytes are promised to nobody", p)
	}
}

func TestFloor(t *testing.T) {
	for _, c := range []struct {
		name         string
		floor, total int64
		want         int64
	}{
		{"large disk", 0, 1 << 40, 1 << 30},
		{"small disk", 0, 1000 << 20, 50 << 20},
		{"as told", 123, 1 << 40, 123},
		{"none", -1, 1 << 40, 0},
	} {
		s := space{floor: c.floor}
		if got := s.keep(c.total); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestFailedSyncIsNeverRepeated(t *testing.T) {
	// The kernel tells of lost pages once; a second sync of the same file would go well.
	for _, op := range []string{"sync", "sync directory"} {
		t.Run(op, func(t *testing.T) {
			root := fastDir(t)
			s := openStore(t, root)
			b := some(1, 1000)
			syncs := map[string]int{}
			s.disk.seam = func(o, name string, do func() error) error {
				if o == op {
					if syncs[name]++; syncs[name] == 1 {
						return &os.PathError{Op: o, Path: name, Err: unix.EIO}
					}
				}
				return do()
			}
			d, err := write(s, b, -1)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Verify(sum(digest.SHA256, b), -1); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if err := d.Commit(t.Context()); !errors.Is(err, unix.EIO) {
					t.Errorf("commit: %v", err)
				}
			}
			if _, err := d.Write(b); !errors.Is(err, unix.EIO) {
				t.Errorf("write: %v", err)
			}
			if err := d.Verify(sum(digest.SHA256, b), -1); !errors.Is(err, unix.EIO) {
				t.Errorf("verify: %v", err)
			}
			for name, n := range syncs {
				if n > 1 {
					t.Errorf("%s was synced %d times", name, n)
				}
			}
			d.Close()
			emptyDrafts(t, s)
			s.disk.seam = nil
			stillWorks(t, s, 1)
		})
	}
}

func TestCommitSyncsEveryNewParent(t *testing.T) {
	root := fastDir(t)
	s := openStore(t, root)
	s.tree.(*local).ordered = false // as on most file systems
	var syncs []string
	s.disk.seam = func(op, name string, do func() error) error {
		if op == "rename" || op == "sync" {
			syncs = append(syncs, op)
		}
		if op == "sync directory" {
			rel, err := filepath.Rel(root, name)
			if err != nil {
				t.Error(err)
			}
			syncs = append(syncs, rel)
		}
		return do()
	}
	b := some(1, 10)
	hex := sum(digest.SHA256, b).Encoded()
	shard := "docker/registry/v2/blobs/sha256/" + hex[:2]
	mustCommit(t, s, b)
	want := []string{"sync", "rename", shard + "/" + hex, ".", "docker", "docker/registry", "docker/registry/v2", "docker/registry/v2/blobs", "docker/registry/v2/blobs/sha256", shard}
	if got := fmt.Sprint(syncs); got != fmt.Sprint(want) {
		t.Errorf("first commit\n got %v\nwant %v", syncs, want)
	}
	// From then on only what may be new.
	syncs = nil
	mustCommit(t, s, b)
	if got := fmt.Sprint(syncs); got != fmt.Sprint([]string{"sync", "rename", shard + "/" + hex, shard}) {
		t.Errorf("second commit: %v", syncs)
	}
	// Somebody else's directory is not known to be on disk, though it exists.
	other := openStore(t, root)
	other.disk.seam, s.disk.seam = s.disk.seam, nil
	other.tree.(*local).ordered = false
	syncs = nil
	mustCommit(t, other, b)
	if fmt.Sprint(syncs) != fmt.Sprint(want) {
		t.Errorf("another process: %v", syncs)
	}
}

func TestCommitIntoADirectoryThatGoesAway(t *testing.T) {
	root := fastDir(t)
	s := openStore(t, root)
	b := some(1, 10)
	d := mustCommit(t, s, b)
	times := 0
	s.disk.seam = func(op, name string, do func() error) error {
		if op == "rename" {
			if times++; times < 3 { // an eviction, and an operator
				os.RemoveAll(filepath.Join(root, []string{"", "docker/registry/v2/blobs/sha256/" + d.Encoded()[:2] + "/" + d.Encoded(), "docker"}[times]))
			}
		}
		return do()
	}
	mustCommit(t, s, b)
	if times != 3 {
		t.Errorf("%d renames", times)
	}
	onlyContent(t, root, d)
}

func TestCommitOfNothingVerified(t *testing.T) {
	s := openStore(t, t.TempDir())
	d, err := write(s, []byte("unverified"), -1)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Commit(t.Context()); err == nil {
		t.Error("committed")
	}
	if err := d.Verify(sum(digest.SHA256, []byte("unverified")), -1); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Commit(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("commit for somebody who left: %v", err)
	}
	if err := d.Commit(t.Context()); err != nil {
		t.Errorf("and for somebody else: %v", err)
	}
}

func TestSweepSparesTheLiving(t *testing.T) {
	root := t.TempDir()
	crashed := openStore(t, root)
	if _, err := write(crashed, some(1, 1000), -1); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, root)
	b := some(2, 1000)
	d, err := write(s, b, -1)
	if err != nil {
		t.Fatal(err)
	}
	stranger := filepath.Join(root, "drafts", "README")
	if err := os.WriteFile(stranger, []byte("not ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Verify(sum(digest.SHA256, b), -1), d.Commit(t.Context()), d.Close()); err != nil {
		t.Errorf("commit after a sweep: %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(root, "drafts", "*"))
	if len(left) != 1 || left[0] != stranger {
		t.Errorf("left: %v", left)
	}
}
