package storage

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/opencontainers/go-digest"
)

func TestNewRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Config{
		"nothing":                {},
		"drafts alone":           {Drafts: t.TempDir()},
		"a driver without":       {Driver: inmemory.New()},
		"a file":                 {Root: file},
		"a directory in a file":  {Root: filepath.Join(file, "root")},
		"drafts in a file":       {Root: t.TempDir(), Drafts: file},
		"a driver and that file": {Driver: inmemory.New(), Drafts: file},
	} {
		if s, err := New(c); err == nil {
			s.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestFree(t *testing.T) {
	s := openStore(t, t.TempDir())
	free, total, err := s.Free()
	if err != nil || free <= 0 || total < free {
		t.Errorf("%d of %d free, %v", free, total, err)
	}
}

// TestWalksAPieceAtATime: the first entries of a directory are handed on before the rest of it
// is read, so that its size is no matter of memory.
func TestWalksAPieceAtATime(t *testing.T) {
	root := fastDir(t)
	s := openStore(t, root)
	const n = 5000
	for i := range n {
		hex := fmt.Sprintf("ab%062x", i)
		blob := filepath.Join(root, blobsDir, "sha256/ab", hex)
		repo := filepath.Join(root, reposDir, fmt.Sprintf("docker.io/r%d/_uploads", i))
		if err := errors.Join(os.MkdirAll(blob, 0o777), os.WriteFile(filepath.Join(blob, "data"), []byte("x"), 0o666), os.MkdirAll(repo, 0o777)); err != nil {
			t.Fatal(err)
		}
	}
	lists := map[string]int{}
	s.disk.seam = func(op, name string, do func() error) error {
		if op == "list" {
			lists[name]++
		}
		return do()
	}
	blobs, repos := 0, 0
	err := s.Contents(t.Context(), func(digest.Digest, int64) error {
		if blobs++; blobs == 1 && lists[blobsDir+"/sha256/ab"] != 1 {
			t.Errorf("%d listings before the first content", lists[blobsDir+"/sha256/ab"])
		}
		return nil
	})
	if err != nil || blobs != n {
		t.Errorf("%d contents, %v", blobs, err)
	}
	err = s.Repositories(t.Context(), func(r Repository) error {
		if repos++; repos == 1 && lists[reposDir+"/docker.io"] != 1 {
			t.Errorf("%d listings before the first repository", lists[reposDir+"/docker.io"])
		}
		return nil
	})
	if err != nil || repos != n {
		t.Errorf("%d repositories, %v", repos, err)
	}
	if lists[blobsDir+"/sha256/ab"] < 5 || lists[reposDir+"/docker.io"] < 5 {
		t.Errorf("%v", lists)
	}
}

func TestManyProblemsAreCounted(t *testing.T) {
	root := fastDir(t)
	s := openStore(t, root)
	for i := range mostProblems + 5 {
		if err := os.MkdirAll(filepath.Join(root, tagsDir("a"), fmt.Sprintf("t%d", i)), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	p := repositories(t, s)["a"].Problems
	if len(p) != mostProblems+1 || p[mostProblems] != "and 5 more" {
		t.Errorf("%d problems, the last %q", len(p), p[len(p)-1])
	}
}

// TestWithoutOpenat2: old kernels and strict sandboxes get the same answers, more slowly.
func TestWithoutOpenat2(t *testing.T) {
	root := t.TempDir()
	s := openStore(t, root)
	l := s.tree.(*local)
	b := some(1, 1000)
	whole, err := blobPath(mustCommit(t, s, b))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(root, "outside")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{whole: nil, filepath.Dir(whole): ErrDamaged, "missing": os.ErrNotExist, "missing/too": os.ErrNotExist} {
		fast, fastErr := l.openFile(name)
		slow, slowErr := l.openThroughRoot(name)
		fastSize, fastStatErr := l.statFile(name)
		slowSize, slowStatErr := l.statThroughRoot(name)
		if !errors.Is(fastErr, want) || !errors.Is(slowErr, want) || !errors.Is(fastStatErr, want) || !errors.Is(slowStatErr, want) {
			t.Errorf("%s: %v, %v, %v, %v; want %v", name, fastErr, slowErr, fastStatErr, slowStatErr, want)
			continue
		}
		if want != nil {
			continue
		}
		if fast.Size != 1000 || slow.Size != 1000 || fastSize != 1000 || slowSize != 1000 {
			t.Errorf("sizes %d, %d, %d, %d", fast.Size, slow.Size, fastSize, slowSize)
		}
		fast.Close()
		slow.Close()
	}
	for _, open := range []func(string) (Content, error){l.openFile, l.openThroughRoot} {
		if c, err := open("outside"); err == nil {
			c.Close()
			t.Error("a link was followed out of the directory")
		}
	}
}

func TestSweepOfABucket(t *testing.T) {
	dir := t.TempDir()
	s, driver := overDriver(t, filesystemDriver(dir))
	now, old := "/drafts/draft-other-1", "/drafts/draft-other-2"
	for _, name := range []string{now, old} {
		if err := driver.PutContent(t.Context(), name, []byte("half")); err != nil {
			t.Fatal(err)
		}
	}
	then := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(filepath.Join(dir, old), then, then); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := driver.Stat(t.Context(), now); err != nil {
		t.Errorf("another node's upload: %v", err)
	}
	if _, err := driver.Stat(t.Context(), old); err == nil {
		t.Error("what a crash left is still there")
	}
}

// TestDriverIsAskedLittle counts what the content of a bucket costs.
func TestDriverIsAskedLittle(t *testing.T) {
	c := &counter{n: 1 << 30}
	driver := &faultyDriver{StorageDriver: inmemory.New(), c: c}
	s, _ := overDriver(t, driver)
	b := some(1, 1000)
	d := sum(digest.SHA256, b)
	count := func(what string, want int, do func() error) {
		t.Helper()
		before := c.calls
		if err := do(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if n := c.calls - before; n != want {
			t.Errorf("%s: %d calls, want %d", what, n, want)
		}
	}
	count("put", 1, func() error { return s.Put(t.Context(), d, b) })
	count("stat", 1, func() error { _, err := s.Stat(t.Context(), d); return err })
	count("open", 1, func() error { _, err := s.Open(t.Context(), d); return err })
	count("link", 1, func() error { return s.LinkBlob(t.Context(), "a/b", d) })
	count("remove", 1, func() error { return s.Remove(t.Context(), d) })
	puts, _ := overDriver(t, faultyPutAt{driver})
	count("commit by putting a file", 1, func() error { return commit(puts, b) })
	count("open, seek and read a little", 3, func() error {
		c, err := s.Open(t.Context(), d)
		if err != nil {
			return err
		}
		defer c.Close()
		for _, at := range []int64{10, 20, 500} { // only the last matters
			if _, err := c.Seek(at, 0); err != nil {
				return err
			}
		}
		got := make([]byte, 100)
		if _, err := c.Read(got); err != nil || !bytes.Equal(got, b[500:600]) {
			return fmt.Errorf("read %v, %w", got, err)
		}
		return nil
	})
}

// TestBucketContentThatEndsEarly: a body shorter than the listing said is no end of content.
func TestBucketContentThatEndsEarly(t *testing.T) {
	driver := inmemory.New()
	s, _ := overDriver(t, driver)
	b := some(1, 1000)
	d := mustCommit(t, s, b)
	c, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	plant(t, driver, d, b[:500])
	got := make([]byte, 1000)
	n := 0
	for err == nil {
		var m int
		m, err = c.Read(got[n:])
		n += m
	}
	if n != 500 || !strings.Contains(err.Error(), "unexpected EOF") {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestScrubReadsSeveralAtOnce and no more than it was told.
func TestScrubReadsSeveralAtOnce(t *testing.T) {
	root := fastDir(t)
	s := openStore(t, root)
	for i := range 30 {
		mustCommit(t, s, some(uint64(i), 1000))
	}
	s.scrubbers = 3
	var now, most atomic.Int64
	s.disk.seam = func(op, _ string, do func() error) error {
		if op == "open" {
			n := now.Add(1)
			defer now.Add(-1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			for deadline := time.Now().Add(time.Second); most.Load() < 3 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			}
		}
		return do()
	}
	report, err := s.Scrub(t.Context(), func(ScrubEvent) {})
	if err != nil || report.Checked != 30 || most.Load() != 3 {
		t.Errorf("%+v, %v, %d at once", report, err, most.Load())
	}
}
