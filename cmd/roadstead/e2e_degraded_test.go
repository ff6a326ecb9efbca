package main_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"roadstead/storage/postgrestest"
	"roadstead/storage/s3test"
)

// degraded is two nodes, each with a network of its own to their database and their bucket.
type degraded struct {
	*testing.T
	database *postgrestest.Server
	name     string // of the database
	dbs      []*postgrestest.Proxy
	buckets  []*s3test.Proxy
	bucket   func(key string) bool // whether that is in the bucket, below the prefix
	upstream *upstream
	gate     *gate
	nodes    []*wharf // by somebody who may everything
	acked    map[string]*image
	seed     uint64
}

func startDegraded(t *testing.T) *degraded {
	t.Helper()
	c := &degraded{T: t, database: postgrestest.New(t), upstream: startUpstream(t, upstreamConfig{}), acked: map[string]*image{}, seed: 970_000}
	c.gate = startGate(t, c.upstream.url)
	s := s3test.Versitygw(t)
	name, err := c.database.Create("")
	if err != nil {
		t.Fatal(err)
	}
	c.name = name
	home, bucket := t.TempDir(), s.Bucket(t)
	c.bucket = holds(t, s, bucket)
	keys, secret, first, password := filepath.Join(home, "keys"), filepath.Join(home, "secret"), filepath.Join(home, "admin"), filepath.Join(home, "password")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	root := account{"admin", "Pass-of-admin-1f8c"}
	for path, text := range map[string]string{secret: clusterSecret, first: root.secret, password: postgrestest.Password} {
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2 {
		c.dbs, c.buckets = append(c.dbs, postgrestest.Before(t, c.database)), append(c.buckets, s.Proxy(t))
		store := bucketStorage(t, s, c.buckets[i].Endpoint, bucket)
		maps.Copy(store["s3"].(map[string]any), map[string]any{"stall": "3s", "retries": 1})
		maps.Copy(store, map[string]any{"catalog": c.dbs[i].Place(name), "catalog_password_file": password})
		n := newNode(t, nodeConfig{storage: store, projects: map[string]any{
			"mirror":     project(c.gate.url, map[string]any{"public": true, "ttl": "1h"}),
			"closed":     project(c.gate.url, map[string]any{"public": false, "ttl": "1h"}),
			"production": map[string]any{"hosted": true},
		}, more: map[string]any{
			"admin_password_file": first,
			"cluster":             map[string]any{"listen": freeAddress(t), "secret_file": secret, "name": fmt.Sprintf("node-%d", i)},
		}})
		if err := os.MkdirAll(n.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(keys, filepath.Join(n.dir, "keys")); err != nil {
			t.Fatal(err)
		}
		n.start()
		c.nodes = append(c.nodes, &wharf{node: n.as(root), root: root})
	}
	for _, n := range c.nodes {
		n.knows(root)
		eventually(t, 20*time.Second, "a node that sees the other", func() bool { return n.metric("roadstead_cluster_nodes") == 2 })
	}
	return c
}

// image is one that nobody has heard of.
func (c *degraded) image() *image {
	c.seed += 100
	return recipe{seed: c.seed, layers: 1, layerSize: 200 << 10}.make(c.T, "1.0")
}

// published is one that upstream has.
func (c *degraded) published(repo string) *image {
	img := c.image()
	c.upstream.push(c.T, repo, img)
	return img
}

// degradation is something that goes wrong, and what that takes away.
type degradation struct {
	name                     string
	database, bucket, origin bool // which of them is away
	leave, come              func(c *degraded)
}

// everyDB and everyBucket do something to the networks of all nodes.
func everyDB(do func(*postgrestest.Proxy)) func(*degraded) {
	return func(c *degraded) {
		for _, p := range c.dbs {
			do(p)
		}
	}
}

func everyBucket(f s3test.Fault) func(*degraded) {
	return func(c *degraded) {
		for _, p := range c.buckets {
			p.Fail(func(s3test.Request) s3test.Fault { return f })
		}
	}
}

func all(parts ...func(*degraded)) func(*degraded) {
	return func(c *degraded) {
		for _, part := range parts {
			part(c)
		}
	}
}

func cutOff(p *postgrestest.Proxy) { p.Refuse(); p.Cut() }

func origin(up bool) func(*degraded) {
	return func(c *degraded) {
		if up {
			c.gate.up()
		} else {
			c.gate.down()
		}
	}
}

// standby has the database take no writes any more, as one that another has taken over from.
func standby(on string) func(*degraded) {
	return func(c *degraded) {
		if err := c.database.Run("postgres", fmt.Sprintf("ALTER DATABASE %s SET default_transaction_read_only = %s", c.name, on)); err != nil {
			c.Fatal(err)
		}
		everyDB((*postgrestest.Proxy).Cut)(c)
	}
}

var healDBs, healBuckets = everyDB((*postgrestest.Proxy).Heal), everyBucket(s3test.Fault{})

var degradations = []degradation{
	{"connections to the database are reset", false, false, false, everyDB((*postgrestest.Proxy).Cut), healDBs},
	{"the database takes a fifth of a second for everything", false, false, false, everyDB(func(p *postgrestest.Proxy) { p.Slow(100 * time.Millisecond) }), healDBs},
	{"the database is away", true, false, false, everyDB(cutOff), healDBs},
	{"the database is frozen", true, false, false, everyDB((*postgrestest.Proxy).Stall), healDBs},
	{"the database is a standby", true, false, false, standby("on"), standby("off")},
	{"the bucket says SlowDown", false, true, false, everyBucket(s3test.Fault{Status: 503, Code: "SlowDown"}), healBuckets},
	{"the buckets are gone or closed", false, true, false, func(c *degraded) {
		c.buckets[0].Fail(func(s3test.Request) s3test.Fault { return s3test.Fault{Status: 404, Code: "NoSuchBucket"} })
		c.buckets[1].Fail(func(s3test.Request) s3test.Fault { return s3test.Fault{Status: 403, Code: "AccessDenied"} })
	}, healBuckets},
	{"the bucket is frozen", false, true, false, everyBucket(s3test.Fault{Stall: true}), healBuckets},
	{"the bucket is slow", false, false, false, everyBucket(s3test.Fault{Delay: 300 * time.Millisecond}), healBuckets},
	{"database and bucket are away", true, true, false, all(everyDB(cutOff), everyBucket(s3test.Fault{Stall: true})), all(healDBs, healBuckets)},
	{"database and upstream are away", true, false, true, all(everyDB(cutOff), origin(false)), all(healDBs, origin(true))},
	{"bucket and upstream are away", false, true, true, all(everyBucket(s3test.Fault{Status: 503, Code: "SlowDown"}), origin(false)), all(healBuckets, origin(true))},
	{"all of them are away", true, true, true, all(everyDB(cutOff), everyBucket(s3test.Fault{Stall: true}), origin(false)), all(healDBs, healBuckets, origin(true))},
}

// Whatever is away, clients get what can be had without it, soon, and a true word of what cannot; nothing
// that was acknowledged is lost; and all is well by itself when it is back (DESIGN promise 6, FAULTS I4,
// I8, S10-S14, N2, N4).
func TestDegradedModes(t *testing.T) {
	e2e(t)
	c := startDegraded(t)
	hot, own := c.published("team/hot"), c.image()
	if err := c.nodes[0].push("production/own", own); err != nil {
		t.Fatal(err)
	}
	c.acked["production/own"] = own
	for _, n := range c.nodes {
		for _, project := range []string{"mirror", "closed"} {
			if err := n.pull(project+"/team/hot", "1.0", hot); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, project := range []string{"mirror", "closed"} {
		inBucket(t, c.bucket, project+"/team/hot", hot)
	}
	for _, d := range degradations {
		began := time.Now()
		c.suffer(d, hot, own)
		t.Logf("%s: %v", d.name, time.Since(began).Round(100*time.Millisecond))
	}
	c.alone(hot, own)
	if out, err := c.nodes[0].command("scrub"); err != nil {
		t.Errorf("scrub: %v\n%s", err, out)
	}
	for repo, img := range c.acked {
		if err := c.nodes[1].pull(repo, "1.0", img); err != nil {
			t.Errorf("what was acknowledged: %v", err)
		}
	}
}

// longest is how long anything may take on a machine of its own, whatever is away.
const longest = 20 * time.Second

// timed does something and says how long it took if that was too long.
func (c *degraded) timed(what string, do func() error) error {
	began := time.Now()
	err := do()
	if took := time.Since(began); took > given(longest) {
		c.Errorf("%s took %v", what, took)
	}
	return err
}

// refusedFor reports whether an error is an answer with one of the statuses.
func refusedFor(err error, statuses ...int) bool {
	var r *refused
	if !errors.As(err, &r) {
		return false
	}
	for _, status := range statuses {
		if r.answer.status == status {
			return true
		}
	}
	return false
}

// suffer has one thing go wrong, and looks at what becomes of everything.
func (c *degraded) suffer(d degradation, hot, own *image) {
	slug := strings.ToLower(strings.ReplaceAll(d.name, " ", "-"))
	warm, cold, pushed, removed := c.published("warm/"+slug), c.published("cold/"+slug), c.image(), c.image()
	// What the first node has pulled, the second has not heard of.
	if err := c.nodes[0].pull("mirror/warm/"+slug, "1.0", warm); err != nil {
		c.Fatal(err)
	}
	if err := c.nodes[0].push("production/removed/"+slug, removed); err != nil {
		c.Fatal(err)
	}
	inBucket(c.T, c.bucket, "mirror/warm/"+slug, warm)
	d.leave(c)
	well := !d.database && !d.bucket
	gone := false // what was removed
	var ops sync.WaitGroup
	op := func(what string, works bool, do func() error) {
		ops.Go(func() {
			what := d.name + ": " + what
			switch err := c.timed(what, do); {
			case works && err != nil:
				c.Errorf("%s: %v", what, err)
			case !works && err == nil:
				c.Errorf("%s: it worked", what)
			case !works && strings.Contains(err.Error(), " 404"):
				c.Errorf("%s: unknown instead of unavailable: %v", what, err)
			}
		})
	}
	for i, n := range c.nodes {
		name := fmt.Sprintf("node %d, ", i)
		op(name+"a cached pull", !d.bucket || !d.origin, func() error { return n.pull("mirror/team/hot", "1.0", hot) })
		op(name+"a private cached pull", !d.bucket || !d.origin, func() error { return n.pull("closed/team/hot", "1.0", hot) })
		op(name+"what was pushed", well, func() error { return n.pull("production/own", "1.0", own) })
		ops.Go(func() {
			for _, path := range []string{manifestPath("closed/team/hot", "1.0"), manifestPath("production/own", "1.0")} {
				if a := n.as(account{}).ask(http.MethodGet, path); a.status != http.StatusUnauthorized {
					c.Errorf("%s: %sanonymous, private: %v", d.name, name, a)
				}
			}
			for path, works := range map[string]bool{"/api/v2.0/projects": !d.database, "/c/": !d.database, "/service/token": true} {
				a := n.ask(http.MethodGet, path)
				if a.status >= 500 && a.status != http.StatusServiceUnavailable || works && a.status >= 500 || a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") == "" {
					c.Errorf("%s: %s%s: %v", d.name, name, path, a)
				}
			}
		})
	}
	op("a pull of what the other node has cached", !d.bucket || !d.origin, func() error { return c.nodes[1].pull("mirror/warm/"+slug, "1.0", warm) })
	op("a new pull", !d.origin, func() error { return c.nodes[0].pull("mirror/cold/"+slug, "1.0", cold) })
	// A push is some dozen questions to the database, one after the other. It takes what they take.
	pushes := !strings.Contains(d.name, "a fifth of a second")
	ops.Go(func() {
		if !pushes {
			return
		}
		err := c.timed(d.name+": a push", func() error { return c.nodes[0].push("production/new/"+slug, pushed) })
		if well != (err == nil) || err != nil && !refusedFor(err, http.StatusServiceUnavailable) {
			c.Errorf("%s: a push: %v", d.name, err)
		}
		// Not that upstream is: nobody asks it for what people push. A HEAD is told nothing.
		if r, ok := errors.AsType[*refused](err); ok && d.database && !d.bucket && len(r.answer.body) > 0 && !strings.Contains(string(r.answer.body), "the catalog is away: try again later") {
			c.Errorf("%s: who pushes is told: %v", d.name, r.answer)
		}
	})
	ops.Go(func() {
		if !pushes {
			return
		}
		err := c.timed(d.name+": a removal", func() error {
			return c.nodes[1].remove(manifestPath("production/removed/"+slug, string(removed.top().digest)))
		})
		gone = err == nil
		if err != nil && (well || !refusedFor(err, http.StatusServiceUnavailable)) {
			c.Errorf("%s: a removal: %v", d.name, err)
		}
	})
	ops.Wait()
	if !well {
		for i, n := range c.nodes {
			eventually(c.T, 10*time.Second, "a node that says what it lacks: "+d.name, func() bool {
				a := n.told("/readyz")
				return a.status == http.StatusOK && strings.Contains(string(a.body), "catalog: ") == d.database && strings.Contains(string(a.body), "bucket: ") == d.bucket
			})
			if catalog, bucket := n.metric("roadstead_part_up", `part="catalog"`), n.metric("roadstead_part_up", `part="bucket"`); catalog == 1 == d.database || bucket == 1 == d.bucket {
				c.Errorf("%s: node %d has the catalog %v and the bucket %v", d.name, i, catalog, bucket)
			}
		}
	}
	d.come(c)
	c.heals(d.name, func() error {
		if a := c.nodes[0].told("/readyz?whole"); a.status != http.StatusOK {
			return fmt.Errorf("readyz: %v", a)
		}
		for _, n := range c.nodes {
			if err := n.pull("production/own", "1.0", own); err != nil {
				return err
			}
		}
		if err := c.nodes[1].push("production/new/"+slug, pushed); err != nil {
			return err
		}
		if d.origin {
			return nil
		}
		// What was pulled meanwhile is known, so that it can be evicted.
		path := "/api/v2.0/projects/mirror/repositories/cold%252F" + slug + "/artifacts/1.0"
		if a := c.nodes[1].ask(http.MethodGet, path); a.status != http.StatusOK && !d.bucket {
			return fmt.Errorf("GET %s: %v", path, a)
		}
		return c.nodes[1].pull("mirror/cold/"+slug, "1.0", cold)
	})
	c.acked["production/new/"+slug] = pushed
	for i, n := range c.nodes {
		a := n.ask(http.MethodGet, manifestPath("production/removed/"+slug, string(removed.top().digest)))
		if gone && a.status != http.StatusNotFound || !gone && a.status != http.StatusNotFound && !a.whole() {
			c.Errorf("%s: what was removed (%t) at node %d: %v", d.name, gone, i, a)
		}
	}
}

// heals waits until all is well again.
func (c *degraded) heals(name string, well func() error) {
	began := time.Now()
	for {
		err := well()
		if err == nil {
			return
		}
		if time.Since(began) > given(15*time.Second) {
			c.Errorf("after %s: not well after %v: %v", name, time.Since(began), err)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// alone has one node lose the database, and then have a slow bucket, while the other has both: what one
// suffers is not the other's trouble (FAULTS N2, N8).
func (c *degraded) alone(hot, own *image) {
	c.dbs[1].Stall()
	warm := c.published("warm/alone")
	if err := c.nodes[0].pull("mirror/warm/alone", "1.0", warm); err != nil {
		c.Error(err)
	}
	inBucket(c.T, c.bucket, "mirror/warm/alone", warm)
	c.gate.down()
	if err := c.timed("a cached pull, cut off from the database", func() error { return c.nodes[1].pull("mirror/warm/alone", "1.0", warm) }); err != nil {
		c.Errorf("cut off from the database: %v", err)
	}
	c.gate.up()
	img := c.image()
	if err := c.timed("a push, cut off from the database", func() error { return c.nodes[1].push("production/cut-off", img) }); !refusedFor(err, http.StatusServiceUnavailable) {
		c.Errorf("a push, cut off from the database: %v", err)
	}
	if err := c.nodes[0].push("production/alone", img); err != nil {
		c.Errorf("a push beside a node that is cut off: %v", err)
	}
	c.acked["production/alone"] = img
	c.dbs[1].Heal()

	c.buckets[1].Fail(func(s3test.Request) s3test.Fault { return s3test.Fault{Delay: time.Second} })
	began := time.Now()
	if err := c.nodes[0].pull("production/own", "1.0", own); err != nil || time.Since(began) > given(5*time.Second) {
		c.Errorf("beside a node with a slow bucket: %v, %v", err, time.Since(began))
	}
	if err := c.timed("a pull, with a slow bucket", func() error { return c.nodes[1].pull("mirror/team/hot", "1.0", hot) }); err != nil {
		c.Errorf("with a slow bucket: %v", err)
	}
	c.buckets[1].Fail(nil)
	c.heals("being alone", func() error { return c.nodes[1].pull("production/alone", "1.0", img) })
}
