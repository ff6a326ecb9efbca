//go:build linux

package main_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// The slow upstream is a registry across an ocean: 40 MB/s for all and 60 ms to each answer.
const (
	slowDelay = 60 * time.Millisecond
	slowRate  = 40_000_000
)

// No ratio to the fast upstream itself is held to a bound: with clients that cost next to
// nothing it measures sendfile, which has neither to store nor to hash.

func benchMissFast(b *testing.B, o benchOptions) benchTable {
	return benchMiss(b, o.servers, o.rounds, newBenchOrigin(b).listen(b, 0, 0), "miss, fast upstream",
		&benchFigure{title: "200 MB image, ms (ms CPU)", metric: "miss-ms", atMost: 380, others: map[string]float64{nginxCache: 439, stock: 835}},
		&benchFigure{title: "… first layer byte, ms", metric: "miss-first-byte-ms", atMost: 14, places: 1, others: map[string]float64{direct: 11, nginxCache: 14, stock: 43}})
}

func benchMissSlow(b *testing.B, o benchOptions) benchTable {
	return benchMiss(b, o.servers, o.fewer(2), newBenchOrigin(b).listen(b, slowDelay, slowRate), "miss, 40 MB/s and 60 ms",
		&benchFigure{title: "200 MB image, ms (ms CPU)", metric: "slow-miss-ms", atMost: 5140, others: map[string]float64{direct: 5135, nginxCache: 5140, stock: 5428}},
		&benchFigure{title: "… first layer byte, ms", metric: "slow-miss-first-byte-ms", atMost: 145, places: 1, others: map[string]float64{direct: 140, nginxCache: 140, stock: 426}})
}

// benchMiss measures pulls of an image that a server has never seen.
func benchMiss(b *testing.B, servers []string, rounds int, u *benchUpstream, title string, total, first *benchFigure) benchTable {
	all := startAll(b, servers, u, func(c contestant) bool { return !c.static })
	total.beside = "ms CPU"
	for round := range rounds {
		img := u.origin.image(b, fmt.Sprintf("library/miss-%d", round), 100e6, 60e6, 30e6, 10e6)
		for _, r := range all {
			settle()
			before := r.cpu()
			firstByte, took, err := benchPull(r.addr, r.prefix, img)
			if err != nil {
				b.Fatalf("%s: %v", r.name, err)
			}
			total.sample(r.name, benchSample{milliseconds(took), milliseconds(r.cpu() - before)})
			first.sample(r.name, benchSample{value: milliseconds(firstByte)})
			if round == 0 && r.name != direct {
				warm(b, r, u, img)
			}
		}
		u.origin.drop(img)
	}
	return benchTable{title: title, columns: names(all), rows: []*benchFigure{total, first}}
}

func benchHerdFast(b *testing.B, o benchOptions) benchTable {
	return benchHerd(b, o.servers, o.fewer(2), newBenchOrigin(b).listen(b, 0, 0), "herd, fast upstream",
		&benchFigure{title: "50 clients, one cold 185 MB image, s (s CPU)", metric: "herd-s", atMost: 4.0, places: 2, others: map[string]float64{nginxCache: 4.7, stock: 16.8}},
		&benchFigure{title: "… upstream body bytes, × the image", metric: "herd-upstream-×", atMost: 1, places: 2})
}

func benchHerdSlow(b *testing.B, o benchOptions) benchTable {
	servers := []string{}
	for _, name := range o.servers {
		// Fifty downloads of their own take minutes here.
		if name == nginxCache || name == ours || name == stock && o.patient {
			servers = append(servers, name)
		}
	}
	return benchHerd(b, servers, o.fewer(5), newBenchOrigin(b).listen(b, slowDelay, slowRate), "herd, 40 MB/s and 60 ms",
		&benchFigure{title: "50 clients, one cold 185 MB image, s (s CPU)", metric: "slow-herd-s", atMost: 5.2, places: 2, others: map[string]float64{nginxCache: 5.4, stock: 118}},
		&benchFigure{title: "… upstream body bytes, × the image", metric: "slow-herd-upstream-×", atMost: 1, places: 2})
}

// benchHerd measures 50 nodes that pull the same cold image at once.
func benchHerd(b *testing.B, servers []string, rounds int, u *benchUpstream, title string, total, bodies *benchFigure) benchTable {
	all := startAll(b, servers, u, func(c contestant) bool { return !c.static })
	total.beside = "s CPU"
	for round := range rounds {
		img := u.origin.image(b, fmt.Sprintf("library/herd-%d", round), 90e6, 60e6, 30e6, 5e6)
		for _, r := range all {
			if round > 0 && r.name == stock {
				continue // a round of its takes as long as all of the others'
			}
			settle()
			u.reset()
			before, start := r.cpu(), time.Now()
			err := together(50, func(int) error {
				_, _, err := benchPull(r.addr, r.prefix, img)
				return err
			})
			if err != nil {
				b.Fatalf("%s: %v", r.name, err)
			}
			took := time.Since(start)
			total.sample(r.name, benchSample{took.Seconds(), (r.cpu() - before).Seconds()})
			bodies.sample(r.name, benchSample{value: float64(u.body.Load()) / float64(img.size)})
		}
		u.origin.drop(img)
	}
	return benchTable{title: title, columns: names(all), rows: []*benchFigure{total, bodies}}
}

// settle lets what earlier rounds wrote reach the disk, so that nobody's fsync waits for the
// bytes of another.
func settle() { syscall.Sync() }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
