package main_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// A ledger is what clients have received in full, and when for the first time.
type ledger struct {
	mu       sync.Mutex // guards the rest
	received map[delivery]time.Time
	faults   []error
}

// A delivery is one piece of content that a client has got from a repository.
type delivery struct {
	path   string
	digest digest.Digest
}

func (l *ledger) add(d delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.received[d]; !ok {
		l.received[d] = time.Now()
	}
}

func (l *ledger) fault(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, err)
}

// pull asks for everything of an image until the node is gone. What comes in full has to be
// right, and is noted.
func (l *ledger) pull(n *node, repo string, img *image) (alive bool) {
	var all []delivery
	for _, m := range img.manifests {
		all = append(all, delivery{manifestPath(repo, string(m.digest)), m.digest})
	}
	for _, d := range img.blobOrder {
		all = append(all, delivery{blobPath(repo, d), d})
	}
	all = append(all, delivery{manifestPath(repo, "1"), img.tags["1"].digest})
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, d := range all {
		a, err := n.tryAsk(http.MethodGet, d.path)
		if err != nil {
			return false
		}
		if !a.whole() {
			continue
		}
		if a.digest() != d.digest {
			l.fault(fmt.Errorf("GET %s: a complete body with digest %s", d.path, a.digest()))
		}
		l.add(d)
	}
	return true
}

// settled is after how long a delivery has to survive a crash. The last byte leaves as soon as it
// is proved; the content is made durable in the next quiet moment, which is waited for three
// seconds at most. A crash before that costs a second download, and no client anything.
const settled = 5 * time.Second

// A node that is killed at any moment of its work starts again at once, with nothing partial to
// be seen and all that it had delivered still there, upstream or no upstream (promises 4 and 5,
// FAULTS P1).
func TestKilledAtAnyMoment(t *testing.T) {
	e2e(t)
	const rounds = 50
	u := startUpstream(t, upstreamConfig{})
	g := startGate(t, u.url)
	n := newNode(t, nodeConfig{plain: true, projects: map[string]any{"docker.io": project(g.url, map[string]any{"hub": true})}})
	all := &ledger{received: map[delivery]time.Time{}}
	durable := map[delivery]bool{} // what has to be there from now on
	killedAtWork, slowest := 0, time.Duration(0)
	for round := range rounds {
		// Each round has images that no round before had, so that something is on its way in
		// when the end comes.
		repos := map[string]*image{}
		for i := range 2 {
			repo := fmt.Sprintf("library/round-%d-%d", round, i)
			img := recipe{seed: uint64(80000 + 10*round + 5*i), layers: 4, layerSize: 400 << 10}.make(t, "1")
			u.push(t, repo, img)
			repos["docker.io/"+repo] = img
		}
		g.set(blobs(shape{rate: 2 << 20}))
		began := time.Now()
		n.start()
		slowest = max(slowest, time.Since(began))
		var clients sync.WaitGroup
		for repo, img := range repos {
			for range 2 {
				clients.Go(func() {
					for all.pull(n, repo, img) {
					}
				})
			}
		}
		alive := time.Duration(rand.Int64N(int64(400 * time.Millisecond)))
		if round%10 == 9 {
			alive += settled + 2*time.Second // for the deliveries that have to settle
		}
		time.Sleep(alive)
		killed := time.Now()
		if g.active.Load() > 0 {
			killedAtWork++
		}
		n.kill()
		clients.Wait()
		for d, at := range all.received {
			durable[d] = durable[d] || killed.Sub(at) > settled && at.After(began)
		}
		scrub(t, n.dir)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
		if round%10 == 9 {
			survived(t, n, g, durable)
		}
	}
	if killedAtWork < rounds/4 {
		t.Errorf("in only %d of %d rounds was anything on its way: the gate has to be slower", killedAtWork, rounds)
	}
	for _, fault := range all.faults {
		t.Error(fault)
	}
	t.Logf("%d deliveries; in %d of %d rounds something was on its way; at most %v until the first answer", len(all.received), killedAtWork, rounds, slowest)
}

// survived asks a node that cannot reach upstream for all that has to be there.
func survived(t *testing.T, n *node, g *gate, durable map[delivery]bool) {
	t.Helper()
	g.down()
	defer g.up()
	n.start()
	asked := 0
	for d, must := range durable {
		if !must {
			continue
		}
		asked++
		if a := n.ask(http.MethodGet, d.path); !a.whole() || a.digest() != d.digest {
			t.Errorf("delivered %v before the crash, and now %s is %v", settled, d.path, a)
		}
	}
	if asked == 0 {
		t.Error("nothing was delivered long enough before a crash: the test shows nothing")
	}
	n.kill()
}

// SIGTERM lets everything finish that is on its way to a client, and from upstream, and takes no
// new requests (FAULTS P3).
func TestTerminatedWithPullsInFlight(t *testing.T) {
	e2e(t)
	const size = 12 << 20
	n, g, cold, _ := gated(t, size)
	warmImage, warm := blob(t, 72000, size)
	u := &upstream{url: g.url}
	u.push(t, "library/cargo", warmImage)
	if err := n.pullBlob(cargo, warm, size); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	g.set(blobs(shape{at: size / 2, hold: release}))

	var begun, pulls sync.WaitGroup
	for i := range 50 {
		d := warm
		if i%2 == 1 {
			d = cold
		}
		begun.Add(1)
		pulls.Go(func() {
			reader, err := slowly(n, cargo, d)
			begun.Done()
			if err != nil {
				t.Error(err)
				return
			}
			defer reader.Close()
			if got, have, err := readDigest(reader); got != d || err != nil {
				t.Errorf("a pull that was on its way ended after %d of %d bytes: %v", have, size, err)
			}
		})
	}
	begun.Wait()
	n.signal(syscall.SIGTERM)
	eventually(t, 20*time.Second, "no new requests", func() bool {
		a, err := n.tryAsk(http.MethodGet, blobPath(cargo, warm), "Connection: close")
		return err != nil || a.status == http.StatusServiceUnavailable
	})
	close(release)
	pulls.Wait()
	if !n.ended(15 * time.Second) {
		t.Fatal("still there 15 s after the last pull")
	}
	if n.err != nil {
		t.Errorf("ended with %v, want no error", n.err)
	}
	scrub(t, n.dir)

	// What came in while it was stopping is there afterwards.
	g.down()
	n.start()
	if err := n.pullBlob(cargo, cold, size); err != nil {
		t.Error(err)
	}
}

// slowly opens a blob and reads it at about 4 MB/s. The receive buffer is small, so that the rest
// waits at the node; below a few segments of the loopback's 64 KiB nothing would flow at all.
func slowly(n *node, repo string, d digest.Digest) (io.ReadCloser, error) {
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			err = conn.(*net.TCPConn).SetReadBuffer(256 << 10)
		}
		return conn, err
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	res, err := client.Get(n.url + blobPath(repo, d))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		res.Body.Close()
		return nil, fmt.Errorf("GET %s: %s", d, res.Status)
	}
	return slowReader{res.Body}, nil
}

type slowReader struct{ io.ReadCloser }

func (r slowReader) Read(p []byte) (int, error) {
	time.Sleep(8 * time.Millisecond)
	return r.ReadCloser.Read(p[:min(len(p), 32<<10)])
}
