//go:build linux

package main_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"roadstead/storage/s3test"
)

const (
	bucketLayer  = 256 << 20
	bucketImages = 20
)

// benchBucket measures pushes to a registry whose content is in a bucket: ours, and distribution's
// with its own driver, on the same server. What a push asks of the server is counted by a proxy that
// is not there when time is taken.
func benchBucket(b *testing.B, o benchOptions) benchTable {
	half, third, level := map[string]float64{stock: 0.5}, map[string]float64{stock: 1.0 / 3}, map[string]float64{stock: 1}
	large := &benchFigure{title: "256 MiB layer, 1 client, s (MB/s)", metric: "bucket-push-256m-s", places: 2, beside: "MB/s", share: half}
	largeCPU := &benchFigure{title: "… s CPU", metric: "bucket-push-256m-cpu-s", places: 2, share: half}
	largeAsks := &benchFigure{title: "… requests to the bucket", metric: "bucket-push-256m-requests", share: level}
	small := &benchFigure{title: "small image, 1 client, ms (images/s)", metric: "bucket-push-ms", places: 2, beside: "images/s", share: level}
	smallAsks := &benchFigure{title: "… requests to the bucket for a layer", metric: "bucket-push-requests", places: 1, share: third}
	server, noise := s3test.Versitygw(b), newPushNoise(b, smallLayer, bucketLayer)
	var columns []string
	for _, c := range []struct {
		name  string
		start func(b *testing.B, dir string, s *s3test.Server, endpoint string) pushContestant
	}{{stock, startBucketDistribution}, {ours, startBucketOurs}} {
		if !o.has(c.name) {
			continue
		}
		columns = append(columns, c.name)
		timed := c.start(b, b.TempDir(), server, server.Endpoint)
		for round := range o.rounds {
			seed := fmt.Sprintf("%s %d", c.name, round)
			settle()
			took := timed.time(b, func() error { return timed.client.images(noise, seed, bucketImages) })
			small.sample(c.name, perImage(took, bucketImages))
			settle()
			before := timed.cpu()
			took = timed.time(b, func() error {
				_, err := timed.client.blob(pushRepository+"/large", noise.layer(bucketLayer, seed))
				return err
			})
			large.sample(c.name, perByte(took, bucketLayer))
			largeCPU.sample(c.name, benchSample{value: (timed.cpu() - before).Seconds()})
		}
		timed.stop(b)
		proxy := server.Proxy(b)
		counted := c.start(b, b.TempDir(), server, proxy.Endpoint)
		count := func(size int64, seed string) float64 {
			proxy.Requests()
			counted.time(b, func() error {
				_, err := counted.client.blob(pushRepository+"/counted", noise.layer(size, c.name+seed))
				return err
			})
			return float64(len(proxy.Requests()))
		}
		count(smallLayer, "the first, which opens connections")
		smallAsks.sample(c.name, benchSample{value: count(smallLayer, "counted")})
		largeAsks.sample(c.name, benchSample{value: count(bucketLayer, "counted")})
		counted.stop(b)
	}
	return benchTable{title: "bucket", columns: slices.Clone(columns), rows: []*benchFigure{large, largeCPU, largeAsks, small, smallAsks}}
}

func startBucketDistribution(b *testing.B, dir string, s *s3test.Server, endpoint string) pushContestant {
	b.Helper()
	addr, path := freeAddress(b), filepath.Join(dir, "config.yml")
	bucket := stockBucket(s, s.Bucket(b))
	bucket["regionendpoint"] = endpoint
	config, err := json.Marshal(map[string]any{
		"version": "0.1", "log": map[string]any{"level": "error", "accesslog": map[string]any{"disabled": true}},
		"storage": map[string]any{"s3": bucket, "cache": map[string]any{"blobdescriptor": "inmemory"}, "redirect": map[string]any{"disable": true}},
		"http":    map[string]any{"addr": addr, "secret": "benchmark"},
	})
	if err != nil {
		b.Fatal(err)
	}
	writeFile(b, path, string(config))
	return pushContestant{name: stock, benchProcess: startServer(b, dir, addr, need(b, "registry"), "serve", path), client: newPushClient(addr, "", nil)}
}

func startBucketOurs(b *testing.B, dir string, s *s3test.Server, endpoint string) pushContestant {
	b.Helper()
	storage := bucketStorage(b, s, endpoint, s.Bucket(b))
	storage["directory"] = filepath.Join(dir, "data")
	text, err := json.Marshal(storage)
	if err != nil {
		b.Fatal(err)
	}
	process, client := startHostedOn(b, dir, string(text))
	return pushContestant{name: ours, benchProcess: process, client: client}
}
