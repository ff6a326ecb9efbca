package storage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// counting is a bucket in memory that counts who opens content, and can be slow or fail.
type counting struct {
	storagedriver.StorageDriver
	opened atomic.Int64 // bodies
	bytes  atomic.Int64 // of them
	gate   atomic.Pointer[chan struct{}]
	away   atomic.Bool
}

func (c *counting) OpenRange(ctx context.Context, path string, offset int64) (io.ReadCloser, int64, string, error) {
	if c.away.Load() {
		return nil, 0, "", errors.New("nobody answers")
	}
	info, err := c.Stat(ctx, path)
	if err != nil {
		return nil, 0, "", err
	}
	body, err := c.Reader(ctx, path, offset)
	if err != nil {
		return nil, 0, "", err
	}
	c.opened.Add(1)
	return &gated{ctx: ctx, body: body, of: c}, info.Size(), info.ModTime().String(), nil
}

// gated lets 64 KiB through at a time, and, while there is a gate, each only when it opens.
type gated struct {
	ctx  context.Context
	body io.ReadCloser
	of   *counting
}

func (g *gated) Read(p []byte) (int, error) {
	if gate := g.of.gate.Load(); gate != nil {
		select {
		case <-*gate:
		case <-g.ctx.Done():
			return 0, g.ctx.Err()
		}
	}
	if err := g.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := g.body.Read(p[:min(len(p), 64<<10)])
	g.of.bytes.Add(int64(n))
	return n, err
}

func (g *gated) Close() error { return g.body.Close() }

// PutAt puts content at once: the writer of this driver takes longer the more it has.
func (c *counting) PutAt(ctx context.Context, path string, content io.ReaderAt, size int64) error {
	return putAt{c.StorageDriver}.PutAt(ctx, path, content, size)
}

// close has bodies wait. The function lets n pieces through.
func (c *counting) close() (let func(n int), open func()) {
	gate := make(chan struct{})
	c.gate.Store(&gate)
	return func(n int) {
			for range n {
				gate <- struct{}{}
			}
		}, func() {
			c.gate.Store(nil)
			close(gate)
		}
}

// overBucket opens a store with copies before a bucket that lasts as long as the test.
func overBucket(t testing.TB, most int64) (*Store, *counting) {
	t.Helper()
	c := &counting{StorageDriver: inmemory.New()}
	return withCopies(t, c, fastDir(t), most), c
}

func withCopies(t testing.TB, d storagedriver.StorageDriver, dir string, most int64) *Store {
	t.Helper()
	s, err := New(Config{Driver: d, Drafts: filepath.Join(dir, "drafts"), Floor: -1, Scrubbers: 2, Hot: Hot{Dir: filepath.Join(dir, "hot"), Size: most}})
	if err != nil {
		t.Fatal(err)
	}
	s.hot.walk(t.Context())
	t.Cleanup(func() { s.Close() })
	return s
}

// kept puts content into the bucket of a store of which there is no copy.
func kept(t testing.TB, s *Store, b []byte) digest.Digest {
	t.Helper()
	d := mustCommit(t, s, b)
	s.Cool(d)
	return d
}

// readAll opens content and reads it as a server does, which looks for the end first.
func readAll(ctx context.Context, s *Store, d digest.Digest) ([]byte, error) {
	c, err := s.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if end, err := c.Seek(0, io.SeekEnd); err != nil || end != c.Size {
		return nil, errors.Join(errors.New("the end is elsewhere"), err)
	}
	if _, err := c.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	b := make([]byte, c.Size)
	n, err := io.ReadFull(c, b)
	return b[:n], err
}

func mustRead(t testing.TB, s *Store, d digest.Digest, want []byte) {
	t.Helper()
	if got, err := readAll(t.Context(), s, d); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %s: %d of %d bytes, %v", d, len(got), len(want), err)
	}
}

// settled waits until nothing is being copied or evicted.
func settled(t testing.TB, s *Store) HotStats {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		s.hot.mu.Lock()
		busy := s.hot.trimming || len(s.hot.fills)+len(s.hot.coming) > 0 || s.hot.filling > 0 || len(s.hot.slots) > 0
		s.hot.mu.Unlock()
		if stats, _ := s.Hot(); !busy {
			return stats
		}
		if time.Now().After(end) {
			t.Fatal("something is still being copied")
		}
	}
}

func isCopy(t testing.TB, s *Store, d digest.Digest) bool {
	t.Helper()
	c, ok := s.hot.open(d)
	if ok {
		c.Close()
	}
	return ok
}

func TestWhatIsStoredIsHot(t *testing.T) {
	s, bucket := overBucket(t, 1<<30)
	layer, manifest, pushed, others := some(1, 1<<20), some(2, 700), some(3, 2<<20), some(4, 3<<20)
	d := mustCommit(t, s, layer)
	if err := s.PutManifest(t.Context(), "production/web", sum(digest.SHA256, manifest), manifest, "latest"); err != nil {
		t.Fatal(err)
	}
	if err := pushBlob(s, "production/web", "an-upload", pushed); err != nil {
		t.Fatal(err)
	}
	draft, err := write(s, others, -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(draft.Verify(sum(digest.SHA256, others), -1), draft.KeepHot(), draft.Close()); err != nil {
		t.Fatal(err)
	}
	settled(t, s)
	for _, b := range [][]byte{layer, manifest, pushed, others} {
		mustRead(t, s, sum(digest.SHA256, b), b)
	}
	c, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, ok := c.ReadSeekCloser.(*os.File); !ok {
		t.Errorf("a copy is a %T, which the kernel cannot send", c.ReadSeekCloser)
	}
	if n := bucket.opened.Load(); n > 0 {
		t.Errorf("the bucket was asked %d times for what is here", n)
	}
	if _, err := s.Stat(t.Context(), sum(digest.SHA256, others)); !errors.Is(err, ErrNotFound) {
		t.Errorf("a copy counts as stored: %v", err)
	}
	if n, err := s.Length(t.Context(), sum(digest.SHA256, others)); n != int64(len(others)) || err != nil {
		t.Errorf("a copy is %d bytes long, %v", n, err)
	}
	left, _ := filepath.Glob(filepath.Join(s.drafts.dir, "*", "*"))
	more, _ := filepath.Glob(filepath.Join(s.hot.within.drafts.dir, "*"))
	if len(left)+len(more) > 0 {
		t.Errorf("left behind: %v %v", left, more)
	}
}

// A herd reads one cold blob: it is asked for once, all get it, the first of them before it is here.
func TestAHerdFillsOnce(t *testing.T) {
	s, bucket := overBucket(t, 1<<30)
	b := some(1, 1<<20)
	d := kept(t, s, b)
	let, open := bucket.close()
	var all, first sync.WaitGroup
	for i := range 30 {
		first.Add(1)
		all.Go(func() {
			c, err := s.Open(t.Context(), d)
			if err != nil {
				t.Error(err)
				first.Done()
				return
			}
			defer c.Close()
			got := make([]byte, 1000)
			if _, err := io.ReadFull(c, got); err != nil {
				t.Error(err)
			}
			first.Done()
			if i%2 == 0 {
				time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
			}
			rest := make([]byte, len(b)-len(got))
			_, err = io.ReadFull(c, rest)
			if got = append(got, rest...); err != nil || !bytes.Equal(got, b) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	let(1)
	first.Wait() // all have read, and the bucket has given one piece
	open()
	all.Wait()
	if stats := settled(t, s); stats.Filled != 2 || !isCopy(t, s, d) { // the first was that of the commit
		t.Errorf("%+v", stats)
	}
	if n, bytes := bucket.opened.Load(), bucket.bytes.Load(); n != 1 || bytes != int64(len(b)) {
		t.Errorf("the bucket was asked %d times for %d bytes", n, bytes)
	}
	mustRead(t, s, d, b)
}

func TestAFillOutlivesItsReaders(t *testing.T) {
	for _, test := range []struct {
		name     string
		size     int
		pieces   int // that have come when all leave, of 64 KiB
		begin    int64
		together bool // another reader stays
		copied   bool
	}{
		{"little is missing", 1<<20 + 100_000, 3, 0, false, true},
		{"most is missing", 4 << 20, 3, 0, false, false},
		{"half is here", 4 << 20, 33, 0, false, true},
		{"somebody else reads", 4 << 20, 3, 0, true, true},
		{"only the middle is read", 1 << 20, 1, 500_000, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, bucket := overBucket(t, 1<<30)
			s.hot.little = 1 << 20
			b := some(1, test.size)
			d := kept(t, s, b)
			let, open := bucket.close()
			ctx, leave := context.WithCancel(t.Context())
			c, err := s.Open(ctx, d)
			if err != nil {
				t.Fatal(err)
			}
			var other sync.WaitGroup
			if test.together {
				other.Go(func() { mustRead(t, s, d, b) })
			}
			read := make(chan error, 1)
			go func() {
				_, err := c.Seek(test.begin, io.SeekStart)
				if err == nil {
					_, err = io.ReadFull(c, make([]byte, max(1, (test.pieces-1)*(64<<10))))
				}
				read <- err
			}()
			let(test.pieces)
			if err := <-read; err != nil {
				t.Fatal(err)
			}
			leave()
			c.Close()
			open()
			other.Wait()
			settled(t, s)
			if got := isCopy(t, s, d); got != test.copied {
				t.Errorf("copied: %t, want %t", got, test.copied)
			}
			if left, _ := filepath.Glob(filepath.Join(s.hot.within.drafts.dir, "*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			mustRead(t, s, d, b)
		})
	}
}

func TestRangesAreReadFromTheBucket(t *testing.T) {
	s, bucket := overBucket(t, 1<<30)
	b := some(1, 12<<20)
	d := kept(t, s, b)
	let, open := bucket.close()
	whole, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	begun := make(chan struct{})
	go func() { whole.Read(make([]byte, 1)); close(begun) }()
	let(1)
	<-begun
	far, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	far.Seek(10<<20, io.SeekStart)
	got := make(chan []byte)
	go func() { p := make([]byte, 1000); io.ReadFull(far, p); got <- p }()
	defer open()
	select {
	case p := <-got:
		t.Errorf("%d bytes through a gate", len(p))
	default:
	}
	for done := false; !done; { // whoever takes a piece, a fill of 12 MiB does not come that far
		select {
		case *bucket.gate.Load() <- struct{}{}:
		case p := <-got:
			if done = true; !bytes.Equal(p, b[10<<20:10<<20+1000]) {
				t.Error("other bytes from the middle")
			}
		}
	}
	if n := bucket.opened.Load(); n != 2 {
		t.Errorf("%d bodies for one fill and one range", n)
	}
}

// Bytes that have rotted in the bucket never leave as a whole answer, and never become a copy.
func TestWhatIsRottenIsNotCopied(t *testing.T) {
	s, bucket := overBucket(t, 1<<30)
	b := some(1, 300_000)
	d := kept(t, s, b)
	name, _ := blobPath(d)
	wrong := bytes.Clone(b)
	wrong[200_000] ^= 1
	if err := bucket.PutContent(t.Context(), "/"+name, wrong); err != nil {
		t.Fatal(err)
	}
	got, err := readAll(t.Context(), s, d)
	if !errors.Is(err, ErrDamaged) || len(got) != len(b)-1 {
		t.Errorf("%d bytes and %v", len(got), err)
	}
	if stats := settled(t, s); stats.Rotten != 1 || isCopy(t, s, d) {
		t.Errorf("%+v", stats)
	}
	if err := s.Recheck(t.Context(), d); !errors.Is(err, ErrDamaged) {
		t.Errorf("recheck: %v", err)
	}
	if _, err := s.Open(t.Context(), d); !errors.Is(err, ErrNotFound) {
		t.Errorf("after the recheck: %v", err)
	}
	mustCommit(t, s, b)
	mustRead(t, s, d, b)
}

// What somebody does to the file of a copy is not served, and the bucket has it all the same.
func TestDamagedCopiesAreNotServed(t *testing.T) {
	s, _ := overBucket(t, 1<<30)
	b := some(1, 100_000)
	d := sum(digest.SHA256, b)
	file := s.hot.path(d)
	for name, damage := range map[string]func() error{
		"shorter":     func() error { return os.Truncate(file, 50_000) },
		"longer":      func() error { return os.Truncate(file, 100_001) },
		"empty":       func() error { return os.Truncate(file, 0) },
		"overwritten": func() error { return os.WriteFile(file, some(9, 100_000), 0o600) },
		"a flipped bit": func() error {
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte{b[7] ^ 1}, 7)
			return err
		},
		"a directory":  func() error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o700)) },
		"another copy": func() error { return os.Rename(s.hot.path(mustCommit(t, s, some(8, 100_000))), file) },
		"removed":      func() error { return os.Remove(file) },
	} {
		mustCommit(t, s, b)
		if !isCopy(t, s, d) {
			t.Fatalf("%s: no copy to damage", name)
		}
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		mustRead(t, s, d, b)
		settled(t, s)
		if !isCopy(t, s, d) {
			t.Errorf("%s: no new copy", name)
		}
		os.RemoveAll(file)
	}
}

// A disk that changes bits says nothing of it. The patrol finds them.
func TestThePatrolFindsRot(t *testing.T) {
	s, _ := overBucket(t, 1<<30)
	good, bad := some(1, 100_000), some(2, 100_000)
	g, d := mustCommit(t, s, good), mustCommit(t, s, bad)
	file := s.hot.path(d)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(file, good, 0o600), os.Chtimes(file, time.Time{}, info.ModTime())); err != nil {
		t.Fatal(err)
	}
	s.hot.patrol(t.Context(), 1<<30)
	if !isCopy(t, s, d) {
		t.Fatal("what has just been checked was checked again")
	}
	for e := s.hot.shelf.order.Front(); e != nil; e = e.Next() {
		e.Value.(*standing).checked = time.Time{}
	}
	s.hot.patrol(t.Context(), 1<<30)
	if stats, _ := s.Hot(); stats.Damaged != 1 || isCopy(t, s, d) || !isCopy(t, s, g) {
		t.Errorf("%+v", stats)
	}
	mustRead(t, s, d, bad)

	// Small content is compared whenever it is read.
	settled(t, s)
	if err := errors.Join(os.WriteFile(file, good, 0o600), os.Chtimes(file, time.Time{}, info.ModTime())); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Read(t.Context(), d, 1<<20); err != nil || !bytes.Equal(got, bad) {
		t.Errorf("read: %d bytes, %v", len(got), err)
	}
}

func TestCopiesKeepWithinTheirBound(t *testing.T) {
	const size, most = 100_000, 20
	s, _ := overBucket(t, most*102_400)
	var all []digest.Digest
	for i := range 50 {
		all = append(all, mustCommit(t, s, some(uint64(i), size)))
		if i >= 2 {
			isCopy(t, s, all[0]) // which is used all the time
		}
		settled(t, s)
	}
	stats := settled(t, s)
	if stats.Count != most || stats.Bytes != stats.MaxBytes || stats.Evicted != 50-most {
		t.Errorf("%+v", stats)
	}
	for i, d := range all {
		if got, want := isCopy(t, s, d), i == 0 || i > 50-most; got != want {
			t.Errorf("%d is a copy: %t", i, got)
		}
	}
	if d := mustCommit(t, s, some(100, size*most)); isCopy(t, s, d) {
		t.Error("one that pushes out all others")
	}
	// Readers bring no more either.
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for range 100 {
				i := rand.IntN(50)
				mustRead(t, s, all[i], some(uint64(i), size))
			}
		})
	}
	readers.Wait()
	if stats := settled(t, s); stats.Bytes > stats.MaxBytes {
		t.Errorf("%+v", stats)
	}
	files, _ := filepath.Glob(filepath.Join(s.hot.dir, "sha256", "*", "*"))
	if stats, _ := s.Hot(); int64(len(files)) != stats.Count {
		t.Errorf("%d files and %d on the shelf", len(files), stats.Count)
	}
}

// Another process finds what this one has left, and in what order it was used. It does not look
// before somebody has it look.
func TestCopiesOutliveTheProcess(t *testing.T) {
	bucket, dir := &counting{StorageDriver: inmemory.New()}, fastDir(t)
	s := withCopies(t, bucket, dir, 1<<30)
	var all []digest.Digest
	for i := range 20 {
		all = append(all, mustCommit(t, s, some(uint64(i), 4096)))
		used := time.Now().Add(time.Duration(i%7-30) * time.Hour)
		if err := os.Chtimes(s.hot.path(all[i]), used, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	rotten := s.hot.path(mustCommit(t, s, some(30, 4096)))
	os.Truncate(rotten, 10)
	foreign := filepath.Join(s.hot.dir, "sha256", "00", "README")
	os.MkdirAll(filepath.Dir(foreign), 0o700)
	os.WriteFile(foreign, []byte("mine"), 0o600)
	left, err := s.hot.within.Draft(digest.SHA256, 10)
	if err != nil {
		t.Fatal(err)
	}
	left.file.Close()
	s.Close()

	seen := atomic.Int64{}
	s, err = New(Config{Driver: bucket, Drafts: filepath.Join(dir, "drafts"), Floor: -1, Hot: Hot{Dir: filepath.Join(dir, "hot"), Size: 10 * 4096}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.disk.seam = func(op, name string, do func() error) error {
		if op == "list" {
			seen.Add(1)
		}
		return do()
	}
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustRead(t, s, all[1], some(1, 4096)) // the least recently used by its file
	if seen.Load() > 0 || bucket.opened.Load() > 0 {
		t.Errorf("%d listings and %d bodies before the first answer", seen.Load(), bucket.opened.Load())
	}
	s.hot.walk(t.Context())
	stats := settled(t, s)
	if stats.Count != 10 || stats.Damaged != 1 {
		t.Errorf("%+v", stats)
	}
	for i, d := range all {
		if got, want := isCopy(t, s, d), i == 1 || i%7 >= 4; got != want && i%7 != 3 { // of which one is left
			t.Errorf("%d is a copy: %t", i, got)
		}
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("somebody's file: %v", err)
	}
	if _, err := os.Stat(rotten); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a damaged copy: %v", err)
	}
	if more, _ := filepath.Glob(filepath.Join(s.hot.within.drafts.dir, "*")); len(more) > 0 {
		t.Errorf("left behind: %v", more)
	}
}

func TestWhatGoesTakesItsCopyAlong(t *testing.T) {
	s, bucket := overBucket(t, 1<<30)
	b := some(1, 1<<20)
	d := sum(digest.SHA256, b)
	for name, away := range map[string]func() error{
		"removed":     func() error { return s.Remove(t.Context(), d) },
		"quarantined": func() error { return s.Quarantine(t.Context(), d) },
		"scrubbed": func() error {
			path, _ := blobPath(d)
			bucket.PutContent(t.Context(), "/"+path, b[:1000])
			_, err := s.Scrub(t.Context(), func(ScrubEvent) {})
			return err
		},
	} {
		mustCommit(t, s, b)
		if !isCopy(t, s, d) {
			t.Fatalf("%s: no copy", name)
		}
		if err := away(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Open(t.Context(), d); !errors.Is(err, ErrNotFound) || isCopy(t, s, d) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// While it is being copied, too.
	kept(t, s, b)
	let, open := bucket.close()
	read := make(chan error)
	go func() { _, err := readAll(t.Context(), s, d); read <- err }()
	let(2)
	if err := s.Remove(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	open()
	if err := <-read; err != nil {
		t.Errorf("who was reading: %v", err)
	}
	if settled(t, s); isCopy(t, s, d) {
		t.Error("a fill has brought back what was removed")
	}
	if s.Cool(d) {
		t.Error("there was nothing to cool")
	}
	// And when it was put a moment ago.
	small := some(2, 100)
	for range 20 {
		if err := errors.Join(s.Put(t.Context(), sum(digest.SHA256, small), small), s.Remove(t.Context(), sum(digest.SHA256, small))); err != nil {
			t.Fatal(err)
		}
		if settled(t, s); isCopy(t, s, sum(digest.SHA256, small)) {
			t.Fatal("a copy of what was put has outlived it")
		}
	}
}

// The directory fails at any of its calls, is removed, or full: clients do not see it.
func TestTheHotDirectoryIsNobodysTrouble(t *testing.T) {
	b, small := some(1, 200_000), some(2, 900)
	use := func(s *Store) error {
		d, e := sum(digest.SHA256, b), sum(digest.SHA256, small)
		for range 2 {
			if got, err := readAll(t.Context(), s, d); err != nil || !bytes.Equal(got, b) {
				return errors.Join(errors.New("read a blob"), err)
			}
			if got, err := s.Read(t.Context(), e, 1000); err != nil || !bytes.Equal(got, small) {
				return errors.Join(errors.New("read a manifest"), err)
			}
			settled(t, s)
			s.hot.trouble.Store(nil) // as after a while
		}
		if _, err := s.Length(t.Context(), d); err != nil {
			return err
		}
		return nil
	}
	t.Run("a call fails", func(t *testing.T) {
		for fail := int64(1); ; fail++ {
			s, _ := overBucket(t, 1<<30)
			kept(t, s, b)
			kept(t, s, small)
			var calls atomic.Int64
			s.disk.seam = func(op, name string, do func() error) error {
				if calls.Add(1) == fail {
					return &os.PathError{Op: op, Path: name, Err: []error{unix.EIO, unix.EROFS, unix.ENOSPC, unix.EACCES}[fail%4]}
				}
				return do()
			}
			if err := use(s); err != nil {
				t.Errorf("call %d: %v", fail, err)
			}
			if calls.Load() < fail {
				break
			}
		}
	})
	t.Run("it is removed", func(t *testing.T) {
		s, bucket := overBucket(t, 1<<30)
		d := kept(t, s, b)
		kept(t, s, small)
		for range 3 {
			if err := use(s); err != nil {
				t.Error(err)
			}
			if err := os.RemoveAll(s.hot.dir); err != nil {
				t.Fatal(err)
			}
		}
		let, open := bucket.close()
		read := make(chan error)
		go func() { _, err := readAll(t.Context(), s, d); read <- err }()
		let(1)
		os.RemoveAll(s.hot.dir) // under a fill
		open()
		if err := <-read; err != nil {
			t.Error(err)
		}
		settled(t, s)
		if err := use(s); err != nil {
			t.Error(err)
		}
		if !isCopy(t, s, d) {
			t.Error("it is not used again")
		}
	})
	t.Run("it is full, read-only, and well again", func(t *testing.T) {
		dev := mountTmpfs(t, "size=64k")
		bucket := &counting{StorageDriver: inmemory.New()}
		s, err := New(Config{Driver: bucket, Drafts: fastDir(t), Floor: -1, Hot: Hot{Dir: filepath.Join(dev.at, "hot"), Size: 1 << 30}})
		if err != nil {
			t.Fatal(err)
		}
		s.hot.walk(t.Context())
		d := mustCommit(t, s, b) // of another file system, too
		mustCommit(t, s, small)
		if err := use(s); err != nil {
			t.Error(err)
		}
		if stats := settled(t, s); stats.Passed == 0 || isCopy(t, s, d) {
			t.Errorf("full: %+v", stats)
		}
		s.Cool(sum(digest.SHA256, small))
		dev.remount(t, "ro")
		if err := use(s); err != nil {
			t.Error(err)
		}
		if stats, _ := s.Hot(); stats.Faults == 0 {
			t.Errorf("read-only: %+v", stats)
		}
		dev.remount(t, "rw,size=4m")
		if err := use(s); err != nil {
			t.Error(err)
		}
		if stats, _ := s.Hot(); stats.Trouble != nil || !isCopy(t, s, d) {
			t.Errorf("well again: %+v", stats)
		}
		s.Close()
	})
}

// A power cut leaves the name of a copy and not its bytes, if they were not synced before, and a seal
// that is not theirs.
func TestCopiesAfterAPowerCut(t *testing.T) {
	need(t, "xfs_io")
	for _, kind := range journaled {
		t.Run(kind, func(t *testing.T) {
			dev := mountImage(t, kind, filepath.Join(t.TempDir(), "image"), 512<<20)
			bucket := &counting{StorageDriver: inmemory.New()}
			open := func() *Store {
				s, err := New(Config{Driver: bucket, Drafts: filepath.Join(dev.at, "drafts"), Floor: -1, Hot: Hot{Dir: filepath.Join(dev.at, "hot"), Size: 1 << 30}})
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			for round, lie := range []bool{false, true} {
				s := open()
				s.disk.seam = func(op, _ string, do func() error) error {
					if lie && op == "sync" {
						return nil
					}
					return do()
				}
				var all []digest.Digest
				for i := range 30 {
					all = append(all, mustCommit(t, s, some(uint64(100*round+i), 50_000)))
					if i%2 == 0 { // and half of them come the other way
						s.Cool(all[i])
						mustRead(t, s, all[i], some(uint64(100*round+i), 50_000))
					}
				}
				settled(t, s)
				// As a journal does now and then, with all names that there are.
				if dir, err := os.Open(s.hot.dir); err != nil || dir.Sync() != nil || dir.Close() != nil {
					t.Fatal(err)
				}
				run(t, "xfs_io", "-x", "-c", "shutdown", dev.at)
				s.Close()
				dev.unmount(t)
				dev.mount(t)

				s = open()
				bucket.opened.Store(0)
				for i, d := range all {
					mustRead(t, s, d, some(uint64(100*round+i), 50_000))
				}
				stats := settled(t, s)
				s.Close()
				t.Logf("synced: %t: of 30 copies %d are there and good, %d were dropped", !lie, stats.Hits, stats.Damaged)
				if !lie && (stats.Damaged > 0 || stats.Hits == 0) {
					t.Errorf("%+v", stats)
				}
			}
		})
	}
}

// Drafts that lack room get that of copies, the least recently used first, and no more than they need.
func TestCopiesMakeRoomForDrafts(t *testing.T) {
	s, _ := overBucket(t, 1<<30)
	var all []digest.Digest
	for i := range 10 {
		all = append(all, mustCommit(t, s, some(uint64(i), 1<<20)))
	}
	s.space.floor = 100 << 20
	s.space.statfs = func(string) (int64, int64, error) {
		s.hot.mu.Lock()
		defer s.hot.mu.Unlock()
		return 111<<20 - s.hot.shelf.bytes, 1000 << 20, nil
	}
	draft, err := s.Draft(digest.SHA256, 4<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer draft.Close()
	for i, d := range all {
		if got, want := isCopy(t, s, d), i >= 3; got != want {
			t.Errorf("%d is a copy: %t", i, got)
		}
	}
	if _, err := s.Draft(digest.SHA256, 50<<20); !errors.Is(err, ErrFull) {
		t.Errorf("more than there is: %v", err)
	}
	if stats, _ := s.Hot(); stats.Count != 7 {
		t.Errorf("what does not help was removed: %+v", stats)
	}
}
