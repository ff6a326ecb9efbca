package storage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/opencontainers/go-digest"

	"roadstead/storage/s3"
	"roadstead/storage/s3test"
)

func TestDirectory(t *testing.T) {
	testStore(t, func(t *testing.T) (*Store, storagedriver.StorageDriver) {
		root := t.TempDir()
		return openStore(t, root), filesystemDriver(root)
	})
}

func TestFilesystemDriver(t *testing.T) {
	testStore(t, func(t *testing.T) (*Store, storagedriver.StorageDriver) {
		return overDriver(t, filesystemDriver(t.TempDir()))
	})
}

func TestInMemoryDriver(t *testing.T) {
	testStore(t, func(t *testing.T) (*Store, storagedriver.StorageDriver) {
		return overDriver(t, inmemory.New())
	})
}

func TestDriverThatPutsFiles(t *testing.T) {
	testStore(t, func(t *testing.T) (*Store, storagedriver.StorageDriver) {
		return overDriver(t, putAt{inmemory.New()})
	})
}

func TestBucket(t *testing.T) {
	s3test.Each(t, func(t *testing.T, server *s3test.Server) {
		testStore(t, func(t *testing.T) (*Store, storagedriver.StorageDriver) { return overDriver(t, bucket(t, server)) })
	})
}

// bucket is a driver for a fresh bucket of a server.
func bucket(t testing.TB, s *s3test.Server) *s3.Driver {
	t.Helper()
	d, err := s3.New(t.Context(), s3.Config{Endpoint: s.Endpoint, Region: s.Region, Bucket: s.Bucket(t), AccessKey: s.AccessKey, SecretKey: s.SecretKey})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// putAt is a driver with the optional power that a bucket's has, and a Writer that nobody
// may call because of it.
type putAt struct{ storagedriver.StorageDriver }

func (p putAt) PutAt(ctx context.Context, path string, content io.ReaderAt, size int64) error {
	b, err := io.ReadAll(io.NewSectionReader(content, 0, size))
	if err != nil {
		return err
	}
	return p.PutContent(ctx, path, b)
}

func (p putAt) Writer(context.Context, string, bool) (storagedriver.FileWriter, error) {
	return nil, errors.New("the writer of a driver that can put files")
}

func overDriver(t *testing.T, d storagedriver.StorageDriver) (*Store, storagedriver.StorageDriver) {
	s, err := New(Config{Driver: d, Drafts: t.TempDir(), Floor: -1, Scrubbers: 2})
	if err != nil {
		t.Fatal(err)
	}
	return s, d
}

// testStore is what every store has to pass. The driver that newStore returns with the store
// reaches the same content from behind.
func testStore(t *testing.T, newStore func(*testing.T) (*Store, storagedriver.StorageDriver)) {
	ctx := t.Context()

	t.Run("content of every size comes back", func(t *testing.T) {
		s, _ := newStore(t)
		for i, size := range []int{0, 1, 4096, 1<<20 + 1} {
			b := some(uint64(i), size)
			for _, alg := range algorithms {
				d := sum(alg, b)
				if err := s.Put(ctx, d, b); err != nil {
					t.Fatalf("put %d bytes: %v", size, err)
				}
				got, err := s.Read(ctx, d, int64(size))
				if err != nil || !bytes.Equal(got, b) {
					t.Errorf("read %s: %d bytes, %v", d, len(got), err)
				}
				if n, err := s.Stat(ctx, d); n != int64(size) || err != nil {
					t.Errorf("stat %s: %d, %v; want %d", d, n, err, size)
				}
				c, err := s.Open(ctx, d)
				if err != nil {
					t.Fatal(err)
				}
				if c.Size != int64(size) {
					t.Errorf("open %s: size %d, want %d", d, c.Size, size)
				}
				if err := iotest.TestReader(c, b); err != nil {
					t.Errorf("open %s: %v", d, err)
				}
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	})

	t.Run("what is not there is not found", func(t *testing.T) {
		s, _ := newStore(t)
		d := sum(digest.SHA256, []byte("nothing"))
		if _, err := s.Open(ctx, d); !errors.Is(err, ErrNotFound) {
			t.Errorf("open: %v", err)
		}
		if _, err := s.Stat(ctx, d); !errors.Is(err, ErrNotFound) {
			t.Errorf("stat: %v", err)
		}
		if _, err := s.Read(ctx, d, 10); !errors.Is(err, ErrNotFound) {
			t.Errorf("read: %v", err)
		}
		for what, err := range map[string]error{
			"remove":       s.Remove(ctx, d),
			"quarantine":   s.Quarantine(ctx, d),
			"unlink":       s.Unlink(ctx, "docker.io/library/busybox", d),
			"untag":        s.Untag(ctx, "docker.io/library/busybox", "1.35"),
			"sweep":        s.Sweep(ctx),
			"contents":     s.Contents(ctx, func(digest.Digest, int64) error { return errors.New("there is something") }),
			"repositories": s.Repositories(ctx, func(Repository) error { return errors.New("there is something") }),
		} {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	})

	t.Run("a digest, name or tag that is none goes nowhere", func(t *testing.T) {
		s, _ := newStore(t)
		good := sum(digest.SHA256, nil)
		for _, d := range []digest.Digest{"", "sha256:", "sha256:../../x", digest.Digest("sha256:" + strings.Repeat("../", 21) + "x"),
			digest.Digest(strings.ToUpper(string(good))), "sha256:" + digest.Digest(strings.Repeat("a", 63)), digest.Digest("md5:" + strings.Repeat("a", 32)),
			digest.Digest("sha384:" + strings.Repeat("a", 96)), "sha256:" + digest.Digest(strings.Repeat("a", 63)) + "\x00"} {
			_, openErr := s.Open(ctx, d)
			_, statErr := s.Stat(ctx, d)
			_, readErr := s.Read(ctx, d, 10)
			for what, err := range map[string]error{"open": openErr, "stat": statErr, "read": readErr,
				"put": s.Put(ctx, d, nil), "remove": s.Remove(ctx, d), "quarantine": s.Quarantine(ctx, d), "link blob": s.LinkBlob(ctx, "a/b", d),
				"link manifest": s.LinkManifest(ctx, "a/b", d), "tag": s.Tag(ctx, "a/b", "t", d), "unlink": s.Unlink(ctx, "a/b", d)} {
				if err == nil || errors.Is(err, ErrNotFound) {
					t.Errorf("%s %q: %v", what, d, err)
				}
			}
		}
		for _, repo := range []string{"", "/", "a/", "/a", "a//b", "..", "a/..", "a/../b", ".", "a/_layers", "_uploads/a", "A", "a b", "a\x00", ".a", strings.Repeat("a/", 200) + "a"} {
			for what, err := range map[string]error{"link blob": s.LinkBlob(ctx, repo, good), "link manifest": s.LinkManifest(ctx, repo, good),
				"tag": s.Tag(ctx, repo, "t", good), "untag": s.Untag(ctx, repo, "t"), "unlink": s.Unlink(ctx, repo, good)} {
				if err == nil {
					t.Errorf("%s of repository %q went through", what, repo)
				}
			}
		}
		for _, tag := range []string{"", ".", "..", "-t", "a/b", "a:b", "a\x00", strings.Repeat("t", 129)} {
			if err := s.Tag(ctx, "a/b", tag, good); err == nil {
				t.Errorf("tag %q went through", tag)
			}
			if err := s.Untag(ctx, "a/b", tag); err == nil {
				t.Errorf("untag %q went through", tag)
			}
		}
		for _, alg := range []digest.Algorithm{"", "md5", digest.SHA384} {
			if _, err := s.Draft(alg, 0); err == nil {
				t.Errorf("draft hashed by %q went through", alg)
			}
		}
		if got := contents(t, s); len(got) != 0 {
			t.Errorf("stored: %v", got)
		}
	})

	t.Run("bytes of another digest are refused and leave nothing", func(t *testing.T) {
		s, _ := newStore(t)
		want := sum(digest.SHA256, []byte("wanted"))
		if err := s.Put(ctx, want, []byte("other")); !errors.Is(err, ErrMismatch) {
			t.Errorf("put: %v", err)
		}
		for name, c := range map[string]struct {
			size  int64
			bytes string
		}{"other bytes": {6, "wantee"}, "size unknown": {-1, "other"}, "too short": {6, "wante"}, "too long": {6, "wanted!"}, "nothing": {6, ""}} {
			d, err := write(s, []byte(c.bytes), c.size)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Verify(want, c.size); !errors.Is(err, ErrMismatch) {
				t.Errorf("%s: verify: %v", name, err)
			}
			if err := d.Commit(ctx); err == nil {
				t.Errorf("%s: committed", name)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
		if _, err := s.Stat(ctx, want); !errors.Is(err, ErrNotFound) {
			t.Errorf("stat: %v", err)
		}
		emptyDrafts(t, s)
	})

	t.Run("a draft is read behind its writer, before and after it is committed", func(t *testing.T) {
		s, _ := newStore(t)
		b := some(1, 100_000)
		want := sum(digest.SHA256, b)
		d, err := s.Draft(digest.SHA256, int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		d.Write(b[:40_000])
		got := make([]byte, 50_000)
		if n, err := d.ReadAt(got, 10_000); n != 30_000 || err != io.EOF || !bytes.Equal(got[:n], b[10_000:40_000]) {
			t.Errorf("read past the write: %d bytes, %v", n, err)
		}
		if n, err := d.ReadAt(got[:100], 0); n != 100 || err != nil {
			t.Errorf("read behind the write: %d bytes, %v", n, err)
		}
		if n, err := d.ReadAt(got, 40_000); n != 0 || err != io.EOF {
			t.Errorf("read at the end of the write: %d bytes, %v", n, err)
		}
		if _, err := s.Stat(ctx, want); !errors.Is(err, ErrNotFound) {
			t.Errorf("visible before commit: %v", err)
		}
		d.Write(b[40_000:])
		if err := d.Verify(want, int64(len(b))); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := d.Commit(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := s.Stat(ctx, want); n != int64(len(b)) || err != nil {
			t.Errorf("visible after commit: %d, %v", n, err)
		}
		if err := s.Remove(ctx, want); err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(io.NewSectionReader(d, 0, d.Len()), b); err != nil {
			t.Errorf("read after commit and removal: %v", err)
		}
		if _, err := d.Write([]byte("more")); err == nil {
			t.Error("written after commit")
		}
		for range 2 {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
		emptyDrafts(t, s)
	})

	t.Run("a draft may be verified by another algorithm than it was hashed with", func(t *testing.T) {
		s, _ := newStore(t)
		b := some(1, 3<<20)
		d, err := write(s, b, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := d.Verify(sum(digest.SHA512, b[1:]), -1); !errors.Is(err, ErrMismatch) {
			t.Errorf("verify by the wrong one: %v", err)
		}
		if err := errors.Join(d.Verify(sum(digest.SHA512, b), -1), d.Commit(ctx)); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Read(ctx, sum(digest.SHA512, b), 4<<20); err != nil || !bytes.Equal(got, b) {
			t.Errorf("read: %d bytes, %v", len(got), err)
		}
	})

	t.Run("what is written after a verification needs another", func(t *testing.T) {
		s, _ := newStore(t)
		d, err := write(s, []byte("whole"), -1)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := d.Verify(sum(digest.SHA256, []byte("whole")), 5); err != nil {
			t.Fatal(err)
		}
		d.Write([]byte(" and more"))
		if err := d.Commit(ctx); err == nil {
			t.Error("committed")
		}
		if got := contents(t, s); len(got) != 0 {
			t.Errorf("stored: %v", got)
		}
	})

	damages := map[string][]byte{"empty": {}, "truncated": []byte("who"), "longer": []byte("whole and more"), "of the same size": []byte("whale")}
	for name, damage := range damages {
		t.Run("damage heals: "+name, func(t *testing.T) {
			b := []byte("whole")
			for how, heal := range map[string]func(*Store) error{
				"put":    func(s *Store) error { return s.Put(ctx, sum(digest.SHA256, b), b) },
				"commit": func(s *Store) error { return commit(s, b) },
			} {
				s, raw := newStore(t)
				d := sum(digest.SHA256, b)
				plant(t, raw, d, damage)
				if n, err := s.Stat(ctx, d); n != int64(len(damage)) || err != nil {
					t.Errorf("stat of damage: %d, %v", n, err)
				}
				if _, err := s.Read(ctx, d, 100); !errors.Is(err, ErrDamaged) {
					t.Errorf("read of damage: %v", err)
				}
				if err := heal(s); err != nil {
					t.Fatalf("%s: %v", how, err)
				}
				if got, err := s.Read(ctx, d, 100); err != nil || !bytes.Equal(got, b) {
					t.Errorf("after %s: %q, %v", how, got, err)
				}
			}
		})
	}

	t.Run("more than was asked for is not read", func(t *testing.T) {
		s, _ := newStore(t)
		d := mustCommit(t, s, []byte("eleven char"))
		if _, err := s.Read(ctx, d, 10); err == nil || errors.Is(err, ErrDamaged) || errors.Is(err, ErrNotFound) {
			t.Errorf("read: %v", err)
		}
	})

	t.Run("content that is removed is gone, and may come back", func(t *testing.T) {
		s, _ := newStore(t)
		for range 3 {
			d := mustCommit(t, s, []byte("back"))
			if err := s.Remove(ctx, d); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Open(ctx, d); !errors.Is(err, ErrNotFound) {
				t.Errorf("open: %v", err)
			}
			if got := contents(t, s); len(got) != 0 {
				t.Errorf("stored: %v", got)
			}
		}
	})

	t.Run("quarantine takes content out of the layout and keeps it", func(t *testing.T) {
		s, raw := newStore(t)
		for range 2 { // the second takes the place of the first
			d := mustCommit(t, s, []byte("suspect"))
			if err := s.Quarantine(ctx, d); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Stat(ctx, d); !errors.Is(err, ErrNotFound) {
				t.Errorf("stat: %v", err)
			}
			got, err := raw.GetContent(ctx, "/quarantine/sha256/"+d.Encoded())
			if err != nil || string(got) != "suspect" {
				t.Errorf("quarantined: %q, %v", got, err)
			}
		}
	})

	t.Run("contents are walked, and nothing else", func(t *testing.T) {
		s, raw := newStore(t)
		want := map[digest.Digest]int64{}
		for i := range 40 {
			b := some(uint64(i), 10+i)
			d := sum(algorithms[i%2], b)
			if err := s.Put(ctx, d, b); err != nil {
				t.Fatal(err)
			}
			want[d] = int64(10 + i)
		}
		empty := sum(digest.SHA256, nil)
		plant(t, raw, empty, nil)
		want[empty] = 0
		other := sum(digest.SHA256, []byte("other")).Encoded()
		plant(t, raw, sum(digest.SHA256, []byte("an empty file after a power cut")), nil)
		for _, junk := range []string{"/README", "/sha256/README", "/sha256/zz/" + other + "/data", "/sha256/00/" + other + "/data",
			"/sha256/" + other[:2] + "/" + other + "/startedat", "/sha256/" + other[:2] + "/short/data", "/md5/ab/" + other + "/data", "/sha512/" + other[:2] + "/" + other + "/data"} {
			if err := raw.PutContent(ctx, "/docker/registry/v2/blobs"+junk, []byte("junk")); err != nil {
				t.Fatal(err)
			}
		}
		if got := contents(t, s); !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		stop := errors.New("enough")
		n := 0
		err := s.Contents(ctx, func(digest.Digest, int64) error { n++; return stop })
		if err != stop || n != 1 {
			t.Errorf("stopped walk: %d calls, %v", n, err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if err := s.Contents(ended, func(digest.Digest, int64) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("ended walk: %v", err)
		}
	})

	t.Run("repositories are what was linked and tagged", func(t *testing.T) {
		s, _ := newStore(t)
		layer, config := mustCommit(t, s, []byte("layer")), mustCommit(t, s, []byte("config"))
		one, two := mustCommit(t, s, []byte("manifest one")), mustCommit(t, s, []byte("manifest two"))
		long := sum(digest.SHA512, []byte("sha512"))
		if err := s.Put(ctx, long, []byte("sha512")); err != nil {
			t.Fatal(err)
		}
		// One repository below another, as on Docker Hub there are not and on quay.io there are.
		for range 2 {
			for _, err := range []error{
				s.LinkBlob(ctx, "quay.io/a", layer), s.LinkBlob(ctx, "quay.io/a", config), s.LinkBlob(ctx, "quay.io/a", long),
				s.LinkManifest(ctx, "quay.io/a", one), s.LinkManifest(ctx, "quay.io/a", two), s.LinkManifest(ctx, "quay.io/a/b/c", long),
				s.Tag(ctx, "quay.io/a", "latest", one), s.Tag(ctx, "quay.io/a", "latest", two), s.Tag(ctx, "quay.io/a", "_V1.0-x", one),
				s.Tag(ctx, "quay.io/a/b/c", "only", long), s.Tag(ctx, "quay.io/a", "off", one), s.Untag(ctx, "quay.io/a", "off"),
				s.LinkBlob(ctx, "quay.io/a", one), s.Unlink(ctx, "quay.io/a", config), s.LinkBlob(ctx, "docker.io/library/only-layers", layer),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		got := repositories(t, s)
		want := map[string]Repository{
			"quay.io/a":                     {Layers: sorted(layer, long, one), Manifests: sorted(one, two), Tags: map[string]digest.Digest{"latest": two, "_V1.0-x": one}},
			"quay.io/a/b/c":                 {Manifests: sorted(long), Tags: map[string]digest.Digest{"only": long}},
			"docker.io/library/only-layers": {Layers: sorted(layer)},
		}
		compare(t, got, want)

		for _, err := range []error{
			s.Unlink(ctx, "quay.io/a", one), s.UntagFrom(ctx, "quay.io/a", "_V1.0-x", one),
			s.UntagFrom(ctx, "quay.io/a", "latest", one), s.UntagFrom(ctx, "quay.io/a", "unknown", one), // neither points there
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		want["quay.io/a"] = Repository{Layers: sorted(layer, long), Manifests: sorted(two), Tags: map[string]digest.Digest{"latest": two}}
		compare(t, repositories(t, s), want)
		stop := errors.New("enough")
		n := 0
		if err := s.Repositories(ctx, func(Repository) error { n++; return stop }); err != stop || n != 1 {
			t.Errorf("stopped walk: %d calls, %v", n, err)
		}
	})

	t.Run("junk among the repositories is a problem and no error", func(t *testing.T) {
		s, raw := newStore(t)
		d := mustCommit(t, s, []byte("manifest"))
		hollow, gone, lying := sum(digest.SHA256, []byte("hollow")), sum(digest.SHA256, []byte("gone")), sum(digest.SHA256, []byte("lying"))
		plant(t, raw, hollow, nil)
		plant(t, raw, lying, []byte("lying"))
		layer := func(d digest.Digest) string { return "docker.io/a/_layers/sha256/" + d.Encoded() + "/link" }
		for name, content := range map[string]string{
			layer(d):      string(d),
			layer(hollow): string(hollow),
			layer(gone):   string(gone),
			layer(lying):  string(d),
			"docker.io/a/_manifests/revisions/sha256/" + d.Encoded() + "/link":                       string(d),
			"docker.io/a/_manifests/revisions/sha256/" + d.Encoded() + "/signatures/sha256/abc/link": "a relic of schema 1",
			"docker.io/a/_manifests/revisions/sha256/" + gone.Encoded() + "/link":                    string(gone),
			"docker.io/a/_layers/sha256/short/link":                                                  string(d),
			"docker.io/a/_layers/sha256/README":                                                      "junk",
			"docker.io/a/_layers/tarsum/v1/link":                                                     "junk",
			"docker.io/a/_manifests/tags/good/current/link":                                          string(d),
			"docker.io/a/_manifests/tags/newline/current/link":                                       string(d) + "\n",
			"docker.io/a/_manifests/tags/empty/current/link":                                         "",
			"docker.io/a/_manifests/tags/long/current/link":                                          strings.Repeat("x", 100_000),
			"docker.io/a/_manifests/tags/dangling/current/link":                                      string(gone),
			"docker.io/a/_manifests/tags/headless/index/sha256/" + d.Encoded() + "/link":             string(d),
			"docker.io/a/_manifests/tags/-no-tag/current/link":                                       string(d),
			"docker.io/a/_uploads/123/startedat":                                                     "2026-01-01T00:00:00Z",
			"docker.io/a/_trash/_layers/sha256/x/link":                                               "another tool's",
			"docker.io/uploading/_uploads/1/data":                                                    "half",
			"docker.io/b/README":                                                                     "junk",
			"docker.io/UPPER/_manifests/tags/x/current/link":                                         string(d),
			"stray": "junk",
		} {
			if err := raw.PutContent(ctx, "/docker/registry/v2/repositories/"+name, []byte(content)); err != nil {
				t.Fatal(err)
			}
		}
		got := repositories(t, s)
		a := got["docker.io/a"]
		compare(t, map[string]Repository{"a": a}, map[string]Repository{"a": {Layers: sorted(d), Manifests: sorted(d), Tags: map[string]digest.Digest{"good": d}, Problems: a.Problems}})
		all := strings.Join(a.Problems, "\n")
		for _, part := range []string{"layer " + hollow.String() + " is linked and its content is empty", "layer " + gone.String() + " is linked and not stored",
			"layer " + lying.String() + ": its link says " + d.String(), "manifest " + gone.String() + " is linked and not stored", `"sha256:short"`, `"sha256:README"`,
			"tag newline: ", "tag empty: ", "tag long: its link is 100000 bytes long", "tag dangling points to " + gone.String(), "tag headless: it has no link", `tag "-no-tag" is not`} {
			if !strings.Contains(all, part) {
				t.Errorf("no problem says %q", part)
			}
		}
		if len(a.Problems) != 12 {
			t.Errorf("%d problems:\n%s", len(a.Problems), all)
		}
		for name, problems := range map[string]int{"docker.io/uploading": 0, "docker.io/b": 1, "docker.io": 1, "stray": 1} {
			if r, ok := got[name]; !ok || len(r.Problems) != problems || len(r.Tags)+len(r.Layers)+len(r.Manifests) > 0 {
				t.Errorf("%s: %t, %+v, want %d problems", name, ok, r, problems)
			}
		}
		if len(got) != 5 {
			t.Errorf("%d repositories", len(got))
		}
	})

	t.Run("content is put aside when it is doubted, if it is damaged", func(t *testing.T) {
		s, raw := newStore(t)
		whole, damaged := mustCommit(t, s, []byte("whole")), mustCommit(t, s, []byte("damaged"))
		plant(t, raw, damaged, []byte("DAMAGED"))
		if err := s.Recheck(ctx, whole); err != nil {
			t.Errorf("recheck of whole content: %v", err)
		}
		if err := s.Recheck(ctx, damaged); !errors.Is(err, ErrDamaged) {
			t.Errorf("recheck of damaged content: %v", err)
		}
		if _, err := s.Stat(ctx, damaged); !errors.Is(err, ErrNotFound) {
			t.Errorf("damaged content: %v", err)
		}
		if _, err := s.Stat(ctx, whole); err != nil {
			t.Errorf("whole content: %v", err)
		}
		if b, err := raw.GetContent(ctx, "/quarantine/sha256/"+damaged.Encoded()); err != nil || string(b) != "DAMAGED" {
			t.Errorf("in quarantine: %q, %v", b, err)
		}
		if err := s.Recheck(ctx, damaged); !errors.Is(err, ErrNotFound) {
			t.Errorf("recheck of what is not there: %v", err)
		}
		mustCommit(t, s, []byte("damaged"))
		if b, err := s.Read(ctx, damaged, 10); err != nil || string(b) != "damaged" {
			t.Errorf("healed: %q, %v", b, err)
		}
		gone, end := context.WithCancel(ctx)
		end()
		plant(t, raw, damaged, []byte("DAMAGED"))
		if err := s.Recheck(gone, damaged); !errors.Is(err, context.Canceled) {
			t.Errorf("recheck that is given up: %v", err)
		}
		if _, err := s.Stat(ctx, damaged); err != nil {
			t.Errorf("after a recheck that was given up: %v", err)
		}
	})

	t.Run("a scrub finds every damage and nothing else", func(t *testing.T) {
		s, raw := newStore(t)
		testScrub(t, s, raw)
	})
}

func sorted(d ...digest.Digest) []digest.Digest {
	slices.Sort(d)
	return d
}

// plant puts bytes where the content of d belongs.
func plant(t testing.TB, raw storagedriver.StorageDriver, d digest.Digest, b []byte) {
	t.Helper()
	path := "/docker/registry/v2/blobs/" + d.Algorithm().String() + "/" + d.Encoded()[:2] + "/" + d.Encoded() + "/data"
	if err := raw.PutContent(t.Context(), path, b); err != nil {
		t.Fatal(err)
	}
}

func contents(t testing.TB, s *Store) map[digest.Digest]int64 {
	t.Helper()
	got := map[digest.Digest]int64{}
	err := s.Contents(t.Context(), func(d digest.Digest, size int64) error {
		if _, twice := got[d]; twice {
			t.Errorf("%s was walked twice", d)
		}
		got[d] = size
		return nil
	})
	if err != nil {
		t.Errorf("contents: %v", err)
	}
	return got
}

func repositories(t testing.TB, s *Store) map[string]Repository {
	t.Helper()
	got := map[string]Repository{}
	err := s.Repositories(t.Context(), func(r Repository) error {
		if _, twice := got[r.Name]; twice {
			t.Errorf("%s was walked twice", r.Name)
		}
		got[r.Name] = r
		return nil
	})
	if err != nil {
		t.Errorf("repositories: %v", err)
	}
	return got
}

func compare(t testing.TB, got, want map[string]Repository) {
	t.Helper()
	for name, w := range want {
		g, ok := got[name]
		if !ok || !slices.Equal(g.Layers, w.Layers) || !slices.Equal(g.Manifests, w.Manifests) || !maps.Equal(g.Tags, w.Tags) || !slices.Equal(g.Problems, w.Problems) {
			t.Errorf("repository %s\n got %+v\nwant %+v", name, g, w)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("repository %s is not wanted: %+v", name, got[name])
		}
	}
}

// emptyDrafts fails when a draft has left its file.
func emptyDrafts(t testing.TB, s *Store) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(s.drafts.dir, draftPrefix+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left among the drafts: %v, %v", left, err)
	}
}
