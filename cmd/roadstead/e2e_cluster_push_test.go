package main_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// Three nodes, which encrypt what they send each other, are one registry to whoever is before them:
// a herd costs one download, and pushes work through a balancer that sends each request to another
// node, and go on, or begin again, when nodes end in the middle of them.
func TestThreeNodes(t *testing.T) {
	e2e(t)
	began := time.Now()
	c := startCluster(t, clusterConfig{
		nodes: 3, secure: true, copies: true,
		plain:    true, // the race detector watches the same code in TestTwoNodes and TestConformance
		projects: map[string]any{"production": map[string]any{"hosted": true}, "other": map[string]any{"hosted": true}},
		more:     map[string]any{"drain": "20s"},
	})
	timed := func(name string, works func(*testing.T)) {
		t.Logf("after %.1f s: %s", time.Since(began).Seconds(), name)
		t.Run(name, works)
	}
	timed("a herd over three", c.largeHerd)
	c.nodes[2].terminate(30 * time.Second)
	c.together(t, 2)
	b := startBalancer(t, c.nodes[:2]...)
	timed("pushes through a balancer", func(t *testing.T) {
		for _, version := range versions {
			t.Run("conformance "+version, func(t *testing.T) { t.Parallel(); c.conforms(t, b, version) })
		}
		t.Run("programs", func(t *testing.T) { t.Parallel(); c.programsPush(t, b) })
		t.Run("chunks", func(t *testing.T) { t.Parallel(); c.chunks(t, b) })
	})
	timed("the node of an upload is killed", func(t *testing.T) { c.killUpload(t, b) })
	timed("rolling restarts", func(t *testing.T) { c.roll(t, b) })
	t.Logf("after %.1f s: the end", time.Since(began).Seconds())
}

// largeHerd is 200 clients that ask three nodes for one cold image, beside as many at a single node.
func (c *nodesOf) largeHerd(t *testing.T) {
	const clients, rate = 200, 4 << 20
	alone := startNode(t, nodeConfig{plain: true, projects: map[string]any{"mirror": project(c.gate.url, map[string]any{"public": true})}})
	c.gate.set(blobs(shape{rate: rate}))
	defer c.gate.set(nil)
	median := map[string]time.Duration{}
	for i, herd := range []struct {
		name  string
		nodes []*node
	}{{"one node", []*node{alone}}, {"three nodes", c.nodes}} {
		repo := fmt.Sprintf("team/large-herd-%d", i)
		img := recipe{seed: 960_000 + uint64(i)*1000, layers: 2, layerSize: 2 << 20}.make(t, "1.0")
		c.upstream.push(t, repo, img)
		var size int64
		for _, d := range img.here().layers {
			size += img.blobs[d].size
		}
		before, asked := c.gate.bytes.Load(), c.requests.Load()
		firsts := make([]time.Duration, clients)
		start := time.Now()
		var all sync.WaitGroup
		for k := range clients {
			all.Go(func() {
				var err error
				if firsts[k], err = herd.nodes[k%len(herd.nodes)].pullTimed("mirror/"+repo, "1.0", img); err != nil {
					t.Errorf("%s: %v", herd.name, err)
				}
			})
		}
		all.Wait()
		took := time.Since(start)
		slices.Sort(firsts)
		median[herd.name] = firsts[clients/2]
		t.Logf("%s: %d pulls of %d bytes took %v, the first byte of a layer %v (median) and %v (at most); %.2f x the image from upstream, %d requests to the bucket",
			herd.name, clients, size, took, firsts[clients/2], firsts[clients-1], float64(c.gate.bytes.Load()-before)/float64(size), c.requests.Load()-asked)
		if got := c.gate.bytes.Load() - before; got != size {
			t.Errorf("%s: %d bytes of blobs from upstream, want %d", herd.name, got, size)
		}
		// Each of the nodes has it read once at most, for all of its clients.
		if got := c.requests.Load() - asked; got > 60 {
			t.Errorf("%s: %d requests to the bucket for %d clients, want at most 60 however many there are", herd.name, got, clients)
		}
	}
	t.Logf("the first byte comes %.2f times as late from three nodes as from one", float64(median["three nodes"])/float64(median["one node"]))
}

// pullTimed is pull, and how long after its beginning the first byte of a layer came.
func (n *node) pullTimed(repo, tag string, img *image) (first time.Duration, err error) {
	start := time.Now()
	a, err := n.tryAsk(http.MethodGet, manifestPath(repo, tag))
	if err != nil || !a.whole() || !bytes.Equal(a.body, img.top().bytes) {
		return 0, fmt.Errorf("GET %s:%s: %v, %w", repo, tag, a, err)
	}
	for _, d := range img.here().layers {
		res, err := n.open(http.MethodGet, blobPath(repo, d))
		if err != nil {
			return 0, err
		}
		defer res.Body.Close()
		hash := sha256.New()
		_, err = io.CopyN(hash, res.Body, 1)
		if first == 0 {
			first = time.Since(start)
		}
		if err == nil {
			_, err = io.Copy(hash, res.Body)
		}
		if err != nil || digest.NewDigest(digest.SHA256, hash) != d {
			return 0, fmt.Errorf("GET %s@%s: %s, other bytes: %w", repo, d, res.Status, err)
		}
	}
	return first, nil
}

// conforms runs the specification's own tests.
func (c *nodesOf) conforms(t *testing.T, b *balancer, version string) {
	dir := shortDir(t)
	out, _ := try(environment(dir,
		"OCI_VERSION="+version, "OCI_REGISTRY="+b.addr, "OCI_TLS=disabled", "OCI_RESULTS_DIR="+dir,
		"OCI_REPO1=production/"+version+"/one", "OCI_REPO2=other/"+version+"/two",
		"OCI_USERNAME="+c.root.name, "OCI_PASSWORD="+c.root.secret, "OCI_API_BLOBS_UPLOAD_CANCEL=true",
	), need(t, "conformance"))
	checkResults(t, filepath.Join(dir, "junit.xml"), string(out), nil)
}

// programsPush has people's programs push through a balancer, and pulls from each node.
func (c *nodesOf) programsPush(t *testing.T, b *balancer) {
	for i, p := range pushers {
		if p.name == "docker" || p.name == "containerd" {
			continue // they push as podman and crane do, and need a daemon each
		}
		h := newHand(t, b.node().as(c.root))
		if err := p.login(t, h); err != nil {
			t.Fatal(err)
		}
		if p.name == "regctl" {
			h.run(t, "regctl", "registry", "set", b.addr, "--blob-chunk", "400000", "--blob-max", "500000", "--skip-check")
		}
		img := recipe{seed: 970_000 + uint64(i)*1000, layers: 3, layerSize: 1 << 20}.make(t, "1.0")
		ref := reference{project: "production", repo: "team/" + p.name, tag: "1.0"}
		p.push(t, h, ref, img)
		for _, n := range c.nodes[:2] {
			n.as(c.root).pushed(t, ref, img, p.recompresses)
		}
	}
}

// chunks pushes a blob in pieces, each to another node than the one before, and has every answer be
// what it is on one node.
func (c *nodesOf) chunks(t *testing.T, b *balancer) {
	one, other := c.nodes[0].as(c.root), c.nodes[1].as(c.root)
	const repo, piece = "production/team/chunks", 300_000
	content, d := randomBytes(t, 980_000, 4*piece)
	at, err := one.startUpload(repo)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"node-0", "node-1", c.peers[0], c.peers[1]} {
		if strings.Contains(at, name) {
			t.Errorf("the Location %s tells of %s", at, name)
		}
	}
	forwarded := other.metric("roadstead_cluster_forwarded_total")
	for i, n := range []*node{other, one, other} {
		from := i * piece
		next, a, err := n.append(at, from, content[from:from+piece])
		if err := expect(http.StatusAccepted, a, err, "PATCH", at); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprint("0-", from+piece-1); next != at || a.header.Get("Range") != want || !strings.HasSuffix(at, a.header.Get("Docker-Upload-Uuid")) {
			t.Errorf("PATCH %d: %v, want the Location %s and the Range %s", i, a.header, at, want)
		}
	}
	if got := other.metric("roadstead_cluster_forwarded_total") - forwarded; got < 2 {
		t.Errorf("%v requests were sent on, want 2 or more", got)
	}
	// What is wrong is refused with the same answer by both.
	ask := map[string]func(n *node) answer{
		"the state": func(n *node) answer { return n.ask(http.MethodGet, at) },
		"a chunk for somewhere else": func(n *node) answer {
			_, a, err := n.append(at, 5, content[:10])
			if err != nil {
				t.Error(err)
			}
			return a
		},
		"another digest": func(n *node) answer {
			a, err := n.send(http.MethodPut, withDigest(at, digest.FromString("else")), "", http.NoBody, 0)
			if err != nil {
				t.Error(err)
			}
			return a
		},
		"another repository": func(n *node) answer { return n.ask(http.MethodGet, strings.Replace(at, "team/chunks", "team/else", 1)) },
		"another upload":     func(n *node) answer { return n.ask(http.MethodGet, at[:len(at)-3]+"AAA") },
	}
	for what, ask := range ask {
		here, there := ask(one), ask(other)
		for _, a := range []answer{here, there} {
			a.header.Del("Date")
		}
		if here.status != there.status || !bytes.Equal(here.body, there.body) || fmt.Sprint(here.header) != fmt.Sprint(there.header) {
			t.Errorf("%s: %v %v at the node of the upload, %v %v at the other", what, here, here.header, there, there.header)
		}
		t.Logf("%s: %d", what, there.status)
	}
	if a := b.node().ask(http.MethodGet, at); a.status != http.StatusUnauthorized {
		t.Errorf("the upload to nobody: %v", a)
	}
	a, err := other.send(http.MethodPut, withDigest(at, d), "application/octet-stream", bytes.NewReader(content[3*piece:]), piece)
	if err := expect(http.StatusCreated, a, err, "PUT", at); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*node{one, other} {
		if err := n.pullBlob(repo, d, int64(len(content))); err != nil {
			t.Error(err)
		}
	}
	lb := b.node().as(c.root)
	at, err = lb.startUpload(repo)
	if err != nil {
		t.Fatal(err)
	}
	if a := lb.ask(http.MethodDelete, at); a.status != http.StatusNoContent {
		t.Errorf("an upload that is cancelled: %v", a)
	}
	for range 2 {
		if a := lb.ask(http.MethodGet, at); a.status != http.StatusNotFound {
			t.Errorf("an upload that was cancelled: %v", a)
		}
	}
}

// killUpload ends the node of an upload: by force in the middle of a chunk, which costs the client
// that upload, and in order between two, which costs it nothing.
func (c *nodesOf) killUpload(t *testing.T, b *balancer) {
	const repo = "production/team/killed"
	survivor, owner, lb := c.nodes[0].as(c.root), c.nodes[1], b.node().as(c.root)
	content, d := randomBytes(t, 990_000, 3<<20)
	at, err := owner.as(c.root).startUpload(repo)
	if err != nil {
		t.Fatal(err)
	}
	body, feed := io.Pipe()
	type result struct {
		answer
		error
	}
	done := make(chan result, 1)
	go func() {
		a, err := survivor.send(http.MethodPatch, at, "application/octet-stream", body, int64(len(content)))
		done <- result{a, err}
	}()
	if _, err := feed.Write(content[:1<<20]); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "a chunk on its way", func() bool {
		a := owner.as(c.root).ask(http.MethodGet, at)
		return a.status == http.StatusNoContent && a.header.Get("Range") != "0-0"
	})
	owner.kill()
	start := time.Now()
	go feed.Write(content[1<<20:])
	r := <-done
	feed.Close()
	if r.error != nil || r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") == "" {
		t.Errorf("the chunk that was under way: %v %v, %v; want 503 with Retry-After", r.answer, r.header, r.error)
	}
	t.Logf("the client knows after %v", time.Since(start))
	start = time.Now()
	img := recipe{seed: 991_000, layers: 1}.make(t, "1.0")
	img.addBlob(d, contentOf(content))
	if err := lb.push(repo, img); err != nil {
		t.Errorf("begun again: %v", err)
	}
	t.Logf("begun again, it took %v", time.Since(start))
	if err := survivor.pullBlob(repo, d, int64(len(content))); err != nil {
		t.Error(err)
	}

	owner.start()
	c.together(t, 2)
	at, err = owner.as(c.root).startUpload(repo)
	if err != nil {
		t.Fatal(err)
	}
	more, e := randomBytes(t, 992_000, 100_000)
	if _, a, err := survivor.append(at, 0, more[:60_000]); err != nil || a.status != http.StatusAccepted {
		t.Fatal(a, err)
	}
	owner.signal(syscall.SIGTERM)
	go func() {
		owner.ended(30 * time.Second)
		time.Sleep(500 * time.Millisecond)
		owner.start()
	}()
	start = time.Now()
	time.Sleep(100 * time.Millisecond)
	a, err := lb.send(http.MethodPut, withDigest(at, e), "application/octet-stream", bytes.NewReader(more[60_000:]), 40_000)
	if err := expect(http.StatusCreated, a, err, "PUT", at); err != nil {
		t.Error(err)
	}
	t.Logf("an upload whose node starts again goes on after %v", time.Since(start))
	if err := survivor.pullBlob(repo, e, int64(len(more))); err != nil {
		t.Error(err)
	}
	c.together(t, 2)
}

func contentOf(b []byte) content { return content{bytes: b, size: int64(len(b))} }
