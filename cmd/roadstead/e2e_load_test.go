package main_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Without file descriptors the node waits for some: it neither ends nor tells untruths, and goes
// on by itself (FAULTS P5).
func TestNoFileDescriptorsLeft(t *testing.T) {
	e2e(t)
	u := startUpstream(t, upstreamConfig{})
	img := recipe{seed: 98000}.make(t, "1")
	u.push(t, "library/app", img)
	n := startNode(t, nodeConfig{
		projects: map[string]any{"docker.io": u.project(map[string]any{"hub": true})},
		before: func(program string, args []string) (string, []string) {
			return "/bin/sh", append([]string{"-c", `ulimit -n 64 && exec "$0" "$@"`, program}, args...)
		},
	})
	const app = "docker.io/library/app"
	if err := n.pull(app, "1", img); err != nil {
		t.Fatal(err)
	}
	var idle []net.Conn
	for range 200 {
		conn, err := net.Dial("tcp", n.addr)
		if err != nil {
			break // the backlog is full, too
		}
		idle = append(idle, conn)
	}
	eventually(t, 10*time.Second, "a node without file descriptors", func() bool { return n.descriptors() >= 60 })

	// The connection of the pull before is still open.
	for _, path := range []string{manifestPath(app, "1"), blobPath(app, img.blobOrder[0]), blobPath(app, img.blobOrder[1])} {
		a, err := n.tryAsk(http.MethodGet, path)
		if err == nil && !a.whole() && a.status != http.StatusServiceUnavailable && a.status != http.StatusInternalServerError {
			t.Errorf("GET %s with no descriptor left: %v", path, a)
		}
	}
	if n.ended(time.Second) {
		t.Fatalf("the node has ended: %v", n.err)
	}
	for _, conn := range idle {
		conn.Close()
	}
	eventually(t, 15*time.Second, "a pull after that", func() bool { return n.pull(app, "1", img) == nil })
}

// Clients that read at a snail's pace, or not at all, slow nobody and cost little memory, whether
// the blob is cached or on its way; the ones that do not move are dropped (FAULTS C2).
func TestSlowReaders(t *testing.T) {
	e2e(t)
	const size = 16 << 20
	n, g, d, _ := gatedBy(t, size, nodeConfig{plain: true}) // the race detector takes several times the memory
	before := n.rss()
	release := make(chan struct{})
	g.set(blobs(shape{at: size / 2, hold: release}))
	var stalled []net.Conn
	stall := func(count int) {
		for range count {
			conn, err := net.Dial("tcp", n.addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: roadstead\r\n\r\n", blobPath(cargo, d))
			stalled = append(stalled, conn)
		}
	}
	stall(100) // of a blob on its way
	first, err := n.open(http.MethodGet, blobPath(cargo, d))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Body.Close()
	if _, err := io.CopyN(io.Discard, first.Body, size/4); err != nil {
		t.Fatalf("a fast reader among stalled ones: %v", err)
	}
	close(release)
	if _, err := io.Copy(io.Discard, first.Body); err != nil {
		t.Fatalf("a fast reader among stalled ones: %v", err)
	}
	stall(100) // of a cached one
	for range 5 {
		if err := n.pullBlob(cargo, d, size); err != nil {
			t.Error(err)
		}
	}
	if got := g.count("GET " + cargoUpstream); got != 1 {
		t.Errorf("%d downloads from upstream, want 1", got)
	}
	if grown := n.rss() - before; grown > 200*128<<10 {
		t.Errorf("200 stalled readers cost %d KiB each, want less than 128", grown/200>>10)
	}

	// Whoever has taken nothing for a minute is let go. His own side learns of it only when he
	// has read what the kernel still holds for him, so it is the node's that is looked at.
	eventually(t, 100*time.Second, "an end to the stalled readers' connections", func() bool { return n.descriptors() < 100 })
	for _, conn := range stalled {
		conn.Close()
	}
	if err := n.pullBlob(cargo, d, size); err != nil {
		t.Error(err)
	}
}

// A client's malformed request is its own trouble: each gets an error of the specification, none
// reaches upstream, and the node stays (FAULTS B12, C4).
func TestMalformedRequests(t *testing.T) {
	e2e(t)
	n, g, d, _ := gated(t, 1000)
	for _, path := range []string{
		"/",
		"/v2/docker.io/library/cargo",
		"/v2/docker.io/library/cargo/manifests/-bad",
		"/v2/docker.io/library/cargo/manifests/sha256:abc",
		"/v2/docker.io/library/cargo/blobs/sha256:" + strings.Repeat("../", 20),
		"/v2/docker.io/library/cargo/blobs/sha256:" + strings.Repeat("%2e%2e%2f", 9),
		"/v2/docker.io/library/cargo/blobs/sha512:" + d.Encoded(),
		"/v2/docker.io/library/cargo/tags/list?n=-1",
		"/v2/docker.io/UPPER/manifests/1",
		"/v2/docker.io/%00/manifests/1",
		"/v2/other.example/library/cargo/manifests/1",
	} {
		a := n.ask(http.MethodGet, path)
		if a.status != http.StatusBadRequest && a.status != http.StatusNotFound {
			t.Errorf("GET %s: %v, want 400 or 404", path, a)
		}
		if strings.Contains(a.header.Get("Content-Type"), "html") {
			t.Errorf("GET %s answers with a page: %v", path, a.header)
		}
	}
	for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		a := n.ask(method, manifestPath(cargo, "1"))
		if a.status != http.StatusMethodNotAllowed && a.status != http.StatusForbidden {
			t.Errorf("%s of a manifest: %v, want 405 or 403", method, a)
		}
	}
	if got := g.seen(); len(got) != 0 {
		t.Errorf("upstream was asked %q", got)
	}
	if err := n.pullBlob(cargo, d, 1000); err != nil {
		t.Error(err)
	}
}
