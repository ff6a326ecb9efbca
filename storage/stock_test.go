package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/manifest/ocischema"
	stock "github.com/distribution/distribution/v3/registry/storage"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"roadstead/storage/s3test"
)

// TestStockRegistryReadsOurs has the stock registry's own storage serve what a store has
// written, and collect its garbage.
func TestStockRegistryReadsOurs(t *testing.T) {
	for name, open := range map[string]func() (*Store, storagedriver.StorageDriver){
		"directory": func() (*Store, storagedriver.StorageDriver) {
			root := t.TempDir()
			return openStore(t, root), filesystemDriver(root)
		},
		"driver": func() (*Store, storagedriver.StorageDriver) { return overDriver(t, inmemory.New()) },
		"bucket": func() (*Store, storagedriver.StorageDriver) { return overDriver(t, bucket(t, s3test.Versitygw(t))) },
	} {
		t.Run(name, func(t *testing.T) {
			s, driver := open()
			img := newImage(t, s, "docker.io/library/busybox", "1.35", 1)
			newImage(t, s, "docker.io/library/busybox", "latest", 2) // which then moves
			for _, err := range []error{s.Tag(t.Context(), "docker.io/library/busybox", "latest", img.index), s.Untag(t.Context(), "docker.io/library/busybox", "gone")} {
				if err != nil {
					t.Fatal(err)
				}
			}
			nested := newImage(t, s, "docker.io/library/busybox/nested", "x", 3)
			garbage := mustCommit(t, s, []byte("nothing refers to this"))

			registry, err := stock.NewRegistry(t.Context(), driver, stock.EnableDelete)
			if err != nil {
				t.Fatal(err)
			}
			check := func() {
				t.Helper()
				var repos []string
				err := registry.(distribution.RepositoryEnumerator).Enumerate(t.Context(), func(name string) error {
					repos = append(repos, name)
					return nil
				})
				slices.Sort(repos)
				if want := []string{"docker.io/library/busybox", "docker.io/library/busybox/nested"}; err != nil || !slices.Equal(repos, want) {
					t.Errorf("repositories %v, %v", repos, err)
				}
				serves(t, registry, "docker.io/library/busybox", map[string]digest.Digest{"1.35": img.index, "latest": img.index}, img)
				serves(t, registry, "docker.io/library/busybox/nested", map[string]digest.Digest{"x": nested.index}, nested)
			}
			check()
			if err := stock.MarkAndSweep(t.Context(), driver, registry, stock.GCOpts{Quiet: true}); err != nil {
				t.Fatal(err)
			}
			check()
			if _, err := s.Stat(t.Context(), garbage); !errors.Is(err, ErrNotFound) {
				t.Errorf("garbage is still there: %v", err)
			}

			// And with everything gone that the stock registry takes for untagged, which all of
			// our history and a child of an index is, the store still knows what it has.
			if err := stock.MarkAndSweep(t.Context(), driver, registry, stock.GCOpts{Quiet: true, RemoveUntagged: true}); err != nil {
				t.Fatal(err)
			}
			for _, r := range repositories(t, s) {
				for tag, d := range r.Tags {
					if got, err := s.Read(t.Context(), d, 1<<20); err != nil || d != img.index && d != nested.index {
						t.Errorf("%s:%s: %d bytes, %v", r.Name, tag, len(got), err)
					}
				}
			}
		})
	}
}

// image is one as a cache stores it: an index, a manifest, a configuration and a layer.
type image struct {
	index, manifest digest.Digest
	content         map[digest.Digest][]byte
}

func newImage(t *testing.T, s *Store, repo, tag string, seed uint64) image {
	t.Helper()
	i := image{content: map[digest.Digest][]byte{}}
	keep := func(b []byte, link func(d digest.Digest) error) digest.Digest {
		d := mustCommit(t, s, b)
		if err := link(d); err != nil {
			t.Fatal(err)
		}
		i.content[d] = b
		return d
	}
	blob := func(d digest.Digest) error { return s.LinkBlob(t.Context(), repo, d) }
	manifest := func(d digest.Digest) error { return s.LinkManifest(t.Context(), repo, d) }
	layer := keep(some(seed, 10_000), blob)
	config := keep(fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","seed":%d}`, seed), blob)
	i.manifest = keep(fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",`+
		`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":10000}]}`, config, len(i.content[config]), layer), manifest)
	i.index = keep(fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json",`+
		`"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":%d,"platform":{"architecture":"amd64","os":"linux"}}]}`, i.manifest, len(i.content[i.manifest])), manifest)
	if err := s.Tag(t.Context(), repo, tag, i.index); err != nil {
		t.Fatal(err)
	}
	return i
}

func repository(t *testing.T, registry distribution.Namespace, repo string) (distribution.Repository, distribution.ManifestService) {
	t.Helper()
	name, err := reference.WithName(repo)
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.Repository(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Manifests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r, m
}

func serves(t *testing.T, registry distribution.Namespace, repo string, tags map[string]digest.Digest, i image) {
	t.Helper()
	r, manifests := repository(t, registry, repo)
	all, err := r.Tags(t.Context()).All(t.Context())
	if err != nil || len(all) != len(tags) {
		t.Errorf("%s: tags %v, %v", repo, all, err)
	}
	for tag, want := range tags {
		if d, err := r.Tags(t.Context()).Get(t.Context(), tag); err != nil || d.Digest != want {
			t.Errorf("%s:%s is %s, %v", repo, tag, d.Digest, err)
		}
	}
	for d, want := range i.content {
		if d == i.index || d == i.manifest {
			m, err := manifests.Get(t.Context(), d)
			if err != nil {
				t.Errorf("%s@%s: %v", repo, d, err)
				continue
			}
			if _, got, err := m.Payload(); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s@%s: %q, %v", repo, d, got, err)
			}
			continue
		}
		f, err := r.Blobs(t.Context()).Open(t.Context(), d)
		if err != nil {
			t.Errorf("%s@%s: %v", repo, d, err)
			continue
		}
		if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s@%s: %d bytes, %v", repo, d, len(got), err)
		}
		f.Close()
	}
}

// TestWeReadTheStockRegistrys finds what the stock registry has been pushed.
func TestWeReadTheStockRegistrys(t *testing.T) {
	root := t.TempDir()
	registry, err := stock.NewRegistry(t.Context(), filesystemDriver(root), stock.EnableDelete)
	if err != nil {
		t.Fatal(err)
	}
	r, manifests := repository(t, registry, "library/hello")
	layer, err := r.Blobs(t.Context()).Put(t.Context(), "application/octet-stream", []byte("layer"))
	if err != nil {
		t.Fatal(err)
	}
	var pushed [2]digest.Digest
	for n := range pushed {
		b := ocischema.NewManifestBuilder(r.Blobs(t.Context()), fmt.Appendf(nil, `{"n":%d}`, n), nil)
		if err := b.AppendReference(layer); err != nil {
			t.Fatal(err)
		}
		m, err := b.Build(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if pushed[n], err = manifests.Put(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		err = r.Tags(t.Context()).Tag(t.Context(), "latest", distribution.Descriptor{Digest: pushed[n]})
		if err != nil {
			t.Fatal(err)
		}
	}
	upload, err := r.Blobs(t.Context()).Create(t.Context()) // and one has been begun
	if err != nil {
		t.Fatal(err)
	}
	if _, err := upload.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	upload.Close()

	s := openStore(t, root)
	got := repositories(t, s)["library/hello"]
	if len(got.Problems) > 0 || len(got.Layers) != 3 || !slices.Equal(got.Manifests, sorted(pushed[0], pushed[1])) || got.Tags["latest"] != pushed[1] {
		t.Errorf("%+v", got)
	}
	stored := contents(t, s)
	for _, d := range append(got.Layers, got.Manifests...) {
		if b, err := s.Read(t.Context(), d, 1<<20); err != nil || int64(len(b)) != stored[d] {
			t.Errorf("%s: %d bytes of %d, %v", d, len(b), stored[d], err)
		}
	}
	if report, err := s.Scrub(t.Context(), func(ScrubEvent) {}); err != nil || report.Checked != 5 || report.Damaged > 0 {
		t.Errorf("%+v, %v", report, err)
	}
}
