//go:build linux

package main_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	"github.com/opencontainers/image-spec/specs-go/v1"

	"roadstead/registry"
)

// benchOrigin holds the images that all upstreams of the comparison serve. Blobs are
// files in memory, so that an upstream sends them without a copy
// and without touching the disk that the servers under test write to.
type benchOrigin struct {
	mu        sync.Mutex
	manifests map[string]benchManifest // by "name/manifests/reference"
	blobs     map[digest.Digest]*os.File
	seed      uint64
}

type benchManifest struct {
	mediaType string
	digest    digest.Digest
	bytes     []byte
}

// benchImage is one image of the origin.
type benchImage struct {
	name, tag string
	manifest  benchManifest
	config    v1.Descriptor
	layers    []v1.Descriptor
	size      int64 // of all bodies that one pull transfers
}

func newBenchOrigin(b *testing.B) *benchOrigin {
	o := &benchOrigin{manifests: map[string]benchManifest{}, blobs: map[digest.Digest]*os.File{}}
	b.Cleanup(func() {
		for _, f := range o.blobs {
			f.Close()
		}
	})
	return o
}

// image makes an image whose bytes no other image has, with layers of the given sizes.
func (o *benchOrigin) image(b *testing.B, name string, layers ...int64) *benchImage {
	b.Helper()
	img := &benchImage{name: name, tag: "v1.2.3"}
	config := fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","config":{"Labels":{"name":%q}},"rootfs":{"type":"layers","diff_ids":[]}}`, name)
	img.config = o.blob(b, v1.MediaTypeImageConfig, bytes.NewReader(config))
	for _, size := range layers {
		o.seed++
		noise := rand.NewChaCha8(sha256.Sum256(fmt.Append(nil, o.seed)))
		img.layers = append(img.layers, o.blob(b, v1.MediaTypeImageLayerGzip, io.LimitReader(noise, size)))
	}
	manifest, err := json.Marshal(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageManifest,
		Config:    img.config,
		Layers:    img.layers,
	})
	if err != nil {
		b.Fatal(err)
	}
	img.manifest = benchManifest{mediaType: v1.MediaTypeImageManifest, digest: digest.FromBytes(manifest), bytes: manifest}
	img.size = int64(len(manifest)) + img.config.Size
	for _, layer := range img.layers {
		img.size += layer.Size
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.manifests[name+"/manifests/"+img.tag] = img.manifest
	o.manifests[name+"/manifests/"+img.manifest.digest.String()] = img.manifest
	return img
}

func (o *benchOrigin) blob(b *testing.B, mediaType string, content io.Reader) v1.Descriptor {
	b.Helper()
	f, err := os.CreateTemp("/dev/shm", "roadstead-bench-")
	if err != nil {
		b.Fatal(err)
	}
	os.Remove(f.Name()) // the descriptor is enough, and an interrupted benchmark leaves nothing
	hash := sha256.New()
	// The wrapping hides WriterTo and ReaderFrom: both sinks get each piece while it is warm.
	n, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(f, hash)}, struct{ io.Reader }{content}, make([]byte, 1<<18))
	if err != nil {
		b.Fatal(err)
	}
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.NewDigest(digest.SHA256, hash), Size: n}
	o.mu.Lock()
	defer o.mu.Unlock()
	if old := o.blobs[d.Digest]; old != nil {
		old.Close()
	}
	o.blobs[d.Digest] = f
	return d
}

// drop frees the memory of an image. No upstream may be serving it.
func (o *benchOrigin) drop(img *benchImage) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, d := range append([]v1.Descriptor{img.config}, img.layers...) {
		if f := o.blobs[d.Digest]; f != nil {
			f.Close()
		}
		delete(o.blobs, d.Digest)
	}
}

// open opens a blob with a file offset of its own, as sendfile needs it.
func (o *benchOrigin) open(d digest.Digest) (*os.File, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f := o.blobs[d]
	if f == nil {
		return nil, os.ErrNotExist
	}
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
}

// writeTo lays an image out as a static web server wants it, below root/v2/prefix.
func (o *benchOrigin) writeTo(b *testing.B, root, prefix string, img *benchImage) {
	b.Helper()
	base := filepath.Join(root, "v2", prefix, img.name)
	write := func(path string, content io.Reader) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		f, err := os.Create(path)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		if _, err := io.Copy(f, content); err != nil {
			b.Fatal(err)
		}
	}
	for _, reference := range []string{img.tag, img.manifest.digest.String()} {
		write(filepath.Join(base, "manifests", reference), bytes.NewReader(img.manifest.bytes))
	}
	for _, d := range append([]v1.Descriptor{img.config}, img.layers...) {
		f, err := o.open(d.Digest)
		if err != nil {
			b.Fatal(err)
		}
		write(filepath.Join(base, "blobs", d.Digest.String()), f)
		f.Close()
	}
}

// benchUpstream is one listening registry in front of the origin.
type benchUpstream struct {
	addr     string
	origin   *benchOrigin
	delay    time.Duration // before each answer; zero: none
	link     *benchLink    // nil: as fast as the kernel sends
	requests atomic.Int64
	body     atomic.Int64 // bytes of manifests and blobs sent
}

// listen starts an upstream. rate is that of its whole network link in bytes per second; zero
// means that nothing limits it.
func (o *benchOrigin) listen(b *testing.B, delay time.Duration, rate int64) *benchUpstream {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	u := &benchUpstream{addr: l.Addr().String(), origin: o, delay: delay}
	if rate > 0 {
		u.link = &benchLink{rate: rate}
	}
	server := &http.Server{Handler: u}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	b.Cleanup(func() {
		server.Close()
		<-done
	})
	return u
}

// reset sets the counters to zero.
func (u *benchUpstream) reset() {
	u.requests.Store(0)
	u.body.Store(0)
}

// ServeHTTP answers the read side of the distribution API, GET and HEAD, ranges included.
func (u *benchUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.requests.Add(1)
	if u.delay > 0 {
		time.Sleep(u.delay)
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	if path == "" && ok {
		io.WriteString(w, "{}")
		return
	}
	out := &benchWriter{ResponseWriter: w, upstream: u, ctx: r.Context()}
	if before, d, ok := strings.Cut(path, "/blobs/"); ok && before != "" {
		f, err := u.origin.open(digest.Digest(d))
		if err != nil {
			http.Error(w, `{"errors":[{"code":"BLOB_UNKNOWN"}]}`, http.StatusNotFound)
			return
		}
		defer f.Close()
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Docker-Content-Digest", d)
		w.Header().Set("Etag", `"`+d+`"`)
		if u.link != nil {
			http.ServeContent(struct{ http.ResponseWriter }{out}, r, "", time.Time{}, f)
			return
		}
		http.ServeContent(out, r, "", time.Time{}, f)
		return
	}
	u.origin.mu.Lock()
	m, ok := u.origin.manifests[path]
	u.origin.mu.Unlock()
	if !ok {
		http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", m.mediaType)
	w.Header().Set("Docker-Content-Digest", m.digest.String())
	w.Header().Set("Etag", `"`+m.digest.String()+`"`)
	http.ServeContent(out, r, "", time.Time{}, bytes.NewReader(m.bytes))
}

// benchWriter counts a body and paces it by the upstream's link.
type benchWriter struct {
	http.ResponseWriter
	upstream *benchUpstream
	ctx      context.Context
}

func (w *benchWriter) Write(p []byte) (int, error) {
	if err := w.upstream.link.wait(w.ctx, len(p)); err != nil {
		return 0, err
	}
	n, err := w.ResponseWriter.Write(p)
	w.upstream.body.Add(int64(n))
	return n, err
}

// ReadFrom keeps sendfile in reach.
func (w *benchWriter) ReadFrom(r io.Reader) (int64, error) {
	n, err := w.ResponseWriter.(io.ReaderFrom).ReadFrom(r)
	w.upstream.body.Add(n)
	return n, err
}

// benchLink is a network link that all responses of an upstream share, first come first served.
type benchLink struct {
	rate int64 // bytes per second
	mu   sync.Mutex
	free time.Time // when the last byte so far has left
}

// wait returns when n more bytes have left. A nil link is infinitely fast.
func (l *benchLink) wait(ctx context.Context, n int) error {
	if l == nil {
		return nil
	}
	// A sleep is late, on a busy machine by many milliseconds. What is lost so is made up for, or the
	// link would be slower than it says.
	const slack = 25 * time.Millisecond
	l.mu.Lock()
	now := time.Now()
	if l.free.Before(now.Add(-slack)) {
		l.free = now.Add(-slack)
	}
	l.free = l.free.Add(time.Duration(int64(n) * int64(time.Second) / l.rate))
	pause := l.free.Sub(now)
	l.mu.Unlock()
	if pause > 0 {
		time.Sleep(pause)
	}
	return ctx.Err()
}

// path returns the path of a manifest or blob of the image below /v2/.
func (img *benchImage) path(prefix, kind, reference string) string {
	return "/v2/" + prefix + img.name + "/" + kind + "/" + reference
}

// request formats a request as a node's container runtime sends it.
func (img *benchImage) request(method, addr, prefix, kind, reference string) []byte {
	accept := "*/*"
	if kind == "manifests" {
		accept = strings.Join(registry.ManifestTypes, ", ") + ", */*"
	}
	return fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: containerd/v2.1.4\r\nAccept: %s\r\n\r\n",
		method, img.path(prefix, kind, reference), addr, accept)
}
