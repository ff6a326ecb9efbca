package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
	"roadstead/storage/catalogtest"
)

// origin is an upstream in memory that writes down what it is asked.
type origin struct {
	mu        sync.Mutex
	log       []string
	tags      map[string]registry.Digest // "repo:tag"
	manifests map[string]registry.Manifest
	blobs     map[string][]byte // "repo@digest"
	listed    map[string][]registry.Descriptor

	// fail may refuse a question ("resolve", "tagged", "manifest", "stat", "blob", "tags",
	// "referrers") or hold it up.
	fail func(question, repo, ref string) error

	// body may replace the reader of a blob.
	body func(d registry.Digest, content []byte) io.ReadSeekCloser

	sizeless bool  // blobs come without their size
	claimed  int64 // or with this one, unless it is zero
}

func newOrigin() *origin {
	return &origin{
		tags: map[string]registry.Digest{}, manifests: map[string]registry.Manifest{},
		blobs: map[string][]byte{}, listed: map[string][]registry.Descriptor{},
	}
}

func (o *origin) ask(question string, repo registry.Repo, ref string) error {
	o.mu.Lock()
	o.log = append(o.log, question+" "+repo.Name+" "+short(ref))
	fail := o.fail
	o.mu.Unlock()
	if fail != nil {
		return fail(question, repo.Name, ref)
	}
	return nil
}

// short keeps digests readable in expectations: the first six digits.
func short(ref string) string {
	if _, hex, ok := strings.Cut(ref, ":"); ok && len(hex) > 6 {
		return hex[:6]
	}
	return ref
}

// hang holds every question of a kind up until the channel is closed that it returns.
func (o *origin) hang(kind string) (answer chan struct{}) {
	answer = make(chan struct{})
	o.set(func() {
		o.fail = func(question, _, _ string) error {
			if question == kind {
				<-answer
			}
			return nil
		}
	})
	return answer
}

// asked returns what has been asked since the last call.
func (o *origin) asked() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	log := o.log
	o.log = nil
	return log
}

func (o *origin) set(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
}

func (o *origin) Resolve(_ context.Context, repo registry.Repo, tag string) (registry.Descriptor, error) {
	if err := o.ask("resolve", repo, tag); err != nil {
		return registry.Descriptor{}, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	d, ok := o.tags[repo.Name+":"+tag]
	if !ok {
		return registry.Descriptor{}, registry.ManifestUnknown
	}
	return o.manifests[repo.Name+"@"+string(d)].Descriptor, nil
}

func (o *origin) Manifest(_ context.Context, repo registry.Repo, d registry.Digest) (registry.Manifest, error) {
	if err := o.ask("manifest", repo, string(d)); err != nil {
		return registry.Manifest{}, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	m, ok := o.manifests[repo.Name+"@"+string(d)]
	if !ok {
		return registry.Manifest{}, registry.ManifestUnknown
	}
	return m, nil
}

func (o *origin) Tagged(_ context.Context, repo registry.Repo, tag string) (registry.Manifest, error) {
	if err := o.ask("tagged", repo, tag); err != nil {
		return registry.Manifest{}, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	d, ok := o.tags[repo.Name+":"+tag]
	if !ok {
		return registry.Manifest{}, registry.ManifestUnknown
	}
	return o.manifests[repo.Name+"@"+string(d)], nil
}

func (o *origin) StatBlob(_ context.Context, repo registry.Repo, d registry.Digest) (registry.Descriptor, error) {
	if err := o.ask("stat", repo, string(d)); err != nil {
		return registry.Descriptor{}, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	b, ok := o.blobs[repo.Name+"@"+string(d)]
	if !ok {
		return registry.Descriptor{}, registry.BlobUnknown
	}
	return registry.Descriptor{Digest: d, Size: int64(len(b))}, nil
}

func (o *origin) Blob(_ context.Context, repo registry.Repo, d registry.Digest) (registry.Blob, error) {
	if err := o.ask("blob", repo, string(d)); err != nil {
		return registry.Blob{}, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	b, ok := o.blobs[repo.Name+"@"+string(d)]
	if !ok {
		return registry.Blob{}, registry.BlobUnknown
	}
	var r io.ReadSeekCloser = closer{bytes.NewReader(b)}
	if o.body != nil {
		r = o.body(d, b)
	}
	size := int64(len(b))
	switch {
	case o.sizeless:
		size = -1
	case o.claimed != 0:
		size = o.claimed
	}
	return registry.Blob{ReadSeekCloser: r, Size: size}, nil
}

func (o *origin) Tags(_ context.Context, repo registry.Repo, after string, n int) ([]string, error) {
	if err := o.ask("tags", repo, after); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var tags []string
	for k := range o.tags {
		if tag, ok := strings.CutPrefix(k, repo.Name+":"); ok && tag > after {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return tags[:min(n, len(tags))], nil
}

func (o *origin) Referrers(_ context.Context, repo registry.Repo, d registry.Digest, artifactType string) ([]registry.Descriptor, error) {
	if err := o.ask("referrers", repo, string(d)); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.listed[repo.Name+"@"+string(d)], nil
}

type closer struct{ *bytes.Reader }

func (closer) Close() error { return nil }

// image is one in an origin.
type image struct {
	manifest registry.Manifest
	config   registry.Digest
	layer    registry.Digest
	content  []byte // of the layer
}

// putImage adds an image of one layer and tags it.
func (o *origin) putImage(t testing.TB, repo, tag string, layer []byte) image {
	t.Helper()
	config := []byte(`{"os":"linux","for":"` + tag + `"}`)
	doc := map[string]any{
		"schemaVersion": 2, "mediaType": registry.MediaTypeOCIManifest,
		"config": map[string]any{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest.FromBytes(config), "size": len(config)},
		"layers": []any{map[string]any{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest.FromBytes(layer), "size": len(layer)}},
	}
	m := o.putManifest(t, repo, tag, doc)
	o.set(func() {
		o.blobs[repo+"@"+string(digest.FromBytes(config))] = config
		o.blobs[repo+"@"+string(digest.FromBytes(layer))] = layer
	})
	return image{m, digest.FromBytes(config), digest.FromBytes(layer), layer}
}

// putManifest adds a manifest and tags it unless tag is empty.
func (o *origin) putManifest(t testing.TB, repo, tag string, doc map[string]any) registry.Manifest {
	t.Helper()
	body, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	mediaType, _ := doc["mediaType"].(string)
	d := digest.FromBytes(body)
	m := registry.Manifest{Descriptor: registry.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))}, Bytes: body}
	o.set(func() {
		o.manifests[repo+"@"+string(d)] = m
		if tag != "" {
			o.tags[repo+":"+tag] = d
		}
	})
	return m
}

// house is a cache in a directory, with its housekeeping running.
type house struct {
	*Cache
	dir  string
	stop func()
}

// newHouse opens a cache on dir, which may be one that another house has left.
func newHouse(t testing.TB, dir string, cfg Config) *house {
	t.Helper()
	if cfg.Catalog == nil {
		cfg.Catalog = openCatalog(t, "sqlite:"+filepath.Join(dir, "catalog.db"))
	}
	if cfg.Store == nil {
		cfg.Store = newStore(t, dir)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.calm.quiet = time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Run(ctx)
	}()
	h := &house{Cache: c, dir: dir}
	h.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
		if err := errors.Join(cfg.Catalog.Close(), cfg.Store.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(h.stop)
	return h
}

func openCatalog(t testing.TB, url string) *catalog.DB {
	t.Helper()
	db, err := catalogtest.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func newStore(t testing.TB, dir string) *storage.Store {
	t.Helper()
	driver, err := filesystem.FromParameters(map[string]any{"rootdirectory": dir})
	if err != nil {
		t.Fatal(err)
	}
	store, err := storage.New(storage.Config{Driver: driver, Root: dir, Floor: 1})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// hub is the repository of a name in the project of the tests.
func hub(name string) registry.Repo { return registry.Repo{Project: "docker.io", Name: name} }

// proxy is a house with one project in front of o.
func proxy(t testing.TB, o *origin, change ...func(*Project)) *house {
	t.Helper()
	p := Project{Name: "docker.io", Upstream: o}
	for _, f := range change {
		f(&p)
	}
	return newHouse(t, t.TempDir(), Config{Projects: []Project{p}})
}

// settle waits until what was learnt is in the layout and the catalog.
func (h *house) settle(t testing.TB) {
	t.Helper()
	h.work.group.Wait()
	if err := h.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// fetch pulls an image and waits until it is kept.
func (h *house) fetch(t testing.TB, name, tag string) {
	t.Helper()
	if err := h.pull(t, hub(name), tag); err != nil {
		t.Fatal(err)
	}
	h.settle(t)
}

// file is where the layout has the bytes of a digest.
func (h *house) file(d registry.Digest) string {
	return filepath.Join(h.dir, "docker/registry/v2/blobs/sha256", d.Encoded()[:2], d.Encoded(), "data")
}

// read pulls a blob whole.
func (h *house) read(t testing.TB, repo registry.Repo, d registry.Digest) ([]byte, error) {
	t.Helper()
	b, err := h.Blob(t.Context(), repo, d)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return io.ReadAll(b)
}

// pull pulls an image as a client does: tag, manifest, configuration, layer.
func (h *house) pull(t testing.TB, repo registry.Repo, tag string) error {
	t.Helper()
	desc, err := h.Resolve(t.Context(), repo, tag)
	if err != nil {
		return err
	}
	m, err := h.Manifest(t.Context(), repo, desc.Digest)
	if err != nil {
		return err
	}
	_, refs, err := registry.ParseManifest(m.MediaType, m.Digest, m.Bytes)
	if err != nil {
		return err
	}
	for _, ref := range refs.Blobs() {
		b, err := h.read(t, repo, ref.Digest)
		if err != nil {
			return err
		}
		if got := digest.FromBytes(b); got != ref.Digest {
			return fmt.Errorf("got %d bytes with digest %s for %s", len(b), got, ref.Digest)
		}
	}
	return nil
}

func wantAsked(t testing.TB, o *origin, want ...string) {
	t.Helper()
	if got := o.asked(); !slices.Equal(got, want) {
		t.Errorf("upstream was asked %q, want %q", got, want)
	}
}

// down is an outage of upstream.
func down(string, string, string) error {
	return &registry.Fault{Code: registry.Unavailable, Message: "upstream is down"}
}
