package s3

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/minio/minio-go/v7"

	"roadstead/storage/s3test"
)

func some(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

func file(t testing.TB, b []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantNotFound(t testing.TB, what string, err error) {
	t.Helper()
	if e, ok := err.(storagedriver.PathNotFoundError); !ok || e.DriverName != "s3" || e.Path == "" {
		t.Errorf("%s: %v, want that the path is not found", what, err)
	}
}

func holds(t testing.TB, d *Driver, path string, want []byte) {
	t.Helper()
	got, err := d.GetContent(t.Context(), path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes that are not the %d wanted, %v", path, len(got), len(want), err)
	}
}

// TestWhatTheSuiteMisses is what a driver can get wrong and pass distribution's suite.
func TestWhatTheSuiteMisses(t *testing.T) {
	s3test.Each(t, func(t *testing.T, s *s3test.Server) {
		ctx := t.Context()
		t.Run("the beginning of a key is no file", func(t *testing.T) {
			d := newDriver(t, config(t, s))
			must(t, d.PutContent(ctx, "/some/blob-2", []byte("x")))
			for _, path := range []string{"/some/blob", "/so", "/some/blob-"} {
				_, err := d.Stat(ctx, path)
				wantNotFound(t, "stat "+path, err)
				_, err = d.StatFile(ctx, path)
				wantNotFound(t, "stat file "+path, err)
				_, err = d.List(ctx, path)
				wantNotFound(t, "list "+path, err)
				wantNotFound(t, "delete "+path, d.Delete(ctx, path))
				wantNotFound(t, "walk "+path, d.Walk(ctx, path, func(storagedriver.FileInfo) error { return nil }))
			}
			_, err := d.StatFile(ctx, "/some")
			wantNotFound(t, "stat file of a directory", err)
			if info, err := d.Stat(ctx, "/some"); err != nil || !info.IsDir() {
				t.Errorf("stat of a directory: %v, %v", info, err)
			}
			wantNotFound(t, "move", d.Move(ctx, "/some/blob", "/other"))
			holds(t, d, "/some/blob-2", []byte("x"))
		})

		t.Run("size counts what is not sent yet", func(t *testing.T) {
			d := newDriver(t, config(t, s))
			w, err := d.Writer(ctx, "/a", false)
			must(t, err)
			for n, step := 0, 3<<20; n < 20<<20; n += step {
				if w.Size() != int64(n) {
					t.Errorf("size %d, want %d", w.Size(), n)
				}
				_, err := w.Write(some(step))
				must(t, err)
			}
			must(t, w.Cancel(ctx))
			must(t, w.Close())
			_, err = d.Stat(ctx, "/a")
			wantNotFound(t, "cancelled", err)
			if left := s.Unfinished(t, d.bucket); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})

		t.Run("what was there stays until a commit, and after a cancel", func(t *testing.T) {
			d := newDriver(t, config(t, s))
			must(t, d.PutContent(ctx, "/a", []byte("old")))
			w, err := d.Writer(ctx, "/a", false)
			must(t, err)
			w.Write(some(17 << 20))
			holds(t, d, "/a", []byte("old"))
			must(t, w.Cancel(ctx))
			holds(t, d, "/a", []byte("old"))
			if _, err := d.Writer(ctx, "/a", true); err == nil {
				t.Error("something is appended to what is committed")
			}
			_, err = d.Writer(ctx, "/b", true)
			wantNotFound(t, "append to nothing", err)
		})

		t.Run("an upload that is gone on with has each byte once", func(t *testing.T) {
			d := newDriver(t, config(t, s))
			var want []byte
			for i, n := range []int{100, 6 << 20, 17 << 20, 1, 33 << 20, 5} {
				w, err := d.Writer(ctx, "/a", i > 0)
				must(t, err)
				if w.Size() != int64(len(want)) {
					t.Fatalf("size %d, want %d", w.Size(), len(want))
				}
				b := some(n)
				_, err = w.Write(b)
				must(t, err)
				want = append(want, b...)
				if i == 5 {
					must(t, w.Commit(ctx))
				} else if _, err := d.Stat(ctx, "/a"); err == nil {
					t.Error("visible before it is committed")
				}
				must(t, w.Close())
				if _, err := w.Write(b); err == nil {
					t.Error("written after it was closed")
				}
			}
			holds(t, d, "/a", want)
			if names, err := d.List(ctx, "/"); err != nil || !slices.Equal(names, []string{"/a"}) {
				t.Errorf("there is %v, %v", names, err)
			}
		})

		t.Run("a walk skips, stops and goes on", func(t *testing.T) { testWalk(t, newDriver(t, config(t, s))) })

		t.Run("more than a page of keys", func(t *testing.T) {
			if testing.Short() {
				t.Skip("1,100 objects, and -short is set")
			}
			d := newDriver(t, config(t, s))
			var group sync.WaitGroup
			for i := range 8 {
				group.Go(func() {
					for j := range 140 {
						if err := d.PutContent(ctx, fmt.Sprintf("/many/%d-%d/x", i, j), nil); err != nil {
							t.Error(err)
						}
					}
				})
			}
			group.Wait()
			names, err := d.List(ctx, "/many")
			if err != nil || len(names) != 8*140 {
				t.Errorf("%d names, %v", len(names), err)
			}
			n := 0
			must(t, d.Walk(ctx, "/", func(info storagedriver.FileInfo) error { n++; return nil }))
			if n != 1+2*8*140 {
				t.Errorf("a walk has %d", n)
			}
			must(t, d.Delete(ctx, "/many"))
			_, err = d.Stat(ctx, "/many")
			wantNotFound(t, "deleted", err)
		})

		t.Run("of many who create one does", func(t *testing.T) {
			d := newDriver(t, config(t, s))
			var made atomic.Int32
			var group sync.WaitGroup
			for i := range 16 {
				group.Go(func() {
					ok, err := d.PutIfAbsent(ctx, "/lease", fmt.Appendf(nil, "%d", i))
					if err != nil {
						t.Error(err)
					}
					if ok {
						made.Add(1)
					}
				})
			}
			group.Wait()
			if made.Load() != 1 {
				t.Errorf("%d have made it", made.Load())
			}
		})

		t.Run("a file arrives, and heals what is there", func(t *testing.T) {
			c := config(t, s)
			c.Part = minPart
			testPutFile(t, s, newDriver(t, c))
		})

		t.Run("a body reads from anywhere", func(t *testing.T) {
			d := newDriver(t, config(t, s))
			b := some(100_000)
			must(t, d.PutContent(ctx, "/a", b))
			for _, at := range []int64{0, 1, 50_000, 99_999} {
				body, size, etag, err := d.OpenRange(ctx, "/a", at)
				must(t, err)
				if size != 100_000 || etag == "" {
					t.Errorf("size %d, etag %q", size, etag)
				}
				if err := iotest.TestReader(body, b[at:]); err != nil {
					t.Error(err)
				}
				must(t, body.Close())
			}
			if _, _, _, err := d.OpenRange(ctx, "/a", 100_001); err == nil {
				t.Error("opened behind its end")
			}
		})

		t.Run("presigned", func(t *testing.T) {
			d := newDriver(t, config(t, s))
			must(t, d.PutContent(ctx, "/a", []byte("content")))
			url, err := d.Presign(ctx, http.MethodGet, "/a", time.Minute)
			must(t, err)
			res, err := http.Get(url)
			must(t, err)
			defer res.Body.Close()
			if b, err := io.ReadAll(res.Body); err != nil || string(b) != "content" {
				t.Errorf("%s: %q, %v", res.Status, b, err)
			}
			req, _ := http.NewRequest(http.MethodDelete, url, nil)
			if res, err := http.DefaultClient.Do(req); err == nil && res.StatusCode < 300 {
				t.Error("a URL to read has removed it")
			}
			holds(t, d, "/a", []byte("content"))
		})
	})
}

// TestPutHealsWhatHasRotted: what a server calls an object is no word about its bytes (FAULTS S7).
func TestPutHealsWhatHasRotted(t *testing.T) {
	s := s3test.Versitygw(t)
	c := config(t, s)
	c.Part = minPart
	d := newDriver(t, c)
	for _, size := range []int{1, signed + 1, 2*minPart + 1} {
		key, b := fmt.Sprintf("blobs/%d/data", size), some(size)
		content := bytes.NewReader(b)
		must(t, d.PutAt(t.Context(), "/"+key, content, int64(size)))
		was, err := d.client.StatObject(t.Context(), d.bucket, key, minio.StatObjectOptions{})
		must(t, err)
		s.Rot(t, d.bucket, key)
		if is, err := d.client.StatObject(t.Context(), d.bucket, key, minio.StatObjectOptions{}); err != nil || is.ETag != was.ETag {
			t.Errorf("the gateway notices: %q, %v", is.ETag, err)
		}
		must(t, d.PutAt(t.Context(), "/"+key, content, int64(size)))
		holds(t, d, "/"+key, b)
	}
	if left := s.Unfinished(t, d.bucket); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func testWalk(t *testing.T, d *Driver) {
	ctx := t.Context()
	for _, path := range []string{"/top/a/1", "/top/a/2", "/top/a-b/3", "/top/b/c/4", "/top/b/d/5", "/top/e", "/topmost"} {
		must(t, d.PutContent(ctx, path, []byte(path)))
	}
	walk := func(from string, say map[string]error, options ...func(*storagedriver.WalkOptions)) (string, error) {
		var seen []string
		err := d.Walk(ctx, from, func(info storagedriver.FileInfo) error {
			path := info.Path()
			if !info.IsDir() && info.Size() != int64(len(path)) {
				t.Errorf("%s is %d bytes long", path, info.Size())
			}
			if info.IsDir() {
				path += "/"
			}
			seen = append(seen, path)
			return say[info.Path()]
		}, options...)
		return strings.Join(seen, " "), err
	}
	mine := errors.New("mine")
	for name, c := range map[string]struct {
		from string
		say  map[string]error
		want string
		err  error
	}{
		"all":              {"/top", nil, "/top/a-b/ /top/a-b/3 /top/a/ /top/a/1 /top/a/2 /top/b/ /top/b/c/ /top/b/c/4 /top/b/d/ /top/b/d/5 /top/e", nil},
		"from the top":     {"/", map[string]error{"/top": storagedriver.ErrSkipDir}, "/top/ /topmost", nil},
		"one skipped":      {"/top", map[string]error{"/top/a": storagedriver.ErrSkipDir, "/top/b/c": storagedriver.ErrSkipDir}, "/top/a-b/ /top/a-b/3 /top/a/ /top/b/ /top/b/c/ /top/b/d/ /top/b/d/5 /top/e", nil},
		"enough":           {"/top", map[string]error{"/top/a/1": storagedriver.ErrFilledBuffer}, "/top/a-b/ /top/a-b/3 /top/a/ /top/a/1", nil},
		"the caller fails": {"/top", map[string]error{"/top/a": mine}, "/top/a-b/ /top/a-b/3 /top/a/", mine},
	} {
		if got, err := walk(c.from, c.say); got != c.want || err != c.err {
			t.Errorf("%s: %s, %v\nwant %s", name, got, err, c.want)
		}
	}
	if got, err := walk("/top", nil, storagedriver.WithStartAfterHint("/top/b/c/4")); err != nil || got != "/top/b/ /top/b/d/ /top/b/d/5 /top/e" {
		t.Errorf("after a hint: %s, %v", got, err)
	}
}

func testPutFile(t *testing.T, s *s3test.Server, d *Driver) {
	ctx := t.Context()
	for _, size := range []int{0, 1, signed + 1, minPart, minPart + 1, 2*minPart + 1} {
		path, b := fmt.Sprintf("/blobs/%d/data", size), some(size)
		local := file(t, b)
		damaged := append([]byte{}, b...)
		if size > 0 {
			damaged[0] ^= 1
		}
		for _, before := range [][]byte{nil, b, damaged, b[:size/2], append(b, 1)} {
			if before != nil {
				must(t, d.PutContent(ctx, path, before))
			}
			must(t, d.PutFile(ctx, path, local))
			holds(t, d, path, b)
		}
		must(t, d.PutFile(ctx, path, local)) // over its own
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				if err := d.PutFile(ctx, path+"2", local); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		holds(t, d, path+"2", b)
	}
	if left := s.Unfinished(t, d.bucket); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := d.PutFile(ctx, "/x", "/nonexistent"); err == nil {
		t.Error("a file that is not there was stored")
	}
}
