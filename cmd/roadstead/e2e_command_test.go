package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A second server on the same directory refuses to start, and says why.
func TestOneNodeADirectory(t *testing.T) {
	e2e(t)
	u := startUpstream(t, upstreamConfig{})
	projects := map[string]any{"docker.io": u.project(nil)}
	n := startNode(t, nodeConfig{projects: projects})
	second := newNode(t, nodeConfig{dir: n.dir, projects: projects})
	out, err := second.command("serve")
	if err == nil || !strings.Contains(err.Error(), n.dir) {
		t.Errorf("the second one said %q, %v; want a refusal that names the directory", out, err)
	}
	if n.ended(0) {
		t.Errorf("the first one has ended: %v", n.err)
	}
}

// SIGHUP takes a changed configuration without a dropped request, and keeps the old one when the
// new one is wrong.
func TestReload(t *testing.T) {
	e2e(t)
	u := startUpstream(t, upstreamConfig{})
	img := recipe{seed: 99000}.make(t, "1")
	u.push(t, "team/app", img)
	n := startNode(t, nodeConfig{projects: map[string]any{"quay.io": u.project(nil)}})
	if err := n.pull("quay.io/team/app", "1", img); err != nil {
		t.Fatal(err)
	}
	if a := n.ask(http.MethodGet, manifestPath("ghcr.io/team/app", "1")); a.status != http.StatusNotFound {
		t.Fatalf("a project that is not configured: %v", a)
	}

	old, err := os.ReadFile(n.config)
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(old, &config); err != nil {
		t.Fatal(err)
	}
	config["projects"].(map[string]any)["ghcr.io"] = u.project(nil)
	writeJSON(t, n.config, config)
	n.signal(syscall.SIGHUP)
	eventually(t, 5*time.Second, "the new project", func() bool { return n.pull("ghcr.io/team/app", "1", img) == nil })

	if err := os.WriteFile(n.config, bytes.ReplaceAll(old, []byte("endpoints"), []byte("endpoint")), 0o600); err != nil {
		t.Fatal(err)
	}
	n.signal(syscall.SIGHUP)
	time.Sleep(500 * time.Millisecond)
	for _, repo := range []string{"quay.io/team/app", "ghcr.io/team/app"} {
		if err := n.pull(repo, "1", img); err != nil {
			t.Errorf("after a reload of a configuration that is wrong: %v", err)
		}
	}
}

// What is cached is bounded: the least recently used goes and comes back from upstream when it is
// asked for; what is pinned stays.
func TestEviction(t *testing.T) {
	e2e(t)
	const size, most = 4 << 20, 20 << 20
	u := startUpstream(t, upstreamConfig{})
	n := startNode(t, nodeConfig{
		projects: map[string]any{"quay.io": u.project(map[string]any{"keep": "1s", "pin": []string{"team/pinned"}})},
		storage:  map[string]any{"max_size": "20MiB"},
	})
	images := map[string]*image{}
	pull := func(repo string) {
		t.Helper()
		if images[repo] == nil {
			images[repo] = recipe{seed: uint64(99100 + 10*len(images)), layers: 1, layerSize: size}.make(t, "1")
			u.push(t, repo, images[repo])
		}
		if err := n.pull("quay.io/"+repo, "1", images[repo]); err != nil {
			t.Errorf("evicted or not: %v", err)
		}
	}
	pull("team/pinned")
	for i := range 10 {
		pull(fmt.Sprintf("team/cold-%d", i))
	}
	time.Sleep(1100 * time.Millisecond) // now all of them may go
	pull("team/last")
	eventually(t, 10*time.Second, "content within its bounds", func() bool { return stored(t, n.dir) <= most+size })
	if got := n.metric("roadstead_cache_evicted_bytes_total"); got < 6*size {
		t.Errorf("%v bytes evicted, want at least those of six images", got)
	}
	for repo := range images {
		pull(repo)
	}

	// The command does the same for a node that is stopped.
	n.terminate(10 * time.Second)
	time.Sleep(1100 * time.Millisecond)
	if out, err := n.command("evict"); err != nil {
		t.Errorf("evict: %v\n%s", err, out)
	}
	if got := stored(t, n.dir); got > most {
		t.Errorf("%d bytes are stored after an eviction, want at most %d", got, most)
	}
	_, faults, err := inspect(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range faults {
		// A tag that is checked in the very moment in which its manifest goes may keep its
		// link. It is asked for upstream like any other that is not here.
		if !strings.Contains(fault, "/_manifests/tags/") {
			t.Error(fault)
		}
	}
	u.stop(t)
	n.start()
	pull("team/pinned")
}

// stored is the size of all content in a data directory.
func stored(t *testing.T, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "docker/registry/v2/blobs"), func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return size
}

// Metrics and health say what happened: what came from where, and whether the node can work.
func TestMetricsAndHealth(t *testing.T) {
	e2e(t)
	n, g, d, _ := gated(t, 100_000)
	const pings = 2 // bytes of the answer to the harness, which had asked whether the node is there
	for range 3 {
		if err := n.pullBlob(cargo, d, 100_000); err != nil {
			t.Fatal(err)
		}
		// The last byte leaves before the download has ended; until then others join it.
		eventually(t, 5*time.Second, "an end to the download", func() bool { return n.metric("roadstead_cache_flights") == 0 })
	}
	for _, test := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"roadstead_cache_answers_total", []string{`project="docker.io"`, `outcome="miss"`}, 1},
		{"roadstead_cache_answers_total", []string{`project="docker.io"`, `outcome="hit"`}, 2},
		{"roadstead_cache_received_bytes_total", []string{`project="docker.io"`}, 100_000},
		{"roadstead_cache_saved_bytes", nil, 200_000 + pings},
		{"roadstead_server_sent_bytes_total", nil, 300_000 + pings},
		{"roadstead_server_panics_total", nil, 0},
		{"roadstead_cache_faults_total", nil, 0},
		{"roadstead_upstream_endpoint_up", []string{`project="docker.io"`}, 1},
	} {
		if got := n.metric(test.name, test.labels...); got != test.want {
			t.Errorf("%s%v is %v, want %v", test.name, test.labels, got, test.want)
		}
	}
	for _, path := range []string{"/readyz", "/healthz"} {
		res, err := http.Get(n.admin + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("GET %s: %s", path, res.Status)
		}
	}
	if out, err := n.command("healthcheck"); err != nil {
		t.Errorf("healthcheck: %v\n%s", err, out)
	}

	// An upstream that is down is seen there, and is no reason to send requests elsewhere.
	g.down()
	eventually(t, 10*time.Second, "an endpoint that is known to be down", func() bool {
		n.ask(http.MethodGet, manifestPath(cargo, "unknown"))
		return n.metric("roadstead_upstream_endpoint_up", `project="docker.io"`) == 0
	})
	if out, err := n.command("healthcheck"); err != nil {
		t.Errorf("healthcheck with upstream down: %v\n%s", err, out)
	}
}
