package main_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// What nobody refers to any more goes after its grace, and what is shared stays; and the command
// says so beforehand.
func TestCollection(t *testing.T) {
	e2e(t)
	w := startWharf(t, nodeConfig{more: collecting("1s", "24h")})
	n := w.as(w.robot)
	base := recipe{seed: 450000, layers: 1}.make(t)
	stays, goes := shareLayers(t, base, 450100), shareLayers(t, base, 450200)
	const repo, elsewhere = "production/team/web", "other/team/web"
	if err := n.push(repo, stays); err != nil {
		t.Fatal(err)
	}
	goes.tags = map[string]manifest{"2": goes.top()}
	if err := n.push(repo, goes); err != nil {
		t.Fatal(err)
	}
	// Mounted elsewhere, it is not only production's to lose.
	kept := recipe{seed: 450300, layers: 1}.make(t, "1")
	if err := n.push(elsewhere, kept); err != nil {
		t.Fatal(err)
	}
	if err := n.push(repo, kept.retag("3")); err != nil {
		t.Fatal(err)
	}
	// Uploaded, and not yet in a manifest.
	loose, d := randomBytes(t, 450400, 5000)
	if err := n.pushBlob(repo, d, content{bytes: loose, size: 5000}); err != nil {
		t.Fatal(err)
	}
	dry := func() string { return w.administer("gc", "--dry-run") }
	for _, path := range []string{manifestPath(repo, string(goes.top().digest)), manifestPath(repo, string(kept.top().digest))} {
		if err := n.remove(path); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(1500 * time.Millisecond)
	// Asking for a blob is what a client does before it relies on it: not what this test wants.
	var lost, saved []string
	for d := range goes.blobs {
		if _, shared := stays.blobs[d]; shared {
			saved = append(saved, string(d))
		} else {
			lost = append(lost, string(d))
		}
	}
	lost = append(lost, string(d))
	said := dry()
	for _, d := range lost {
		if !strings.Contains(said, d) {
			t.Errorf("gc --dry-run does not say that %s would go:\n%s", d, said)
		}
	}
	for _, d := range saved {
		if strings.Contains(said, d) {
			t.Errorf("gc --dry-run says that %s would go, which another image has:\n%s", d, said)
		}
	}
	for _, d := range append(lost, saved...) {
		if !isFile(dataFile(w.dir, digest.Digest(d))) {
			t.Errorf("gc --dry-run has removed %s", d)
		}
	}

	// The real one is for a node that is stopped: one that runs does it itself.
	w.terminate(10 * time.Second)
	t.Logf("dry: %s", said)
	t.Logf("gc: %s", w.administer("gc"))
	for _, d := range lost {
		if isFile(dataFile(w.dir, digest.Digest(d))) {
			t.Errorf("%s is there after a collection", d)
		}
	}
	scrub(t, w.dir)
	w.start()
	if err := n.pull(repo, "1", stays); err != nil {
		t.Error(err)
	}
	if err := n.pull(elsewhere, "1", kept); err != nil {
		t.Error(err)
	}
	if a := n.ask(http.MethodGet, manifestPath(repo, "3")); a.status != http.StatusNotFound {
		t.Errorf("what was deleted from one repository and stays in another: %v", a)
	}
	// It can be pushed again, as if it had never been.
	if err := n.push(repo, goes); err != nil {
		t.Error(err)
	}
	if err := n.pull(repo, "2", goes); err != nil {
		t.Error(err)
	}
}

// A node collects by itself while it serves, and says so in its metrics.
func TestCollectionOfANodeThatRuns(t *testing.T) {
	e2e(t)
	w := startWharf(t, nodeConfig{more: collecting("1s", "500ms")})
	n := w.as(w.robot)
	const repo = "production/team/web"
	base := recipe{seed: 460000, layers: 1}.make(t)
	stays, goes := shareLayers(t, base, 460100), shareLayers(t, base, 460200)
	for _, img := range []*image{stays, goes} {
		if err := n.push(repo, img); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.remove(manifestPath(repo, string(goes.top().digest))); err != nil {
		t.Fatal(err)
	}
	if err := n.push(repo, stays); err != nil { // its tag was the other one's meanwhile
		t.Fatal(err)
	}
	for d := range goes.blobs {
		if _, shared := stays.blobs[d]; !shared {
			eventually(t, 20*time.Second, "the collection of "+string(d), func() bool { return !isFile(dataFile(w.dir, d)) })
			if a := n.ask(http.MethodGet, blobPath(repo, d)); a.status != http.StatusNotFound {
				t.Errorf("what was collected: %v", a)
			}
		}
	}
	if err := n.pull(repo, "1", stays); err != nil {
		t.Error(err)
	}
	scrub(t, w.dir)
}
