package hosted

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
	"roadstead/storage/postgrestest"
	"roadstead/storage/s3"
	"roadstead/storage/s3test"
)

// cluster is a bucket and a database that nodes share. Each node has a proxy of its own before the
// bucket, and a store, a catalog and locks of its own: all that two processes do not share.
type cluster struct {
	t        testing.TB
	servers  *s3test.Server
	postgres *postgrestest.Server
	bucket   string
	database string
}

// servers are those of all tests of a function.
type servers struct {
	s3       *s3test.Server
	postgres *postgrestest.Server
	empty    string // the catalog that others are copies of
}

func newServers(t testing.TB) servers {
	t.Helper()
	s := servers{s3: s3test.Versitygw(t), postgres: postgrestest.New(t)}
	var err error
	if s.empty, err = s.postgres.Create(""); err != nil {
		t.Fatal(err)
	}
	db, err := catalog.Open(t.Context(), s.postgres.URL(s.empty))
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s servers) cluster(t testing.TB) *cluster {
	t.Helper()
	database, err := s.postgres.Create(s.empty)
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{t, s.s3, s.postgres, s.s3.Bucket(t), database}
}

// node is a process of a cluster.
type node struct {
	*house
	proxy *s3test.Proxy // nil: none
}

func (c *cluster) node(cfg Config, direct bool) *node {
	c.t.Helper()
	n := &node{house: &house{t: c.t, log: &bytes.Buffer{}}}
	endpoint := c.servers.Endpoint
	if !direct {
		n.proxy = c.servers.Proxy(c.t)
		endpoint = n.proxy.Endpoint
	}
	driver, err := s3.New(c.t.Context(), s3.Config{Endpoint: endpoint, Region: c.servers.Region, Bucket: c.bucket, AccessKey: c.servers.AccessKey, SecretKey: c.servers.SecretKey})
	if err != nil {
		c.t.Fatal(err)
	}
	store, err := storage.New(storage.Config{Driver: driver, Drafts: memory(c.t), Floor: -1})
	if err != nil {
		c.t.Fatal(err)
	}
	db, err := catalog.Open(c.t.Context(), c.postgres.URL(c.database))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		db.Close()
		store.Close()
	})
	cfg.Store, cfg.Catalog, cfg.Log = store, db, slog.New(slog.NewTextHandler(n.log, nil))
	if n.Registry, err = New(cfg); err != nil {
		c.t.Fatal(err)
	}
	return n
}

// nodes are two with the projects production and other, or those given.
func (c *cluster) nodes(cfg Config, direct bool, projects ...catalog.Project) (a, b *node) {
	c.t.Helper()
	if len(projects) == 0 {
		projects = []catalog.Project{{Name: "production"}, {Name: "other"}}
	}
	a, b = c.node(cfg, direct), c.node(cfg, direct)
	a.set(projects...)
	b.know()
	return a, b
}

// know has a node know the projects of the catalog, as it does when it is told of a change.
func (n *node) know() {
	n.t.Helper()
	all, err := n.catalog.Projects(context.Background())
	if err == nil {
		err = n.SetProjects(all)
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// held is a request that a proxy does not let through for now.
type heldRequest struct {
	came chan struct{}
	let  func()
}

// hold holds the first request of a kind whose key has some text in it.
func (n *node) hold(kind, text string) heldRequest {
	h := heldRequest{came: make(chan struct{})}
	release := make(chan struct{})
	h.let = func() {
		n.proxy.Fail(nil)
		close(release)
	}
	first := true
	n.proxy.Fail(func(r s3test.Request) s3test.Fault {
		if r.Kind == kind && strings.Contains(r.Key, text) && first {
			first = false
			close(h.came)
			<-release
		}
		return s3test.Fault{}
	})
	return h
}

// await waits for something that has to happen soon.
func await(t testing.TB, came <-chan struct{}) {
	t.Helper()
	select {
	case <-came:
	case <-time.After(30 * time.Second):
		t.Fatal("it does not come to that")
	}
}

// when runs something at the first time that a node comes to a step.
func (n *node) when(step string, do func()) {
	n.at = func(at string) {
		if at == step {
			n.at = nil
			do()
		}
	}
}

// counted counts how often a node comes to a step.
func (n *node) counted(step string) *int {
	times := new(int)
	n.at = func(at string) {
		if at == step {
			*times++
		}
	}
	return times
}

func (c *cluster) object(key string) ([]byte, error) {
	o, err := c.servers.Client(c.t).GetObject(context.Background(), c.bucket, "docker/registry/v2/"+key, minio.GetObjectOptions{})
	if err != nil {
		return nil, err
	}
	defer o.Close()
	return io.ReadAll(o)
}

func hexOf(d registry.Digest) string { return d.Algorithm().String() + "/" + d.Encoded() }

func blobKey(d registry.Digest) string {
	return "blobs/" + d.Algorithm().String() + "/" + d.Encoded()[:2] + "/" + d.Encoded() + "/data"
}

// content reads content from the bucket and sees that it is what it should be.
func (c *cluster) content(d registry.Digest) ([]byte, error) {
	b, err := c.object(blobKey(d))
	if err == nil && d.Algorithm().FromBytes(b) != d {
		err = errors.New("these are other bytes")
	}
	if err != nil {
		return nil, fmt.Errorf("%s in the bucket: %w", d, err)
	}
	return b, nil
}

// link sees that a link in the bucket leads to d.
func (c *cluster) link(key string, d registry.Digest) error {
	b, err := c.object("repositories/" + key + "/link")
	if err == nil && string(b) != string(d) {
		err = fmt.Errorf("it leads to %s", b)
	}
	if err != nil {
		return fmt.Errorf("link %s: %w", key, err)
	}
	return nil
}

// whole reads an image from the bucket as an adoption would, by its links. Blobs that were read are not
// again.
func (c *cluster) whole(repo registry.Repo, d registry.Digest, read *sync.Map) error {
	b, err := c.content(d)
	if err != nil {
		return err
	}
	if err := c.link(repo.String()+"/_manifests/revisions/"+hexOf(d), d); err != nil {
		return err
	}
	_, refs, err := registry.ParseManifest("", d, b)
	if err != nil {
		return err
	}
	for _, blob := range refs.Blobs() {
		key := repo.String() + "/_layers/" + hexOf(blob.Digest)
		if _, seen := read.LoadOrStore(key, true); seen {
			continue
		}
		_, err := c.content(blob.Digest)
		if err := errors.Join(err, c.link(key, blob.Digest)); err != nil {
			read.Delete(key)
			return err
		}
	}
	return nil
}

// wantBlob fails unless a blob is in the bucket, linked and read by a node.
func (c *cluster) wantBlob(n *node, repo registry.Repo, d registry.Digest) {
	c.t.Helper()
	_, err := c.content(d)
	_, readErr := n.read(repo, d)
	if err := errors.Join(err, readErr, c.link(repo.String()+"/_layers/"+hexOf(d), d)); err != nil {
		c.t.Error(err)
	}
}

// wantTag fails unless a tag is in the catalog and in the layout, with its history, and leads to d; ""
// is for no such tag.
func (c *cluster) wantTag(n *node, repo registry.Repo, tag string, d registry.Digest) {
	c.t.Helper()
	key := repo.String() + "/_manifests/tags/" + tag
	if d == "" {
		if _, err := n.Resolve(context.Background(), repo, tag); !errors.Is(err, registry.ManifestUnknown) {
			c.t.Errorf("%s:%s: %v, want that there is none", repo, tag, err)
		}
		if c.servers.Has(c.t, c.bucket, "docker/registry/v2/repositories/"+key+"/current/link") {
			c.t.Errorf("%s:%s is in the layout", repo, tag)
		}
		return
	}
	n.wantTag(repo, tag, d)
	if err := errors.Join(c.link(key+"/current", d), c.link(key+"/index/"+hexOf(d), d)); err != nil {
		c.t.Error(err)
	}
}

// orphan pushes a blob and takes it out of its repository, so that the next collection removes it.
func (n *node) orphan(repo registry.Repo, text string) registry.Digest {
	n.t.Helper()
	d := n.blob(repo, text).Digest
	want(n.t, n.DeleteBlob(context.Background(), repo, d), "")
	return d
}

// TestNodes has one node remove what the other is just storing, in each order that matters.
func TestNodes(t *testing.T) {
	s := newServers(t)
	begin := func(t *testing.T, projects ...catalog.Project) (c *cluster, a, b *node) {
		c = s.cluster(t)
		a, b = c.nodes(Config{}, false, projects...)
		return c, a, b
	}
	later := func(do func() error) (wait func() error) {
		done := make(chan error, 1)
		go func() { done <- do() }()
		return func() error {
			select {
			case err := <-done:
				return err
			case <-time.After(30 * time.Second):
				return errors.New("it hangs")
			}
		}
	}
	push := func(n *node, repo registry.Repo, text string) func() error {
		return func() error { return n.tryBlob(repo, digest.FromString(text), []byte(text)) }
	}

	t.Run("content that is just going is waited for", func(t *testing.T) {
		c, a, b := begin(t)
		d := a.orphan(web, "layer")
		hold := a.hold("DELETE", d.Encoded()+"/data")
		collected := later(func() error { _, err := a.Collect(context.Background(), false); return err })
		await(t, hold.came)
		waits := make(chan struct{})
		b.when("push: may be gone", func() { close(waits) })
		pushed := later(push(b, api, "layer"))
		await(t, waits)
		hold.let()
		want(t, collected(), "")
		want(t, pushed(), "")
		c.wantBlob(a, api, d)
	})
	t.Run("content that has gone after it was put is put again", func(t *testing.T) {
		c, a, b := begin(t)
		d := a.orphan(web, "layer")
		b.when("push: linked", func() { a.collect(false) })
		want(t, push(b, api, "layer")(), "")
		c.wantBlob(a, api, d)
		// And a manifest, whose blobs the repository has.
		m := image(b.blob(web, "config"))
		gone := b.push(web, m)
		want(t, b.DeleteManifest(t.Context(), web, gone.Digest), "")
		b.when("push: linked", func() { a.collect(false) })
		b.push(web, m, "v1")
		c.wantTag(a, web, "v1", gone.Digest)
		want(t, c.whole(web, gone.Digest, &sync.Map{}), "")
	})
	t.Run("what is mounted is still there, or the mount is refused", func(t *testing.T) {
		c, a, b := begin(t)
		any := func(registry.Repo) bool { return true }
		d := a.blob(web, "layer").Digest
		remove := func() {
			want(t, a.DeleteBlob(t.Context(), web, d), "")
			a.collect(false)
		}
		b.when("push: linked", remove)
		want(t, b.Mount(t.Context(), api, d, any), registry.BlobUnknown)
		if has, err := a.catalog.HasRepository(t.Context(), api); has || err != nil {
			t.Errorf("a refused mount leaves a repository: %v, %v", has, err)
		}
		a.blob(web, "layer")
		b.when("push: linked", func() {
			remove()
			a.blob(web, "layer")
		})
		want(t, b.Mount(t.Context(), api, d, any), "")
		c.wantBlob(a, api, d)
		c.wantBlob(b, web, d)
	})
	t.Run("what a node that has died was removing is taken over", func(t *testing.T) {
		c, a, b := begin(t)
		d := a.orphan(web, "layer")
		func() {
			defer func() { recover() }()
			a.when("collect: content forgotten", func() { panic("dead") })
			a.collect(false)
		}()
		b.when("push: may be gone", func() {
			// Half a minute passes.
			if err := c.postgres.Run(c.database, "UPDATE removals SET began_at = began_at - 31000"); err != nil {
				t.Error(err)
			}
		})
		want(t, push(b, api, "layer")(), "")
		c.wantBlob(b, api, d)
	})
	t.Run("a link that is just going is put back", func(t *testing.T) {
		c, a, b := begin(t)
		d := a.blob(web, "layer").Digest
		hold := a.hold("DELETE", "_layers/"+hexOf(d))
		deleted := later(func() error { return a.DeleteBlob(context.Background(), web, d) })
		await(t, hold.came)
		want(t, push(b, web, "layer")(), "")
		hold.let()
		want(t, deleted(), "")
		c.wantBlob(b, web, d)
	})
	t.Run("a link that has gone after it was put is put again", func(t *testing.T) {
		c, a, b := begin(t)
		d := a.blob(web, "layer").Digest
		b.when("push: linked", func() { want(t, a.DeleteBlob(t.Context(), web, d), "") })
		want(t, push(b, web, "layer")(), "")
		c.wantBlob(a, web, d)
		again := b.counted("push: may be gone")
		want(t, push(b, web, "layer")(), "")
		if *again != 1 {
			t.Errorf("a push that did not know of the end was placed again %d times, want once", *again)
		}
	})
	t.Run("a tag that both move", func(t *testing.T) {
		c, a, b := begin(t)
		config := a.blob(web, "config")
		a.proxy.Requests()
		a.push(web, image(config), "asked")
		if got := fmt.Sprint(a.proxy.Sorted()); got != "[GET PUT PUT PUT PUT]" {
			t.Errorf("a push of a manifest with a tag asks %s of the bucket, want one look at the tag after it was put", got)
		}
		first, second := image(config), image(config, a.blob(web, "layer"))
		one, two := a.push(web, first, "one"), a.push(web, second, "two")
		a.when("push: linked", func() { b.push(web, second, "latest") })
		a.push(web, first, "latest")
		c.wantTag(b, web, "latest", one.Digest)
		// And one whose link comes last loses to the one whose row does.
		hold := a.hold("PUT", "tags/latest/current")
		late := later(func() error { return a.try(web, first, "latest") })
		await(t, hold.came)
		b.push(web, second, "latest")
		hold.let()
		want(t, late(), "")
		c.wantTag(b, web, "latest", one.Digest)
		a.when("push: linked", func() { b.push(web, second, "latest") })
		if _, err := a.CopyTag(t.Context(), web, "one", "latest"); err != nil {
			t.Error(err)
		}
		c.wantTag(b, web, "latest", one.Digest)
		c.wantTag(b, web, "two", two.Digest)
	})
	t.Run("a tag that one deletes and the other pushes", func(t *testing.T) {
		c, a, b := begin(t)
		m := image(a.blob(web, "config"))
		d := a.push(web, m, "latest").Digest
		b.when("push: linked", func() { want(t, a.DeleteTag(t.Context(), web, "latest"), "") })
		b.push(web, m, "latest")
		c.wantTag(a, web, "latest", d)
		hold := a.hold("DELETE", "tags/latest/current")
		deleted := later(func() error { return a.DeleteTag(context.Background(), web, "latest") })
		await(t, hold.came)
		b.push(web, m, "latest")
		hold.let()
		want(t, deleted(), "")
		c.wantTag(a, web, "latest", d)
		want(t, b.DeleteTag(t.Context(), web, "latest"), "")
		c.wantTag(a, web, "latest", "")
	})
	t.Run("a refused push takes nothing back of the other's", func(t *testing.T) {
		c, a, b := begin(t, catalog.Project{Name: "production"}, catalog.Project{Name: "other", Quota: 10})
		d := digest.FromString("the same")
		a.when("push: linked", func() {
			b.when("push: linked", func() { b.blob(other, "12345") }) // and there is no room left
			want(t, push(b, other, "the same")(), registry.TooLarge)
		})
		want(t, push(a, web, "the same")(), "")
		c.wantBlob(b, web, d)
		if c.link(other.String()+"/_layers/"+hexOf(d), d) == nil {
			t.Error("the link of a refused push stays")
		}
		// Its quota is one, however many nodes push at once.
		a.know()
		pushed := []func() error{later(push(a, other, "abcd")), later(push(b, other, "efgh"))}
		if one, two := pushed[0](), pushed[1](); (one == nil) == (two == nil) {
			t.Errorf("%v and %v, want one of them refused", one, two)
		}
	})
	t.Run("an immutable tag is made once", func(t *testing.T) {
		c, a, b := begin(t, catalog.Project{Name: "production", Immutable: []string{"**:v*"}})
		config := a.blob(web, "config")
		second := image(config, a.blob(web, "layer"))
		two := digest.FromBytes(encode(second))
		a.when("push: linked", func() { b.push(web, second, "v1") })
		want(t, a.try(web, image(config), "v1"), registry.Denied)
		c.wantTag(a, web, "v1", two)
		want(t, a.DeleteTag(t.Context(), web, "v1"), registry.Denied)
		want(t, c.whole(web, two, &sync.Map{}), "")
	})
	t.Run("a project that the other deletes", func(t *testing.T) {
		c, a, b := begin(t)
		for name, remake := range map[string]bool{"deleted": false, "another under its name": true} {
			b.when("push: linked", func() {
				a.update(func(tx *catalog.Tx) error {
					err := tx.DeleteProject("production")
					if remake {
						err = errors.Join(err, tx.PutProject(catalog.Project{Name: "production"}))
					}
					return err
				})
			})
			text := "layer of " + name
			want(t, push(b, web, text)(), registry.NameUnknown)
			if has, err := a.catalog.HasRepository(t.Context(), web); has || err != nil {
				t.Errorf("%s: the repository is there: %v, %v", name, has, err)
			}
			if d := digest.FromString(text); c.servers.Has(t, c.bucket, "docker/registry/v2/"+blobKey(d)) || c.link(web.String()+"/_layers/"+hexOf(d), d) == nil {
				t.Errorf("%s: what was refused is in the bucket", name)
			}
			a.set(catalog.Project{Name: "production"}, catalog.Project{Name: "other"})
			b.know()
		}
	})
	t.Run("a repository that the other deletes", func(t *testing.T) {
		c, a, b := begin(t)
		m := image(a.blob(web, "config"))
		d := a.push(web, m, "v1").Digest
		b.when("push: linked", func() { want(t, a.DeleteRepository(t.Context(), web), "") })
		want(t, b.try(web, m, "v2"), registry.ManifestBlobUnknown) // it is told to begin anew
		if has, err := a.catalog.HasRepository(t.Context(), web); has || err != nil {
			t.Errorf("the repository is there: %v, %v", has, err)
		}
		c.wantTag(a, web, "v2", "")
		b.blob(web, "config")
		b.when("push: linked", func() { a.collect(false) })
		b.push(web, m, "v2")
		c.wantTag(a, web, "v2", d)
		want(t, c.whole(web, d, &sync.Map{}), "")
		// What was pushed to a node whose clock is ahead goes too.
		ahead := time.Now().Add(time.Minute)
		b.update(func(tx *catalog.Tx) error {
			_, err := tx.Renew(web, d, ahead)
			return errors.Join(err, tx.PutTag(web, "v2", catalog.Tag{Descriptor: registry.Descriptor{Digest: d}, CheckedAt: ahead}))
		})
		want(t, a.DeleteRepository(t.Context(), web), "")
		if has, err := b.catalog.HasRepository(t.Context(), web); has || err != nil {
			t.Errorf("the repository is there: %v, %v", has, err)
		}
	})
}

// TestD7_CollectRacesOfNodes is TestD7_CollectRaces with the pushes on two nodes, most of them on the
// one that does not collect (FAULTS N5). That nothing is broken is read from the bucket, by its links.
func TestD7_CollectRacesOfNodes(t *testing.T) {
	images := 10_700
	switch {
	case testing.Short() || os.Getenv("ROADSTEAD_THOUSANDS") == "":
		images = 300
	case raced:
		images = 1500
	}
	c := newServers(t).cluster(t)
	a, b := c.nodes(Config{Grace: time.Nanosecond}, true)
	var again [2]atomic.Int64
	for i, n := range []*node{a, b} {
		n.at = func(step string) {
			if step == "push: placed again" {
				again[i].Add(1)
			}
		}
	}
	var read sync.Map
	raceCollections(t, images, a.house, []*house{b.house, b.house, a.house}, func(repo registry.Repo, d registry.Digest) error {
		return c.whole(repo, d, &read)
	})
	t.Logf("placed again: %d times on the node that collects, %d on the other", again[0].Load(), again[1].Load())
	if again[1].Load() == 0 {
		t.Error("nothing was removed while the other node was storing it, so nothing was raced")
	}
}
