package storage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"roadstead/storage/s3"
	"roadstead/storage/s3test"
)

// TestBucketIsAskedLittle states the requests that a store makes of a bucket. The stock registry
// makes 24 to take a small layer, 37 and a copy for one of 64 MiB, and 7 or 8 to serve a blob.
func TestBucketIsAskedLittle(t *testing.T) {
	s3test.Each(t, func(t *testing.T, server *s3test.Server) {
		ctx := t.Context()
		proxy := server.Proxy(t)
		driver, err := s3.New(ctx, s3.Config{Endpoint: proxy.Endpoint, Region: server.Region, Bucket: server.Bucket(t), AccessKey: server.AccessKey, SecretKey: server.SecretKey})
		if err != nil {
			t.Fatal(err)
		}
		s, _ := overDriver(t, driver)
		asks := func(what string, want []string, do func() error) {
			t.Helper()
			proxy.Requests()
			if err := do(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if got := proxy.Sorted(); !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		push := func(b []byte) func() error {
			return func() error {
				d, err := write(s, b, int64(len(b)))
				if err != nil {
					return err
				}
				defer d.Close()
				if err := d.Verify(sum(digest.SHA256, b), -1); err != nil {
					return err
				}
				return d.Commit(ctx, "production/web")
			}
		}
		small, large := some(1, 100_000), some(2, 64<<20)
		asks("push a small layer", []string{"PUT", "PUT"}, push(small))
		asks("push it again", []string{"GET", "PUT", "PUT"}, push(small))
		asks("push 64 MiB", []string{"BEGIN", "COMPLETE", "PART", "PART", "PART", "PART", "PUT"}, push(large))
		manifest := []byte(`{"schemaVersion":2}`)
		asks("push a manifest and tag it", []string{"PUT", "PUT", "PUT", "PUT"}, func() error {
			return s.PutManifest(ctx, "production/web", sum(digest.SHA256, manifest), manifest, "latest")
		})
		asks("read a manifest", []string{"GET"}, func() error { _, err := s.Read(ctx, sum(digest.SHA256, manifest), 1<<20); return err })
		read := func(seeks ...int64) func() error {
			return func() error {
				c, err := s.Open(ctx, sum(digest.SHA256, large))
				if err != nil {
					return err
				}
				defer c.Close()
				for _, at := range seeks {
					if _, err := c.Seek(at, io.SeekStart); err != nil {
						return err
					}
				}
				_, err = io.CopyN(io.Discard, c, 1000)
				return err
			}
		}
		asks("serve a blob", []string{"GET"}, read(c64, 0)) // http.ServeContent looks for its end first
		asks("serve a range of it", []string{"GET", "GET"}, read(c64, 0, 50<<20))
		asks("look whether it is there", []string{"HEAD"}, func() error { _, err := s.Stat(ctx, sum(digest.SHA256, large)); return err })
		asks("link it elsewhere", []string{"PUT"}, func() error { return s.LinkBlob(ctx, "production/other", sum(digest.SHA256, large)) })
		asks("unlink it", []string{"DELETE", "HEAD", "HEAD", "LIST", "LIST"}, func() error { return s.Unlink(ctx, "production/other", sum(digest.SHA256, large)) })
		asks("remove it", []string{"DELETE", "HEAD", "LIST"}, func() error { return s.Remove(ctx, sum(digest.SHA256, large)) })
		asks("sweep", []string{"UPLOADS"}, func() error { return s.Sweep(ctx) })
	})
}

// TestQuarantineSparesWhatAnotherNodeHasHealed: of two nodes one finds rotten content while the other
// stores it anew, at any of the moments that there are. The bucket calls both the same.
func TestQuarantineSparesWhatAnotherNodeHasHealed(t *testing.T) {
	ctx := t.Context()
	server := s3test.Versitygw(t)
	c := s3.Config{Endpoint: server.Endpoint, Region: server.Region, Bucket: server.Bucket(t), AccessKey: server.AccessKey, SecretKey: server.SecretKey}
	node := func() *Store {
		driver, err := s3.New(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		s, _ := overDriver(t, driver)
		return s
	}
	one, two := node(), node()
	b := some(1, 100_000)
	d := mustCommit(t, one, b)
	name, _ := blobPath(d)
	aside, _ := quarantinePath(d)
	heals := func() { mustCommit(t, two, b) }
	for _, test := range []struct {
		when          string
		before, after func()
		there         bool
	}{
		{"before it is known to go", heals, func() {}, true},
		{"never", func() {}, func() {}, false},
		{"afterwards", func() {}, heals, true},
	} {
		heals()
		server.Rot(t, c.Bucket, name)
		one.Apart = func(ctx context.Context, of digest.Digest, do func(context.Context) error) error {
			if of != d {
				t.Errorf("%s is taken away", of)
			}
			test.before()
			err := do(ctx)
			test.after()
			return err
		}
		if err := one.Recheck(ctx, d); !errors.Is(err, ErrDamaged) {
			t.Errorf("healed %s: %v", test.when, err)
		}
		got, err := two.Read(ctx, d, 1<<20)
		if there := err == nil && bytes.Equal(got, b); there != test.there || err != nil && !errors.Is(err, ErrNotFound) {
			t.Errorf("healed %s: %d bytes, %v", test.when, len(got), err)
		}
		if moved := test.when != "before it is known to go"; server.Has(t, c.Bucket, aside) != moved {
			t.Errorf("healed %s: in quarantine is %v, want %v", test.when, !moved, moved)
		}
	}
}

const c64 = 64 << 20
