package s3

import (
	"io"
	"slices"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"

	"roadstead/storage/s3test"
)

// TestRequests states what each operation asks of the server.
func TestRequests(t *testing.T) {
	s3test.Each(t, func(t *testing.T, s *s3test.Server) {
		ctx := t.Context()
		p := s.Proxy(t)
		c := config(t, s)
		c.Endpoint = p.Endpoint
		d := newDriver(t, c)
		small, large := some(10_000), some(64<<20)
		smallFile, largeFile := file(t, small), file(t, large)
		parts := []string{"BEGIN", "COMPLETE", "PART", "PART", "PART", "PART"}
		asks := func(what string, want []string, do func() error) {
			t.Helper()
			p.Requests()
			if err := do(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if got := p.Sorted(); !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		absent := func(err error) error {
			if _, ok := err.(storagedriver.PathNotFoundError); ok {
				return nil
			}
			return err
		}
		p.Requests()
		newDriver(t, c)
		if got := p.Requests(); !slices.Equal(got, []string{"LIST"}) {
			t.Errorf("new: %v", got)
		}
		asks("put a small file", []string{"PUT"}, func() error { return d.PutFile(ctx, "/a", smallFile) })
		asks("put it again", []string{"GET", "PUT"}, func() error { return d.PutFile(ctx, "/a", smallFile) })
		asks("put 64 MiB", parts, func() error { return d.PutFile(ctx, "/large", largeFile) })
		asks("put them again", append([]string{"ABORT"}, "BEGIN", "COMPLETE", "GET", "PART", "PART", "PART", "PART"), func() error { return d.PutFile(ctx, "/large", largeFile) })
		asks("put content", []string{"PUT"}, func() error { return d.PutContent(ctx, "/b/c", small) })
		asks("put if absent", []string{"PUT"}, func() error { _, err := d.PutIfAbsent(ctx, "/b/c", small); return err })
		asks("get content", []string{"GET"}, func() error { _, err := d.GetContent(ctx, "/b/c"); return err })
		asks("open and read", []string{"GET"}, func() error {
			body, _, _, err := d.OpenRange(ctx, "/large", 5)
			if err != nil {
				return err
			}
			defer body.Close()
			_, err = io.Copy(io.Discard, body)
			return err
		})
		asks("open what is not there", []string{"GET"}, func() error { _, _, _, err := d.OpenRange(ctx, "/none", 0); return absent(err) })
		asks("stat", []string{"HEAD"}, func() error { _, err := d.Stat(ctx, "/a"); return err })
		asks("stat a file", []string{"HEAD"}, func() error { _, err := d.StatFile(ctx, "/a"); return err })
		asks("stat a file that is not there", []string{"GET", "HEAD"}, func() error { _, err := d.StatFile(ctx, "/none"); return absent(err) })
		asks("stat a directory", []string{"HEAD", "LIST"}, func() error { _, err := d.Stat(ctx, "/b"); return err })
		asks("list", []string{"LIST"}, func() error { _, err := d.List(ctx, "/"); return err })
		asks("walk", []string{"LIST"}, func() error { return d.Walk(ctx, "/", func(storagedriver.FileInfo) error { return nil }) })
		asks("presign", nil, func() error { _, err := d.Presign(ctx, "GET", "/a", presigned); return err })
		asks("move", []string{"COPY", "DELETE", "HEAD"}, func() error { return d.Move(ctx, "/a", "/d") })
		asks("delete", []string{"DELETE", "HEAD", "LIST"}, func() error { return d.Delete(ctx, "/d") })
		asks("sweep nothing", []string{"UPLOADS"}, func() error { return d.Sweep(ctx, 0) })
	})
}
