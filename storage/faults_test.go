package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// script does a bit of everything that changes a store, and reads. With retry what fails is
// done once more, and has to work then. It returns the errors of first tries.
func script(s *Store, j journal, retry bool) (failed []error, err error) {
	ctx := context.Background()
	attempt := func(key, value string, do func() error) {
		e := j.attempt(key, value, do)
		if e == nil {
			return
		}
		failed = append(failed, e)
		if retry {
			if e := j.attempt(key, value, do); e != nil {
				err = errors.Join(err, fmt.Errorf("second try of %s: %w", key, e))
			}
		}
	}
	layer, manifest := some(1, 10_000), some(2, 500)
	layerDigest, manifestDigest := sum(digest.SHA256, layer), sum(digest.SHA512, manifest)
	other := some(3, 700)
	otherDigest := sum(digest.SHA256, other)

	attempt("content "+layerDigest.String(), "whole", func() error { return commit(s, layer) })
	attempt("content "+manifestDigest.String(), "whole", func() error { return s.Put(ctx, manifestDigest, manifest) })
	attempt("content "+otherDigest.String(), "whole", func() error { return s.Put(ctx, otherDigest, other) })
	attempt("content "+scriptDamaged.String(), "whole", func() error { return commit(s, []byte("heals")) })
	attempt("layer docker.io/a "+layerDigest.String(), layerDigest.String(), func() error { return s.LinkBlob(ctx, "docker.io/a", layerDigest) })
	attempt("manifest docker.io/a "+manifestDigest.String(), manifestDigest.String(), func() error { return s.LinkManifest(ctx, "docker.io/a", manifestDigest) })
	attempt("manifest docker.io/a "+otherDigest.String(), otherDigest.String(), func() error { return s.LinkManifest(ctx, "docker.io/a", otherDigest) })
	attempt("tag docker.io/a latest", manifestDigest.String(), func() error { return s.Tag(ctx, "docker.io/a", "latest", manifestDigest) })
	attempt("tag docker.io/a latest", otherDigest.String(), func() error { return s.Tag(ctx, "docker.io/a", "latest", otherDigest) })
	attempt("tag docker.io/a old", manifestDigest.String(), func() error { return s.Tag(ctx, "docker.io/a", "old", manifestDigest) })

	// An upload that is begun, gone on with twice, and ends as a blob of a repository.
	blob := some(4, 9_000)
	blobDigest := sum(digest.SHA256, blob)
	try := 0
	attempt("content "+blobDigest.String(), "whole", func() error {
		try++
		id := fmt.Sprintf("u4-9000-%d", try)
		if err := begin(s, id, []byte("somebody's"), blob[:1000]); err != nil {
			return err
		}
		if err := appendTo(s, id, blob[1000:]); err != nil {
			return errors.Join(err, s.RemoveUpload(id))
		}
		return finish(s, id, blobDigest)
	})
	list := some(5, 400)
	listDigest := sum(digest.SHA256, list)
	all := map[string]string{"content " + listDigest.String(): "whole", "manifest docker.io/a " + listDigest.String(): listDigest.String(), "tag docker.io/a new": listDigest.String()}
	putAll := func() error { return s.PutManifest(ctx, "docker.io/a", listDigest, list, "new") }
	if e := j.attemptAll(all, putAll); e != nil {
		failed = append(failed, e)
		if retry {
			err = errors.Join(err, j.attemptAll(all, putAll))
		}
	}

	j("reading\n")
	read := func(what string, do func() error) {
		e := do()
		if errors.Is(e, ErrNotFound) || errors.Is(e, ErrDamaged) {
			err = errors.Join(err, fmt.Errorf("%s: trouble is told as %w", what, e))
		}
		if e != nil {
			failed = append(failed, fmt.Errorf("%s: %w", what, e))
		}
	}
	if len(failed) == 0 || retry {
		read("read", func() error {
			b, err := s.Read(ctx, layerDigest, 10_000)
			if err == nil && !bytes.Equal(b, layer) {
				err = ErrDamaged
			}
			return err
		})
		read("stat", func() error { _, err := s.Stat(ctx, layerDigest); return err })
		read("contents", func() error {
			n := 0
			err := s.Contents(ctx, func(digest.Digest, int64) error { n++; return nil })
			if err == nil && n != 6 {
				return fmt.Errorf("walked %d of 6: %w", n, ErrDamaged)
			}
			return err
		})
		read("repositories", func() error {
			var all Repository
			err := s.Repositories(ctx, func(r Repository) error {
				all.Problems = append(all.Problems, r.Problems...)
				all.Manifests = append(all.Manifests, r.Manifests...)
				all.Layers = append(all.Layers, r.Layers...)
				return nil
			})
			if err == nil && (len(all.Manifests) != 3 || len(all.Layers) != 1) && len(all.Problems) == 0 {
				return fmt.Errorf("%+v and no problem: %w", all, ErrDamaged)
			}
			return err
		})
	}
	j("writing\n")

	if d, e := write(s, layer, -1); e == nil { // and nothing becomes of it
		e = d.Close()
		if e != nil {
			failed = append(failed, e)
		}
	} else {
		failed = append(failed, e)
	}
	// After a power cut removed content may be back, so a removal is tried and never done.
	j("try\tcontent " + otherDigest.String() + "\t\n")
	if e := s.Remove(ctx, otherDigest); e != nil {
		failed = append(failed, e)
	}
	attempt("tag docker.io/a old", "", func() error { return s.Untag(ctx, "docker.io/a", "old") })
	// It still points to the list, unless that was not to be.
	attempt("tag docker.io/a new", "", func() error {
		return errors.Join(s.UntagFrom(ctx, "docker.io/a", "new", otherDigest), s.UntagFrom(ctx, "docker.io/a", "new", listDigest))
	})
	attempt("layer docker.io/a "+layerDigest.String(), "", func() error { return s.Unlink(ctx, "docker.io/a", layerDigest) })
	attempt("content "+manifestDigest.String(), "", func() error { return s.Quarantine(ctx, manifestDigest) })
	attempt("content "+manifestDigest.String(), "whole", func() error { return s.Put(ctx, manifestDigest, manifest) })
	attempt("content "+otherDigest.String(), "whole", func() error { return commit(s, other) })
	return failed, err
}

// scriptDamaged is content that is damaged before the script begins, and heals.
var scriptDamaged = sum(digest.SHA256, []byte("heals"))

// fault is a way in which a call can go wrong.
type fault struct {
	name  string
	err   error
	after bool // the call is made, and then said to have failed
	stays bool // all later calls fail as well
	only  string
}

var faults = []fault{
	{name: "EIO once", err: unix.EIO},
	{name: "done and then EIO", err: unix.EIO, after: true},
	{name: "EIO from then on", err: unix.EIO, stays: true},
	{name: "ENOSPC once", err: unix.ENOSPC, only: "create write sync mkdir rename sync directory"},
	{name: "ENOSPC from then on", err: unix.ENOSPC, stays: true, only: "create write sync mkdir rename sync directory"},
	{name: "EROFS from then on", err: unix.EROFS, stays: true, only: "create write sync mkdir rename sync directory remove"},
}

// counter lets the n-th call fail.
type counter struct {
	fault
	n, calls int
	hit      string
	reading  bool // the script only reads now
	quiet    bool // the call was such that nobody need be told: nothing hangs on it, or the script looks what was read
}

func (c *counter) seam(op, name string, do func() error) error {
	if c.only != "" && !strings.Contains(c.only, op) {
		return do()
	}
	c.calls++
	if c.calls < c.n || c.calls > c.n && !c.stays {
		return do()
	}
	if c.calls == c.n {
		c.hit = op + " " + name
		c.quiet = c.reading || c.after || (op == "remove" || op == "delete") && strings.Contains(name, draftPrefix) ||
			op == "remove" && strings.Contains(name, "drafts/uploads/") || // what is left expires
			op == "open" && strings.HasSuffix(name, "/link") // to see whether it has to be written
	}
	if c.after {
		do()
	}
	return &os.PathError{Op: op, Path: name, Err: c.err}
}

// TestEveryCallFails lets each single call to the file system go wrong (FAULTS S1, S4, S5).
func TestEveryCallFails(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			dir := fastDir(t)
			for n := 1; ; n += every(11) {
				c := &counter{fault: f, n: n}
				root := filepath.Join(dir, fmt.Sprint(n))
				s := openStore(t, root)
				plant(t, filesystemDriver(root), scriptDamaged, nil)
				s.disk.seam = c.seam
				journal, failed, err := runScript(s, !f.stays, c)
				s.disk.seam = nil
				if c.calls < n {
					t.Logf("%d calls", c.calls)
					if n < 100 {
						t.Errorf("the script makes %d calls only", c.calls)
					}
					return
				}
				ok := checkFault(t, c, failed, err)

				// Whatever happened, the next process finds it as promised, and tidies up.
				again := openStore(t, root)
				if err := again.Sweep(t.Context()); err != nil {
					t.Error(err)
				}
				expire(t, again)
				have := mustLook(t, root)
				ok = checkPromises(t, journal, have) && ok
				if len(have.drafts) > 0 {
					t.Errorf("left after a sweep: %v", have.drafts)
					ok = false
				}
				if journal, _, err = runScript(again, false, &counter{}); err != nil {
					t.Errorf("afterwards: %v", err)
					ok = false
				}
				ok = checkPromises(t, journal, mustLook(t, root)) && ok
				s.Close()
				again.Close()
				os.RemoveAll(root)
				if !ok {
					t.Fatalf("at call %d: %s", n, c.hit)
				}
			}
		})
	}
}

// every is one, or in short tests, and with the race detector, n.
func every(n int) int {
	if testing.Short() || raceBuild {
		return n
	}
	return 1
}

func runScript(s *Store, retry bool, c *counter) (lines string, failed []error, err error) {
	var b strings.Builder
	failed, err = script(s, func(line string) {
		b.WriteString(line)
		c.reading = line == "reading\n" || c.reading && line != "writing\n"
	}, retry)
	return b.String(), failed, err
}

func checkFault(t *testing.T, c *counter, failed []error, err error) bool {
	t.Helper()
	ok := err == nil
	if err != nil {
		t.Error(err)
	}
	if len(failed) == 0 && !c.quiet {
		t.Error("nobody was told")
		ok = false
	}
	for _, e := range failed {
		if !errors.Is(e, c.err) {
			t.Errorf("not told as %v: %v", c.err, e)
			ok = false
		}
		if c.err == unix.ENOSPC != errors.Is(e, ErrFull) {
			t.Errorf("told as full: %v", e)
			ok = false
		}
	}
	return ok
}

func checkPromises(t *testing.T, lines string, have layout) bool {
	t.Helper()
	l := ledger{}
	l.read(lines)
	broken, _ := l.broken(have)
	for _, b := range broken {
		t.Error(b)
	}
	for _, w := range have.wrong {
		if !strings.Contains(w, scriptDamaged.Encoded()) { // unless it was not healed
			t.Errorf("visible and not whole: %s", w)
			broken = append(broken, w)
		}
	}
	return len(broken) == 0
}

// TestEveryDriverCallFails does the same to a driver.
func TestEveryDriverCallFails(t *testing.T) {
	for _, f := range faults[:3] {
		for _, puts := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, puts files %t", f.name, puts), func(t *testing.T) {
				t.Parallel()
				for n := 1; ; n += every(11) {
					c := &counter{fault: f, n: n}
					memory := inmemory.New()
					var driver storagedriver.StorageDriver = &faultyDriver{StorageDriver: memory, c: c}
					if puts {
						driver = faultyPutAt{&faultyDriver{StorageDriver: memory, c: c}}
					}
					s, _ := overDriver(t, driver)
					plant(t, memory, scriptDamaged, nil)
					journal, failed, err := runScript(s, !f.stays, c)
					if c.calls < n {
						t.Logf("%d calls", c.calls)
						return
					}
					ok := checkFault(t, c, failed, err)
					have, err := lookBehind(memory)
					if err != nil {
						t.Fatal(err)
					}
					ok = checkPromises(t, journal, have) && ok
					again, _ := overDriver(t, memory)
					journal, _, err = runScript(again, false, &counter{})
					if err != nil {
						t.Errorf("afterwards: %v", err)
						ok = false
					}
					if have, err = lookBehind(memory); err != nil {
						t.Fatal(err)
					}
					ok = checkPromises(t, journal, have) && ok
					if !ok {
						t.Fatalf("at call %d: %s", n, c.hit)
					}
				}
			})
		}
	}
}

// faultyDriver counts every call to a driver, its readers and its writers.
type faultyDriver struct {
	storagedriver.StorageDriver
	c *counter
}

func (d *faultyDriver) GetContent(ctx context.Context, path string) (b []byte, err error) {
	err = d.c.seam("get", path, func() (err error) { b, err = d.StorageDriver.GetContent(ctx, path); return err })
	return b, err
}

func (d *faultyDriver) PutContent(ctx context.Context, path string, b []byte) error {
	return d.c.seam("put", path, func() error { return d.StorageDriver.PutContent(ctx, path, b) })
}

func (d *faultyDriver) Reader(ctx context.Context, path string, at int64) (r io.ReadCloser, err error) {
	err = d.c.seam("open", path, func() (err error) { r, err = d.StorageDriver.Reader(ctx, path, at); return err })
	if err != nil {
		return nil, err
	}
	return &faultyReader{r, path, d.c}, nil
}

func (d *faultyDriver) Writer(ctx context.Context, path string, app bool) (w storagedriver.FileWriter, err error) {
	err = d.c.seam("writer", path, func() (err error) { w, err = d.StorageDriver.Writer(ctx, path, app); return err })
	if err != nil {
		return nil, err
	}
	return &faultyWriter{w, path, d.c}, nil
}

func (d *faultyDriver) Stat(ctx context.Context, path string) (i storagedriver.FileInfo, err error) {
	err = d.c.seam("stat", path, func() (err error) { i, err = d.StorageDriver.Stat(ctx, path); return err })
	return i, err
}

func (d *faultyDriver) List(ctx context.Context, path string) (names []string, err error) {
	err = d.c.seam("list", path, func() (err error) { names, err = d.StorageDriver.List(ctx, path); return err })
	return names, err
}

func (d *faultyDriver) Move(ctx context.Context, from, to string) error {
	return d.c.seam("move", from, func() error { return d.StorageDriver.Move(ctx, from, to) })
}

func (d *faultyDriver) Delete(ctx context.Context, path string) error {
	return d.c.seam("delete", path, func() error { return d.StorageDriver.Delete(ctx, path) })
}

func (d *faultyDriver) Walk(ctx context.Context, path string, f storagedriver.WalkFn, o ...func(*storagedriver.WalkOptions)) error {
	return d.c.seam("walk", path, func() error { return d.StorageDriver.Walk(ctx, path, f, o...) })
}

type faultyReader struct {
	io.ReadCloser
	path string
	c    *counter
}

func (r *faultyReader) Read(p []byte) (n int, err error) {
	var end error // which is not trouble
	err = r.c.seam("read", r.path, func() (err error) {
		n, err = r.ReadCloser.Read(p)
		if err == io.EOF {
			end, err = err, nil
		}
		return err
	})
	return n, errors.Join(err, end)
}

// faultyWriter writes half of what it fails on, and the name of what it writes is visible, as
// with the filesystem driver.
type faultyWriter struct {
	storagedriver.FileWriter
	path string
	c    *counter
}

func (w *faultyWriter) Write(p []byte) (n int, err error) {
	n, err = w.FileWriter.Write(p[:len(p)/2])
	if err != nil {
		return n, err
	}
	err = w.c.seam("write", w.path, func() error {
		m, err := w.FileWriter.Write(p[len(p)/2:])
		n += m
		return err
	})
	return n, err
}

func (w *faultyWriter) Commit(ctx context.Context) error {
	return w.c.seam("commit", w.path, func() error { return w.FileWriter.Commit(ctx) })
}

func (w *faultyWriter) Close() error { return w.c.seam("close", w.path, w.FileWriter.Close) }

type faultyPutAt struct{ *faultyDriver }

func (p faultyPutAt) PutAt(ctx context.Context, path string, content io.ReaderAt, size int64) error {
	return p.c.seam("put at", path, func() error { return putAt{p.StorageDriver}.PutAt(ctx, path, content, size) })
}
