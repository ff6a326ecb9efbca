package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// appendTo is one piece of an upload, after which it is suspended.
func appendTo(s *Store, id string, b []byte) error {
	d, _, err := s.OpenUpload(context.Background(), id, digest.SHA256)
	if err != nil {
		return err
	}
	if _, err := d.Write(b); err != nil {
		return errors.Join(err, d.Suspend())
	}
	return d.Suspend()
}

// begin begins an upload and suspends it.
func begin(s *Store, id string, note, b []byte) error {
	d, err := s.NewUpload(id, note, digest.SHA256)
	if err != nil {
		return err
	}
	if _, err := d.Write(b); err != nil {
		return errors.Join(err, d.Suspend())
	}
	return d.Suspend()
}

// finish commits what an upload has.
func finish(s *Store, id string, want digest.Digest) error {
	d, _, err := s.OpenUpload(context.Background(), id, digest.SHA256)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Verify(want, -1); err != nil {
		return err
	}
	return d.Commit(context.Background())
}

// uploads is what Uploads tells, by id.
func uploads(t testing.TB, s *Store) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	err := s.Uploads(t.Context(), func(id string, size int64, touched time.Time) error {
		if since := time.Since(touched); since < -time.Minute || since > time.Hour {
			t.Errorf("upload %s was touched %s ago", id, since)
		}
		if _, twice := all[id]; twice {
			t.Errorf("upload %s is told twice", id)
		}
		all[id] = size
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return all
}

// expire removes all uploads, whatever is left of them.
func expire(t testing.TB, s *Store) {
	t.Helper()
	for id := range uploads(t, s) {
		if err := s.RemoveUpload(id); err != nil {
			t.Error(err)
		}
	}
	noUploads(t, s)
}

// noUploads fails when one has left something.
func noUploads(t testing.TB, s *Store) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(s.drafts.uploads(), "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left of uploads: %v, %v", left, err)
	}
}

// uploadStores are the two trees that there are, each opened again by its func.
func uploadStores(t *testing.T) map[string]func() *Store {
	root := fastDir(t)
	drafts, memory := fastDir(t), inmemory.New()
	return map[string]func() *Store{
		"directory": func() *Store { return openStore(t, root) },
		"driver": func() *Store {
			s, err := New(Config{Driver: memory, Drafts: drafts, Floor: -1})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			return s
		},
	}
}

func TestUploadOutlivesItsProcess(t *testing.T) {
	for name, open := range uploadStores(t) {
		t.Run(name, func(t *testing.T) {
			b := some(1, 3<<20+5)
			want := sum(digest.SHA256, b)
			s := open()
			if len(uploads(t, s)) != 0 {
				t.Error("uploads where none was begun")
			}
			d, err := s.NewUpload("a-1", []byte("somebody's"), digest.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Write(b[:1000]); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(d.Suspend(), d.Suspend(), d.Close()); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Write(b); !errors.Is(err, os.ErrClosed) {
				t.Errorf("write to one that is suspended: %v", err)
			}
			for at := 1000; at < len(b); {
				s = open() // and the one before is as good as dead
				if err := s.Sweep(t.Context()); err != nil {
					t.Error(err)
				}
				if got := uploads(t, s); len(got) != 1 || got["a-1"] != int64(at) {
					t.Errorf("uploads are %v, want one of %d bytes", got, at)
				}
				d, note, err := s.OpenUpload(t.Context(), "a-1", digest.SHA256)
				if err != nil {
					t.Fatal(err)
				}
				if string(note) != "somebody's" || d.Len() != int64(at) {
					t.Errorf("%d bytes of %q, want %d", d.Len(), note, at)
				}
				n, err := d.Write(b[at:min(at+hashing, len(b))])
				if err != nil {
					t.Fatal(err)
				}
				at += n
				if at < len(b) {
					err = d.Suspend()
				} // else it is killed
				if err != nil {
					t.Fatal(err)
				}
			}
			s = open()
			if err := finish(s, "a-1", sum(digest.SHA256, b[1:])); !errors.Is(err, ErrMismatch) {
				t.Errorf("other bytes: %v", err)
			}
			if err := appendTo(s, "a-1", nil); !errors.Is(err, ErrNotFound) {
				t.Errorf("one that was closed: %v", err)
			}
			if err := begin(s, "a-1", nil, b); err != nil {
				t.Errorf("its id again: %v", err)
			}
			if err := finish(s, "a-1", want); err != nil {
				t.Error(err)
			}
			if got, err := s.Read(t.Context(), want, 4<<20); err != nil || !bytes.Equal(got, b) {
				t.Errorf("read: %v", err)
			}
			noUploads(t, s)
			if err := finish(s, "a-1", want); !errors.Is(err, ErrNotFound) {
				t.Errorf("after the commit: %v", err)
			}
			if p := s.space.promised.Load(); p != 0 {
				t.Errorf("%d bytes are promised to nobody", p)
			}
		})
	}
}

func TestUploadWithAnotherAlgorithm(t *testing.T) {
	s := openStore(t, fastDir(t))
	b := some(1, 10_000)
	if err := begin(s, "x", nil, b[:4000]); err != nil {
		t.Fatal(err)
	}
	d, _, err := s.OpenUpload(t.Context(), "x", digest.SHA512)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Write(b[4000:]); err != nil {
		t.Fatal(err)
	}
	for _, alg := range algorithms {
		if err := d.Verify(sum(alg, b), int64(len(b))); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.NewUpload("y", nil, "md5"); err == nil {
		t.Error("an upload hashed with md5")
	}
	if _, _, err := s.OpenUpload(t.Context(), "x", "md5"); err == nil {
		t.Error("an upload hashed with md5")
	}
}

func TestUploadIDs(t *testing.T) {
	s := openStore(t, fastDir(t))
	for _, id := range []string{"", ".", "..", "a/b", "../a", "a.note", "a_b", "a b", "ä", "a\x00", strings.Repeat("a", 65)} {
		_, newErr := s.NewUpload(id, nil, digest.SHA256)
		_, _, openErr := s.OpenUpload(t.Context(), id, digest.SHA256)
		for what, err := range map[string]error{"new": newErr, "open": openErr, "remove": s.RemoveUpload(id)} {
			if err == nil || errors.Is(err, ErrNotFound) {
				t.Errorf("%s %q: %v", what, id, err)
			}
		}
	}
	id := strings.Repeat("aZ-9", 16)
	if err := begin(s, id, nil, nil); err != nil {
		t.Error(err)
	}
	if err := begin(s, id, nil, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("begun twice: %v", err)
	}
	if got := uploads(t, s); len(got) != 1 {
		t.Errorf("uploads are %v", got)
	}
	if err := errors.Join(s.RemoveUpload(id), s.RemoveUpload(id)); err != nil {
		t.Error(err)
	}
	if _, err := s.NewUpload("a", make([]byte, mostNote+1), digest.SHA256); err == nil {
		t.Error("a note as long as a layer")
	}
	noUploads(t, s)
}

// TestUploadRemains: whatever part of an upload a crash leaves, it is listed to be removed, and
// nobody goes on with it.
func TestUploadRemains(t *testing.T) {
	s := openStore(t, fastDir(t))
	for name, spoil := range map[string]func(file string) error{
		"no note":      func(file string) error { return os.Remove(file + noteSuffix) },
		"no bytes":     func(file string) error { return os.Remove(file) },
		"empty note":   func(file string) error { return os.Truncate(file+noteSuffix, 0) },
		"half a note":  func(file string) error { return os.Truncate(file+noteSuffix, 75) },
		"a note of no": func(file string) error { return os.WriteFile(file+noteSuffix, make([]byte, 80), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := begin(s, "a", []byte("somebody's"), []byte("bytes")); err != nil {
				t.Fatal(err)
			}
			if err := spoil(s.drafts.upload("a")); err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.OpenUpload(t.Context(), "a", digest.SHA256); !errors.Is(err, ErrNotFound) {
				t.Errorf("opened: %v", err)
			}
			if got := uploads(t, s); len(got) != 1 {
				t.Errorf("uploads are %v", got)
			}
			if err := s.RemoveUpload("a"); err != nil {
				t.Error(err)
			}
			noUploads(t, s)
		})
	}
	// What is not ours is left alone, and in nobody's way.
	for _, name := range []string{"README.md", "x.note.note", ".note"} {
		if err := os.WriteFile(filepath.Join(s.drafts.uploads(), name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(s.drafts.upload("dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := uploads(t, s); len(got) != 0 {
		t.Errorf("uploads are %v", got)
	}
	stop := errors.New("stop")
	if err := errors.Join(begin(s, "a", nil, nil), begin(s, "b", nil, nil)); err != nil {
		t.Fatal(err)
	}
	told := 0
	if err := s.Uploads(t.Context(), func(string, int64, time.Time) error { told++; return stop }); !errors.Is(err, stop) || told != 1 {
		t.Errorf("told %d times, then %v", told, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.OpenUpload(ended, "a", digest.SHA256); !errors.Is(err, context.Canceled) {
		t.Errorf("opened for somebody who left: %v", err)
	}
	if err := s.Uploads(ended, func(string, int64, time.Time) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("listed for somebody who left: %v", err)
	}
	// Somebody tidies up.
	if err := os.RemoveAll(s.drafts.dir); err != nil {
		t.Fatal(err)
	}
	if len(uploads(t, s)) > 0 {
		t.Error("uploads in no directory")
	}
	if err := begin(s, "a", nil, nil); err != nil {
		t.Error(err)
	}
}

// TestUploadWaitsForRoom: what a full disk refuses an upload can have later, from where it is.
func TestUploadWaitsForRoom(t *testing.T) { // S1
	disk := mountTmpfs(t, "size=24m")
	for _, floor := range []int64{-1, 3 << 20} { // the disk refuses in the middle of a write, or we before
		t.Run(fmt.Sprint(floor), func(t *testing.T) {
			s, err := New(Config{Root: disk.root(), Floor: floor})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			b := some(1, 20<<20)
			want := sum(digest.SHA256, b)
			other := filepath.Join(disk.at, "other")
			if err := os.WriteFile(other, make([]byte, 10<<20+100), 0o600); err != nil {
				t.Fatal(err)
			}
			d, err := s.NewUpload("a", nil, digest.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			feed := func() (err error) {
				for at := d.Len(); err == nil && at < int64(len(b)); at = d.Len() {
					_, err = d.Write(b[at:min(at+100_000, int64(len(b)))])
				}
				return err
			}
			for range 2 {
				if err := feed(); !errors.Is(err, ErrFull) {
					t.Fatalf("20 MiB in less than 14: %v after %d", err, d.Len())
				}
			}
			before := d.Len()
			if err := os.Remove(other); err != nil {
				t.Fatal(err)
			}
			if floor < 0 { // after a restart too
				if err := d.Suspend(); err != nil {
					t.Fatal(err)
				}
				if d, _, err = s.OpenUpload(t.Context(), "a", digest.SHA256); err != nil {
					t.Fatal(err)
				}
			}
			if d.Len() != before {
				t.Errorf("%d bytes are %d now", before, d.Len())
			}
			if err := errors.Join(feed(), d.Verify(want, int64(len(b))), d.Commit(t.Context()), d.Close()); err != nil {
				t.Error(err)
			}
			if got, err := s.Read(t.Context(), want, 20<<20); err != nil || !bytes.Equal(got, b) {
				t.Errorf("read: %v", err)
			}
			if err := s.Remove(t.Context(), want); err != nil {
				t.Error(err)
			}
			noUploads(t, s)
			if p := s.space.promised.Load(); p != 0 {
				t.Errorf("%d bytes are promised to nobody", p)
			}
		})
	}
}

// TestUploadThatTheDiskFails: after a failed write or sync there is no upload, for this process
// and the next, even if this one ends before it closes it.
func TestUploadThatTheDiskFails(t *testing.T) {
	for _, op := range []string{"write", "sync", "sync directory"} {
		t.Run(op, func(t *testing.T) {
			s := openStore(t, fastDir(t))
			d, err := s.NewUpload("a", nil, digest.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Write([]byte("good")); err != nil {
				t.Fatal(err)
			}
			s.disk.seam = func(o, name string, do func() error) error {
				if o == op {
					return &os.PathError{Op: o, Path: name, Err: unix.EIO}
				}
				return do()
			}
			if op == "write" {
				_, err = d.Write([]byte("bad"))
			} else if err = d.Verify(sum(digest.SHA256, []byte("good")), -1); err == nil {
				err = d.Commit(t.Context())
			}
			if !errors.Is(err, unix.EIO) {
				t.Errorf("told %v", err)
			}
			s.disk.seam = nil
			if _, _, err := s.OpenUpload(t.Context(), "a", digest.SHA256); !errors.Is(err, ErrNotFound) {
				t.Errorf("opened: %v", err)
			}
			if err := d.Suspend(); !errors.Is(err, unix.EIO) {
				t.Errorf("suspended: %v", err)
			}
			noUploads(t, s)
		})
	}
	t.Run("suspend", func(t *testing.T) {
		s := openStore(t, fastDir(t))
		d, err := s.NewUpload("a", nil, digest.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		s.disk.seam = func(op, name string, do func() error) error {
			if op == "sync" {
				return &os.PathError{Op: op, Path: name, Err: unix.EIO}
			}
			return do()
		}
		if err := d.Suspend(); !errors.Is(err, unix.EIO) {
			t.Errorf("suspended: %v", err)
		}
		noUploads(t, s)
	})
}

// TestUploadCommitsAgain: a commit that did not come to move the content can be done again.
func TestUploadCommitsAgain(t *testing.T) {
	for name, open := range uploadStores(t) {
		t.Run(name, func(t *testing.T) {
			s := open()
			b := some(1, 10_000)
			want := sum(digest.SHA256, b)
			if err := begin(s, "a", nil, b); err != nil {
				t.Fatal(err)
			}
			d, _, err := s.OpenUpload(t.Context(), "a", digest.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Verify(want, -1); err != nil {
				t.Fatal(err)
			}
			away := &counter{fault: fault{err: unix.EIO, stays: true, only: "mkdir writer"}, n: 1}
			if r, ok := s.tree.(*remote); ok {
				r.driver = &faultyDriver{StorageDriver: r.driver, c: away}
			} else {
				s.disk.seam = away.seam
			}
			if err := d.Commit(t.Context()); !errors.Is(err, unix.EIO) {
				t.Errorf("commit: %v", err)
			}
			if _, err := s.Stat(t.Context(), want); !errors.Is(err, ErrNotFound) {
				t.Errorf("visible: %v", err)
			}
			away.n = math.MaxInt
			if err := errors.Join(d.Commit(t.Context()), d.Close()); err != nil {
				t.Errorf("the second time: %v", err)
			}
			if got, err := s.Read(t.Context(), want, 10_000); err != nil || !bytes.Equal(got, b) {
				t.Errorf("read: %v", err)
			}
			noUploads(t, s)
		})
	}
}

// TestPutAgain: behind a driver, what was committed and then removed by another node is there again, be
// it a plain draft or an upload and its file a copy by now, and nothing of either is left behind.
func TestPutAgain(t *testing.T) {
	b := some(3, 10_000)
	want := sum(digest.SHA256, b)
	stores := uploadStores(t)
	stores["driver with copies"] = func() *Store { s, _ := overBucket(t, 1<<30); return s }
	for name, open := range stores {
		for kind, draft := range map[string]func(s *Store) (*Draft, error){
			"draft":  func(s *Store) (*Draft, error) { return s.Draft(digest.SHA256, -1) },
			"upload": func(s *Store) (*Draft, error) { return s.NewUpload("a", nil, digest.SHA256) },
		} {
			t.Run(name+" "+kind, func(t *testing.T) {
				s, ctx := open(), t.Context()
				d, err := draft(s)
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				_, err = d.Write(b)
				if err := errors.Join(err, d.Verify(want, -1)); err != nil {
					t.Fatal(err)
				}
				if d.Again(ctx) == nil {
					t.Error("what is not committed is put again")
				}
				if err := d.Commit(ctx, "a/b"); err != nil {
					t.Fatal(err)
				}
				unlink := func(remove bool) {
					t.Helper()
					err := s.Unlink(ctx, "a/b", want)
					if remove {
						err = errors.Join(err, s.Remove(ctx, want))
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				again := func() {
					t.Helper()
					if err := d.Again(ctx, "a/b"); err != nil {
						t.Error(err)
					}
					if got, err := s.Read(ctx, want, 10_000); err != nil || !bytes.Equal(got, b) {
						t.Errorf("read: %v", err)
					}
					if r := repositories(t, s)["a/b"]; len(r.Layers) != 1 {
						t.Errorf("linked: %+v", r)
					}
				}
				unlink(false)
				again()
				if _, behind := s.tree.(*remote); behind {
					unlink(true)
					again()
				}
				if err := d.Close(); err != nil || d.Again(ctx) == nil {
					t.Errorf("closed: %v", err)
				}
				noUploads(t, s)
				emptyDrafts(t, s)
			})
		}
	}
}
