package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// pushKinds pushes an image of each kind, which are those that registries hold.
func pushKinds(t *testing.T, n *node, project string, seed uint64) map[string]*image {
	t.Helper()
	images := map[string]*image{}
	for i, kind := range kinds {
		r := kind.recipe
		r.seed += seed
		repo := fmt.Sprintf("%s/team/kind-%d", project, i)
		images[repo] = r.make(t, "1.0", "latest")
		if err := n.push(repo, images[repo]); err != nil {
			t.Fatal(err)
		}
	}
	return images
}

func pullKinds(t *testing.T, n *node, images map[string]*image, when string) {
	t.Helper()
	for repo, img := range images {
		for _, tag := range []string{"1.0", "latest"} {
			if err := n.pull(repo, tag, img); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
	}
}

// What people have pushed is served by a stock registry that is started on the directory, and
// taken on by us when it is stopped again (promise 10).
func TestStockRegistryServesWhatWasPushed(t *testing.T) {
	e2e(t)
	w := startWharf(t, nodeConfig{plain: true})
	n := w.as(w.robot)
	images := pushKinds(t, n, "production", 420000)
	w.terminate(10 * time.Second)
	scrub(t, w.dir)
	for _, when := range []string{"as it is", "after its own garbage collection"} {
		stock := startUpstream(t, upstreamConfig{dir: w.dir})
		pullKinds(t, &node{t: t, addr: stock.addr, url: stock.url, http: newHTTPClient(nil)}, images, "the stock registry, "+when)
		stock.stop(t)
		config := writeJSON(t, filepath.Join(t.TempDir(), "config.yml"), map[string]any{
			"version": "0.1",
			"storage": map[string]any{"filesystem": map[string]any{"rootdirectory": w.dir}},
		})
		run(t, environment(shortDir(t)), need(t, "registry"), "garbage-collect", config)
	}
	w.start()
	pullKinds(t, n, images, "ours again")
}

// A tree that real pushes to a stock registry have written is adopted: what was pushed is served,
// as a hosted project, and pushed to.
func TestAdoptsWhatWasPushedElsewhere(t *testing.T) {
	e2e(t)
	u := startUpstream(t, upstreamConfig{})
	stock := &node{t: t, addr: u.addr, url: u.url, http: newHTTPClient(nil)}
	images := pushKinds(t, stock, "production", 430000)
	crane := recipe{seed: 430900, platforms: []string{"amd64", "arm64"}}.make(t, "1.0", "latest")
	for tag := range crane.tags {
		run(t, environment(shortDir(t)), need(t, "crane"), "push", writeLayout(t, crane), u.addr+"/production/team/crane:"+tag)
	}
	images["production/team/crane"] = crane
	u.stop(t)

	n := newNode(t, nodeConfig{plain: true, dir: u.dir, projects: map[string]any{"production": map[string]any{"hosted": true}}})
	if out, err := n.command("adopt"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	n.start()
	root := n.addUser("root", "--admin")
	n.knows(root)
	pullKinds(t, n.as(root), images, "adopted")
	if err := n.as(root).push("production/team/new", crane); err != nil {
		t.Errorf("a push to what was adopted: %v", err)
	}
	more := recipe{seed: 430950}.make(t, "2.0")
	if err := n.as(root).push("production/team/kind-0", more); err != nil {
		t.Errorf("a push to a repository that was adopted: %v", err)
	}
	scrub(t, n.dir)
	n.terminate(10 * time.Second)
	back := startUpstream(t, upstreamConfig{dir: u.dir})
	stock = &node{t: t, addr: back.addr, url: back.url, http: newHTTPClient(nil)}
	pullKinds(t, stock, images, "back at the stock registry")
	if err := stock.pull("production/team/kind-0", "2.0", more); err != nil {
		t.Errorf("back at the stock registry: %v", err)
	}
}

// A blob whose file is not what it was is never served in full as something else, and pushing it
// again mends it.
func TestPushingAgainMendsAFile(t *testing.T) {
	e2e(t)
	w := startWharf(t, nodeConfig{plain: true})
	n := w.as(w.robot)
	const repo = "production/team/web"
	img := recipe{seed: 440000, layers: 3, layerSize: 200 << 10}.make(t, "1")
	if err := n.push(repo, img); err != nil {
		t.Fatal(err)
	}
	flip := func(path string) error {
		b, err := os.ReadFile(path)
		if err == nil {
			b[len(b)/2] ^= 1
			err = os.WriteFile(path, b, 0o600)
		}
		return err
	}
	harm := map[string]func(path string) error{
		"a flipped bit":    flip,
		"an empty file":    func(path string) error { return os.Truncate(path, 0) },
		"no file at all":   os.Remove,
		"a file cut short": func(path string) error { return os.Truncate(path, 1000) },
	}
	for what, do := range harm {
		for _, d := range []int{0, 1} {
			digest := img.blobOrder[d]
			if err := do(dataFile(w.dir, digest)); err != nil {
				t.Fatal(err)
			}
			if err := n.pushBlob(repo, digest, img.blobs[digest]); err != nil {
				t.Errorf("%s: pushed again: %v", what, err)
			}
			if err := n.pullBlob(repo, digest, img.blobs[digest].size); err != nil {
				t.Errorf("%s, mended: %v", what, err)
			}
		}
		if err := n.pull(repo, "1", img); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		scrub(t, w.dir)
	}
}
