//go:build linux

package main_test

import (
	"testing"
	"time"
)

// benchCached measures answers from what a server has already.
func benchCached(b *testing.B, o benchOptions) benchTable {
	origin := newBenchOrigin(b)
	u := origin.listen(b, 0, 0)
	// A manifest of ten layers is what real images have, and its length is part of its cost.
	const big = 200_000_000
	img := origin.image(b, "library/cached", big, 4096, 50_000, 50_000, 50_000, 50_000, 50_000, 50_000, 50_000, 50_000)
	all := startAll(b, o.servers, u, func(c contestant) bool { return c.name != direct }, img)
	for _, r := range all {
		warm(b, r, u, img)
	}

	tag, byDigest, small := img.tag, img.manifest.digest.String(), img.layers[1].Digest.String()
	figures := []*benchFigure{
		{title: "manifest HEAD by tag, µs CPU (req/s)", metric: "manifest-head-by-tag-cpu-µs", atMost: 35, others: map[string]float64{nginxStatic: 19, nginxCache: 35, stock: 3046}},
		{title: "manifest GET by tag, µs CPU (req/s)", metric: "manifest-get-by-tag-cpu-µs", atMost: 45, others: map[string]float64{nginxStatic: 31, nginxCache: 47, stock: 3350}},
		{title: "manifest GET by digest, µs CPU (req/s)", metric: "manifest-get-by-digest-cpu-µs", atMost: 45, others: map[string]float64{nginxStatic: 28, nginxCache: 53, stock: 468}},
		{title: "blob 4 KiB GET, µs CPU (req/s)", metric: "small-blob-cpu-µs", atMost: 60, others: map[string]float64{nginxStatic: 32, nginxCache: 44, stock: 1941}},
		{title: "blob 200 MB ×8, s CPU per GB (MB/s)", metric: "large-blob-cpu-s/GB", atMost: 0.37, places: 2, others: map[string]float64{nginxStatic: 0.43, nginxCache: 0.44, stock: 0.83}},
	}
	asks := []struct{ method, kind, reference string }{
		{"HEAD", "manifests", tag}, {"GET", "manifests", tag}, {"GET", "manifests", byDigest}, {"GET", "blobs", small},
	}
	for range o.rounds {
		for i, f := range figures {
			f.beside = "per second"
			for _, r := range all {
				if i < len(asks) {
					ask := asks[i]
					f.sample(r.name, smallRequests(b, r, img.request(ask.method, r.addr, r.prefix, ask.kind, ask.reference)))
					continue
				}
				f.sample(r.name, largeBlobs(b, r, img.request("GET", r.addr, r.prefix, "blobs", img.layers[0].Digest.String()), big))
			}
		}
	}
	return benchTable{title: "cached", columns: names(all), rows: figures}
}

// warm pulls an image through a server until nothing more comes from upstream, and checks it.
func warm(b *testing.B, r running, u *benchUpstream, img *benchImage) {
	b.Helper()
	for range 20 {
		before := u.body.Load()
		if err := benchVerify(r.addr, r.prefix, img); err != nil {
			b.Fatalf("%s: %v", r.name, err)
		}
		if u.body.Load() == before {
			return
		}
		// What came last may still be on its way to the disk.
		time.Sleep(200 * time.Millisecond)
	}
	b.Fatalf("%s keeps nothing: the same image comes from upstream again and again", r.name)
}

// smallRequests returns the processor time per request in µs, and requests per second.
func smallRequests(b *testing.B, r running, request []byte) benchSample {
	b.Helper()
	const conns = 64
	load, err := newBenchLoad(r.addr, request, conns)
	if err != nil {
		b.Fatalf("%s: %v", r.name, err)
	}
	defer load.Close()
	// The first answers pay for the connections.
	if _, _, err := load.run(100 * time.Millisecond); err != nil {
		b.Fatalf("%s: %v", r.name, err)
	}
	before := r.cpu()
	n, took, err := load.run(500 * time.Millisecond)
	if err != nil {
		b.Fatalf("%s: %v", r.name, err)
	}
	return benchSample{float64((r.cpu() - before).Microseconds()) / float64(n), float64(n) / took.Seconds()}
}

// largeBlobs returns the processor time per GB in seconds, and MB per second, of eight
// clients that read the same blob at once.
func largeBlobs(b *testing.B, r running, request []byte, size int64) benchSample {
	b.Helper()
	const clients = 8
	before, start := r.cpu(), time.Now()
	if err := together(clients, func(int) error { return readOnce(r.addr, request) }); err != nil {
		b.Fatalf("%s: %v", r.name, err)
	}
	took, bytes := time.Since(start), clients*float64(size)
	return benchSample{(r.cpu() - before).Seconds() / (bytes / 1e9), bytes / 1e6 / took.Seconds()}
}

// readOnce transfers one body on a connection of its own.
func readOnce(addr string, request []byte) error {
	s, err := dialBenchStream(addr)
	if err != nil {
		return err
	}
	defer s.conn.Close()
	return s.get(request, func() {})
}
