package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
)

// noise returns bytes that no compression and no accident makes equal.
func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// gate is a body that gives out its bytes only as far as it has been opened.
type gate struct {
	*bytes.Reader
	mu    sync.Mutex
	moved *sync.Cond
	until int64
	err   error // once all that is open has been read
}

func newGate(b []byte, until int64) *gate {
	g := &gate{Reader: bytes.NewReader(b), until: until}
	g.moved = sync.NewCond(&g.mu)
	return g
}

func (g *gate) open(until int64, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.until, g.err = until, err
	g.moved.Broadcast()
}

func (g *gate) Read(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.Size() - int64(g.Len())
	for at >= g.until && at < g.Size() {
		if g.err != nil {
			return 0, g.err
		}
		g.moved.Wait()
	}
	if left := g.until - at; int64(len(p)) > left && left > 0 {
		p = p[:left]
	}
	return g.Reader.Read(p)
}

func (g *gate) Close() error { return nil }

// gated makes o give out its next blobs through one gate.
func gated(o *origin, content []byte, until int64) *gate {
	g := newGate(content, until)
	o.set(func() { o.body = func(registry.Digest, []byte) io.ReadSeekCloser { return g } })
	return g
}

func TestHerdCostsOneDownload(t *testing.T) {
	o := newOrigin()
	img := o.putImage(t, "library/big", "1", noise(3<<20, 1))
	h := proxy(t, o)
	g := gated(o, img.content, 1<<20)

	const clients = 50
	var began, done sync.WaitGroup
	for range clients {
		began.Add(1)
		done.Go(func() {
			first := sync.OnceFunc(began.Done)
			defer first()
			b, err := h.Blob(t.Context(), hub("library/big"), img.layer)
			if err != nil {
				t.Error(err)
				return
			}
			defer b.Close()
			got := make([]byte, 1<<10)
			if _, err := io.ReadFull(b, got); err != nil {
				t.Error(err)
			}
			first()
			rest, err := io.ReadAll(b)
			if err != nil || !bytes.Equal(append(got, rest...), img.content) {
				t.Errorf("got %d bytes, %v", len(got)+len(rest), err)
			}
		})
	}
	began.Wait() // all have bytes, and upstream has not sent two thirds of them
	g.open(int64(len(img.content)), nil)
	done.Wait()
	wantAsked(t, o, "blob library/big "+short(string(img.layer)))
	s := h.Stats().Projects["docker.io"]
	if s.Misses+s.Joins+s.Hits != clients || s.Misses != 1 || s.BytesUpstream != int64(len(img.content)) {
		t.Errorf("figures are %+v", s)
	}
}

func TestLastByteWaitsForTheProof(t *testing.T) {
	content := noise(300<<10, 2)
	wrong := bytes.Clone(content)
	wrong[len(wrong)-1]++
	short := content[:len(content)-1]
	long := append(bytes.Clone(content), 'x')
	rows := []struct {
		name string
		sent []byte
	}{
		{"last byte is wrong", wrong},
		{"one byte short", short},
		{"one byte long", long},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			o := newOrigin()
			img := o.putImage(t, "library/big", "1", content)
			h := proxy(t, o)
			if _, err := h.Resolve(t.Context(), hub("library/big"), "1"); err != nil {
				t.Fatal(err)
			}
			o.asked()
			o.set(func() {
				o.sizeless = len(row.sent) != len(content) // the manifest's size holds
				o.body = func(registry.Digest, []byte) io.ReadSeekCloser { return closer{bytes.NewReader(row.sent)} }
			})
			got, err := h.read(t, hub("library/big"), img.layer)
			if err == nil || len(got) >= len(content) {
				t.Errorf("got %d of %d bytes and error %v", len(got), len(content), err)
			}
			if !errors.Is(err, registry.Unavailable) {
				t.Errorf("got error %v, want it to be upstream's trouble", err)
			}
			wantAsked(t, o, "blob library/big "+img.layer.Encoded()[:6])

			// It is not kept, and not asked for again at once.
			if _, err := h.read(t, hub("library/big"), img.layer); err == nil {
				t.Error("corrupt content was served the second time")
			}
			wantAsked(t, o)
			if got := h.Stats().Projects["docker.io"].Corrupt; got != 1 {
				t.Errorf("%d corrupt, want 1", got)
			}
		})
	}
}

func TestFlightOutlivesItsClient(t *testing.T) {
	o := newOrigin()
	img := o.putImage(t, "library/big", "1", noise(1<<20, 3))
	h := proxy(t, o)
	g := gated(o, img.content, 100<<10)
	ctx, leave := context.WithCancel(t.Context())
	b, err := h.Blob(ctx, hub("library/big"), img.layer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, b, 50<<10); err != nil {
		t.Fatal(err)
	}
	leave()
	if _, err := io.Copy(io.Discard, b); !errors.Is(err, context.Canceled) {
		t.Errorf("reading on after leaving: %v", err)
	}
	b.Close()
	g.open(1<<20, nil)
	h.settle(t)
	o.set(func() { o.fail = down })
	if got, err := h.read(t, hub("library/big"), img.layer); err != nil || !bytes.Equal(got, img.content) {
		t.Errorf("after its client left: %d bytes, %v", len(got), err)
	}
}

func TestRangeOfAFlightIsServedInFlight(t *testing.T) {
	o := newOrigin()
	img := o.putImage(t, "library/big", "1", noise(1<<20, 4))
	h := proxy(t, o)
	g := gated(o, img.content, 600<<10)
	b, err := h.Blob(t.Context(), hub("library/big"), img.layer)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if end, err := b.Seek(0, io.SeekEnd); err != nil || end != 1<<20 {
		t.Fatalf("the end is at %d, %v", end, err)
	}
	if _, err := b.Seek(500<<10, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 50<<10)
	if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, img.content[500<<10:550<<10]) {
		t.Errorf("range in flight: %v", err)
	}
	g.open(1<<20, nil)
}

func TestUpstreamBreaksMidway(t *testing.T) {
	o := newOrigin()
	img := o.putImage(t, "library/big", "1", noise(1<<20, 5))
	h := proxy(t, o)
	g := gated(o, img.content, 100<<10)
	g.open(100<<10, down("", "", ""))
	if got, err := h.read(t, hub("library/big"), img.layer); !errors.Is(err, registry.Unavailable) {
		t.Errorf("got %d bytes and %v", len(got), err)
	}
	o.set(func() { o.body = nil })
	if got, err := h.read(t, hub("library/big"), img.layer); err != nil || !bytes.Equal(got, img.content) {
		t.Errorf("once upstream is well: %d bytes, %v", len(got), err)
	}
}

func TestBlobWithoutASize(t *testing.T) {
	o := newOrigin()
	img := o.putImage(t, "library/big", "1", noise(1<<20, 6))
	o.sizeless = true
	h := proxy(t, o)
	b, err := h.Blob(t.Context(), hub("library/big"), img.layer)
	if err != nil || b.Size != 1<<20 {
		t.Fatalf("size %d, %v", b.Size, err)
	}
	defer b.Close()
	if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, img.content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestOneDownloadForTwoRepositories(t *testing.T) {
	o := newOrigin()
	layer := noise(1<<20, 7)
	a := o.putImage(t, "team/a", "1", layer)
	o.putImage(t, "team/b", "1", layer)
	h := proxy(t, o)
	if err := h.pull(t, hub("team/a"), "1"); err != nil {
		t.Fatal(err)
	}
	o.asked()
	if err := h.pull(t, hub("team/b"), "1"); err != nil {
		t.Fatal(err)
	}
	for _, q := range o.asked() {
		if strings.HasPrefix(q, "blob") && strings.HasSuffix(q, short(string(a.layer))) {
			t.Errorf("the shared layer was asked for again: %s", q)
		}
	}
	h.settle(t)
	for _, repo := range []string{"team/a", "team/b"} {
		link := filepath.Join(h.dir, "docker/registry/v2/repositories/docker.io", repo, "_layers/sha256", a.layer.Encoded(), "link")
		if got, err := os.ReadFile(link); err != nil || string(got) != string(a.layer) {
			t.Errorf("link of the layer in %s: %q, %v", repo, got, err)
		}
	}
}

// Knowing a digest opens nothing: a repository that does not link a blob asks upstream.
func TestContentOfAnotherRepository(t *testing.T) {
	o := newOrigin()
	img := o.putImage(t, "team/private", "1", noise(100<<10, 8))
	h := proxy(t, o)
	if err := h.pull(t, hub("team/private"), "1"); err != nil {
		t.Fatal(err)
	}
	o.asked()
	if _, err := h.read(t, hub("team/other"), img.layer); !errors.Is(err, registry.BlobUnknown) {
		t.Errorf("a blob that upstream does not have there: %v", err)
	}
	wantAsked(t, o, "stat team/other "+short(string(img.layer)))
	if _, err := h.read(t, hub("team/other"), img.layer); !errors.Is(err, registry.BlobUnknown) {
		t.Errorf("asked again: %v", err)
	}
	wantAsked(t, o) // the no is remembered
	if _, err := h.Manifest(t.Context(), hub("team/other"), img.manifest.Digest); !errors.Is(err, registry.ManifestUnknown) {
		t.Errorf("a manifest that upstream does not have there: %v", err)
	}
	o.asked()

	o.set(func() {
		o.blobs["team/third@"+string(img.layer)] = img.content
	})
	if got, err := h.read(t, hub("team/third"), img.layer); err != nil || !bytes.Equal(got, img.content) {
		t.Errorf("a blob that upstream has there too: %d bytes, %v", len(got), err)
	}
	wantAsked(t, o, "stat team/third "+short(string(img.layer)))

	o.set(func() { o.fail = down })
	if _, err := h.read(t, hub("team/fourth"), img.layer); !errors.Is(err, registry.Unavailable) {
		t.Errorf("when upstream cannot be asked: %v", err)
	}
}

func TestStatDownloadsNothing(t *testing.T) {
	o := newOrigin()
	img := o.putImage(t, "library/big", "1", noise(1<<20, 9))
	h := proxy(t, o)
	desc, err := h.StatBlob(t.Context(), hub("library/big"), img.layer)
	if err != nil || desc.Size != 1<<20 {
		t.Errorf("got %+v, %v", desc, err)
	}
	wantAsked(t, o, "stat library/big "+short(string(img.layer)))
	if _, err := h.read(t, hub("library/big"), img.layer); err != nil {
		t.Fatal(err)
	}
	h.settle(t)
	o.asked()
	if desc, err := h.StatBlob(t.Context(), hub("library/big"), img.layer); err != nil || desc.Size != 1<<20 {
		t.Errorf("once here: %+v, %v", desc, err)
	}
	wantAsked(t, o)
}

func TestDamagedContentHeals(t *testing.T) {
	o := newOrigin()
	img := o.putImage(t, "library/big", "1", noise(1<<20, 10))
	h := proxy(t, o)
	h.fetch(t, "library/big", "1")
	for _, d := range []registry.Digest{img.layer, img.manifest.Digest} {
		file := h.file(d)
		if err := os.Truncate(file, 100); err != nil {
			t.Fatal(err)
		}
	}
	h.stop()
	again := newHouse(t, h.dir, Config{Projects: []Project{{Name: "docker.io", Upstream: o}}})
	o.asked()
	for range 2 {
		if err := again.pull(t, hub("library/big"), "1"); err != nil {
			t.Fatal(err)
		}
	}
	again.settle(t)
	wantAsked(t, o, "manifest library/big "+short(string(img.manifest.Digest)), "blob library/big "+short(string(img.layer)))
	if err := again.pull(t, hub("library/big"), "1"); err != nil {
		t.Fatal(err)
	}
}

// A disk that is full from the start: nobody notices but the figures.
func TestNoRoomFromTheStart(t *testing.T) {
	o := newOrigin()
	img := o.putImage(t, "library/big", "1", noise(1<<20, 11))
	h := newHouse(t, t.TempDir(), Config{MaxSize: 1 << 10, Projects: []Project{{Name: "docker.io", Upstream: o}}})
	for range 2 {
		if got, err := h.read(t, hub("library/big"), img.layer); err != nil || !bytes.Equal(got, img.content) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	}
	b, err := h.Blob(t.Context(), hub("library/big"), img.layer)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.Seek(700<<10, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, img.content[700<<10:]) {
		t.Errorf("a range: %d bytes, %v", len(got), err)
	}
	if got := h.Stats().PassThrough; got != 3 {
		t.Errorf("%d blobs passed through, want 3", got)
	}

	o.set(func() {
		o.body = func(_ registry.Digest, content []byte) io.ReadSeekCloser {
			wrong := bytes.Clone(content)
			wrong[0]++
			return closer{bytes.NewReader(wrong)}
		}
	})
	if got, err := h.read(t, hub("library/big"), img.layer); err == nil || len(got) == len(img.content) {
		t.Errorf("corrupt content without a draft: %d bytes, %v", len(got), err)
	}
}

// A disk that fills up midway: readers at different places all end with the right bytes.
func TestDiskFillsUpMidway(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("mounting a small file system needs root")
		}
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	defer exec.Command("umount", "-l", dir).Run()

	o := newOrigin()
	img := o.putImage(t, "library/big", "1", noise(2<<20, 12))
	o.sizeless = true // so that nothing can be reserved
	h := newHouse(t, dir, Config{Projects: []Project{{Name: "docker.io", Upstream: o}}})
	defer h.stop()
	// The manifest tells the readers the size all the same.
	if _, err := h.Resolve(t.Context(), hub("library/big"), "1"); err != nil {
		t.Fatal(err)
	}
	h.settle(t)
	g := gated(o, img.content, 1<<20)
	var readers []registry.Blob
	for i := range 4 {
		b, err := h.Blob(t.Context(), hub("library/big"), img.layer)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, b, int64(i)*300<<10); err != nil {
			t.Fatal(err)
		}
		readers = append(readers, b)
	}
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 4<<20), 0o600); err == nil {
		t.Fatal("the file system did not fill up")
	}
	o.set(func() { o.body = nil })
	g.open(2<<20, nil)
	for i, b := range readers {
		if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, img.content[i*300<<10:]) {
			t.Errorf("reader %d: %d bytes, %v", i, len(got), err)
		}
		b.Close()
	}
	if got := h.Stats().PassThrough; got != 1 {
		t.Errorf("%d blobs passed through, want 1", got)
	}

	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
	if got, err := h.read(t, hub("library/big"), img.layer); err != nil || !bytes.Equal(got, img.content) {
		t.Errorf("once there is room: %d bytes, %v", len(got), err)
	}
	h.settle(t)
	o.set(func() { o.fail = down })
	if got, err := h.read(t, hub("library/big"), img.layer); err != nil || !bytes.Equal(got, img.content) {
		t.Errorf("kept once there was room: %d bytes, %v", len(got), err)
	}
}

// A catalog that is away is not the clients' trouble while upstream answers, nor that of
// those who ask for what memory knows.
func TestCatalogAway(t *testing.T) {
	o := newOrigin()
	o.putImage(t, "library/known", "1", noise(100<<10, 13))
	o.putImage(t, "library/new", "1", noise(100<<10, 14))
	h := proxy(t, o)
	h.fetch(t, "library/known", "1")
	if s := h.Stats(); !s.Counted || s.ProxiedBytes < 100<<10 {
		t.Errorf("the catalog counts %d bytes, %v", s.ProxiedBytes, s.Counted)
	}
	if err := h.catalog.Close(); err != nil {
		t.Fatal(err)
	}
	if s := h.Stats(); s.Counted {
		t.Errorf("a catalog that is away counts %d bytes", s.ProxiedBytes)
	}
	if err := h.pull(t, hub("library/new"), "1"); err != nil {
		t.Errorf("a new image: %v", err)
	}
	o.set(func() { o.fail = down })
	for _, repo := range []string{"library/known", "library/new"} {
		if err := h.pull(t, hub(repo), "1"); err != nil {
			t.Errorf("%s, with upstream down too: %v", repo, err)
		}
	}
}

func TestManifestThatIsNotOne(t *testing.T) {
	o := newOrigin()
	body := []byte(`{"schemaVersion":2,"layers":[],"manifests":[]}`)
	d := digest.FromBytes(body)
	o.manifests["library/x@"+string(d)] = registry.Manifest{Descriptor: registry.Descriptor{Digest: d, Size: int64(len(body))}, Bytes: body}
	h := proxy(t, o)
	for range 2 {
		if _, err := h.Manifest(t.Context(), hub("library/x"), d); !errors.Is(err, registry.Unavailable) {
			t.Errorf("got %v", err)
		}
	}
	wantAsked(t, o, "manifest library/x "+short(string(d)))
}

func TestClosingEndsFlights(t *testing.T) {
	o := newOrigin()
	img := o.putImage(t, "library/big", "1", noise(1<<20, 15))
	h := proxy(t, o)
	g := gated(o, img.content, 100<<10)
	b, err := h.Blob(t.Context(), hub("library/big"), img.layer)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	go func() {
		<-h.life.Done()
		g.open(100<<10, context.Canceled) // as an upstream's body does when ctx ends
	}()
	h.stop()
	if _, err := io.Copy(io.Discard, b); err == nil {
		t.Error("the body of an ended flight looked whole")
	}
	if _, err := h.Blob(t.Context(), hub("library/big"), img.layer); !errors.Is(err, registry.Unavailable) {
		t.Errorf("a request after the end: %v", err)
	}
}

func TestListingsTogether(t *testing.T) {
	o := newOrigin()
	o.putImage(t, "library/x", "1", []byte("one"))
	o.putImage(t, "library/x", "2", []byte("two"))
	h := proxy(t, o, func(p *Project) { p.TTL = -1; p.Deny = []string{"library/x:3"} })
	h.fetch(t, "library/x", "1")
	o.putImage(t, "library/x", "3", []byte("three"))
	o.putImage(t, "library/x", "4", []byte("four"))
	o.set(func() { delete(o.tags, "library/x:1") })
	list := func(after string, n int, want ...string) {
		t.Helper()
		got, err := h.Tags(t.Context(), hub("library/x"), after, n)
		if err != nil || strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("tags after %q: %q, %v; want %q", after, got, err, want)
		}
	}
	list("", -1, "1", "2", "4")
	list("", 2, "1", "2")
	list("2", 5, "4")
	list("", 0)
	o.set(func() { o.fail = down })
	list("0", 9, "1") // never asked before the outage: what is here
	time.Sleep(time.Millisecond)
	list("", -1, "1", "2", "4") // asked before: what upstream last said
	if _, err := h.Tags(t.Context(), hub("library/never"), "", 5); !errors.Is(err, registry.Unavailable) {
		t.Errorf("a repository that nobody knows: %v", err)
	}
}

// A manifest that could not be kept is tried again later, and nothing links it before.
func TestManifestIsKeptOnceThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, dir := newOrigin(), t.TempDir()
		img := o.putImage(t, "library/x", "1", []byte("layer"))
		manifests := filepath.Join(dir, "docker/registry/v2/repositories/docker.io/library/x/_manifests")
		link := filepath.Join(manifests, "revisions/sha256", img.manifest.Digest.Encoded(), "link")
		tag := filepath.Join(manifests, "tags/1/current/link")
		h := newHouse(t, dir, Config{Projects: []Project{{Name: "docker.io", Upstream: o, TTL: time.Second}}})
		blobs := filepath.Join(dir, "docker/registry/v2/blobs")
		if err := os.MkdirAll(filepath.Dir(blobs), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(blobs, nil, 0o600); err != nil { // in the way of the directory
			t.Fatal(err)
		}
		pull := func() {
			t.Helper()
			desc, err := h.Resolve(t.Context(), hub("library/x"), "1")
			if err == nil {
				_, err = h.Manifest(t.Context(), hub("library/x"), desc.Digest)
			}
			if err != nil {
				t.Fatal(err)
			}
			h.settle(t)
		}
		for range 3 {
			pull()
		}
		for _, name := range []string{link, tag} {
			if _, err := os.Stat(name); err == nil {
				t.Errorf("%s leads to a manifest that is not stored", name)
			}
		}
		if got := h.Stats().PassThrough; got != 1 {
			t.Errorf("keeping was tried %d times at once, want 1", got)
		}
		if err := os.Remove(blobs); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			time.Sleep(2 * time.Minute)
			pull()
		}
		for _, name := range []string{link, tag} {
			if _, err := os.Stat(name); err != nil || !h.stored(img.manifest.Digest) {
				t.Errorf("once it can be kept: stored %v, %v", h.stored(img.manifest.Digest), err)
			}
		}
		h.stop()
	})
}
