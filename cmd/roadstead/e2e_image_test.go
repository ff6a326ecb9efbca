package main_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	"github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// An image is everything that a reference leads to: what a registry is given and what a client
// has to end up with, byte for byte.
type image struct {
	blobs     map[digest.Digest]content
	blobOrder []digest.Digest
	manifests []manifest // each after those that it names
	tags      map[string]manifest
}

// A manifest is one of an image's manifests or indexes.
type manifest struct {
	digest    digest.Digest
	mediaType string
	bytes     []byte
}

func (m manifest) descriptor(platform *v1.Platform) v1.Descriptor {
	return v1.Descriptor{MediaType: m.mediaType, Digest: m.digest, Size: int64(len(m.bytes)), Platform: platform}
}

// A content is a blob, in memory or in a file.
type content struct {
	bytes []byte
	path  string
	size  int64
}

func (c content) open(t testing.TB) io.ReadCloser {
	t.Helper()
	if c.path == "" {
		return io.NopCloser(bytes.NewReader(c.bytes))
	}
	f, err := os.Open(c.path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func newImage() *image {
	return &image{blobs: map[digest.Digest]content{}, tags: map[string]manifest{}}
}

func (img *image) addBlob(d digest.Digest, c content) {
	if _, ok := img.blobs[d]; !ok {
		img.blobs[d] = c
		img.blobOrder = append(img.blobOrder, d)
	}
}

func (img *image) addJSON(t testing.TB, mediaType string, v any) manifest {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	m := manifest{digest: digest.FromBytes(b), mediaType: mediaType, bytes: b}
	img.manifests = append(img.manifests, m)
	return m
}

// top is the manifest that all others hang from.
func (img *image) top() manifest { return img.manifests[len(img.manifests)-1] }

// A recipe says what an image is made of. Its zero value is an OCI image for this machine with
// two small gzip layers.
type recipe struct {
	seed      uint64 // equal seeds make equal images
	docker    bool   // Docker's schema 2 instead of OCI
	zstd      bool   // layers compressed by zstd
	plain     bool   // layers not compressed
	layers    int    // zero: 2
	layerSize int    // bytes of a layer before compression; they do not compress. Zero: 64 KiB
	platforms []string
}

// make makes the image: of one platform, or an index over several.
func (r recipe) make(t testing.TB, tags ...string) *image {
	t.Helper()
	img := newImage()
	if r.platforms == nil {
		r.single(t, img, runtime.GOARCH)
	} else {
		r.index(t, img)
	}
	for _, tag := range tags {
		img.tags[tag] = img.top()
	}
	return img
}

func (r recipe) index(t testing.TB, img *image) {
	t.Helper()
	var children []v1.Descriptor
	for i, arch := range r.platforms {
		child := r
		child.seed = r.seed + uint64(i)<<32
		platform := &v1.Platform{OS: "linux", Architecture: arch}
		if arch == "arm" {
			platform.Variant = "v7"
		}
		children = append(children, child.single(t, img, arch).descriptor(platform))
	}
	mediaType := v1.MediaTypeImageIndex
	if r.docker {
		mediaType = dockerList
	}
	img.addJSON(t, mediaType, v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: mediaType, Manifests: children})
}

func (r recipe) single(t testing.TB, img *image, arch string) manifest {
	t.Helper()
	types := struct{ manifest, config, layer string }{v1.MediaTypeImageManifest, v1.MediaTypeImageConfig, v1.MediaTypeImageLayerGzip}
	switch {
	case r.docker:
		types.manifest, types.config, types.layer = dockerManifest, dockerConfig, dockerLayer
	case r.zstd:
		types.layer = v1.MediaTypeImageLayerZstd
	case r.plain:
		types.layer = v1.MediaTypeImageLayer
	}
	count, size := r.layers, r.layerSize
	if count == 0 {
		count = 2
	}
	if size == 0 {
		size = 64 << 10
	}
	var layers []v1.Descriptor
	config := v1.Image{Platform: v1.Platform{Architecture: arch, OS: "linux"}, RootFS: v1.RootFS{Type: "layers"}}
	for i := range count {
		layer, diffID := r.layer(t, img, r.seed+uint64(i), size)
		layer.MediaType = types.layer
		layers = append(layers, layer)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
		config.History = append(config.History, v1.History{CreatedBy: fmt.Sprintf("layer %d of seed %d", i, r.seed)})
	}
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	d := digest.FromBytes(b)
	img.addBlob(d, content{bytes: b, size: int64(len(b))})
	return img.addJSON(t, types.manifest, v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: types.manifest,
		Config:    v1.Descriptor{MediaType: types.config, Digest: d, Size: int64(len(b))},
		Layers:    layers,
	})
}

// layer makes a layer with one file of random bytes, which unpacks like any other. One beyond
// 64 MiB is kept in a file.
func (r recipe) layer(t testing.TB, img *image, seed uint64, size int) (v1.Descriptor, digest.Digest) {
	t.Helper()
	var out io.Writer
	var c content
	buffer := &bytes.Buffer{}
	if out = buffer; size > 64<<20 {
		c.path = filepath.Join(t.TempDir(), "layer")
		f, err := os.Create(c.path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		out = f
	}
	compressed, raw := sha256.New(), sha256.New()
	counter := &countingWriter{w: io.MultiWriter(out, compressed)}
	if err := r.writeLayer(counter, raw, seed, size); err != nil {
		t.Fatal(err)
	}
	if c.path == "" {
		c.bytes = buffer.Bytes()
	}
	c.size = counter.n
	d := digest.NewDigest(digest.SHA256, compressed)
	img.addBlob(d, c)
	return v1.Descriptor{Digest: d, Size: c.size}, digest.NewDigest(digest.SHA256, raw)
}

func (r recipe) writeLayer(w io.Writer, raw hash.Hash, seed uint64, size int) error {
	var compressor io.WriteCloser
	switch {
	case r.zstd:
		z, err := zstd.NewWriter(w)
		if err != nil {
			return err
		}
		compressor = z
	case r.plain:
		compressor = nopCloser{w}
	default:
		// Noise does not get smaller, and trying to is slow under the race detector.
		z, err := gzip.NewWriterLevel(w, gzip.NoCompression)
		if err != nil {
			return err
		}
		compressor = z
	}
	archive := tar.NewWriter(io.MultiWriter(compressor, raw))
	err := archive.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: fmt.Sprintf("file-%d", seed), Mode: 0o644, Size: int64(size), ModTime: time.Unix(1700000000, 0),
	})
	if err != nil {
		return err
	}
	if _, err := io.CopyN(archive, noise(seed), int64(size)); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return compressor.Close()
}

// noise is random, the same for the same seed, and does not compress. It comes from a cipher
// because that runs in assembly: generators in Go take minutes under the race detector.
func noise(seed uint64) io.Reader {
	var key, iv [16]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has a good length
	}
	return cipher.StreamReader{S: cipher.NewCTR(block, iv[:]), R: zeros{}}
}

// zeros reads as zeros without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// blob makes an image of one blob that nothing unpacks, for tests that only want bytes. The
// manifest is there because a registry gives a blob to those who know it from a manifest.
func blob(t testing.TB, seed uint64, size int) (*image, digest.Digest) {
	t.Helper()
	b := make([]byte, size)
	if _, err := io.ReadFull(noise(seed), b); err != nil {
		t.Fatal(err)
	}
	img := newImage()
	d, empty := digest.FromBytes(b), digest.FromBytes([]byte("{}"))
	img.addBlob(d, content{bytes: b, size: int64(size)})
	img.addBlob(empty, content{bytes: []byte("{}"), size: 2})
	img.tags["1"] = img.addJSON(t, v1.MediaTypeImageManifest, v1.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    v1.MediaTypeImageManifest,
		ArtifactType: "application/vnd.roadstead.test",
		Config:       v1.Descriptor{MediaType: v1.MediaTypeEmptyJSON, Digest: empty, Size: 2},
		Layers:       []v1.Descriptor{{MediaType: "application/octet-stream", Digest: d, Size: int64(size)}},
	})
	return img, d
}

// addManifest makes a manifest of blobs that the image has.
func (img *image) addManifest(t testing.TB, config digest.Digest, layers []digest.Digest) manifest {
	t.Helper()
	m := v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: config, Size: img.blobs[config].size},
	}
	for _, d := range layers {
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: d, Size: img.blobs[d].size})
	}
	return img.addJSON(t, v1.MediaTypeImageManifest, m)
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// A part is the portion of an image that is for one platform.
type part struct {
	manifest manifest
	config   digest.Digest
	layers   []digest.Digest
}

// here finds the part for this machine.
func (img *image) here() part {
	for _, m := range img.manifests {
		var body v1.Manifest
		var config v1.Image
		if json.Unmarshal(m.bytes, &body) != nil || body.Config.Digest == "" {
			continue // an index
		}
		if json.Unmarshal(img.blobs[body.Config.Digest].bytes, &config) != nil || config.Architecture != runtime.GOARCH {
			continue
		}
		p := part{manifest: m, config: body.Config.Digest}
		for _, layer := range body.Layers {
			p.layers = append(p.layers, layer.Digest)
		}
		return p
	}
	panic(fmt.Sprintf("the image %s has nothing for %s", img.top().digest, runtime.GOARCH))
}

// retag is the image under another tag.
func (img *image) retag(tag string) *image {
	other := *img
	other.tags = map[string]manifest{tag: img.top()}
	return &other
}
