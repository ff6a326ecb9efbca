//go:build linux

package main_test

import (
	"testing"
	"time"
)

// benchStanding measures what a server costs by being there.
func benchStanding(b *testing.B, o benchOptions) benchTable {
	origin := newBenchOrigin(b)
	u := origin.listen(b, 0, 0)
	img := origin.image(b, "library/standing", 200e6)
	idle := &benchFigure{title: "idle RSS, MB", metric: "idle-MB", atMost: 40, others: map[string]float64{nginxCache: 27, stock: 45}}
	busy := &benchFigure{title: "RSS with 50 streams, MB", metric: "busy-MB", atMost: 60, others: map[string]float64{nginxCache: 31, stock: 126}}
	stalled := &benchFigure{title: "memory per stalled stream, KiB", metric: "stalled-stream-KiB", atMost: 40, others: map[string]float64{nginxCache: 13, stock: 4132}}
	answer := &benchFigure{title: "start to first answer, ms", metric: "start-ms", atMost: 100, others: map[string]float64{nginxCache: 25, stock: 120}}
	all := startAll(b, o.servers, u, func(c contestant) bool { return c.name != direct }, img)
	for i, r := range all {
		warm(b, r, u, img)
		for range o.rounds {
			answer.sample(r.name, benchSample{value: milliseconds(restart(b, &all[i], u, img))})
		}
		for range o.fewer(2) {
			restart(b, &all[i], u, img)
			r := all[i]
			time.Sleep(time.Second)
			idle.sample(r.name, benchSample{value: megabytes(b, r)})
			stalled.sample(r.name, benchSample{value: stalledStream(b, r, img)})
			restart(b, &all[i], u, img)
			busy.sample(r.name, benchSample{value: busyStreams(b, all[i], img)})
		}
	}
	return benchTable{title: "process", columns: names(all), rows: []*benchFigure{idle, busy, stalled, answer}}
}

// restart starts a server again on what it has and returns how long it took to the answer to
// a question about that.
func restart(b *testing.B, r *running, u *benchUpstream, img *benchImage) time.Duration {
	b.Helper()
	r.stop(b)
	start := time.Now()
	r.benchProcess = r.start(b, r.dir, u)
	s, err := dialBenchStream(r.addr)
	if err != nil {
		b.Fatal(err)
	}
	defer s.conn.Close()
	if err := s.get(img.request("GET", r.addr, r.prefix, "manifests", img.tag), func() {}); err != nil {
		b.Fatalf("%s after a restart: %v", r.name, err)
	}
	return time.Since(start)
}

func megabytes(b *testing.B, r running) float64 {
	b.Helper()
	n, err := r.rss()
	if err != nil {
		b.Fatalf("%s: %v", r.name, err)
	}
	return float64(n) / 1e6
}

// stalledStream returns what a client costs in KiB that has asked for a large blob and reads
// nothing of it.
func stalledStream(b *testing.B, r running, img *benchImage) float64 {
	b.Helper()
	const streams = 200
	before := megabytes(b, r)
	for range streams {
		s, err := dialBenchStream(r.addr)
		if err != nil {
			b.Fatal(err)
		}
		defer s.conn.Close()
		if _, _, err := s.open(img.request("GET", r.addr, r.prefix, "blobs", img.layers[0].Digest.String())); err != nil {
			b.Fatalf("%s: %v", r.name, err)
		}
	}
	time.Sleep(time.Second)
	return (megabytes(b, r) - before) * 1e6 / 1024 / streams
}

// busyStreams returns the largest resident memory in MB while 50 clients read a large blob.
func busyStreams(b *testing.B, r running, img *benchImage) float64 {
	b.Helper()
	request := img.request("GET", r.addr, r.prefix, "blobs", img.layers[0].Digest.String())
	done := make(chan error)
	go func() { done <- together(50, func(int) error { return readOnce(r.addr, request) }) }()
	most := 0.0
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case err := <-done:
			tick.Stop()
			if err != nil {
				b.Fatalf("%s: %v", r.name, err)
			}
			return most
		case <-tick.C:
			most = max(most, megabytes(b, r))
		}
	}
}
