package main_test

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"roadstead/storage/postgrestest"
	"roadstead/storage/s3test"
)

// nodesOf is some nodes that have a bucket and a database in common, and a project "mirror" of an
// upstream that a gate is before.
type nodesOf struct {
	database *postgrestest.Server
	upstream *upstream
	gate     *gate
	nodes    []*node
	root     account
	peers    []string // where each is asked by the other
	lost     *node    // that was taken away last

	requests atomic.Int64 // to the bucket

	mu   sync.Mutex
	puts map[string]int // by key: how often something was stored
}

const clusterSecret = "a secret that nodes have and clients do not"

// clusterConfig says how they are configured.
type clusterConfig struct {
	nodes    int            // zero: 2
	secure   bool           // between them
	copies   bool           // of what is in the bucket, on the nodes
	plain    bool           // without the race detector
	tls      bool           // for clients
	projects map[string]any // beside mirror
	storage  map[string]any // further keys of it
	more     map[string]any // further top-level keys
}

func startCluster(t *testing.T, config clusterConfig) *nodesOf {
	t.Helper()
	database, s := postgrestest.New(t), s3test.Versitygw(t)
	c := &nodesOf{database: database, upstream: startUpstream(t, upstreamConfig{}), puts: map[string]int{}, root: account{"admin", "Pass-of-admin-1f8c"}}
	c.gate = startGate(t, c.upstream.url)
	proxy := s.Proxy(t)
	proxy.Fail(func(r s3test.Request) s3test.Fault {
		c.requests.Add(1)
		if r.Kind == "PUT" || r.Kind == "COMPLETE" {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.puts[r.Key]++
		}
		return s3test.Fault{}
	})
	store := onPostgreSQL(t, database)
	maps.Copy(store, bucketStorage(t, s, proxy.Endpoint, s.Bucket(t)))
	maps.Copy(store, config.storage)
	home := t.TempDir()
	secret, first := filepath.Join(home, "secret"), filepath.Join(home, "admin")
	for path, text := range map[string]string{secret: clusterSecret, first: c.root.secret} {
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	count := cmp.Or(config.nodes, 2)
	projects := map[string]any{"mirror": project(c.gate.url, map[string]any{"public": true, "ttl": "1h"})}
	maps.Copy(projects, config.projects)
	for i := range count {
		peers := freeAddress(t)
		more := map[string]any{
			"admin_password_file": first,
			"cluster": map[string]any{
				"listen": peers, "address": map[bool]string{true: "https", false: "http"}[config.secure] + "://" + peers,
				"secret_file": secret, "name": fmt.Sprintf("node-%d", i),
			},
		}
		maps.Copy(more, config.more)
		if config.copies {
			store = maps.Clone(store)
			store["hot"] = map[string]any{"directory": t.TempDir(), "size": "1GiB"}
		}
		n := newNode(t, nodeConfig{storage: store, projects: projects, more: more, plain: config.plain, tls: config.tls})
		n.start()
		c.nodes, c.peers = append(c.nodes, n), append(c.peers, peers)
	}
	c.together(t, float64(count))
	return c
}

// together waits until each of the nodes sees so many.
func (c *nodesOf) together(t *testing.T, want float64) {
	t.Helper()
	for _, n := range c.nodes[:int(want)] {
		eventually(t, 20*time.Second, fmt.Sprintf("a node that sees %v", want), func() bool { return n.metric("roadstead_cluster_nodes") == want })
	}
}

// cold is an image of one layer that nobody has asked for yet.
func (c *nodesOf) cold(t *testing.T, repo string, seed uint64, size int) *image {
	t.Helper()
	img := recipe{seed: seed, layers: 1, layerSize: size}.make(t, "1.0")
	c.upstream.push(t, repo, img)
	return img
}

// One cold image costs a cluster one download, wherever its many clients ask, and is stored once; who
// is killed or frozen in the middle of it is no client's trouble; and what is changed at one node is
// in force at the other.
func TestTwoNodes(t *testing.T) {
	e2e(t)
	c := startCluster(t, clusterConfig{})
	t.Run("a herd costs one download", c.herd)
	t.Run("nobody but nodes is let in", c.strangers)
	t.Run("what is changed is in force elsewhere", c.changes)
	t.Run("who is signed in at one is so at the other", c.browse)
	t.Run("orders at a node that does not lead", c.orders)
	t.Run("through the balancer of deploy", c.balanced)
	t.Run("an owner that is killed, and leads", func(t *testing.T) { c.lose(t, (*process).kill, 930_000) })
	c.lost.start()
	c.together(t, 2)
	t.Run("an owner that is frozen, and leads", func(t *testing.T) { c.lose(t, func(p *process) { p.freeze(t) }, 940_000) })
	c.lost.signal(syscall.SIGCONT)
	eventually(t, 5*time.Second, "a node that leads no more", func() bool { return !c.lost.leads() })
	c.together(t, 2)
	t.Run("the roll cannot be read", c.blind)
	t.Run("a node that ends", c.end)
}

func (c *nodesOf) herd(t *testing.T) {
	img := recipe{seed: 920_000, layers: 4, layerSize: 6 << 20}.make(t, "1.0")
	c.upstream.push(t, "team/herd", img)
	c.gate.set(blobs(shape{rate: 3 << 20}))
	defer c.gate.set(nil)
	before := c.gate.bytes.Load()
	c.gate.forget()
	var size, herd = int64(0), sync.WaitGroup{}
	for _, b := range img.blobs {
		size += b.size
	}
	start := time.Now()
	for i := range 60 {
		herd.Go(func() {
			if err := c.nodes[i%2].pull("mirror/team/herd", "1.0", img); err != nil {
				t.Error(err)
			}
		})
	}
	herd.Wait()
	t.Logf("60 pulls of %d bytes over two nodes took %v", size, time.Since(start))
	if got := c.gate.bytes.Load() - before; got != size {
		t.Errorf("%d bytes of blobs from upstream, want %d", got, size)
	}
	if got := c.gate.count("GET /v2/team/herd/blobs/"); got != len(img.blobs) {
		t.Errorf("%d downloads for %d blobs: %q", got, len(img.blobs), c.gate.seen())
	}
	if got := c.gate.count("GET /v2/team/herd/manifests/"); got != len(img.manifests) {
		t.Errorf("%d manifests were asked for, want %d: %q", got, len(img.manifests), c.gate.seen())
	}
	if a, b := c.nodes[0].metric("roadstead_cluster_received_bytes_total"), c.nodes[1].metric("roadstead_cluster_received_bytes_total"); int64(a+b) > size || a+b == 0 {
		t.Errorf("%v and %v bytes came from the other node, want up to %d", a, b, size)
	}
	// Each is stored a little later, by the one that has brought it.
	for d := range img.blobs {
		key := "docker/registry/v2/blobs/sha256/" + d.Encoded()[:2] + "/" + d.Encoded() + "/data"
		eventually(t, 10*time.Second, "a blob in the bucket", func() bool { return c.stored(key) > 0 })
	}
	for _, n := range c.nodes {
		if err := n.pull("mirror/team/herd", "1.0", img); err != nil {
			t.Error(err)
		}
	}
	time.Sleep(time.Second) // for whoever would store it a second time
	for d := range img.blobs {
		if n := c.stored("docker/registry/v2/blobs/sha256/" + d.Encoded()[:2] + "/" + d.Encoded() + "/data"); n != 1 {
			t.Errorf("%s was stored %d times", d, n)
		}
	}
	if got := c.gate.bytes.Load() - before; got != size {
		t.Errorf("%d bytes of blobs from upstream after that, want %d", got, size)
	}
}

// stored is how often something was put under a key that ends like this.
func (c *nodesOf) stored(key string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, times := range c.puts {
		if strings.HasSuffix(k, key) {
			n += times
		}
	}
	return n
}

func (c *nodesOf) strangers(t *testing.T) {
	for _, header := range []string{"", "Authorization: Basic YWRtaW46UGFzcy1vZi1hZG1pbi0xZjhj", "Roadstead-Node: node-0;1;00"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.peers[0]+"/v2/mirror/team/herd/manifests/1.0", nil)
		if err != nil {
			t.Fatal(err)
		}
		if name, value, ok := strings.Cut(header, ": "); ok {
			r.Header.Set(name, value)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusForbidden {
			t.Errorf("with %q: %s", header, res.Status)
		}
	}
	if got := c.nodes[0].metric("roadstead_cluster_refused_total"); got != 3 {
		t.Errorf("%v were refused, want 3", got)
	}
	for _, n := range c.nodes {
		if log, err := os.ReadFile(n.log); err != nil || bytes.Contains(log, []byte(clusterSecret)) {
			t.Errorf("the log has the secret in it, or is not there: %v", err)
		}
	}
}

// within is how soon a change at one node has to be in force at the other.
const within = 5 * time.Second

func (c *nodesOf) changes(t *testing.T) {
	one, other := c.nodes[0].as(c.root), c.nodes[1]
	const path = "/api/v2.0/projects"
	send := func(method, path, body string, want int) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, one.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		res, err := one.do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Fatalf("%s %s: %s, want %d", method, path, res.Status, want)
		}
	}
	soon := func(what string, ok func() bool) {
		t.Helper()
		start := time.Now()
		eventually(t, within, what, ok)
		t.Logf("%s: after %v", what, time.Since(start).Round(time.Millisecond))
	}
	img := recipe{seed: 921_000, layers: 1}.make(t, "1.0")
	manifestStatus := func(want int) func() bool {
		return func() bool { return other.ask(http.MethodGet, manifestPath("house/app", "1.0")).status == want }
	}
	send(http.MethodPost, path, `{"project_name":"house","metadata":{"public":"true"}}`, http.StatusCreated)
	soon("a new project", func() bool { return other.as(c.root).ask(http.MethodGet, path+"/house").status == http.StatusOK })
	if err := one.push("house/app", img); err != nil {
		t.Fatal(err)
	}
	soon("what was pushed", manifestStatus(http.StatusOK))
	send(http.MethodPut, path+"/house", `{"metadata":{"public":"false"}}`, http.StatusOK)
	soon("a project that is private now", manifestStatus(http.StatusUnauthorized))
	send(http.MethodPut, path+"/house", `{"metadata":{"public":"true"}}`, http.StatusOK)
	soon("a project that is public again", manifestStatus(http.StatusOK))

	// What is forgotten at one is not answered from the memory of the other.
	cached := c.cold(t, "team/forgotten", 922_000, 1<<20)
	if err := other.pull("mirror/team/forgotten", "1.0", cached); err != nil {
		t.Fatal(err)
	}
	repository := path + "/mirror/repositories/team%252Fforgotten"
	eventually(t, 10*time.Second, "an artifact that is listed", func() bool {
		return one.ask(http.MethodGet, repository+"/artifacts/1.0").status == http.StatusOK
	})
	c.gate.forget()
	if a := other.ask(http.MethodGet, manifestPath("mirror/team/forgotten", "1.0")); !a.whole() || len(c.gate.seen()) > 0 {
		t.Fatalf("%v, after %q", a, c.gate.seen())
	}
	send(http.MethodDelete, repository+"/artifacts/1.0", "", http.StatusOK)
	soon("a tag that is forgotten", func() bool {
		return other.ask(http.MethodGet, manifestPath("mirror/team/forgotten", "1.0")).whole() && len(c.gate.seen()) > 0
	})
	if err := other.pull("mirror/team/forgotten", "1.0", cached); err != nil {
		t.Error(err)
	}
}

// lose takes the node that leads away in the middle of a download that it makes for the other.
func (c *nodesOf) lose(t *testing.T, away func(*process), seed uint64) {
	const size, rate = 16 << 20, 4 << 20
	c.gate.set(blobs(shape{rate: rate}))
	defer c.gate.set(nil)
	survivor, owner := c.byLead(t)
	c.lost = owner
	for i := range uint64(16) {
		repo := fmt.Sprintf("team/lost-%d", seed+i)
		img := c.cold(t, repo, seed+i*1000, size)
		received := func() float64 { return survivor.metric("roadstead_cluster_received_bytes_total") }
		before := received()
		start := time.Now()
		var herd sync.WaitGroup
		for range 20 {
			herd.Go(func() {
				if err := survivor.pull("mirror/"+repo, "1.0", img); err != nil {
					t.Errorf("%v after %v", err, time.Since(start))
				}
			})
		}
		time.Sleep(size / rate * time.Second / 2)
		if received()-before < size/8 {
			herd.Wait() // the first node owns it: try another one
			continue
		}
		away(owner.process)
		leads := takesOver(survivor)
		herd.Wait()
		took := time.Since(start)
		t.Logf("20 pulls took %v, of which %v without the other node", took, took-size/rate*time.Second/2)
		if took > given(size/rate*time.Second+10*time.Second) {
			t.Errorf("the pulls took %v, want less than %v more than %v", took, 10*time.Second, size/rate*time.Second)
		}
		if err := survivor.pull("mirror/"+repo, "1.0", img); err != nil {
			t.Error(err)
		}
		if took := <-leads; took > given(10*time.Second) {
			t.Errorf("it leads after %v", took)
		} else {
			t.Logf("it leads after %v", took)
		}
		eventually(t, 10*time.Second, "a node that is alone", func() bool { return survivor.metric("roadstead_cluster_nodes") == 1 })
		// What is asked for from now on does not wait for the one that is gone.
		start = time.Now()
		next := c.cold(t, repo+"-next", seed+500_000, 64<<10)
		if err := survivor.pull("mirror/"+repo+"-next", "1.0", next); err != nil || time.Since(start) > given(5*time.Second) {
			t.Errorf("the next one: %v after %v", err, time.Since(start))
		}
		return
	}
	t.Fatal("of 16 layers the second node owned none")
}

// blind takes the database away: nodes go by what they knew, and say so.
func (c *nodesOf) blind(t *testing.T) {
	if err := c.database.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		eventually(t, 10*time.Second, "a roll that is down", func() bool { return n.metric("roadstead_cluster_roll_up") == 0 })
		if got := n.metric("roadstead_cluster_nodes"); got != 2 {
			t.Errorf("%v nodes are left, want 2", got)
		}
		if health := c.health(t, n); !strings.Contains(health, `"cluster"`) || !strings.Contains(health, "was last known") || !strings.Contains(health, `"node node-0"`) || !strings.Contains(health, `"node node-1"`) {
			t.Errorf("the health of a node is %s", health)
		}
	}
	img := c.cold(t, "team/blind", 950_000, 4<<20)
	before := c.gate.bytes.Load()
	var size, herd = int64(0), sync.WaitGroup{}
	for _, b := range img.blobs {
		size += b.size
	}
	for i := range 20 {
		herd.Go(func() {
			if err := c.nodes[i%2].pull("mirror/team/blind", "1.0", img); err != nil {
				t.Error(err)
			}
		})
	}
	herd.Wait()
	if got := c.gate.bytes.Load() - before; got > 2*size {
		t.Errorf("%d bytes came from upstream for %d without the database: each node once is the most", got, size)
	}
	if err := c.database.Start(); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		eventually(t, 15*time.Second, "a roll that is back", func() bool {
			return n.metric("roadstead_cluster_roll_up") == 1 && !strings.Contains(c.health(t, n), "was last known")
		})
	}
	c.together(t, 2)
}

func (c *nodesOf) health(t *testing.T, n *node) string {
	t.Helper()
	res, err := http.Get(n.admin + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// end stops a node in order, which the other knows at once.
func (c *nodesOf) end(t *testing.T) {
	c.nodes[1].terminate(30 * time.Second)
	start := time.Now()
	eventually(t, 5*time.Second, "a node that is alone", func() bool { return c.nodes[0].metric("roadstead_cluster_nodes") == 1 })
	t.Logf("known after %v", time.Since(start))
}

// Content in a bucket that a database does not know is refused until it is adopted, and is served
// then by whichever node.
func TestAdoptABucketIntoPostgreSQL(t *testing.T) {
	e2e(t)
	database, s := postgrestest.New(t), s3test.Versitygw(t)
	bucket := bucketStorage(t, s, s.Endpoint, s.Bucket(t))
	u := startUpstream(t, upstreamConfig{})
	img := recipe{seed: 951_000, layers: 2}.make(t, "1.0")
	u.push(t, "team/app", img)
	projects := map[string]any{"mirror": project(u.url, map[string]any{"public": true, "ttl": "1h"})}
	alone := startNode(t, nodeConfig{plain: true, storage: bucket, projects: projects})
	if err := alone.pull("mirror/team/app", "1.0", img); err != nil {
		t.Fatal(err)
	}
	alone.terminate(30 * time.Second)
	u.stop(t)

	lost := newNode(t, nodeConfig{plain: true, storage: bucket, projects: projects})
	if out, err := lost.command("serve"); err == nil || !strings.Contains(err.Error(), "has no catalog of it") {
		t.Errorf("serve: %v: %s", err, out)
	}
	store := onPostgreSQL(t, database)
	maps.Copy(store, bucket)
	n := newNode(t, nodeConfig{plain: true, storage: store, projects: projects})
	if out, err := n.command("serve"); err == nil || !strings.Contains(err.Error(), "the catalog in PostgreSQL does not know it") {
		t.Errorf("serve: %v: %s", err, out)
	}
	if out, err := n.command("adopt"); err != nil || !bytes.Contains(out, []byte("adopted 1 repositories with 1 tags")) {
		t.Fatalf("adopt: %v: %s", err, out)
	}
	n.start()
	other := startNode(t, nodeConfig{plain: true, storage: store, projects: projects})
	for _, n := range []*node{n, other} {
		if err := n.pull("mirror/team/app", "1.0", img); err != nil {
			t.Error(err)
		}
	}
}
