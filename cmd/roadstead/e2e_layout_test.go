package main_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What a node has cached is served by a stock registry that is started on its directory, with
// the catalog and the drafts lying beside (promise 10), and survives that registry's own
// garbage collection.
func TestStockRegistryServesOurDirectory(t *testing.T) {
	e2e(t)
	crane := need(t, "crane")
	h := startHarbour(t, nodeConfig{plain: true})
	all := h.berths(t, 0, client{name: "stock"})
	for _, b := range all {
		if err := h.pull(b.ref.project+"/"+b.ref.repo, b.ref.tag, b.image); err != nil {
			t.Fatal(err)
		}
	}
	h.terminate(10 * time.Second)
	h.stopUpstreams()

	served := func(t *testing.T) {
		stock := startUpstream(t, upstreamConfig{dir: h.dir})
		defer stock.stop(t)
		for _, b := range all {
			pullCrane(t, &node{addr: stock.addr}, b.ref, b.image)
			pullCrane(t, &node{addr: stock.addr}, b.byDigest(), b.image)
		}
		catalog := run(t, environment(shortDir(t)), crane, "catalog", stock.addr)
		for _, b := range all {
			name := b.ref.project + "/" + b.ref.repo + "\n"
			if !bytes.Contains(catalog, []byte(name)) {
				t.Errorf("the registry's catalog has no %s:\n%s", name, catalog)
			}
		}
	}
	t.Run("as it is", served)
	t.Run("after its garbage collection", func(t *testing.T) {
		config := writeJSON(t, filepath.Join(t.TempDir(), "config.yml"), map[string]any{
			"version": "0.1",
			"storage": map[string]any{"filesystem": map[string]any{"rootdirectory": h.dir}},
		})
		run(t, environment(shortDir(t)), need(t, "registry"), "garbage-collect", config)
		served(t)
	})

	// And back again: the node takes the directory as it left it.
	h.start()
	for _, b := range all {
		if err := h.pull(b.ref.project+"/"+b.ref.repo, b.ref.tag, b.image); err != nil {
			t.Errorf("after the stock registry was there: %v", err)
		}
	}
}

// The directory of a stock registry is adopted in place, and then served with no upstream.
func TestAdoptsStockDirectory(t *testing.T) {
	e2e(t)
	u := startUpstream(t, upstreamConfig{})
	images := map[string]*image{}
	for i, kind := range kinds {
		r := kind.recipe
		r.seed += 50000
		repo := fmt.Sprintf("docker.io/library/adopted-%d", i)
		if i%2 == 1 {
			repo = fmt.Sprintf("quay.io/team/deep/adopted-%d", i)
		}
		images[repo] = r.make(t, "1.0", "latest")
		u.push(t, repo, images[repo])
	}
	u.stop(t)

	gone := project("http://"+freeAddress(t), map[string]any{"hub": true})
	c := nodeConfig{plain: true, dir: u.dir, projects: map[string]any{"docker.io": gone, "quay.io": gone}}
	n := newNode(t, c)
	if out, err := n.command("adopt"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	before := scrub(t, n.dir)
	n.start()
	for repo, img := range images {
		for _, tag := range []string{"1.0", "latest"} {
			if err := n.pull(repo, tag, img); err != nil {
				t.Errorf("adopted: %v", err)
			}
		}
	}
	if after := scrub(t, n.dir); after != before {
		t.Errorf("%d contents after serving, %d before: adoption is in place", after, before)
	}

	// The database can be lost at any time: it is made again from the layout.
	n.terminate(10 * time.Second)
	for _, file := range databaseFiles(t, n.dir) {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := n.command("adopt"); err != nil {
		t.Fatalf("without its catalog: %v\n%s", err, out)
	}
	n.start()
	for repo, img := range images {
		if err := n.pull(repo, "1.0", img); err != nil {
			t.Errorf("adopted again: %v", err)
		}
	}
}

// databaseFiles are those of the catalog, with the journal of a write that has just ended.
func databaseFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "catalog.db*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no catalog.db in %s: %v", dir, err)
	}
	return files
}
