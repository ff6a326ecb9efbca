package main_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// smallDisk mounts a file system of its own, in memory, for a data directory.
func smallDisk(t *testing.T, options string) (dir string) {
	t.Helper()
	needRoot(t)
	dir = shortDir(t)
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "roadstead-test", dir).CombinedOutput(); err != nil {
		lack(t, "mounting a tmpfs: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A full disk is the cache's trouble and not its clients': they get their bytes while upstream
// has them, nothing partial stays, and what fits is kept again once there is room (promise 6,
// FAULTS S1).
func TestFullDisk(t *testing.T) {
	e2e(t)
	dir := smallDisk(t, "size=24m")
	u := startUpstream(t, upstreamConfig{})
	g := startGate(t, u.url)
	n := startNode(t, nodeConfig{dir: filepath.Join(dir, "data"), projects: map[string]any{"docker.io": project(g.url, map[string]any{"hub": true})}})

	// Larger than the disk, of which the node knows beforehand.
	large, d := blob(t, 96000, 40<<20)
	u.push(t, "library/large", large)
	for range 2 {
		if err := n.pullBlob("docker.io/library/large", d, 40<<20); err != nil {
			t.Errorf("a blob larger than the disk: %v", err)
		}
	}
	small := recipe{seed: 96100}.make(t, "1")
	u.push(t, "library/small", small)
	if err := n.pull("docker.io/library/small", "1", small); err != nil {
		t.Fatal(err)
	}
	g.down()
	if err := n.pull("docker.io/library/small", "1", small); err != nil {
		t.Errorf("an image that fits, with upstream gone: %v", err)
	}
	g.up()
	eventually(t, 5*time.Second, "upstream being asked again", func() bool {
		return n.ask(http.MethodGet, manifestPath("docker.io/library/small", "unknown")).status == http.StatusNotFound
	})

	// Filled up by somebody else, while a blob is on its way: the node finds out by a write.
	middle, d := blob(t, 96200, 8<<20)
	u.push(t, "library/middle", middle)
	release := make(chan struct{})
	g.set(blobs(shape{at: 1 << 20, hold: release}))
	so := g.bytes.Load()
	pulled := make(chan error, 1)
	go func() { pulled <- n.pullBlob("docker.io/library/middle", d, 8<<20) }()
	eventually(t, 10*time.Second, "a blob on its way", func() bool { return g.bytes.Load() >= so+1<<20 })
	junk := filepath.Join(dir, "junk")
	fill(t, junk)
	close(release)
	g.set(nil)
	if err := <-pulled; err != nil {
		t.Errorf("the disk filled up under a pull: %v", err)
	}
	others := map[string]*image{}
	for i := range 3 {
		repo := fmt.Sprintf("library/full-%d", i)
		others[repo] = recipe{seed: uint64(96300 + 10*i)}.make(t, "1")
		u.push(t, repo, others[repo])
		for range 2 {
			if err := n.pull("docker.io/"+repo, "1", others[repo]); err != nil {
				t.Errorf("a new image while the disk is full: %v", err)
			}
		}
	}
	if err := n.pull("docker.io/library/small", "1", small); err != nil {
		t.Errorf("a cached image while the disk is full: %v", err)
	}
	scrub(t, n.dir)

	// There is room again, and nobody has to do anything.
	if err := os.Remove(junk); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the blob being kept", func() bool {
		if err := n.pullBlob("docker.io/library/middle", d, 8<<20); err != nil {
			t.Fatal(err)
		}
		return isFile(dataFile(n.dir, d))
	})
	for repo, img := range others {
		// What could not be kept is tried again a minute later: a full disk is left in peace.
		eventually(t, 90*time.Second, repo+" being kept", func() bool {
			time.Sleep(200 * time.Millisecond)
			if err := n.pull("docker.io/"+repo, "1", img); err != nil {
				t.Fatal(err)
			}
			link := "docker/registry/v2/repositories/docker.io/" + repo + "/_manifests/tags/1/current/link"
			return isFile(dataFile(n.dir, img.top().digest)) && isFile(filepath.Join(n.dir, link))
		})
	}
	n.terminate(10 * time.Second)
	g.down()
	n.start()
	if err := n.pullBlob("docker.io/library/middle", d, 8<<20); err != nil {
		t.Errorf("kept since there was room, with upstream gone: %v", err)
	}
	for repo, img := range others {
		if err := n.pull("docker.io/"+repo, "1", img); err != nil {
			t.Errorf("kept since there was room, with upstream gone: %v", err)
		}
	}
	scrub(t, n.dir)
}

// The same when it is the inodes that are all in use.
func TestNoInodesLeft(t *testing.T) {
	e2e(t)
	dir := smallDisk(t, "size=64m,nr_inodes=150")
	u := startUpstream(t, upstreamConfig{})
	n := startNode(t, nodeConfig{dir: filepath.Join(dir, "data"), projects: map[string]any{"docker.io": u.project(map[string]any{"hub": true})}})
	for i := range 20 {
		img := recipe{seed: uint64(97000 + 10*i), layers: 3, layerSize: 4 << 10}.make(t, "1")
		repo := fmt.Sprintf("library/many-%d", i)
		u.push(t, repo, img)
		for range 2 {
			if err := n.pull("docker.io/"+repo, "1", img); err != nil {
				t.Fatalf("image %d: %v", i, err)
			}
		}
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil || stat.Ffree > 10 {
		t.Errorf("%d inodes are left (%v): the test shows nothing", stat.Ffree, err)
	}
	scrub(t, n.dir)
}

// fill writes a file until the disk has no block left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(page)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}
