package main_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/storage/processtest"
)

// release is a list of images as RKE2 has one: two hundred of fifty repositories, with a base that all
// share, one that each fifth repository shares, and something of their own.
func release(t *testing.T, up *upstream) (list []string, images map[string]*image) {
	t.Helper()
	images = map[string]*image{}
	for i := range 200 {
		repo, tag := fmt.Sprintf("rancher/hardened-thing%02d", i/4), fmt.Sprintf("v1.%d.0-build20261128", i%4)
		img := newImage()
		var layers []digest.Digest
		for _, seed := range []uint64{9000, 9001 + uint64(i/4%5), 9100 + uint64(i)} {
			layer, _ := recipe{}.layer(t, img, seed, 20<<10)
			layers = append(layers, layer.Digest)
		}
		config := fmt.Appendf(nil, `{"architecture":%q,"os":"linux","rootfs":{"type":"layers"},"created_by":"%d"}`, runtime.GOARCH, i)
		d := digest.FromBytes(config)
		img.addBlob(d, content{bytes: config, size: int64(len(config))})
		img.tags[tag] = img.addManifest(t, d, layers)
		up.layOut(t, repo, img)
		name := "docker.io/" + repo + ":" + tag
		list, images[name] = append(list, name), img
	}
	return list, images
}

// layOut is push without asking the registry for each piece.
func (u *upstream) layOut(t *testing.T, repo string, img *image) {
	t.Helper()
	root := filepath.Join(u.dir, "docker/registry/v2")
	put := func(path string, b []byte) {
		t.Helper()
		path = filepath.Join(root, path)
		if isFile(path) {
			return
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data := func(d digest.Digest, b []byte) {
		put("blobs/sha256/"+d.Encoded()[:2]+"/"+d.Encoded()+"/data", b)
	}
	for d, c := range img.blobs {
		data(d, c.bytes)
		put("repositories/"+repo+"/_layers/sha256/"+d.Encoded()+"/link", []byte(d))
	}
	for _, m := range img.manifests {
		data(m.digest, m.bytes)
		put("repositories/"+repo+"/_manifests/revisions/sha256/"+m.digest.Encoded()+"/link", []byte(m.digest))
	}
	for tag, m := range img.tags {
		at := "repositories/" + repo + "/_manifests/tags/" + tag
		put(at+"/current/link", []byte(m.digest))
		put(at+"/index/sha256/"+m.digest.Encoded()+"/link", []byte(m.digest))
	}
}

// bodies counts the blobs that a gate was asked for, by digest.
func bodies(g *gate) map[string]int {
	all := map[string]int{}
	for _, r := range g.seen() {
		if _, d, ok := strings.Cut(r, "/blobs/"); ok && strings.HasPrefix(r, "GET ") {
			all[d]++
		}
	}
	return all
}

// holdFrom holds all blobs from the nth on until let is closed, and closes reached when that has come.
func holdFrom(n int) (rule func(*http.Request) shape, reached, let chan struct{}) {
	reached, let = make(chan struct{}), make(chan struct{})
	count, once := 0, sync.Once{}
	return func(r *http.Request) shape {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			return shape{}
		}
		if count++; count < n {
			return shape{}
		}
		once.Do(func() { close(reached) })
		return shape{hold: let}
	}, reached, let
}

// warming is "roadstead warm" that runs.
type warming struct {
	*exec.Cmd
	out, err strings.Builder
	done     chan error
}

func (n *node) warm(admin account, args ...string) *warming {
	n.t.Helper()
	w := n.willWarm(admin, args...)
	w.begin(n.t)
	return w
}

// willWarm is warm before it has begun.
func (n *node) willWarm(admin account, args ...string) *warming {
	n.t.Helper()
	w := &warming{Cmd: exec.Command(roadsteadCommand(n.t), append([]string{"warm", "--config", n.config}, args...)...), done: make(chan error, 1)}
	w.Env = environment(n.home, "ROADSTEAD_USERNAME="+admin.name, "ROADSTEAD_PASSWORD="+admin.secret)
	w.Stdout, w.Stderr = &w.out, &w.err
	return w
}

func (w *warming) begin(t testing.TB) {
	t.Helper()
	if err := processtest.Start(w.Cmd); err != nil {
		t.Fatal(err)
	}
	go func() { w.done <- w.Wait() }()
}

// until waits for what the command brings about.
func (w *warming) until(t *testing.T, reached <-chan struct{}) {
	t.Helper()
	select {
	case <-reached:
	case err := <-w.done:
		t.Fatalf("it ended before that, with %v:\n%s%s", err, w.out.String(), w.err.String())
	case <-time.After(time.Minute):
		t.Fatal("it does not come that far")
	}
}

// ended returns the exit status.
func (w *warming) ended(t *testing.T) int {
	t.Helper()
	select {
	case <-w.done:
		return w.ProcessState.ExitCode()
	case <-time.After(2 * time.Minute):
		_ = w.Process.Kill()
		<-w.done
		t.Fatalf("roadstead warm does not end:\n%s%s", w.out.String(), w.err.String())
		return 0
	}
}

// TestWarmsARelease: the list of a release is brought by a server that is killed in the middle of it and
// started again. Each blob is brought once, and clients need no upstream any more.
func TestWarmsARelease(t *testing.T) {
	e2e(t)
	up := startUpstream(t, upstreamConfig{})
	list, images := release(t, up)
	g := startGate(t, up.url)
	admin := account{"admin", "First-of-all-1f8c"}
	first := filepath.Join(t.TempDir(), "first")
	if err := os.WriteFile(first, []byte(admin.secret), 0o600); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, nodeConfig{plain: true, projects: map[string]any{"docker.io": project(g.url, nil)}, more: map[string]any{"admin_password_file": first}})
	file := filepath.Join(n.home, "rke2-images.linux-"+runtime.GOARCH+".txt")
	if err := os.WriteFile(file, []byte(strings.Join(list, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	dry := n.warm(admin, "--dry-run", "--file", file)
	if status := dry.ended(t); status != 1 || strings.Count(dry.out.String(), "missing  docker.io/rancher/") != 200 ||
		!strings.Contains(dry.err.String(), "200 of 200 images are not here whole; ") {
		t.Errorf("a dry run ended with %d:\n%s%s", status, dry.out.String(), dry.err.String())
	}
	if got := bodies(g); len(got) > 0 {
		t.Errorf("a dry run brought blobs: %v", got)
	}

	// Ctrl-C, which takes the job with it.
	rule, reached, let := holdFrom(1)
	g.set(rule)
	cut := n.warm(admin, list[0])
	cut.until(t, reached)
	_ = cut.Process.Signal(os.Interrupt)
	if status := cut.ended(t); status != 1 || !strings.Contains(cut.err.String(), "stopped; the same command again") {
		t.Errorf("interrupted, it ended with %d: %s", status, cut.err.String())
	}
	eventually(t, 5*time.Second, "the job stopped", func() bool {
		return strings.Contains(string(n.as(admin).ask("GET", "/api/roadstead/v1/jobs").body), `"state":"stopped"`)
	})
	close(let)
	eventually(t, 5*time.Second, "what was under way came to its end", func() bool { return g.active.Load() == 0 })
	g.forget()

	rule, reached, let = holdFrom(150)
	g.set(rule)
	all := n.warm(admin, "--file", file, "docker.io/rancher/none:1")
	all.until(t, reached)
	n.kill()
	g.set(nil)
	close(let)
	before := bodies(g)
	n.start()
	if status := all.ended(t); status != 1 {
		t.Errorf("it ended with %d", status)
	}
	out, said := all.out.String(), all.err.String()
	if !strings.Contains(said, "restarted and is given the list again") || !strings.HasSuffix(said, "roadstead: 1 of 201 images are not here\n") {
		t.Errorf("it said:\n%s", said)
	}
	if strings.Count(out, "failed ") != 1 || !strings.Contains(out, "failed   docker.io/rancher/none:1: ") {
		t.Errorf("it wrote:\n%s", out)
	}
	distinct := map[digest.Digest]bool{}
	for _, img := range images {
		for d := range img.blobs {
			distinct[d] = true
		}
	}
	again, got := 0, bodies(g)
	for d, times := range got {
		switch {
		case times == 1:
		case times == 2 && before[d] == 1:
			again++
		default:
			t.Errorf("%s was asked for %d times, %d of them before the kill", d, times, before[d])
		}
	}
	// Six were held, and a few had just come whole and were not yet in the catalog.
	if again > 20 {
		t.Errorf("%d blobs came again after the kill", again)
	}
	t.Logf("%d blobs, %d of them asked for before the kill, %d again after it", len(distinct), len(before), again)
	if missing := len(distinct) - len(got); missing > 4 { // those of the first image came before
		t.Errorf("%d blobs were never asked for", missing)
	}

	g.forget()
	if once := n.warm(admin, "--file", file); once.ended(t) != 0 || strings.Count(once.out.String(), "here     docker.io/rancher/") != 200 {
		t.Errorf("the same again wrote:\n%s%s", once.out.String(), once.err.String())
	}
	if got := bodies(g); len(got) > 0 {
		t.Errorf("the same again brought %d blobs", len(got))
	}
	g.down()
	for _, name := range slices.Sorted(slices.Values(list)) {
		repo, tag, _ := strings.Cut(name, ":")
		if err := n.pull(repo, tag, images[name]); err != nil {
			t.Fatal(err)
		}
	}
}
