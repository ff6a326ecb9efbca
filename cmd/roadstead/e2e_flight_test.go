package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// gated starts a node whose project docker.io is a registry behind a gate, with one blob of the
// given size that nobody has asked for yet.
func gated(t *testing.T, size int) (n *node, g *gate, d digest.Digest, want []byte) {
	t.Helper()
	return gatedBy(t, size, nodeConfig{})
}

func gatedBy(t *testing.T, size int, c nodeConfig) (n *node, g *gate, d digest.Digest, want []byte) {
	t.Helper()
	u := startUpstream(t, upstreamConfig{})
	img, d := blob(t, uint64(size)+70000, size)
	u.push(t, "library/cargo", img)
	g = startGate(t, u.url)
	c.projects = map[string]any{"docker.io": project(g.url, map[string]any{"hub": true})}
	n = startNode(t, c)
	return n, g, d, img.blobs[d].bytes
}

const (
	cargo         = "docker.io/library/cargo"
	cargoUpstream = "/v2/library/cargo/blobs/"
)

// Fifty clients that want a cold blob cost one download (promise 2).
func TestHerdCostsOneDownload(t *testing.T) {
	e2e(t)
	const size = 24 << 20
	n, g, d, _ := gated(t, size)
	g.set(blobs(shape{rate: 12 << 20}))
	var herd sync.WaitGroup
	for range 50 {
		herd.Go(func() {
			if err := n.pullBlob(cargo, d, size); err != nil {
				t.Error(err)
			}
		})
	}
	herd.Wait()
	if got := g.count("GET " + cargoUpstream); got != 1 {
		t.Errorf("%d downloads from upstream, want 1", got)
	}
	if got := g.bytes.Load(); got != size {
		t.Errorf("%d bytes from upstream, want %d", got, size)
	}
	if err := n.pullBlob(cargo, d, size); err != nil {
		t.Error(err)
	}
	if got := g.count("GET " + cargoUpstream); got != 1 {
		t.Errorf("%d downloads after a hit, want 1", got)
	}
}

// A thousand requests for one cold blob cost one download too (FAULTS C3).
func TestThousandRequestsCostOneDownload(t *testing.T) {
	e2e(t)
	const size = 2 << 20
	n, g, d, _ := gated(t, size)
	release := make(chan struct{})
	g.set(blobs(shape{at: size / 2, hold: release}))
	client := newHTTPClient(nil)
	var herd sync.WaitGroup
	for range 1000 {
		herd.Go(func() {
			res, err := client.Get(n.url + blobPath(cargo, d))
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			if got, _, err := readDigest(res.Body); got != d || err != nil {
				t.Errorf("%s: digest %s, %v", res.Status, got, err)
			}
		})
	}
	time.Sleep(500 * time.Millisecond) // the herd is there: nothing depends on it, the test would only show less
	close(release)
	herd.Wait()
	if got := g.count("GET " + cargoUpstream); got != 1 {
		t.Errorf("%d downloads from upstream, want 1", got)
	}
}

// The first bytes of a miss leave before the download ends (promise 3): here it does not end
// until they have arrived. Late comers and ranges do not wait for its end either.
func TestFirstByteBeforeTheEnd(t *testing.T) {
	e2e(t)
	const size = 8 << 20
	n, g, d, want := gated(t, size)
	release := make(chan struct{})
	g.set(blobs(shape{at: size / 2, hold: release}))
	released := sync.OnceFunc(func() { close(release) })
	t.Cleanup(released)

	first, err := n.open(http.MethodGet, blobPath(cargo, d))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Body.Close()
	begin := make([]byte, 1<<20)
	if _, err := io.ReadFull(first.Body, begin); err != nil || !bytes.Equal(begin, want[:1<<20]) {
		t.Fatalf("the first MiB while upstream holds the second half: %v", err)
	}
	if first.ContentLength != size {
		t.Errorf("Content-Length is %d, want %d", first.ContentLength, size)
	}

	late, err := n.open(http.MethodGet, blobPath(cargo, d))
	if err != nil {
		t.Fatal(err)
	}
	defer late.Body.Close()
	if _, err := io.ReadFull(late.Body, begin); err != nil || !bytes.Equal(begin, want[:1<<20]) {
		t.Fatalf("the first MiB of a late comer: %v", err)
	}

	a := n.ask(http.MethodGet, blobPath(cargo, d), "Range: bytes=1000-1999")
	if a.status != http.StatusPartialContent || !bytes.Equal(a.body, want[1000:2000]) ||
		a.header.Get("Content-Range") != fmt.Sprintf("bytes 1000-1999/%d", size) {
		t.Errorf("a range of what has come: %v, %v", a, a.header)
	}
	if got := g.count("GET " + cargoUpstream); got != 1 {
		t.Errorf("%d downloads from upstream, want 1: %q", got, g.seen())
	}

	released()
	for _, body := range []io.Reader{first.Body, late.Body} {
		rest, err := io.ReadAll(body)
		if err != nil || !bytes.Equal(rest, want[1<<20:]) {
			t.Errorf("the rest: %d bytes, %v", len(rest), err)
		}
	}
}

// The first request for a blob may be for a part of it: that part comes at once as a 206, and
// the blob is whole in the cache afterwards.
func TestRangeOnMiss(t *testing.T) {
	e2e(t)
	const size = 8 << 20
	n, g, d, want := gated(t, size)
	release := make(chan struct{})
	g.set(blobs(shape{at: 1 << 20, hold: release}))
	released := sync.OnceFunc(func() { close(release) })
	t.Cleanup(released)
	a := n.ask(http.MethodGet, blobPath(cargo, d), "Range: bytes=100-299")
	if a.status != http.StatusPartialContent || !bytes.Equal(a.body, want[100:300]) {
		t.Errorf("a range on a miss: %v", a)
	}
	released()
	if err := n.pullBlob(cargo, d, size); err != nil {
		t.Error(err)
	}
	g.down()
	tail := n.ask(http.MethodGet, blobPath(cargo, d), "Range: bytes=-1000")
	if tail.status != http.StatusPartialContent || !bytes.Equal(tail.body, want[size-1000:]) {
		t.Errorf("a range of a cached blob: %v", tail)
	}
	beyond := n.ask(http.MethodGet, blobPath(cargo, d), fmt.Sprintf("Range: bytes=%d-", size))
	if beyond.status != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("a range beyond the end: %v, want 416", beyond)
	}
}

// A client that leaves ends nothing but its own request (FAULTS C1).
func TestClientLeavesAndTheFillCompletes(t *testing.T) {
	e2e(t)
	const size = 8 << 20
	n, g, d, _ := gated(t, size)
	release := make(chan struct{})
	g.set(blobs(shape{at: size / 2, hold: release}))
	res, err := n.open(http.MethodGet, blobPath(cargo, d))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(res.Body, make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	res.Body.Close() // of a body half read: this cuts the connection
	time.Sleep(200 * time.Millisecond)
	close(release)
	eventually(t, 10*time.Second, "the whole blob from upstream", func() bool { return g.bytes.Load() == size })
	eventually(t, 10*time.Second, "the blob in the store", func() bool { return scrub(t, n.dir) > 0 })
	g.down()
	if err := n.pullBlob(cargo, d, size); err != nil {
		t.Errorf("with upstream gone: %v", err)
	}
}

// Bytes that are not those of the digest never make a complete body and are never kept. For a
// minute upstream is not asked for them again (FAULTS U11); then the right ones are served
// (promise 1).
func TestCorruptUpstreamNeverCompletes(t *testing.T) {
	e2e(t)
	for _, test := range []struct {
		name     string
		size     int
		at       int64
		patience bool // the minute is waited for; else a new process has forgotten it
	}{
		{"a small blob", 4 << 10, 100, false},
		{"a large blob, early", 6 << 20, 10, true},
		{"a large blob, its last byte", 6 << 20, 6<<20 - 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n, g, d, _ := gated(t, test.size)
			g.set(blobs(shape{flip: true, at: test.at}))
			var herd sync.WaitGroup
			for range 5 {
				herd.Go(func() {
					a, err := n.tryAsk(http.MethodGet, blobPath(cargo, d))
					if err == nil && a.whole() {
						t.Errorf("a complete body of %d bytes with digest %s, want %s or none", len(a.body), a.digest(), d)
					}
				})
			}
			herd.Wait()
			if got := scrub(t, n.dir); got != 0 {
				t.Errorf("%d pieces of content were kept", got)
			}
			g.set(nil)
			if !test.patience {
				n.terminate(10 * time.Second)
				n.start()
			}
			eventually(t, 90*time.Second, "the blob from an upstream that has recovered", func() bool {
				return n.pullBlob(cargo, d, int64(test.size)) == nil
			})
		})
	}
}

// A manifest with other bytes than its digest says is refused, by tag and by digest.
func TestCorruptManifest(t *testing.T) {
	e2e(t)
	u := startUpstream(t, upstreamConfig{})
	img := recipe{seed: 71000}.make(t, "1")
	u.push(t, "library/cargo", img)
	g := startGate(t, u.url)
	n := startNode(t, nodeConfig{projects: map[string]any{"docker.io": project(g.url, map[string]any{"hub": true})}})
	g.set(func(r *http.Request) shape {
		return shape{flip: r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/"), at: 20}
	})
	for _, ref := range []string{"1", string(img.top().digest)} {
		if a := n.ask(http.MethodGet, manifestPath(cargo, ref)); a.status != http.StatusServiceUnavailable {
			t.Errorf("GET %s: %v, want 503", ref, a)
		}
	}
	g.set(nil)
	eventually(t, 5*time.Second, "the manifest from an upstream that has recovered", func() bool {
		return n.pull(cargo, "1", img) == nil
	})
}

// Upstream breaks off in the middle, or goes silent for a while: clients do not see it, and
// nothing is fetched twice.
func TestBrokenDownloadIsResumedUnseen(t *testing.T) {
	e2e(t)
	const size = 8 << 20
	n, g, d, _ := gated(t, size)
	g.set(once(blobs(shape{at: size / 3, cut: true})))
	if err := n.pullBlob(cargo, d, size); err != nil {
		t.Error(err)
	}
	resumed := false
	for _, request := range g.seen() {
		resumed = resumed || strings.HasPrefix(request, "GET "+cargoUpstream) && strings.HasSuffix(request, " bytes="+fmt.Sprint(size/3)+"-")
	}
	if !resumed || g.bytes.Load() != size {
		t.Errorf("%d bytes of %d were fetched, by %q; want the rest by a range", g.bytes.Load(), size, g.seen())
	}
	eventually(t, 10*time.Second, "the blob in the store", func() bool { return scrub(t, n.dir) > 0 })
}

// An upstream that never gets to the end leaves no complete body either, and no error text in
// it (FAULTS U10).
func TestTruncatedUpstream(t *testing.T) {
	e2e(t)
	const size = 6 << 20
	n, g, d, want := gated(t, size)
	g.set(func(r *http.Request) shape {
		return shape{cut: strings.Contains(r.URL.Path, "/blobs/") && r.Method == http.MethodGet && r.Header.Get("Range") == "", at: size / 2,
			status: map[bool]int{true: http.StatusServiceUnavailable}[r.Header.Get("Range") != ""]}
	})
	a, err := n.tryAsk(http.MethodGet, blobPath(cargo, d))
	if err == nil && a.whole() {
		t.Errorf("a complete body: %v", a)
	}
	if a.status == http.StatusOK && !bytes.HasPrefix(want, a.body) {
		t.Error("something that is not of the blob was appended to it")
	}
	if a.status == http.StatusOK && !errors.Is(a.err, io.ErrUnexpectedEOF) {
		t.Errorf("the body ended with %v, want a cut connection", a.err)
	}
	scrub(t, n.dir)
}
