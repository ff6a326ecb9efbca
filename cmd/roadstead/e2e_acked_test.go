package main_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// acked is what a node has acknowledged to those who push and delete.
type acked struct {
	mu      sync.Mutex // guards the rest
	next    int
	there   map[string]*image // by repository; whole from its acknowledgement on
	gone    map[string]*image // deleted, and acknowledged as that
	unsure  map[string]*image // being deleted when the end came: there or not, but nothing between
	pushed  int               // images that were ever acknowledged
	objects int               // of them
	faults  []error           // answers of a node that could do better
	round   string
	story   map[string]string // what was noted of a repository
}

func newAcked() *acked {
	return &acked{there: map[string]*image{}, gone: map[string]*image{}, unsure: map[string]*image{}, story: map[string]string{}}
}

// work pushes images, and deletes some again, until the node is gone. All images share a layer,
// so that what one deletion may take away is always what another push is counting on.
func (l *acked) work(t testing.TB, n *node, project string, seed uint64, shared recipe) {
	random := rand.New(rand.NewPCG(seed, 1))
	base := shared.make(t)
	var mine []string
	for {
		l.mu.Lock()
		l.next++
		repo := fmt.Sprintf("%s/work/image-%d", project, l.next)
		l.mu.Unlock()
		img := shareLayers(t, base, seed<<32+uint64(random.Uint32()))
		if err := n.push(repo, img); err != nil {
			l.fault(err)
			return
		}
		l.mu.Lock()
		l.there[repo] = img
		l.pushed++
		l.story[repo] = "pushed in " + l.round
		l.objects += len(img.blobs) + len(img.manifests)
		l.mu.Unlock()
		mine = append(mine, repo)
		if len(mine) < 3 || random.IntN(2) == 0 {
			continue
		}
		i := random.IntN(len(mine))
		repo = mine[i]
		mine = slices.Delete(mine, i, i+1)
		l.mu.Lock()
		img = l.there[repo]
		l.unsure[repo] = img
		delete(l.there, repo)
		l.mu.Unlock()
		if err := n.remove(manifestPath(repo, string(img.top().digest))); err != nil {
			l.fault(err)
			return
		}
		l.mu.Lock()
		l.gone[repo] = img
		delete(l.unsure, repo)
		l.mu.Unlock()
	}
}

// await waits for so many more images to be acknowledged, as long as that makes sense: how fast
// the machine is decides how long a round takes, and not what it shows.
func (l *acked) await(images int) {
	now := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.pushed
	}
	from := now()
	for end := time.Now().Add(10 * time.Second); now() < from+images && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// fault notes an error that is no sign of the node's end.
func (l *acked) fault(err error) {
	if r := (*refused)(nil); errors.As(err, &r) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.faults = append(l.faults, err)
	}
}

// shareLayers makes an image with the layers of another one and one of its own.
func shareLayers(t testing.TB, base *image, seed uint64) *image {
	own := recipe{seed: seed, layers: 1, layerSize: 8 << 10}.make(t)
	img := newImage()
	part := base.here()
	both := own.here()
	for _, d := range part.layers {
		img.addBlob(d, base.blobs[d])
	}
	for _, d := range both.layers {
		img.addBlob(d, own.blobs[d])
	}
	img.addBlob(both.config, own.blobs[both.config])
	img.tags["1"] = img.addManifest(t, both.config, slices.Concat(part.layers, both.layers))
	return img
}

// check asks a node for all that has to be there, and for some of what must not.
func (l *acked) check(t testing.TB, n *node) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for repo, img := range l.there {
		if err := n.pull(repo, "1", img); err != nil {
			a := n.ask(http.MethodGet, manifestPath(repo, string(img.top().digest)))
			t.Errorf("acknowledged before (%s): %v; by its digest it is %d", l.story[repo], err, a.status)
		}
	}
	for repo, img := range l.gone {
		for _, ref := range []string{"1", string(img.top().digest)} {
			if a := n.ask(http.MethodGet, manifestPath(repo, ref)); a.status != http.StatusNotFound {
				t.Errorf("%s:%s was deleted, and is there again: %v", repo, ref, a)
			}
		}
	}
	for repo, img := range l.unsure {
		a := n.ask(http.MethodGet, manifestPath(repo, "1"))
		switch {
		case a.status == http.StatusNotFound:
			l.gone[repo] = img
		case n.pull(repo, "1", img) == nil:
			l.there[repo] = img
			l.story[repo] += ", deletion cut off, whole in " + l.round
		default:
			t.Errorf("%s was being deleted, and is neither whole nor gone: %v", repo, a)
		}
	}
	clear(l.unsure)
	if t.Failed() {
		return
	}
	// Each round checks the newest; the oldest were checked often enough.
	if repos := slices.Sorted(maps.Keys(l.gone)); len(repos) > 60 {
		for _, repo := range repos[60:] {
			delete(l.gone, repo)
		}
	}
}

// collecting is a configuration that collects all the time and spares next to nothing.
func collecting(grace, every string) map[string]any {
	return map[string]any{"collect": map[string]any{"grace": grace, "every": every}}
}

// A node that is killed at any moment of pushes, deletions and collections loses nothing that it
// had acknowledged, brings nothing back, and shows nothing partial (promise 5, FAULTS P1).
func TestKilledAtAnyMomentOfAPush(t *testing.T) {
	e2e(t)
	const rounds = 12
	w := startWharf(t, nodeConfig{more: collecting("15s", "300ms")})
	w.kill()
	n := w.as(w.robot)
	all := newAcked()
	for round := range rounds {
		w.start()
		all.round = fmt.Sprint("round ", round)
		all.check(t, n)
		var workers sync.WaitGroup
		for i := range 4 {
			workers.Go(func() {
				all.work(t, n, "production", uint64(100*round+i+1), recipe{seed: 380000, layers: 1, layerSize: 32 << 10})
			})
		}
		all.await(rand.IntN(8))
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		w.kill()
		workers.Wait()
		for _, err := range all.faults {
			t.Error(err)
		}
		scrub(t, w.dir)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	w.start()
	all.check(t, n)
	t.Logf("%d objects were acknowledged in %d rounds; %d images are there", all.objects, rounds, len(all.there))
	if all.pushed < 2*rounds {
		t.Error("next to nothing was pushed: the test shows nothing")
	}
}
