package s3

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"roadstead/storage/s3test"
)

// compare runs ours and minio-go's own way in turn, so that what else the machine does meets both,
// and prints how much longer ours takes: below 1 it is faster.
func compare(b *testing.B, bytes int64, ours, theirs func() error) {
	b.Helper()
	var mine, other time.Duration
	for b.Loop() {
		for _, way := range []struct {
			do  func() error
			sum *time.Duration
		}{{ours, &mine}, {theirs, &other}} {
			began := time.Now()
			if err := way.do(); err != nil {
				b.Fatal(err)
			}
			*way.sum += time.Since(began)
		}
	}
	b.ReportMetric(0, "ns/op") // of both ways together, which means nothing
	b.ReportMetric(float64(mine.Microseconds())/float64(b.N), "µs/ours")
	b.ReportMetric(float64(other.Microseconds())/float64(b.N), "µs/direct")
	b.ReportMetric(float64(mine)/float64(other), "ours/direct")
	if bytes > 1<<20 {
		b.ReportMetric(float64(bytes)*float64(b.N)/1e6/mine.Seconds(), "MB/s/ours")
	}
}

// BenchmarkAgainstDirect compares with minio-go by itself on the same server.
func BenchmarkAgainstDirect(b *testing.B) {
	for name, start := range map[string]func(testing.TB) *s3test.Server{"versitygw": s3test.Versitygw, "minio": s3test.MinIO} {
		b.Run(name, func(b *testing.B) { benchServer(b, start(b)) })
	}
}

func benchServer(b *testing.B, s *s3test.Server) {
	ctx := b.Context()
	c := config(b, s)
	d, direct := newDriver(b, c), s.Client(b)
	small, large := some(1<<10), some(256<<20)
	local := filepath.Join(b.TempDir(), "large")
	if err := os.WriteFile(local, large, 0o600); err != nil {
		b.Fatal(err)
	}
	drain := func(body io.ReadCloser, err error) error {
		if err != nil {
			return err
		}
		defer body.Close()
		_, err = io.Copy(io.Discard, body)
		return err
	}
	get := func(key string) func() error {
		return func() error {
			o, err := direct.GetObject(ctx, c.Bucket, key, minio.GetObjectOptions{})
			return drain(o, err)
		}
	}
	read := func(path string) func() error {
		return func() error { return drain(d.Reader(ctx, path, 0)) }
	}
	n := 0
	fresh := func() string { n++; return "/large/" + string(rune('a'+n%26)) + string(rune('a'+n/26%26)) }
	remove := func(path string) error {
		return direct.RemoveObject(ctx, c.Bucket, path[1:], minio.RemoveObjectOptions{})
	}
	b.Run("put 256 MiB", func(b *testing.B) {
		compare(b, int64(len(large)), func() error {
			path := fresh()
			if err := d.PutFile(ctx, path, local); err != nil {
				return err
			}
			return remove(path)
		}, func() error {
			path := fresh()
			if _, err := direct.FPutObject(ctx, c.Bucket, path[1:], local, minio.PutObjectOptions{PartSize: 16 << 20}); err != nil {
				return err
			}
			return remove(path)
		})
	})
	must(b, d.PutFile(ctx, "/get", local))
	b.Run("get 256 MiB", func(b *testing.B) { compare(b, int64(len(large)), read("/get"), get("get")) })
	b.Run("put 1 KiB", func(b *testing.B) {
		compare(b, 1<<10, func() error { return d.PutContent(ctx, "/small", small) }, func() error {
			_, err := direct.PutObject(ctx, c.Bucket, "small", bytes.NewReader(small), 1<<10, minio.PutObjectOptions{})
			return err
		})
	})
	b.Run("get 1 KiB", func(b *testing.B) { compare(b, 1<<10, read("/small"), get("small")) })
	b.Run("stat", func(b *testing.B) {
		compare(b, 0, func() error { _, err := d.StatFile(ctx, "/small"); return err }, func() error {
			_, err := direct.StatObject(ctx, c.Bucket, "small", minio.StatObjectOptions{})
			return err
		})
	})
}
