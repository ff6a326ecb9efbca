//go:build linux

package main_test

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// BenchmarkPeers compares roadstead with what a user could run instead, each as a process of
// its own on loopback, on the same work and in the same run: nginx with proxy_cache, the
// distribution registry as a pull-through cache, and, as a floor, nginx with static files or
// the upstream itself. It prints a table for each of its parts and reports the medians of
// ours and of proxy_cache as metrics for benchstat.
//
//	go test -run '^$' -bench '^BenchmarkPeers' -benchtime 1x ./cmd/roadstead
//	go test -run '^$' -bench '^BenchmarkPeers/cached' -benchtime 1x ./cmd/roadstead
//
// The contestants take turns, round by round, so that a noisy minute hits all of them alike;
// the median of the rounds is quoted. Time and throughput move with the machine, which the
// load generator and the upstream share with the servers. The processor time of the server
// per request, or per GB, is the steady figure.
//
// The environment can change what is done:
//
//	ROADSTEAD_BENCH_SERVERS  names of contestants with commas between: direct, nginx static,
//	                         nginx proxy_cache, distribution, roadstead. Default: all.
//	ROADSTEAD_BENCH_ROUNDS   rounds of what takes less than a second. Default: 5. What takes
//	                         longer has fewer, in proportion.
//	ROADSTEAD_BENCH_MILLION  "rows": also start with a million blobs in the catalog;
//	                         "files": and in the directory (5 GB of disk, ten minutes).
//	ROADSTEAD_BENCH_PATIENT  "1": also distribution's herd at the slow upstream (2 minutes).
//	ROADSTEAD_BINARY         a built roadstead to measure instead of this checkout's.
func BenchmarkPeers(b *testing.B) {
	o := benchOptions{
		servers: []string{direct, nginxStatic, nginxCache, stock, ours},
		rounds:  5,
		million: os.Getenv("ROADSTEAD_BENCH_MILLION"),
		patient: os.Getenv("ROADSTEAD_BENCH_PATIENT") == "1",
	}
	if names := os.Getenv("ROADSTEAD_BENCH_SERVERS"); names != "" {
		o.servers = strings.Split(names, ",")
	}
	if n, err := strconv.Atoi(os.Getenv("ROADSTEAD_BENCH_ROUNDS")); err == nil && n > 0 {
		o.rounds = n
	}
	// The upstream's goroutines spend their time in sendfile, and the clients' wait for a turn:
	// with so many turns the kernel deals out the cores, as among processes.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(16))
	for _, part := range []struct {
		name    string
		measure func(*testing.B, benchOptions) benchTable
	}{
		{"cached", benchCached},
		{"miss", benchMissFast},
		{"slow", benchMissSlow},
		{"herd", benchHerdFast},
		{"slowherd", benchHerdSlow},
		{"process", benchStanding},
		{"push", benchPush},
		{"bucket", benchBucket},
		{"million", benchMillion},
	} {
		if part.name == "million" && o.million == "" {
			continue
		}
		b.Run(part.name, func(b *testing.B) {
			t := part.measure(b, o)
			t.metrics(b)
			t.print(os.Stdout)
		})
	}
}

type benchOptions struct {
	servers []string
	rounds  int
	million string
	patient bool
}

func (o benchOptions) has(contestant string) bool { return slices.Contains(o.servers, contestant) }

// fewer scales the number of rounds: one for every so many of the default.
func (o benchOptions) fewer(by int) int { return max(1, o.rounds/by) }

// running is a contestant and its server.
type running struct {
	contestant
	*benchProcess
	dir string
}

// startAll starts the contestants that can do the work in front of an upstream. images are
// what a server of static files has.
func startAll(b *testing.B, names []string, u *benchUpstream, suitable func(contestant) bool, images ...*benchImage) []running {
	b.Helper()
	var all []running
	for _, c := range contestants(b, names) {
		if !suitable(c) {
			continue
		}
		dir := b.TempDir()
		if c.static {
			for _, img := range images {
				u.origin.writeTo(b, dir+"/root", c.prefix, img)
			}
		}
		all = append(all, running{c, c.start(b, dir, u), dir})
	}
	return all
}

func names(all []running) []string {
	var names []string
	for _, r := range all {
		names = append(names, r.name)
	}
	return names
}
