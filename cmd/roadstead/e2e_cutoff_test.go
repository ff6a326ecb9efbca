package main_test

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"roadstead/storage/postgrestest"
	"roadstead/storage/s3test"
)

// island is a network namespace with two cables to it.
type island struct {
	name   string
	cables [2]cable
}

// cable is a link between this machine and an island.
type cable struct{ device, here, there string }

// newIsland makes one that ends with the test. Its addresses are of no other network: 10.211.0.0/16.
func newIsland(t *testing.T) *island {
	t.Helper()
	needRoot(t)
	ip := need(t, "ip")
	pid := os.Getpid()
	is := &island{name: fmt.Sprintf("roadstead-%d", pid)}
	run(t, nil, ip, "netns", "add", is.name)
	t.Cleanup(func() { run(t, nil, ip, "netns", "del", is.name) }) // and its cables with it
	run(t, nil, ip, "netns", "exec", is.name, ip, "link", "set", "lo", "up")
	for i := range is.cables {
		net := fmt.Sprintf("10.211.%d.", (2*pid+i)%250)
		c := cable{fmt.Sprintf("rs%d%c", pid, 'a'+i), net + "1", net + "2"}
		other := c.device + "x"
		run(t, nil, ip, "link", "add", c.device, "type", "veth", "peer", "name", other, "netns", is.name)
		run(t, nil, ip, "addr", "add", c.here+"/30", "dev", c.device)
		run(t, nil, ip, "link", "set", c.device, "up")
		run(t, nil, ip, "netns", "exec", is.name, ip, "addr", "add", c.there+"/30", "dev", other)
		run(t, nil, ip, "netns", "exec", is.name, ip, "link", "set", other, "up")
		is.cables[i] = c
	}
	return is
}

// set pulls a cable ("down") or puts it back ("up"). Nobody is told: packets are lost.
func (c cable) set(t *testing.T, state string) {
	t.Helper()
	run(t, nil, need(t, "ip"), "link", "set", c.device, state)
}

// lead has a server of this machine be reached by a cable, at the address that is returned.
func (c cable) lead(t *testing.T, network, target string) string {
	t.Helper()
	l, err := net.Listen("tcp", c.here+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer from.Close()
				to, err := net.Dial(network, target)
				if err != nil {
					return
				}
				defer to.Close()
				go func() {
					defer to.Close()
					io.Copy(to, from)
				}()
				io.Copy(from, to)
			}()
		}
	}()
	return l.Addr().String()
}

// A node whose cable to the database and to the other node is pulled, and not the one to the bucket,
// serves what is cached and what upstream has, takes no push, and is no trouble for the other, which has
// all of the cluster for itself (FAULTS N2). With the cable back it belongs to it again.
func TestN2_CutOff(t *testing.T) {
	e2e(t)
	is := newIsland(t)
	inner, outer := is.cables[0], is.cables[1] // to the database and the other node, and to the rest
	database, s := postgrestest.New(t), s3test.Versitygw(t)
	name, err := database.Create("")
	if err != nil {
		t.Fatal(err)
	}
	u := startUpstream(t, upstreamConfig{})
	g := startGate(t, u.url)
	home, bucket := t.TempDir(), s.Bucket(t)
	keys, secret, first, password := filepath.Join(home, "keys"), filepath.Join(home, "secret"), filepath.Join(home, "admin"), filepath.Join(home, "password")
	root := account{"admin", "Pass-of-admin-1f8c"}
	for path, text := range map[string]string{secret: clusterSecret, first: root.secret, password: postgrestest.Password} {
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	begin := func(i int, peers, catalog, endpoint, upstream string, c nodeConfig, more map[string]any) *node {
		store := bucketStorage(t, s, endpoint, bucket)
		maps.Copy(store["s3"].(map[string]any), map[string]any{"stall": "3s"})
		maps.Copy(store, map[string]any{"catalog": catalog, "catalog_password_file": password})
		c.storage, c.projects = store, map[string]any{
			"mirror":     project(upstream, map[string]any{"public": true, "ttl": "1h"}),
			"production": map[string]any{"hosted": true},
		}
		c.more = map[string]any{
			"admin_password_file": first,
			"cluster":             map[string]any{"listen": peers, "secret_file": secret, "name": fmt.Sprintf("node-%d", i)},
		}
		maps.Copy(c.more, more)
		n := newNode(t, c)
		if admin, ok := more["admin"].(string); ok {
			n.admin = "http://" + admin
		}
		if err := os.MkdirAll(n.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(keys, filepath.Join(n.dir, "keys")); err != nil {
			t.Fatal(err)
		}
		n.start()
		return n.as(root)
	}
	port := func(host string) string {
		_, port, _ := net.SplitHostPort(freeAddress(t))
		return net.JoinHostPort(host, port)
	}
	here := begin(0, port(inner.here), database.Place(name), s.Endpoint, g.url, nodeConfig{}, nil)
	there := begin(1, port(inner.there),
		fmt.Sprintf("postgres://%s@%s/%s", postgrestest.User, inner.lead(t, "unix", database.Socket()), name),
		"http://"+outer.lead(t, "tcp", s.Endpoint[len("http://"):]), "http://"+outer.lead(t, "tcp", g.addr),
		nodeConfig{addr: port(outer.there), before: func(program string, args []string) (string, []string) {
			return need(t, "ip"), append([]string{"netns", "exec", is.name, program}, args...)
		}}, map[string]any{"admin": port(outer.there)})
	together := func(want float64) func() bool {
		return func() bool {
			return here.metric("roadstead_cluster_nodes") == want && there.metric("roadstead_cluster_nodes") == want && there.metric("roadstead_cluster_roll_up") == 1
		}
	}
	eventually(t, 20*time.Second, "nodes that see each other", together(2))
	seed := uint64(990_000)
	published := func(repo string) *image {
		seed += 100
		img := recipe{seed: seed, layers: 1, layerSize: 200 << 10}.make(t, "1.0")
		u.push(t, repo, img)
		return img
	}
	cached, own := published("team/cached"), published("team/own")
	if err := here.pull("mirror/team/cached", "1.0", cached); err != nil {
		t.Fatal(err)
	}
	if err := here.push("production/own", own); err != nil {
		t.Fatal(err)
	}
	inBucket(t, holds(t, s, bucket), "mirror/team/cached", cached)

	inner.set(t, "down")
	g.down()
	soon := func(what string, do func() error) error {
		t.Helper()
		began := time.Now()
		err := do()
		if took := time.Since(began); took > given(longest) {
			t.Errorf("%s took %v", what, took)
		}
		return err
	}
	if err := soon("a cached pull", func() error { return there.as(account{}).pull("mirror/team/cached", "1.0", cached) }); err != nil {
		t.Errorf("what is cached, cut off, and without upstream: %v", err)
	}
	g.up()
	for i := range 3 { // of which the other node would own one
		repo := fmt.Sprintf("team/new-%d", i)
		img := published(repo)
		if err := soon("a new pull", func() error { return there.as(account{}).pull("mirror/"+repo, "1.0", img) }); err != nil {
			t.Errorf("what is new, cut off: %v", err)
		}
	}
	if err := soon("a push", func() error { return there.push("production/cut-off", own) }); !refusedFor(err, http.StatusServiceUnavailable) {
		t.Errorf("a push, cut off: %v", err)
	}
	if a := there.told("/readyz"); a.status != http.StatusOK {
		t.Errorf("readyz, cut off: %v", a)
	}
	eventually(t, 10*time.Second, "a node that knows that it is cut off", func() bool {
		return there.metric("roadstead_part_up", `part="catalog"`) == 0 && there.metric("roadstead_part_up", `part="cluster"`) == 0 && there.metric("roadstead_part_up", `part="bucket"`) == 1
	})
	eventually(t, 10*time.Second, "a node that is alone", func() bool { return here.metric("roadstead_cluster_nodes") == 1 })
	if err := soon("a push at the other", func() error { return here.push("production/more", own) }); err != nil {
		t.Errorf("a push beside a node that is cut off: %v", err)
	}
	inner.set(t, "up")
	eventually(t, 30*time.Second, "nodes that see each other again", together(2))
	if err := there.pull("production/more", "1.0", own); err != nil {
		t.Error(err)
	}
	if err := there.push("production/cut-off", own); err != nil {
		t.Errorf("a push, with the cable back: %v", err)
	}
	if out, err := here.command("scrub"); err != nil {
		t.Errorf("scrub: %v\n%s", err, out)
	}
}
