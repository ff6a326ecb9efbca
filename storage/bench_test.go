package storage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
)

// BenchmarkOpen is a hit's whole way through this package, beside the bare calls.
func BenchmarkOpen(b *testing.B) {
	root := b.TempDir()
	s := openStore(b, root)
	d := mustCommit(b, s, some(1, 4096))
	name, err := blobPath(d)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("store", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c, err := s.Open(b.Context(), d)
			if err != nil {
				b.Fatal(err)
			}
			c.Close()
		}
	})
	b.Run("os.Open and Stat", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f, err := os.Open(filepath.Join(root, name))
			if err != nil {
				b.Fatal(err)
			}
			f.Stat()
			f.Close()
		}
	})
	b.Run("os.Root", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c, err := s.tree.(*local).openThroughRoot(name)
			if err != nil {
				b.Fatal(err)
			}
			c.Close()
		}
	})
}

// BenchmarkCommit shows what it costs that content survives a power cut: the same bytes
// written and renamed only, hashed too, and committed.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 20} {
		content := some(1, size)
		d := sum(digest.SHA256, content)
		b.Run(fmt.Sprintf("%dKiB/write and rename", size>>10), func(b *testing.B) {
			dir := b.TempDir()
			b.SetBytes(int64(size))
			for b.Loop() {
				plain(b, dir, content)
			}
		})
		b.Run(fmt.Sprintf("%dKiB/draft", size>>10), func(b *testing.B) {
			s := openStore(b, b.TempDir())
			b.SetBytes(int64(size))
			for b.Loop() {
				draft, err := download(s, content)
				if err != nil {
					b.Fatal(err)
				}
				draft.Close()
			}
		})
		b.Run(fmt.Sprintf("%dKiB/draft and commit", size>>10), func(b *testing.B) {
			s := openStore(b, b.TempDir())
			b.SetBytes(int64(size))
			for b.Loop() {
				draft, err := download(s, content)
				if err == nil {
					err = draft.Verify(d, int64(size))
				}
				if err == nil {
					err = draft.Commit(b.Context())
				}
				if err != nil {
					b.Fatal(err)
				}
				draft.Close()
				b.StopTimer()
				s.Remove(b.Context(), d)
				b.StartTimer()
			}
		})
	}
}

// plain is what commit would be if machines never lost power.
func plain(b *testing.B, dir string, content []byte) {
	f, err := os.CreateTemp(dir, "plain")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for p := content; len(p) > 0; p = p[min(len(p), 32<<10):] {
		if _, err := f.Write(p[:min(len(p), 32<<10)]); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, "data")); err != nil {
		b.Fatal(err)
	}
}

// download writes as a download does, 32 KiB at a time.
func download(s *Store, content []byte) (*Draft, error) {
	d, err := s.Draft(digest.SHA256, int64(len(content)))
	if err != nil {
		return nil, err
	}
	for p := content; len(p) > 0; p = p[min(len(p), 32<<10):] {
		if _, err := d.Write(p[:min(len(p), 32<<10)]); err != nil {
			d.Close()
			return nil, err
		}
	}
	return d, nil
}

// BenchmarkPush is what storage does for a small image that is pushed: a config and a layer of
// 4 KiB that come in as uploads, and a manifest with a tag. Each is another; every eighth begins
// a repository.
func BenchmarkPush(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprintf("%d clients", clients), func(b *testing.B) {
			s := openStore(b, b.TempDir())
			var next atomic.Uint64
			var all sync.WaitGroup
			for range clients {
				all.Go(func() {
					for n := next.Add(1); n <= uint64(b.N); n = next.Add(1) {
						if err := pushImage(s, n); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "images/s")
			syncs := 0
			s.disk.seam = func(op, _ string, do func() error) error {
				if strings.HasPrefix(op, "sync") {
					syncs++
				}
				return do()
			}
			for n := range uint64(8) {
				if err := pushImage(s, uint64(b.N)+1+n); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(syncs)/8, "syncs/image")
		})
	}
}

func pushImage(s *Store, n uint64) error {
	repo := fmt.Sprintf("production/app%d", n/8)
	for part := range uint64(2) {
		if err := pushBlob(s, repo, fmt.Sprintf("%d-%d", n, part), some(n<<2|part, 4<<10)); err != nil {
			return err
		}
	}
	manifest := some(n<<2|2, 500)
	return s.PutManifest(context.Background(), repo, sum(digest.SHA256, manifest), manifest, fmt.Sprintf("v%d", n))
}

func pushBlob(s *Store, repo, id string, content []byte) error {
	d, err := s.NewUpload(id, []byte(repo), digest.SHA256)
	if err != nil {
		return err
	}
	defer d.Close()
	if _, err := d.Write(content); err != nil {
		return err
	}
	if err := d.Verify(sum(digest.SHA256, content), -1); err != nil {
		return err
	}
	return d.Commit(context.Background(), repo)
}

func BenchmarkLinks(b *testing.B) {
	s := openStore(b, b.TempDir())
	d := mustCommit(b, s, some(1, 100))
	b.Run("link", func(b *testing.B) {
		for b.Loop() {
			if err := s.LinkBlob(b.Context(), "docker.io/library/busybox", d); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("tag", func(b *testing.B) {
		for b.Loop() {
			if err := s.Tag(b.Context(), "docker.io/library/busybox", "latest", d); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkContents walks ten thousand pieces of content.
func BenchmarkContents(b *testing.B) {
	s := openStore(b, b.TempDir())
	s.disk.seam = func(op, _ string, do func() error) error { // nothing here has to survive
		if op == "sync" || op == "sync directory" {
			return nil
		}
		return do()
	}
	for i := range 10_000 {
		content := fmt.Append(nil, i)
		if err := s.Put(b.Context(), sum(digest.SHA256, content), content); err != nil {
			b.Fatal(err)
		}
	}
	s.disk.seam = nil
	for b.Loop() {
		n := 0
		if err := s.Contents(b.Context(), func(digest.Digest, int64) error { n++; return nil }); err != nil || n != 10_000 {
			b.Fatal(n, err)
		}
	}
}

// BenchmarkScrub is how fast stored content is read and hashed.
func BenchmarkScrub(b *testing.B) {
	s := openStore(b, b.TempDir())
	for i := range 4 {
		mustCommit(b, s, some(uint64(i), 16<<20))
	}
	b.SetBytes(64 << 20)
	for b.Loop() {
		if _, err := s.Scrub(b.Context(), func(ScrubEvent) {}); err != nil {
			b.Fatal(err)
		}
	}
}
