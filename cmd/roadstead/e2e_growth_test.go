package main_test

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roadstead/storage/postgrestest"
	"roadstead/storage/s3test"
)

// What clients do at a node of a cluster costs the bucket and the database so many requests and
// statements, and what they do again costs them next to nothing: of this the table in README is made,
// by which people plan for more nodes.
func TestWhatClientsCostACluster(t *testing.T) {
	e2e(t)
	const rounds, times = 3, 7
	database, s := postgrestest.New(t), s3test.Versitygw(t)
	statements, requests := postgrestest.Before(t, database), s.Proxy(t)
	store := onPostgreSQL(t, database)
	direct, err := url.Parse(store["catalog"].(string))
	if err != nil {
		t.Fatal(err)
	}
	through, err := url.Parse(statements.URL(strings.TrimPrefix(direct.Path, "/")))
	if err != nil {
		t.Fatal(err)
	}
	through.User = url.User(postgrestest.User) // the password is in a file
	store["catalog"] = through.String()
	maps.Copy(store, bucketStorage(t, s, requests.Endpoint, s.Bucket(t)))
	root := account{"admin", "Pass-of-admin-1f8c"}
	home := t.TempDir()
	secret, first := filepath.Join(home, "secret"), filepath.Join(home, "admin")
	for path, text := range map[string]string{secret: clusterSecret, first: root.secret} {
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	u := startUpstream(t, upstreamConfig{})
	n := startNode(t, nodeConfig{
		storage:  store,
		projects: map[string]any{"mirror": u.project(map[string]any{"public": true, "ttl": "1h"}), "production": map[string]any{"hosted": true, "public": true}},
		more: map[string]any{
			"admin_password_file": first,
			"cluster":             map[string]any{"listen": freeAddress(t), "secret_file": secret, "name": "node-0"},
		},
	})
	as := n.as(root)
	images := make([]*image, rounds*times+1)
	for i := range images {
		images[i] = recipe{seed: 960_000 + uint64(i)*100, layers: 1, layerSize: 6 << 20}.make(t, "1.0")
		u.push(t, fmt.Sprintf("team/app-%d", i), images[i])
	}
	pull := func(i int) error { return n.pull(fmt.Sprintf("mirror/team/app-%d", i), "1.0", images[i]) }
	push := func(i int) error { return as.push(fmt.Sprintf("production/app-%d", i), images[i]) }
	ask := func(method, path string) error {
		if a := n.ask(method, path); a.status != http.StatusOK {
			return fmt.Errorf("%s %s: %v", method, path, a)
		}
		return nil
	}
	// What is done the first time opens connections, and makes what is there from then on.
	for _, do := range []func(int) error{pull, push, pull} {
		if err := do(rounds * times); err != nil {
			t.Fatal(err)
		}
	}
	layer := func(i int) string {
		for d, b := range images[i].blobs {
			if b.size > 1<<20 {
				return blobPath(fmt.Sprintf("mirror/team/app-%d", i), d)
			}
		}
		return ""
	}
	// Nothing else is going on, and what is written behind answers has been.
	quiet := func() {
		late := time.Now().Add(time.Minute)
		for row := 0; row < 3; row++ {
			statements.Statements()
			requests.Requests()
			time.Sleep(time.Second)
			if statements.Statements() > 10 || len(requests.Requests()) > 0 {
				row = -1
			}
			if time.Now().After(late) {
				t.Fatal("the node never comes to rest")
			}
		}
	}
	// What a node does by itself now and then, and what a slow machine makes it ask twice, is added to a
	// round, and never taken from one: so one that is within the bounds is what the node and its clients cost.
	idle := math.Inf(1)
	for round := 0; round < rounds && idle > 6; round++ {
		quiet()
		start := time.Now()
		time.Sleep(6 * time.Second)
		idle = min(idle, float64(statements.Statements())/time.Since(start).Seconds())
		t.Logf("%-40s %5.2f statements a second", "a node by itself", idle)
	}
	if idle > 6 {
		t.Errorf("a node that nobody asks runs %.1f statements a second, want at most 6", idle)
	}
	for _, one := range []struct {
		what                 string
		do                   func(i int) error
		statements, requests float64 // at most, for each
		fresh                bool    // it can be done to an image once
	}{
		{"a cold pull of an image of one layer", pull, 45, 15, true},
		{"the same again", pull, 1, 2, false},
		{"a manifest by its tag", func(i int) error {
			return ask(http.MethodGet, manifestPath(fmt.Sprintf("mirror/team/app-%d", i), "1.0"))
		}, 0.5, 0, false},
		{"a layer that is cached", func(i int) error { return ask(http.MethodGet, layer(i)) }, 1.5, 1, false},
		{"HEAD of it", func(i int) error { return ask(http.MethodHead, layer(i)) }, 1.5, 1, false},
		{"a push of an image of one layer", push, 80, 14, true},
	} {
		within := false
		for round := 0; round < rounds && !within; round++ {
			quiet()
			start := time.Now()
			for i := range times {
				if one.fresh {
					i += round * times
				}
				if err := one.do(i); err != nil {
					t.Fatalf("%s: %v", one.what, err)
				}
			}
			time.Sleep(1500 * time.Millisecond) // for what is written behind the answer
			kinds := map[string]int{}
			asked := 0.0
			for _, kind := range requests.Requests() {
				kinds[kind]++
				asked++
			}
			ran := float64(statements.Statements())
			ran = max(0, ran-idle*time.Since(start).Seconds()) / times
			asked /= times
			t.Logf("%-40s %5.1f statements, %5.1f requests: of %d times %v", one.what, ran, asked, times, kinds)
			within = ran <= one.statements && asked <= one.requests
		}
		if !within {
			t.Errorf("%s costs more than %v statements and %v requests", one.what, one.statements, one.requests)
		}
	}
}
