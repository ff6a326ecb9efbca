package cache

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"roadstead/registry"
	"roadstead/storage"
	"roadstead/storage/catalog"
	"roadstead/storage/postgrestest"
	"roadstead/storage/s3"
	"roadstead/storage/s3test"
)

// node is a cache of its own, with a store and a catalog of its own, over a bucket and a database that
// other nodes have too. Nobody tells it what they change: all news is late.
type node struct {
	*house
	origin *origin
	proxy  *s3test.Proxy
}

type cluster struct {
	t      testing.TB
	server *s3test.Server
	bucket string
	url    string
}

func (c *cluster) node() *node {
	c.t.Helper()
	n := &node{origin: newOrigin(), proxy: c.server.Proxy(c.t)}
	driver, err := s3.New(c.t.Context(), s3.Config{Endpoint: n.proxy.Endpoint, Region: c.server.Region, Bucket: c.bucket, AccessKey: c.server.AccessKey, SecretKey: c.server.SecretKey})
	if err != nil {
		c.t.Fatal(err)
	}
	store, err := storage.New(storage.Config{Driver: driver, Drafts: c.t.TempDir(), Floor: -1})
	if err != nil {
		c.t.Fatal(err)
	}
	n.house = newHouse(c.t, "", Config{Store: store, Catalog: openCatalog(c.t, c.url), Projects: []Project{{Name: "docker.io", Upstream: n.origin}}})
	return n
}

// hold holds the first request of a kind whose key has some text in it, until let is called.
func (n *node) hold(kind, text string) (came chan struct{}, let func()) {
	came = make(chan struct{})
	release := make(chan struct{})
	var first sync.Once
	n.proxy.Fail(func(r s3test.Request) s3test.Fault {
		if r.Kind == kind && strings.Contains(r.Key, text) {
			first.Do(func() {
				close(came)
				<-release
			})
		}
		return s3test.Fault{}
	})
	return came, sync.OnceFunc(func() {
		n.proxy.Fail(nil)
		close(release)
	})
}

func await(t testing.TB, what string, came <-chan struct{}) {
	t.Helper()
	select {
	case <-came:
	case <-time.After(30 * time.Second):
		t.Fatal("it does not come to " + what)
	}
}

// object reads what is in the bucket, or "".
func (c *cluster) object(key string) string {
	o, err := c.server.Client(c.t).GetObject(context.Background(), c.bucket, "docker/registry/v2/"+key, minio.GetObjectOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	defer o.Close()
	b, _ := io.ReadAll(o)
	return string(b)
}

func blobKey(d registry.Digest) string {
	return "blobs/sha256/" + d.Encoded()[:2] + "/" + d.Encoded() + "/data"
}

// stored waits until the catalog has content of a repository, and fails unless the bucket has it then,
// with its link below a folder.
func (c *cluster) stored(n *node, repo registry.Repo, folder string, d registry.Digest) {
	c.t.Helper()
	for late := time.Now().Add(30 * time.Second); !n.has(context.Background(), repo, d); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(late) {
			c.t.Fatalf("the catalog never has %s in %s", d, repo)
		}
	}
	if text := c.object(blobKey(d)); d.Algorithm().FromString(text) != d {
		c.t.Errorf("the catalog has %s and the bucket has not", d)
	}
	if c.object("repositories/"+repo.String()+"/"+folder+"/sha256/"+d.Encoded()+"/link") != string(d) {
		c.t.Errorf("%s is not linked in %s", d, repo)
	}
}

// settle waits until nothing is on its way into the bucket and the catalog any more. What has to be
// written once more begins behind the recorder, where the house's own settle does not look.
func (n *node) settle(t testing.TB) {
	t.Helper()
	all := func(registry.Repo) bool { return true }
	busy := func() bool {
		n.flightsMu.Lock()
		flights := len(n.flights)
		n.flightsMu.Unlock()
		n.forgotten.mu.Lock()
		defer n.forgotten.mu.Unlock()
		return flights > 0 || len(n.forgotten.writing) > 0 || n.saves.busy(all)
	}
	for quiet, late := 0, time.Now().Add(30*time.Second); quiet < 3; time.Sleep(10 * time.Millisecond) {
		if quiet++; busy() {
			quiet = 0
		}
		if time.Now().After(late) {
			t.Fatal("it does not come to rest")
		}
	}
}

// TestNodes has one node evict or forget what another one is just storing.
func TestNodes(t *testing.T) {
	server, postgres := s3test.Versitygw(t), postgrestest.New(t)
	empty, err := postgres.Create("")
	if err == nil {
		err = openCatalog(t, postgres.URL(empty)).Close() // the others are copies
	}
	if err != nil {
		t.Fatal(err)
	}
	begin := func(t *testing.T) (c *cluster, a, b *node, i image) {
		database, err := postgres.Create(empty)
		if err != nil {
			t.Fatal(err)
		}
		c = &cluster{t, server, server.Bucket(t), postgres.URL(database)}
		a, b = c.node(), c.node()
		for _, n := range []*node{a, b} {
			i = n.origin.putImage(t, "app", "latest", []byte(strings.Repeat("layer", 1000)))
		}
		return c, a, b, i
	}
	app := hub("app")
	evict := func(t *testing.T, n *node, d registry.Digest) {
		t.Helper()
		gone, err := n.remove(context.Background(), d, []string{"docker.io"}, time.Now().Add(time.Hour))
		if err != nil || !gone {
			t.Errorf("evict: %v, %v", gone, err)
		}
	}
	pull := func(t *testing.T, n *node) {
		t.Helper()
		if err := n.pull(t, app, "latest"); err != nil {
			t.Error(err)
		}
		n.settle(t)
	}

	t.Run("a blob that is going while it is written down", func(t *testing.T) {
		c, a, b, i := begin(t)
		// Held before its bytes are in the bucket, so that it is b that brings them too.
		put, putNow := b.hold("PUT", blobKey(i.layer))
		if err := b.pull(t, app, "latest"); err != nil {
			t.Fatal(err)
		}
		await(t, "the put", put)
		pull(t, a)
		deleted, deleteNow := a.hold("DELETE", blobKey(i.layer))
		evicted := make(chan struct{})
		go func() {
			defer close(evicted)
			evict(t, a, i.layer)
		}()
		await(t, "the deletion", deleted)
		waits := make(chan struct{})
		var once sync.Once
		b.at = func(step string) {
			if step == "arrival: may be gone" {
				once.Do(func() { close(waits) })
			}
		}
		putNow()
		await(t, "the wait for it", waits)
		deleteNow()
		await(t, "the end of the eviction", evicted)
		c.stored(b, app, "_layers", i.layer)
	})
	t.Run("a manifest that has gone before it is written down", func(t *testing.T) {
		c, a, b, i := begin(t)
		pull(t, a)
		d := i.manifest.Digest
		link, linkNow := b.hold("PUT", "_manifests/revisions/sha256/"+d.Encoded())
		// b asks upstream for it in a repository of its own.
		b.origin.putImage(t, "other", "latest", i.content)
		b.origin.set(func() { b.origin.manifests["other@"+string(d)] = i.manifest })
		if _, err := b.Manifest(t.Context(), hub("other"), d); err != nil {
			t.Fatal(err)
		}
		await(t, "the link", link)
		evict(t, a, d)
		linkNow()
		c.stored(b, hub("other"), "_manifests/revisions", d)
	})
	t.Run("a tag that was forgotten while it was asked for", func(t *testing.T) {
		c, a, b, i := begin(t)
		answer := b.origin.hang("tagged")
		pulled := make(chan error, 1)
		go func() { pulled <- b.pull(t, app, "latest") }()
		for len(b.origin.asked()) == 0 {
			time.Sleep(time.Millisecond)
		}
		pull(t, a)
		if err := a.ForgetTag(t.Context(), app, "latest"); err != nil {
			t.Fatal(err)
		}
		close(answer)
		if err := <-pulled; err != nil {
			t.Error(err)
		}
		b.settle(t)
		b.settle(t)
		if tags, err := a.catalog.Tags(t.Context(), app, "", -1); err != nil || len(tags) > 0 {
			t.Errorf("tags %q, %v: one that was forgotten has come back", tags, err)
		}
		if got := c.object("repositories/" + app.String() + "/_manifests/tags/latest/current/link"); got != "" {
			t.Errorf("in the layout it points to %s", got)
		}
		// Whoever asks now has it again.
		b.origin.set(func() { b.origin.fail = nil })
		pull(t, b)
		tag, err := a.catalog.Tag(t.Context(), app, "latest")
		if err != nil || tag.Digest != i.manifest.Digest {
			t.Errorf("pulled again: %+v, %v", tag, err)
		}
		b.settle(t)
		if got := c.object("repositories/" + app.String() + "/_manifests/tags/latest/current/link"); got != string(i.manifest.Digest) {
			t.Errorf("pulled again, in the layout it points to %q", got)
		}
	})
	t.Run("a tag whose link comes late", func(t *testing.T) {
		c, a, b, _ := begin(t)
		held, now := b.hold("PUT", "_manifests/tags/latest/current")
		if err := b.pull(t, app, "latest"); err != nil {
			t.Fatal(err)
		}
		await(t, "the link", held)
		moved := a.origin.putImage(t, "app", "latest", []byte("moved"))
		pull(t, a)
		now()
		b.settle(t)
		b.settle(t)
		tag, err := a.catalog.Tag(t.Context(), app, "latest")
		if got := c.object("repositories/" + app.String() + "/_manifests/tags/latest/current/link"); err != nil || got != string(tag.Digest) {
			t.Errorf("the layout says %s and the catalog %s, %v", got, tag.Digest, err)
		}
		if tag.Digest == moved.manifest.Digest {
			t.Log("the later one is the last, which nobody promises")
		}
	})
	t.Run("an eviction whose node has gone", func(t *testing.T) {
		c, a, b, i := begin(t)
		pull(t, a)
		hold, let := a.hold("DELETE", blobKey(i.layer))
		defer let()
		ctx, end := context.WithCancel(t.Context())
		go a.remove(ctx, i.layer, []string{"docker.io"}, time.Now().Add(time.Hour))
		await(t, "the deletion", hold)
		end() // and with it the request
		if err := b.finishRemovals(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left, _ := b.catalog.Removals(t.Context(), "", -1); len(left) != 1 {
			t.Error("a removal is taken from whoever has it")
		}
		database := c.url[strings.LastIndex(c.url, "/")+1:]
		database, _, _ = strings.Cut(database, "?")
		if err := postgres.Run(database, "UPDATE removals SET began_at = began_at - 31000"); err != nil {
			t.Fatal(err)
		}
		if err := b.finishRemovals(t.Context()); err != nil {
			t.Error(err)
		}
		if left, err := b.catalog.Removals(t.Context(), "", -1); len(left) != 0 || err != nil {
			t.Errorf("left: %+v, %v", left, err)
		}
		if c.object(blobKey(i.layer)) != "" {
			t.Error("it is in the bucket")
		}
	})
}

// Who asks for room while another node makes some is told which one does.
func TestRoomIsMadeElsewhere(t *testing.T) {
	postgres := postgrestest.New(t)
	database, err := postgres.Create("")
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, t.TempDir(), Config{Catalog: openCatalog(t, postgres.URL(database)), MaxSize: 1 << 30, Node: "node-0"})
	other := openCatalog(t, postgres.URL(database))
	defer other.Close()
	for _, node := range []string{"node-1", ""} {
		want := node + " makes room already"
		if node == "" {
			want = "another process" + want
		}
		held := catalog.ErrHeld
		for late := time.Now().Add(30 * time.Second); errors.Is(held, catalog.ErrHeld) && time.Now().Before(late); {
			held = other.Hold(t.Context(), evictionLease, node, func(ctx context.Context, _ string) {
				if _, err := h.Evict(ctx); !errors.Is(err, registry.Conflict) || !strings.Contains(err.Error(), want) {
					t.Errorf("held by %q: %v, want %q", node, err, want)
				}
			})
		}
		if held != nil {
			t.Error(held)
		}
	}
}
