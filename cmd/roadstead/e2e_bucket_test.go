package main_test

import (
	"bytes"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/storage/s3test"
)

// bucketStorage is what the configuration says of a bucket of a server.
func bucketStorage(t testing.TB, s *s3test.Server, endpoint, bucket string) map[string]any {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(s.SecretKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Without copies, because tests count what a bucket is asked; see e2e_hot_test.go.
	return map[string]any{"hot": map[string]any{"size": "0B"}, "s3": map[string]any{
		"endpoint": endpoint, "region": s.Region, "bucket": bucket, "prefix": "our/registry",
		"access_key": s.AccessKey, "secret_key_file": secret,
	}}
}

// holds says of a key below the prefix whether the bucket has it, and asks the server for that, past
// whatever is between it and a node.
func holds(t testing.TB, s *s3test.Server, bucket string) func(key string) bool {
	return func(key string) bool { return s.Has(t, bucket, "our/registry/docker/registry/v2/"+key) }
}

// inBucket waits until all of an image that was pulled is stored and linked, and its tag with it: a cache
// does that behind its answers.
func inBucket(t testing.TB, holds func(key string) bool, repo string, img *image) {
	t.Helper()
	at := "repositories/" + repo + "/"
	var keys []string
	add := func(d digest.Digest, folder string) {
		keys = append(keys, "blobs/sha256/"+d.Encoded()[:2]+"/"+d.Encoded()+"/data", at+folder+"/sha256/"+d.Encoded()+"/link")
	}
	for _, d := range img.blobOrder {
		add(d, "_layers")
	}
	for _, m := range img.manifests {
		add(m.digest, "_manifests/revisions")
	}
	for tag := range img.tags {
		keys = append(keys, at+"_manifests/tags/"+tag+"/current/link")
	}
	for _, key := range keys {
		eventually(t, 10*time.Second, key+" in the bucket", func() bool { return holds(key) })
	}
}

// stockBucket is what a stock registry says of the same bucket.
func stockBucket(s *s3test.Server, bucket string) map[string]any {
	return map[string]any{
		"regionendpoint": s.Endpoint, "region": s.Region, "bucket": bucket, "rootdirectory": "/our/registry",
		"accesskey": s.AccessKey, "secretkey": s.SecretKey, "secure": false, "forcepathstyle": true,
	}
}

// What is pulled and pushed is kept in a bucket: served after a restart and without upstream, by a
// stock registry that is started on it, and, when the catalog is lost, by a node that has adopted it.
func TestABucketKeepsEverything(t *testing.T) {
	e2e(t)
	s3test.Each(t, func(t *testing.T, s *s3test.Server) {
		bucket, proxy := s.Bucket(t), s.Proxy(t)
		u := startUpstream(t, upstreamConfig{})
		cached := recipe{seed: 880000, platforms: []string{"amd64", "arm64"}, layers: 2, layerSize: 6 << 20}.make(t, "1.0", "latest")
		u.push(t, "library/web", cached)
		w := startWharf(t, nodeConfig{
			projects: map[string]any{"mirror": u.project(map[string]any{"public": true})},
			storage:  bucketStorage(t, s, proxy.Endpoint, bucket),
		})
		n := w.as(w.robot)
		images := pushKinds(t, n, "production", 881000)
		crane := recipe{seed: 881900, platforms: []string{"amd64"}}.make(t, "1.0", "latest")
		home := shortDir(t)
		env := environment(home)
		run(t, env, need(t, "crane"), "auth", "login", w.addr, "-u", w.robot.name, "-p", w.robot.secret)
		for tag := range crane.tags {
			run(t, env, need(t, "crane"), "push", writeLayout(t, crane), w.addr+"/production/team/crane:"+tag)
		}
		images["production/team/crane"] = crane
		run(t, env, need(t, "crane"), "pull", w.addr+"/mirror/library/web:1.0", filepath.Join(home, "web.tar"))
		images["mirror/library/web"] = cached
		pullKinds(t, n, images, "at once")
		if entries, err := os.ReadDir(filepath.Join(w.dir, "docker")); err == nil {
			t.Errorf("content is in the directory: %v", entries)
		}

		// What it costs the bucket is asserted where nothing is in memory.
		u.stop(t)
		w.terminate(10 * time.Second)
		w.start()
		asks := func(what string, do func() error, want ...string) {
			t.Helper()
			proxy.Requests()
			if err := do(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if got := proxy.Sorted(); !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		get := func(method, path string) func() error {
			return func() error {
				if a := n.ask(method, path); a.status != http.StatusOK {
					return a.err
				}
				return nil
			}
		}
		layer := cached.blobOrder[len(cached.blobOrder)-1]
		manifest := cached.top().digest
		asks("a cached manifest", get(http.MethodGet, manifestPath("mirror/library/web", string(manifest))), "GET")
		asks("and again", get(http.MethodGet, manifestPath("mirror/library/web", string(manifest))))
		asks("a cached layer", func() error { return n.pullBlob("mirror/library/web", layer, cached.blobs[layer].size) }, "GET")
		asks("HEAD of it", get(http.MethodHead, blobPath("mirror/library/web", layer)), "HEAD")
		small, d := randomBytes(t, 882000, 100_000)
		asks("push of a small layer", func() error { return n.pushBlob("production/team/new", d, content{bytes: small, size: 100_000}) }, "PUT", "PUT")
		large, e := randomBytes(t, 882100, 64<<20)
		asks("push of 64 MiB", func() error { return n.pushBlob("production/team/new", e, content{bytes: large, size: 64 << 20}) },
			"BEGIN", "COMPLETE", "PART", "PART", "PART", "PART", "PUT")
		proxy.Requests()
		pullKinds(t, n, images, "after a restart and without upstream")
		if log := proxy.Requests(); slices.Contains(log, "LIST") {
			t.Error("a pull has listed keys")
		}
		if out, err := w.command("scrub"); err != nil {
			t.Errorf("scrub: %v\n%s", err, out)
		}
		if log, err := os.ReadFile(w.log); err != nil || bytes.Contains(log, []byte(s.SecretKey)) {
			t.Errorf("the log has the secret key, or cannot be read: %v", err)
		}

		w.terminate(10 * time.Second)
		stock := startUpstream(t, upstreamConfig{bucket: stockBucket(s, bucket)})
		pullKinds(t, &node{t: t, addr: stock.addr, url: stock.url, http: newHTTPClient(nil)}, images, "the stock registry")
		stock.stop(t)

		catalogs, _ := filepath.Glob(filepath.Join(w.dir, "catalog.db*"))
		for _, file := range catalogs {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.command("serve"); err == nil || !strings.Contains(err.Error(), "adopt") {
			t.Errorf("served without a catalog: %v", err)
		}
		if out, err := w.command("adopt"); err != nil {
			t.Fatalf("adopt: %v\n%s", err, out)
		}
		w.start()
		root := w.addUser("root", "--admin")
		w.knows(root)
		pullKinds(t, w.as(root), images, "adopted")
		if err := w.as(root).push("production/team/after", crane); err != nil {
			t.Errorf("a push to what was adopted: %v", err)
		}
	})
}

// What nobody refers to any more goes from a bucket too, and what is shared stays.
func TestCollectionInABucket(t *testing.T) {
	e2e(t)
	s := s3test.Versitygw(t)
	bucket := s.Bucket(t)
	more := collecting("1s", "24h")
	c := nodeConfig{more: maps.Clone(more), storage: bucketStorage(t, s, s.Endpoint, bucket)}
	w := startWharf(t, c)
	n := w.as(w.robot)
	base := recipe{seed: 890000, layers: 1}.make(t)
	stays, goes := shareLayers(t, base, 890100), shareLayers(t, base, 890200)
	const repo = "production/team/web"
	if err := n.push(repo, stays); err != nil {
		t.Fatal(err)
	}
	goes.tags = map[string]manifest{"2": goes.top()}
	if err := n.push(repo, goes); err != nil {
		t.Fatal(err)
	}
	if err := n.remove(manifestPath(repo, string(goes.top().digest))); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1500 * time.Millisecond)
	w.terminate(10 * time.Second)
	t.Logf("gc: %s", w.administer("gc"))
	there := func(d digest.Digest) bool {
		return s.Has(t, bucket, "our/registry/docker/registry/v2/blobs/sha256/"+d.Encoded()[:2]+"/"+d.Encoded()+"/data")
	}
	for d := range goes.blobs {
		if _, shared := stays.blobs[d]; shared != there(d) {
			t.Errorf("%s: shared %t, there %t", d, shared, there(d))
		}
	}
	w.start()
	if err := n.pull(repo, "1", stays); err != nil {
		t.Error(err)
	}
	if err := n.push(repo, goes); err != nil {
		t.Error(err)
	}
	if err := n.pull(repo, "2", goes); err != nil {
		t.Error(err)
	}
	if out, err := w.command("scrub"); err != nil {
		t.Errorf("scrub: %v\n%s", err, out)
	}
}

// A bucket that is away is not the clients' trouble while upstream answers; what only it has is
// unavailable, which is not to say unknown; and all is well when it is back.
func TestS12_TheBucketIsAway(t *testing.T) {
	e2e(t)
	s := s3test.Versitygw(t)
	bucket := s.Bucket(t)
	u := startUpstream(t, upstreamConfig{})
	cached, cold := recipe{seed: 900000, layers: 2, layerSize: 3 << 20}.make(t, "1.0"), recipe{seed: 900100, layers: 2, layerSize: 3 << 20}.make(t, "1.0")
	u.push(t, "library/cached", cached)
	u.push(t, "library/cold", cold)
	store := bucketStorage(t, s, s.Endpoint, bucket)
	maps.Copy(store["s3"].(map[string]any), map[string]any{"stall": "2s", "retries": 1})
	w := startWharf(t, nodeConfig{
		projects: map[string]any{"mirror": u.project(map[string]any{"public": true})}, storage: store,
	})
	n := w.as(w.robot)
	own := recipe{seed: 900200, layers: 1, layerSize: 3 << 20}.make(t, "1.0")
	if err := n.push("production/web", own); err != nil {
		t.Fatal(err)
	}
	if err := n.pull("mirror/library/cached", "1.0", cached); err != nil {
		t.Fatal(err)
	}
	w.terminate(10 * time.Second) // what is in memory is no proof
	w.start()
	for name, away := range map[string]struct{ leave, come func() }{
		"stopped": {s.Stop, func() { s.Start(t) }},
		"frozen":  {func() { s.Freeze(t) }, s.Thaw},
	} {
		away.leave()
		began := time.Now()
		if err := n.pull("mirror/library/cached", "1.0", cached); err != nil {
			t.Errorf("%s: what was cached, from upstream: %v", name, err)
		}
		if err := n.pull("mirror/library/cold", "1.0", cold); err != nil {
			t.Errorf("%s: what was not cached: %v", name, err)
		}
		t.Logf("%s: pulls took %v", name, time.Since(began))
		if a := n.ask(http.MethodGet, blobPath("production/web", own.blobOrder[0])); a.status != http.StatusServiceUnavailable {
			t.Errorf("%s: what only the bucket has: %d %s", name, a.status, a.body)
		}
		if err := n.push("production/more", cold); err == nil {
			t.Errorf("%s: a push was acknowledged", name)
		}
		away.come()
		eventually(t, 30*time.Second, "a bucket that is back", func() bool { return n.pull("production/web", "1.0", own) == nil })
		if err := n.push("production/more", cold); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}
	if out, err := w.command("scrub"); err != nil {
		t.Errorf("scrub: %v\n%s", err, out)
	}
}

// A list of keys that lags behind what is in the bucket, or says nothing at all, makes nobody take anything
// for garbage: what is removed is what the catalog says nobody refers to.
func TestS13_AListThatLags(t *testing.T) {
	e2e(t)
	s := s3test.Versitygw(t)
	bucket, proxy := s.Bucket(t), s.Proxy(t)
	u := startUpstream(t, upstreamConfig{})
	cached, own := recipe{seed: 895000, layers: 2}.make(t, "1.0"), recipe{seed: 895100, layers: 2}.make(t, "1.0")
	u.push(t, "library/cached", cached)
	w := startWharf(t, nodeConfig{
		projects: map[string]any{"mirror": u.project(map[string]any{"public": true})},
		storage:  bucketStorage(t, s, proxy.Endpoint, bucket), more: collecting("1s", "24h"), plain: true,
	})
	n := w.as(w.robot)
	goes := recipe{seed: 895200, layers: 1}.make(t, "1.0")
	for repo, img := range map[string]*image{"production/web": own, "production/goes": goes} {
		if err := n.push(repo, img); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.pull("mirror/library/cached", "1.0", cached); err != nil {
		t.Fatal(err)
	}
	if err := n.remove(manifestPath("production/goes", string(goes.top().digest))); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond) // grace
	w.terminate(10 * time.Second)
	u.stop(t)
	lists := 0
	proxy.Fail(func(r s3test.Request) (f s3test.Fault) {
		if r.Kind == "LIST" {
			lists++
			f = s3test.Fault{Status: http.StatusOK, Plain: `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>` + bucket + `</Name><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>`}
		}
		return f
	})
	for _, command := range []string{"gc", "evict", "scrub"} {
		out, err := w.command(command)
		t.Logf("%s: %v\n%s", command, err, out)
	}
	if lists == 0 {
		t.Error("nobody has listed keys, so nothing was tried")
	}
	proxy.Fail(nil)
	w.start()
	for repo, img := range map[string]*image{"production/web": own, "mirror/library/cached": cached} {
		if err := n.pull(repo, "1.0", img); err != nil {
			t.Error(err)
		}
	}
	if out, err := w.command("scrub"); err != nil {
		t.Errorf("scrub: %v\n%s", err, out)
	}
}
