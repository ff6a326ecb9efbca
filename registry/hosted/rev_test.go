package hosted

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

// a tag whose layout link is ahead (killed between link and row) and that is then deleted
func TestRevDeleteAfterCrash(t *testing.T) {
	h := newHouse(t)
	h.blob(web, "config")
	a := h.push(web, image(text("config")), "v1")
	h.blob(web, "layer")
	h.at = func(step string) {
		if step == "push: linked" {
			panic(ended(step))
		}
	}
	func() {
		defer func() { recover() }()
		h.try(web, image(text("config"), text("layer")), "v1")
	}()
	h.open(Config{})
	h.finish(t.Context())
	h.wantTag(web, "v1", a.Digest)
	if err := h.DeleteTag(t.Context(), web, "v1"); err != nil {
		t.Fatal(err)
	}
	h.finish(t.Context())
	if d := h.linked(web, "v1"); d != "" {
		t.Errorf("deleted tag is still in the layout as %s", d)
	}
}

func TestRevBusyWhileSuspended(t *testing.T) {
	h := newHouse(t)
	var all []registry.Upload
	for i := range 100 {
		u := h.start(web, "")
		h.append(u, 0, fmt.Sprint(i))
		all = append(all, u)
	}
	var wg sync.WaitGroup
	wg.Go(func() { h.expire(time.Now().Add(2 * time.Minute)) })
	time.Sleep(5 * time.Millisecond)
	bad := 0
	for _, u := range all {
		if err := u.Append(t.Context(), -1, strings.NewReader("x")); errors.Is(err, registry.Conflict) {
			bad++
		}
	}
	wg.Wait()
	if bad > 0 {
		t.Errorf("%d of 100 clients were told 409: another request is at this upload", bad)
	}
}

func TestRevManyParallelUploads(t *testing.T) {
	h := newHouse(t)
	var bad atomic.Int64
	var wg sync.WaitGroup
	for i := range mostOpen + 200 {
		wg.Go(func() {
			u, err := h.StartUpload(context.Background(), web, "", digest.SHA256)
			if err != nil {
				t.Error(err)
				return
			}
			for range 3 {
				time.Sleep(20 * time.Millisecond)
				if err := u.Append(context.Background(), -1, strings.NewReader(fmt.Sprint(i))); err != nil {
					bad.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if bad.Load() > 0 {
		t.Errorf("%d requests refused", bad.Load())
	}
}

func TestRevPullLostWhenWriteFails(t *testing.T) {
	h := newHouse(t, catalog.Project{Name: "production", Retention: catalog.Retention{Pulled: 30 * day}})
	m := h.push(web, image(h.blob(web, "c")), "v1")
	h.pushed(web, "v1", 60*day, 0)
	if _, err := h.Resolve(t.Context(), web, "v1"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.writePulls(ctx); err == nil { // stands for a disk that is full for a moment
		t.Fatal("no error")
	}
	gone, err := h.Retain(t.Context(), "production", true)
	if err != nil || len(gone) > 0 {
		t.Errorf("pulled a moment ago, and would go: %v %v %v", gone, err, m.Digest)
	}
}

func TestRevRecallTooMany(t *testing.T) {
	h := newHouse(t)
	dir := filepath.Join(h.dir, "content")
	u := h.start(web, "")
	var up string
	filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if d != nil && d.Name() == u.ID() {
			up = filepath.Dir(p)
		}
		return nil
	})
	for i := range mostUploads + 1 {
		if err := os.WriteFile(filepath.Join(up, fmt.Sprintf("A%d", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := New(Config{Store: h.store, Catalog: h.catalog})
	if err != nil {
		t.Errorf("New: %v", err)
	}
}

func TestRevMountedManifest(t *testing.T) {
	h := newHouse(t)
	h.blob(other, "c")
	child := h.push(other, image(text("c")), "v1")
	want(t, h.Mount(t.Context(), web, child.Digest, func(registry.Repo) bool { return true }), registry.BlobUnknown)
	err := h.try(web, index(child), "v1")
	t.Log("push of the index:", err)
	if err == nil {
		h.wantTag(web, "v1", digest.FromBytes(encode(index(child))))
		if err := h.wholeImage(web, digest.FromBytes(encode(index(child)))); err != nil {
			t.Errorf("acknowledged and not whole: %v", err)
		}
		h.agree(never)
	}
}
