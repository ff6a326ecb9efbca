package main_test

import (
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A node starts though no upstream answers, says truthfully that it cannot ask, and works as soon
// as upstream does (FAULTS U1).
func TestUpstreamDownAtStart(t *testing.T) {
	e2e(t)
	u := startUpstream(t, upstreamConfig{})
	img := recipe{seed: 90000}.make(t, "1")
	u.push(t, "library/app", img)
	g := startGate(t, u.url)
	g.down()
	n := startNode(t, nodeConfig{projects: map[string]any{"docker.io": project(g.url, map[string]any{"hub": true})}})
	const app = "docker.io/library/app"
	for _, path := range []string{manifestPath(app, "1"), manifestPath(app, string(img.top().digest)), blobPath(app, img.blobOrder[0])} {
		if a := n.ask(http.MethodGet, path); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
			t.Errorf("GET %s: %v, Retry-After %q; want 503 with one", path, a, a.header.Get("Retry-After"))
		}
	}
	g.up()
	eventually(t, 3*time.Second, "a pull after upstream has come back", func() bool { return n.pull(app, "1", img) == nil })

	g.down()
	n.terminate(10 * time.Second)
	n.start()
	if err := n.pull(app, "1", img); err != nil {
		t.Errorf("cached, started with upstream down: %v", err)
	}
	if a := n.ask(http.MethodGet, manifestPath(app, "2")); a.status != http.StatusServiceUnavailable {
		t.Errorf("an unknown tag while upstream is down: %v, want 503", a)
	}
}

// An upstream that accepts connections and says nothing does not hold up what is cached, and does
// not hold clients for ever (FAULTS U19).
func TestUpstreamHangs(t *testing.T) {
	e2e(t)
	u := startUpstream(t, upstreamConfig{})
	img := recipe{seed: 91000}.make(t, "1")
	u.push(t, "library/app", img)
	n := startNode(t, nodeConfig{projects: map[string]any{"docker.io": u.project(map[string]any{"hub": true})}})
	const app = "docker.io/library/app"
	if err := n.pull(app, "1", img); err != nil {
		t.Fatal(err)
	}
	u.freeze(t)
	for _, test := range []struct {
		name, path string
		within     time.Duration
		status     int
	}{
		{"a cached tag", manifestPath(app, "1"), 3 * time.Second, http.StatusOK},
		{"the same tag again", manifestPath(app, "1"), 3 * time.Second, http.StatusOK},
		{"a cached manifest", manifestPath(app, string(img.top().digest)), time.Second, http.StatusOK},
		{"a cached blob", blobPath(app, img.blobOrder[0]), time.Second, http.StatusOK},
		{"an unknown tag", manifestPath(app, "2"), 15 * time.Second, http.StatusGatewayTimeout},
		{"an unknown repository", manifestPath("docker.io/library/other", "1"), 15 * time.Second, http.StatusGatewayTimeout},
	} {
		t.Run(test.name, func(t *testing.T) {
			began := time.Now()
			a := n.ask(http.MethodGet, test.path)
			if took := time.Since(began); took > test.within {
				t.Errorf("answered after %v, want at most %v", took, test.within)
			}
			// Once it is known that nothing answers, that can be said at once: as 503.
			if a.status != test.status && (test.status != http.StatusGatewayTimeout || a.status != http.StatusServiceUnavailable) {
				t.Errorf("%v, want %d", a, test.status)
			}
		})
	}
	u.signal(syscall.SIGCONT)
	eventually(t, 10*time.Second, "404 for an unknown tag from an upstream that answers again", func() bool {
		return n.ask(http.MethodGet, manifestPath(app, "2")).status == http.StatusNotFound
	})
}

// What upstream says reaches the client as what it means for him, and never as a 404 that is not
// true, nor as a 502, which containerd does not retry. What is cached is served all the same.
func TestUpstreamRefuses(t *testing.T) {
	e2e(t)
	for _, test := range []struct {
		name   string
		shape  shape
		want   int
		code   string
		header string // that the answer has to have
		cached int    // what a tag that was pulled before answers
	}{
		{name: "500", shape: shape{status: 500}, want: 503, header: "Retry-After", cached: 200},
		{name: "502", shape: shape{status: 502}, want: 503, header: "Retry-After", cached: 200},
		{name: "503", shape: shape{status: 503}, want: 503, header: "Retry-After", cached: 200},
		{name: "429 with Retry-After", shape: shape{status: 429, header: "Retry-After: 7"}, want: 429, code: "TOOMANYREQUESTS", header: "Retry-After", cached: 200},
		{name: "401 without a challenge", shape: shape{status: 401}, want: 403, code: "DENIED", cached: 200},
		{name: "403", shape: shape{status: 403}, want: 403, code: "DENIED", cached: 200},
		{name: "404", shape: shape{status: 404}, want: 404, code: "MANIFEST_UNKNOWN", cached: 404},
		{name: "a page of HTML", shape: shape{status: 200, header: "Content-Type: text/html"}, want: 503, cached: 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			u := startUpstream(t, upstreamConfig{})
			img := recipe{seed: 92000}.make(t, "1")
			u.push(t, "library/app", img)
			g := startGate(t, u.url)
			n := startNode(t, nodeConfig{projects: map[string]any{"docker.io": project(g.url, map[string]any{"hub": true})}})
			const app = "docker.io/library/app"
			if err := n.pull(app, "1", img); err != nil {
				t.Fatal(err)
			}
			g.set(func(*http.Request) shape { return test.shape })
			a := n.ask(http.MethodGet, manifestPath(app, "2"))
			if a.status != test.want || !strings.Contains(string(a.body), test.code) {
				t.Errorf("an unknown tag: %v, want %d %s", a, test.want, test.code)
			}
			if test.header != "" && a.header.Get(test.header) == "" {
				t.Errorf("an unknown tag: no %s in %v", test.header, a.header)
			}
			if a.header.Get("Www-Authenticate") != "" {
				t.Errorf("upstream's challenge was relayed: %v", a.header)
			}
			if a := n.ask(http.MethodGet, manifestPath(app, "1")); a.status != test.cached {
				t.Errorf("a cached tag: %v, want %d", a, test.cached)
			}
			if a := n.ask(http.MethodGet, manifestPath(app, string(img.top().digest))); !a.whole() {
				t.Errorf("a cached manifest: %v", a)
			}
			if a := n.ask(http.MethodGet, blobPath(app, img.blobOrder[0])); !a.whole() {
				t.Errorf("a cached blob: %v", a)
			}
		})
	}
}

// A tag that has moved upstream is seen to have moved, and what it pointed to stays.
func TestTagMoves(t *testing.T) {
	e2e(t)
	u := startUpstream(t, upstreamConfig{})
	before, after := recipe{seed: 94000}.make(t, "1"), recipe{seed: 94100}.make(t, "1")
	u.push(t, "library/app", before)
	n := startNode(t, nodeConfig{projects: map[string]any{"docker.io": u.project(map[string]any{"hub": true})}})
	if err := n.pull("docker.io/library/app", "1", before); err != nil {
		t.Fatal(err)
	}
	u.push(t, "library/app", after)
	u.send(t, http.MethodDelete, u.url+manifestPath("library/app", string(before.top().digest)), "", http.NoBody, 0)
	if err := n.pull("docker.io/library/app", "1", after); err != nil {
		t.Error(err)
	}
	before.tags["1"] = after.top() // what a HEAD of the tag answers now
	if err := n.pull("docker.io/library/app", "1", before); err != nil {
		t.Errorf("what the tag pointed to before: %v", err)
	}
}

// What is wrong on the disk is not what clients get: a file that a power loss has emptied is seen
// at once, and one that has rotted by the scrub. Both come from upstream again (FAULTS S7).
func TestDamageHeals(t *testing.T) {
	e2e(t)
	u := startUpstream(t, upstreamConfig{})
	img := recipe{seed: 95000, layerSize: 2 << 20}.make(t, "1")
	u.push(t, "library/app", img)
	n := startNode(t, nodeConfig{projects: map[string]any{"docker.io": u.project(map[string]any{"hub": true})}})
	const app = "docker.io/library/app"
	if err := n.pull(app, "1", img); err != nil {
		t.Fatal(err)
	}
	n.terminate(10 * time.Second)

	emptied, rotten := img.blobOrder[0], img.blobOrder[1]
	if err := os.Truncate(dataFile(n.dir, emptied), 0); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(dataFile(n.dir, rotten), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte("rot"), 1<<20); err != nil {
		t.Fatal(err)
	}
	file.Close()

	n.start()
	if err := n.pullBlob(app, emptied, img.blobs[emptied].size); err != nil {
		t.Errorf("an emptied file: %v", err)
	}
	n.terminate(10 * time.Second)
	out, err := n.command("scrub")
	if err == nil || !strings.Contains(string(out), rotten.Encoded()) {
		t.Errorf("scrub said %q, %v; want the damaged digest and a failure", out, err)
	}
	scrub(t, n.dir)
	n.start()
	if err := n.pull(app, "1", img); err != nil {
		t.Errorf("after the scrub: %v", err)
	}
	scrub(t, n.dir)
	n.terminate(10 * time.Second)
	if out, err := n.command("scrub"); err != nil {
		t.Errorf("scrub after healing: %v\n%s", err, out)
	}
}
