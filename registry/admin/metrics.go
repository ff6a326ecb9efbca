package admin

import (
	"cmp"
	"context"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"roadstead/cache"
	"roadstead/registry/server"
	"roadstead/registry/upstream"
)

// scrapes is how many scrapers are answered at once; more get a 503. Each costs a read of all
// figures, and there are seldom more than two Prometheus servers.
const scrapes = 4

// metrics renders the figures of the rooms as they are at each scrape. The values of all
// labels come from the configuration or from a list in the code, so no client can make a
// series (FAULTS C13).
func metrics(c Config) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		figures{c},
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		// One figure that cannot be rendered takes no other with it, and is counted.
		ErrorHandling:       promhttp.ContinueOnError,
		Registry:            registry,
		MaxRequestsInFlight: scrapes,
	})
}

// figures is a collector over the plain figures of the rooms.
type figures struct{ Config }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("roadstead_"+name, help, labels, nil)
}

var (
	buildInfo = describe("build_info", "1, with the version of the program and of Go in its labels.", "version", "goversion")

	partUp = describe("part_up", "0 while a part of the node is not there for it, else 1: the storage of this machine, the bucket, the catalog, the accounts, the roll of the cluster.", "part")

	cacheAnswers   = describe("cache_answers_total", "Answers by project and outcome: hit from what is here, miss from upstream, join from a download that another request had started, stale from what is here because upstream could not be asked.", "project", "outcome")
	cacheDenied    = describe("cache_denied_total", "Requests refused by the allow and deny lists of a project.", "project")
	cacheUnsigned  = describe("cache_unverified_total", "Requests for what has no good signature: refused or, where a project only warns of it, served.", "project")
	cacheHeld      = describe("cache_held_total", "Answers with what a tag was before, because the project does not follow upstream yet, or not to an image without a good signature.", "project")
	cacheTagsHeld  = describe("cache_tags_held", "Tags that upstream has moved and that stay where they were for the cooldown of their project.", "project")
	cacheCorrupt   = describe("cache_corrupt_total", "Content from upstream that was not what its digest says and was neither served whole nor kept.", "project")
	cacheReceived  = describe("cache_received_bytes_total", "Bytes of manifests and blobs received from upstream.", "project")
	cacheSaved     = describe("cache_saved_bytes", "Bytes sent to clients less bytes of content received from upstream, since the start. Below zero while more came in than went out.")
	cacheFlights   = describe("cache_flights", "Downloads from upstream under way.")
	cacheMemory    = describe("cache_memory_bytes", "Bytes of manifests kept in memory.")
	cacheStored    = describe("cache_stored_bytes", "Bytes of stored content. Like all that the catalog counts, absent while it cannot be asked.")
	cacheDigests   = describe("cache_stored_digests", "Pieces of stored content.")
	cacheProxied   = describe("cache_proxied_bytes", "Bytes of stored content that came from upstreams and no project that people push to has: what the mark bounds.")
	cacheShort     = describe("cache_short_bytes", "Bytes that the last look for room found too many and could not evict: pinned, in use, or younger than keep.")
	cacheMax       = describe("cache_max_bytes", "Bytes of proxied content above which the least recently used is evicted. Absent when there is no such mark.")
	cacheEvicted   = describe("cache_evicted_bytes_total", "Bytes of content evicted.")
	cacheEvictions = describe("cache_evictions_total", "Pieces of content evicted.")
	cachePassed    = describe("cache_pass_through_total", "Pieces of content that were served without being kept, because they could not be stored.")
	cacheDropped   = describe("cache_dropped_writes_total", "Writes to the catalog that were not made.")
	cacheWaiting   = describe("cache_waiting_writes", "Writes that wait for the catalog.")
	cacheLaidOut   = describe("cache_without_catalog_total", "Answers of the stored layout in place of the catalog, which was away.")
	cacheFaults    = describe("cache_faults_total", "Troubles of the cache's own, each of them logged.")

	serverRequests    = describe("server_requests_total", "Requests answered, by kind and class of status; gone when the client left before the end, cut when the rest of a body could not be had.", "kind", "class")
	serverSent        = describe("server_sent_bytes_total", "Bytes of bodies sent to clients.")
	serverInFlight    = describe("server_requests_in_flight", "Requests being answered.")
	serverConnections = describe("server_connections", "Open connections of clients.")
	serverPanics      = describe("server_panics_total", "Requests that ended in a panic.")
	serverFirstByte   = describe("server_first_byte_seconds", "Time from a request for a manifest or blob to the first byte of its answer, by outcome: hit, miss, join and stale as of cache_answers_total, held with what a tag was before it moved upstream, none where nothing was looked for in the cache. Refusals are not among them.", "outcome")
	serverStalled     = describe("server_stalled_total", "Requests broken off because their client took nothing for too long.")

	upstreamRequests  = describe("upstream_requests_total", "Requests sent to an upstream, its token services and redirect targets, by how they were answered; none when there was no answer.", "project", "class")
	upstreamTokens    = describe("upstream_token_requests_total", "Requests for tokens.", "project")
	upstreamRetries   = describe("upstream_retries_total", "Requests that were made again.", "project")
	upstreamResumes   = describe("upstream_resumes_total", "Bodies that were taken up again where they broke.", "project")
	upstreamReceived  = describe("upstream_received_bytes_total", "Bytes of bodies received.", "project")
	upstreamLatency   = describe("upstream_request_duration_seconds", "Time from sending a request to the beginning of its answer, or to its failure.", "project")
	upstreamLimit     = describe("upstream_rate_limit", "Pulls that the upstream allows in its window of time, as it last said.", "project")
	upstreamRemaining = describe("upstream_rate_limit_remaining", "Pulls that remain in the window, as the upstream last said.", "project")
	upstreamSaid      = describe("upstream_rate_limit_timestamp_seconds", "When the upstream last told its rate limit.", "project")
	endpointUp        = describe("upstream_endpoint_up", "0 while an endpoint is only probed after repeated failures, else 1.", "project", "endpoint")
	endpointThrottled = describe("upstream_endpoint_throttled", "1 while an endpoint wants no requests, else 0.", "project", "endpoint")
)

// all is every description of this file, for Describe. A figure that is not described is an error
// of the scrape.
var all = []*prometheus.Desc{
	buildInfo, partUp,
	cacheAnswers, cacheDenied, cacheUnsigned, cacheHeld, cacheTagsHeld, cacheCorrupt, cacheReceived, cacheSaved, cacheFlights, cacheMemory, cacheStored,
	cacheDigests, cacheProxied, cacheShort, cacheMax, cacheEvicted, cacheEvictions, cachePassed, cacheDropped, cacheWaiting, cacheLaidOut, cacheFaults,
	serverRequests, serverSent, serverInFlight, serverConnections, serverPanics, serverStalled, serverFirstByte,
	upstreamRequests, upstreamTokens, upstreamRetries, upstreamResumes, upstreamReceived, upstreamLatency,
	upstreamLimit, upstreamRemaining, upstreamSaid, endpointUp, endpointThrottled,
}

// parts asks for the parts of the node, for no longer than a probe would wait.
func (f figures) parts() []Component {
	if f.Parts == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return f.Parts(ctx)
}

// Describe lists what Collect may send.
func (f figures) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range described() {
		descs <- d
	}
}

// Collect sends the figures as they are now.
func (f figures) Collect(to chan<- prometheus.Metric) {
	out := output(to)
	out.gauge(buildInfo, 1, f.Version, runtime.Version())
	for _, part := range f.parts() {
		out.gauge(partUp, number(part.Status == Healthy), part.Name)
	}
	var received, sent int64
	if f.Cache != nil {
		received = out.cache(f.Cache())
	}
	if f.Server != nil {
		sent = out.server(f.Server())
	}
	if f.Cache != nil && f.Server != nil {
		out.gauge(cacheSaved, float64(sent-received))
	}
	if f.Hosted != nil {
		out.hosted(f.Hosted())
	}
	if f.Cluster != nil {
		out.cluster(f.Cluster())
	}
	if f.Leads != nil {
		out.gauge(clusterLeader, number(f.Leads()))
	}
	if f.Hot != nil {
		if s, ok := f.Hot(); ok {
			out.hot(s)
		}
	}
	out.machine(f.Config)
	if f.Upstreams != nil {
		for project, s := range f.Upstreams() {
			out.upstream(project, s)
		}
	}
}

// output is where metrics go. A figure that cannot be rendered goes there as an error: a panic in
// a collector would end the process.
type output chan<- prometheus.Metric

func (out output) counter(d *prometheus.Desc, n int64, labels ...string) {
	m, err := prometheus.NewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	out.send(d, m, err)
}

func (out output) gauge(d *prometheus.Desc, v float64, labels ...string) {
	m, err := prometheus.NewConstMetric(d, prometheus.GaugeValue, v, labels...)
	out.send(d, m, err)
}

// histogram takes counts of those up to each bound and above the bound before; the last one is of those
// above all bounds.
func (out output) histogram(d *prometheus.Desc, bounds []time.Duration, counts []int64, sum time.Duration, labels ...string) {
	buckets := map[float64]uint64{}
	var count uint64
	for i, n := range counts {
		count += uint64(n)
		if i < len(bounds) {
			buckets[bounds[i].Seconds()] = count
		}
	}
	m, err := prometheus.NewConstHistogram(d, count, sum.Seconds(), buckets, labels...)
	out.send(d, m, err)
}

func (out output) send(d *prometheus.Desc, m prometheus.Metric, err error) {
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	out <- m
}

func (out output) cache(s cache.Stats) (received int64) {
	for project, p := range s.Projects {
		out.counter(cacheAnswers, p.Hits, project, "hit")
		out.counter(cacheAnswers, p.Misses, project, "miss")
		out.counter(cacheAnswers, p.Joins, project, "join")
		out.counter(cacheAnswers, p.Stale, project, "stale")
		out.counter(cacheDenied, p.Denied, project)
		out.counter(cacheUnsigned, p.Unverified, project)
		out.counter(cacheHeld, p.Held, project)
		if p.Cooling {
			out.gauge(cacheTagsHeld, float64(p.TagsHeld), project)
		}
		out.counter(cacheCorrupt, p.Corrupt, project)
		out.counter(cacheReceived, p.BytesUpstream, project)
		received += p.BytesUpstream
	}
	out.gauge(cacheFlights, float64(s.Flights))
	out.gauge(cacheMemory, float64(s.MemoryBytes))
	if s.Counted {
		out.gauge(cacheStored, float64(s.StoredBytes))
		out.gauge(cacheDigests, float64(s.StoredCount))
		out.gauge(cacheProxied, float64(s.ProxiedBytes))
	}
	out.gauge(cacheShort, float64(s.Short))
	if s.MaxSize > 0 {
		// As a 0 it would be a mark that is always exceeded.
		out.gauge(cacheMax, float64(s.MaxSize))
	}
	out.counter(cacheEvicted, s.EvictedBytes)
	out.counter(cacheEvictions, s.EvictedCount)
	out.counter(cachePassed, s.PassThrough)
	out.counter(cacheDropped, s.Dropped)
	out.gauge(cacheWaiting, float64(s.Waiting))
	out.counter(cacheLaidOut, s.LaidOut)
	out.counter(cacheFaults, s.Faults)
	return received
}

func (out output) server(s server.Stats) (sent int64) {
	for series, n := range s.Requests {
		out.counter(serverRequests, n, series.Kind, series.Class)
	}
	out.counter(serverSent, s.Bytes)
	out.received(s)
	out.gauge(serverInFlight, float64(s.InFlight))
	out.gauge(serverConnections, float64(s.Connections))
	out.counter(serverPanics, s.Panics)
	out.counter(serverStalled, s.Stalled)
	for outcome, h := range s.FirstByte {
		out.histogram(serverFirstByte, h.Bounds, h.Counts, h.Sum, cmp.Or(string(outcome), "none"))
	}
	return s.Bytes
}

func (out output) upstream(project string, s upstream.Stats) {
	for class, n := range s.Requests {
		out.counter(upstreamRequests, n, project, class)
	}
	out.counter(upstreamTokens, s.Tokens, project)
	out.counter(upstreamRetries, s.Retries, project)
	out.counter(upstreamResumes, s.Resumes, project)
	out.counter(upstreamReceived, s.Bytes, project)
	out.histogram(upstreamLatency, s.Latency.Bounds, s.Latency.Counts, s.Latency.Sum, project)
	if !s.Limit.At.IsZero() {
		out.gauge(upstreamLimit, float64(s.Limit.Limit), project)
		out.gauge(upstreamRemaining, float64(s.Limit.Remaining), project)
		out.gauge(upstreamSaid, float64(s.Limit.At.UnixMilli())/1000, project)
	}
	// Two endpoints may be paths of one host, which has one circuit.
	seen := map[string]bool{}
	for _, e := range s.Endpoints {
		if seen[e.Host] {
			continue
		}
		seen[e.Host] = true
		out.gauge(endpointUp, number(!e.Down), project, e.Host)
		out.gauge(endpointThrottled, number(time.Now().Before(e.QuietUntil)), project, e.Host)
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
