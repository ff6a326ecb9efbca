package main_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// roll restarts two nodes in turn, twenty times, while clients pull what is cached and what is not
// (FAULTS P3). None of them may see it.
func (c *nodesOf) roll(t *testing.T, b *balancer) {
	const restarts, readers, images = 20, 2, 60
	cached := recipe{seed: 1_000_000, layers: 2, layerSize: 1 << 20}.make(t, "1.0")
	c.upstream.push(t, "team/rolling", cached)
	cold := make([]*image, images)
	for i := range cold {
		cold[i] = c.cold(t, fmt.Sprintf("team/rolling-%d", i), 1_001_000+uint64(i)*1000, 512<<10)
	}
	c.gate.set(blobs(shape{rate: 1 << 20})) // so that restarts meet downloads under way
	defer c.gate.set(nil)
	if err := b.node().pull("mirror/team/rolling", "1.0", cached); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var pulls, next atomic.Int64
	pull := func(n *node, repo string, img *image) {
		if err := n.pull("mirror/"+repo, "1.0", img); err != nil {
			t.Error(err)
		}
		pulls.Add(1)
	}
	over := func() bool {
		select {
		case <-stop:
			return true
		default:
			return false
		}
	}
	for range readers {
		clients.Go(func() {
			for n := b.node(); !over(); time.Sleep(50 * time.Millisecond) {
				pull(n, "team/rolling", cached)
			}
		})
		clients.Go(func() {
			for n := b.node(); !over(); {
				// The last ones are asked for again and again: what was cold is then cached by halves.
				i := min(next.Add(1)-1, images-1)
				pull(n, fmt.Sprintf("team/rolling-%d", i), cold[i])
				time.Sleep(200 * time.Millisecond)
			}
		})
	}
	start := time.Now()
	var ending, starting time.Duration
	for i := range restarts {
		at, began := i%2, time.Now()
		c.nodes[at].terminate(20 * time.Second)
		ended := time.Now()
		ending += ended.Sub(began)
		c.nodes[at].start()
		starting += time.Since(ended)
		eventually(t, 10*time.Second, "a node that is back at the balancer", func() bool { return !b.out[at].Load() })
	}
	took := time.Since(start)
	close(stop)
	clients.Wait()
	t.Logf("%d restarts in %v (to end took %v, to start %v) under %d pulls, %d of them cold", restarts, took, ending, starting, pulls.Load(), min(next.Load(), images))
}
