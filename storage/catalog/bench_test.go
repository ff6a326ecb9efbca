package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage/postgrestest"
)

// The benchmarks share one catalog of a million digests: images of a config and eight layers,
// of which the first comes from one of a hundred base images, in 5,000 repositories of five
// projects. The coldest half belongs to one project, where the next one has to look past it.
const (
	benchImages  = 115_000
	benchProject = 5
	benchRepos   = 1_000 // in each project
)

var bench = seeded{repo: benchRepo}

// seeded is a catalog that benchmarks share: it is built for the first of them.
type seeded struct {
	repo func(image int) registry.Repo // which one each image is in
	more func(context.Context, *DB) error
	once sync.Once
	dir  string
	url  string
	ends func() error // ends its server
	db   *DB
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	bench.remove()
	browsed.remove()
	server.Close()
	os.Exit(code)
}

func (s *seeded) remove() {
	if s.db != nil {
		s.db.Close()
	}
	if s.ends != nil {
		s.ends()
	}
	os.RemoveAll(s.dir)
}

func benchCatalog(b *testing.B) *DB {
	b.Helper()
	return bench.open(b)
}

// open returns the catalog and starts the clock.
func (s *seeded) open(b *testing.B) *DB {
	b.Helper()
	s.once.Do(func() {
		start := time.Now()
		if s.err = s.build(b.Context()); s.err != nil {
			return
		}
		usage, _ := s.db.Usage(b.Context())
		fmt.Printf("# built a catalog of %d digests in %s\n", usage.Count, time.Since(start).Round(time.Millisecond))
	})
	if s.err != nil {
		b.Fatal(s.err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	return s.db
}

func (s *seeded) build(ctx context.Context) (err error) {
	if s.dir, err = os.MkdirTemp("", "catalog"); err != nil {
		return err
	}
	s.url = "sqlite:" + s.dir + "/catalog.db"
	if s.db, err = Open(ctx, s.url); err != nil {
		return err
	}
	for from := 0; from < benchImages; from += 1000 {
		err := s.db.Update(context.WithoutCancel(ctx), func(tx *Tx) error {
			for i := from; i < from+1000; i++ {
				if err := addBenchImage(tx, s.repo(i), i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if s.more != nil {
		err = s.more(ctx, s.db)
	}
	if err == nil && os.Getenv("CATALOG_BENCH") == "postgres" {
		err = s.move(context.WithoutCancel(ctx))
	}
	return err
}

// move puts the catalog into a database on a server that waits for its disk as in earnest.
func (s *seeded) move(ctx context.Context) error {
	server, err := postgrestest.Start("fsync=on", "full_page_writes=on", "shared_buffers=256MB", "max_wal_size=4GB")
	if err != nil {
		return err
	}
	s.ends = server.Close
	name, err := server.Create("")
	if err != nil {
		return err
	}
	s.url = server.URL(name)
	db, err := Open(ctx, s.url)
	if err != nil {
		return err
	}
	err = errors.Join(db.CopyFrom(ctx, s.db, "", func(int64) {}), s.db.Close())
	s.db = db
	// As the server does by itself, some time after so much was written.
	for _, statement := range []string{`SET statement_timeout = 0`, `VACUUM ANALYZE`, `RESET statement_timeout`} {
		_, e := db.write.db.ExecContext(ctx, statement)
		err = errors.Join(err, e)
	}
	return err
}

func numbered(kind byte, n int) registry.Digest {
	var b [9]byte
	b[0] = kind
	binary.BigEndian.PutUint64(b[1:], uint64(n))
	sum := sha256.Sum256(b[:])
	return digest.NewDigestFromBytes(digest.SHA256, sum[:])
}

func benchRepo(image int) registry.Repo {
	return registry.Repo{
		Project: fmt.Sprintf("project%d.io", image*benchProject/benchImages),
		Name:    fmt.Sprintf("library/repository-%d", image%benchRepos),
	}
}

func benchLayer(image, layer int) registry.Digest {
	if layer == 0 {
		return numbered('b', image%100)
	}
	return numbered('l', image*8+layer)
}

func addBenchImage(tx *Tx, repo registry.Repo, i int) error {
	config := registry.Descriptor{MediaType: "application/vnd.oci.image.config.v1+json", Digest: numbered('c', i), Size: 2000}
	refs := registry.References{Config: &config}
	for layer := range 8 {
		refs.Layers = append(refs.Layers, registry.Descriptor{Digest: benchLayer(i, layer), Size: 10_000_000})
	}
	m := registry.Manifest{Descriptor: registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: numbered('m', i), Size: 1500}}
	if err := tx.AddManifest(repo, m, refs); err != nil {
		return err
	}
	all := []registry.Digest{m.Digest}
	for _, d := range refs.Blobs() {
		if err := tx.AddBlob(repo, d.Digest, d.Size); err != nil {
			return err
		}
		all = append(all, d.Digest)
	}
	tag := Tag{Descriptor: m.Descriptor, CheckedAt: time.Now(), ChangedAt: time.Now()}
	if err := tx.PutTag(repo, fmt.Sprint("v", i), tag); err != nil {
		return err
	}
	return tx.Touch(all, time.UnixMilli(int64(i)*1000))
}

func BenchmarkFind(b *testing.B) {
	for _, bb := range []struct {
		name string
		ask  func(i int) (registry.Repo, registry.Digest)
	}{
		{"a layer that is linked", func(i int) (registry.Repo, registry.Digest) { return benchRepo(i), benchLayer(i, 1+i%7) }},
		{"a layer of another repository", func(i int) (registry.Repo, registry.Digest) { return benchRepo(i + 1), benchLayer(i, 1+i%7) }},
		{"a base layer of a thousand images in a repository without", func(i int) (registry.Repo, registry.Digest) {
			return registry.Repo{Project: "project1.io", Name: "nothing"}, benchLayer(i, 0)
		}},
		{"a digest that is not known", func(i int) (registry.Repo, registry.Digest) { return benchRepo(i), numbered('x', i) }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			db := benchCatalog(b)
			for b.Loop() {
				repo, d := bb.ask(rand.IntN(benchImages - 1))
				if _, err := db.Find(b.Context(), repo, d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkTag(b *testing.B) {
	db := benchCatalog(b)
	for b.Loop() {
		i := rand.IntN(benchImages)
		if _, err := db.Tag(b.Context(), benchRepo(i), fmt.Sprint("v", i)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAddBlob(b *testing.B) {
	for _, batch := range []int{1, 1000} {
		b.Run(fmt.Sprint(batch, " in one update"), func(b *testing.B) {
			db := benchCatalog(b)
			for n := 0; n < b.N; n += batch {
				err := db.Update(b.Context(), func(tx *Tx) error {
					for range min(batch, b.N-n) {
						if err := tx.AddBlob(benchRepo(rand.IntN(benchImages)), numbered('n', rand.Int()), 1000); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDurable is about what a push costs: alone, and beside others who push.
func BenchmarkDurable(b *testing.B) {
	for _, pushers := range []int{1, 32} {
		b.Run(fmt.Sprint(pushers, " at once"), func(b *testing.B) {
			db := benchCatalog(b)
			b.SetParallelism((pushers + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
			push := func() error {
				return db.Durable(b.Context(), func(tx *Tx) error {
					return tx.AddBlob(benchRepo(rand.IntN(benchImages)), numbered('n', rand.Int()), 1000)
				})
			}
			if pushers == 1 {
				for b.Loop() {
					if err := push(); err != nil {
						b.Fatal(err)
					}
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := push(); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

func BenchmarkAdoptImage(b *testing.B) {
	db := benchCatalog(b)
	i := 10_000_000
	for n := 0; n < b.N; n += 500 {
		err := db.Update(b.Context(), func(tx *Tx) error {
			for range min(500, b.N-n) {
				i++
				repo := registry.Repo{Project: "adopted.io", Name: "library/repository"}
				config := registry.Descriptor{Digest: numbered('c', i), Size: 2000}
				refs := registry.References{Config: &config}
				for layer := range 8 {
					refs.Layers = append(refs.Layers, registry.Descriptor{Digest: benchLayer(i, layer), Size: 10_000_000})
				}
				m := registry.Manifest{Descriptor: registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: numbered('m', i), Size: 1500}}
				if err := tx.AddManifest(repo, m, refs); err != nil {
					return err
				}
				for _, d := range refs.Blobs() {
					if err := tx.AddBlob(repo, d.Digest, d.Size); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*(1+9+9+10)/b.Elapsed().Seconds(), "rows/s") // content, refs, links
}

func BenchmarkColdest(b *testing.B) {
	for _, bb := range []struct {
		name     string
		projects []string
	}{
		{"of all projects", []string{"project0.io", "project1.io", "project2.io", "project3.io", "project4.io"}},
		{"of the project with the warmest", []string{"project4.io"}},
		{"of none", nil},
	} {
		b.Run(bb.name, func(b *testing.B) {
			db := benchCatalog(b)
			for b.Loop() {
				if _, _, err := db.Coldest(b.Context(), bb.projects, time.Now(), Mark{}, 100); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	benchCatalog(b)
	for b.Loop() {
		db, err := Open(b.Context(), bench.url)
		if err != nil {
			b.Fatal(err)
		}
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
