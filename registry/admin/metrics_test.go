package admin

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"roadstead/cache"
	"roadstead/registry"
	"roadstead/registry/hosted"
	"roadstead/registry/peer"
	"roadstead/registry/server"
	"roadstead/registry/upstream"
	"roadstead/storage"
)

var lastLimit = time.UnixMilli(1_777_636_800_500)

// busy are figures in which no two are equal, so that none can stand for another.
func busy() Config {
	return Config{
		Cache: func() cache.Stats {
			return cache.Stats{
				Projects: map[string]cache.ProjectStats{
					"docker.io": {Hits: 11, Misses: 12, Joins: 13, Stale: 14, Denied: 15, Corrupt: 16, BytesUpstream: 1700, Unverified: 18, Held: 19, TagsHeld: 20, Cooling: true},
					"quay.io":   {Hits: 21, BytesUpstream: 300},
				},
				Flights: 31, MemoryBytes: 32, Counted: true, StoredBytes: 33, ProxiedBytes: 30, StoredCount: 34, MaxSize: 35, Short: 29,
				EvictedBytes: 36, EvictedCount: 37, PassThrough: 38, Dropped: 39, Faults: 40,
			}
		},
		Server: func() server.Stats {
			return server.Stats{
				Requests: map[server.Series]int64{{Kind: "blob", Class: "2xx"}: 51, {Kind: "manifest", Class: "4xx"}: 52},
				FirstByte: map[registry.Outcome]server.Histogram{
					registry.Hit: {Bounds: []time.Duration{time.Millisecond}, Counts: []int64{4, 2}, Sum: 3 * time.Second},
					"":           {Bounds: []time.Duration{time.Millisecond}, Counts: []int64{1, 0}, Sum: time.Second},
				},
				Bytes: 5300, Received: 58, InFlight: 54, Connections: 55, Panics: 56, Stalled: 57,
			}
		},
		Hosted: func() hosted.Stats {
			return hosted.Stats{
				PushedManifests: 81, PushedBlobs: 82, PushedBytes: 83, Mounted: 84, Deleted: 85, Refused: 86,
				Uploads: 87, UploadBytes: 88, Expired: 89, Collections: 90, CollectedBlobs: 91, CollectedBytes: 92,
				Retired: 93, Damaged: 94, Faults: 95, Uncollected: 96,
			}
		},
		Parts: func(context.Context) []Component {
			return []Component{{Name: "storage", Status: Healthy}, {Name: "catalog", Status: Unhealthy, Error: "away"}}
		},
		Cluster: func() peer.Stats {
			return peer.Stats{Nodes: 71, RollDown: true, Asked: 72, Fallback: 73, Bytes: 74, Served: 75, Refused: 76, Forwarded: 77, Unreachable: 78, Uploading: 79}
		},
		Leads: func() bool { return true },
		Hot: func() (storage.HotStats, bool) {
			return storage.HotStats{
				MaxBytes: 101, Bytes: 102, Count: 103, Fills: 104, Hits: 105, Misses: 106, Filled: 107, FilledBytes: 108,
				Evicted: 109, EvictedBytes: 110, Passed: 111, Damaged: 112, Rotten: 113, Faults: 114,
			}, true
		},
		Disk: func() (Disk, error) { return Disk{Free: 121, Size: 122, Floor: 123}, nil },
		Bucket: func() []BucketRequests {
			return []BucketRequests{{Method: "GET", Classes: map[string]int64{"2xx": 131, "none": 132}, Bounds: []time.Duration{time.Second}, Counts: []int64{5, 1}, Sum: 7 * time.Second}}
		},
		Jobs: func() []Jobs {
			return []Jobs{{Kind: "scrub", Waiting: 141, Running: 142, Success: 143, Failed: 144, Stopped: 145}}
		},
		Settings: func() Settings {
			return Settings{Reloaded: 151, Refused: 152, Faulty: true, Certificate: true, Expires: time.Unix(1_800_000_000, 0), CertificateFaults: 153}
		},
		Upstreams: func() map[string]upstream.Stats {
			return map[string]upstream.Stats{
				"docker.io": {
					Requests: map[string]int64{"2xx": 61, "429": 62, "none": 63},
					Tokens:   64, Retries: 65, Resumes: 66, Bytes: 67,
					Latency: upstream.Histogram{
						Bounds: []time.Duration{10 * time.Millisecond, time.Second},
						Counts: []int64{3, 2, 1},
						Sum:    2500 * time.Millisecond,
					},
					Limit: upstream.RateLimit{Limit: 100, Remaining: 70, At: lastLimit},
					Endpoints: []upstream.EndpointStats{
						{Host: "registry-1.docker.io"},
						{Host: "mirror.example:5000", Down: true, QuietUntil: time.Now().Add(time.Hour)},
						{Host: "mirror.example:5000"}, // another path of it
						{Host: "quiet.example", QuietUntil: time.Now().Add(-time.Hour)},
					},
				},
				"quay.io": {},
			}
		},
		Version: "1.2.3",
	}
}

func scrape(t testing.TB, handler http.Handler) string {
	t.Helper()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("GET /metrics = %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// What a label of a request may be its help says, too.
func TestHelpNamesTheValues(t *testing.T) {
	s := server.New(server.Config{})
	c := busy()
	c.Server = s.Stats
	text := scrape(t, New(c))
	help := func(name string) string {
		_, rest, _ := strings.Cut(text, "# HELP "+name+" ")
		line, _, _ := strings.Cut(rest, "\n")
		return line
	}
	for outcome := range s.Stats().FirstByte {
		if word := cmp.Or(string(outcome), "none"); !strings.Contains(help("roadstead_server_first_byte_seconds"), word) {
			t.Errorf("the help of the first byte does not say what %q is", word)
		}
	}
	for series := range s.Stats().Requests {
		if !strings.HasSuffix(series.Class, "xx") && !strings.Contains(help("roadstead_server_requests_total"), series.Class+" when") {
			t.Errorf("the help of requests does not say what %q is", series.Class)
		}
	}
}

func TestMetrics(t *testing.T) {
	text := scrape(t, New(busy()))
	lines := strings.Split(text, "\n")
	for _, want := range strings.Split(strings.TrimSpace(`
roadstead_cluster_nodes 71
roadstead_cluster_roll_up 0
roadstead_cluster_asked_total 72
roadstead_cluster_fallback_total 73
roadstead_cluster_received_bytes_total 74
roadstead_cluster_served_total 75
roadstead_cluster_refused_total 76
roadstead_cluster_forwarded_total 77
roadstead_cluster_unreachable_total 78
roadstead_cluster_uploading 79
roadstead_cluster_leader 1
roadstead_hot_max_bytes 101
roadstead_hot_bytes 102
roadstead_hot_copies 103
roadstead_hot_fills 104
roadstead_hot_hits_total 105
roadstead_hot_misses_total 106
roadstead_hot_filled_total 107
roadstead_hot_filled_bytes_total 108
roadstead_hot_evictions_total 109
roadstead_hot_evicted_bytes_total 110
roadstead_hot_passed_total 111
roadstead_hot_damaged_total 112
roadstead_hot_rotten_total 113
roadstead_hot_faults_total 114
roadstead_cache_answers_total{outcome="hit",project="docker.io"} 11
roadstead_cache_answers_total{outcome="miss",project="docker.io"} 12
roadstead_cache_answers_total{outcome="join",project="docker.io"} 13
roadstead_cache_answers_total{outcome="stale",project="docker.io"} 14
roadstead_cache_answers_total{outcome="hit",project="quay.io"} 21
roadstead_cache_denied_total{project="docker.io"} 15
roadstead_cache_corrupt_total{project="docker.io"} 16
roadstead_cache_received_bytes_total{project="docker.io"} 1700
roadstead_cache_received_bytes_total{project="quay.io"} 300
roadstead_cache_saved_bytes 3300
roadstead_cache_flights 31
roadstead_cache_memory_bytes 32
roadstead_cache_stored_bytes 33
roadstead_cache_stored_digests 34
roadstead_cache_max_bytes 35
roadstead_cache_proxied_bytes 30
roadstead_cache_short_bytes 29
roadstead_server_first_byte_seconds_bucket{outcome="hit",le="0.001"} 4
roadstead_server_first_byte_seconds_count{outcome="hit"} 6
roadstead_server_first_byte_seconds_sum{outcome="hit"} 3
roadstead_server_first_byte_seconds_count{outcome="none"} 1
roadstead_hosted_collections_failed_total 96
roadstead_storage_free_bytes 121
roadstead_storage_size_bytes 122
roadstead_storage_floor_bytes 123
roadstead_bucket_requests_total{class="2xx",method="GET"} 131
roadstead_bucket_requests_total{class="none",method="GET"} 132
roadstead_bucket_request_duration_seconds_bucket{method="GET",le="1"} 5
roadstead_bucket_request_duration_seconds_count{method="GET"} 6
roadstead_bucket_request_duration_seconds_sum{method="GET"} 7
roadstead_jobs{kind="scrub",state="waiting"} 141
roadstead_jobs{kind="scrub",state="running"} 142
roadstead_jobs_ended_total{kind="scrub",result="success"} 143
roadstead_jobs_ended_total{kind="scrub",result="failed"} 144
roadstead_jobs_ended_total{kind="scrub",result="stopped"} 145
roadstead_config_reloads_total{result="success"} 151
roadstead_config_reloads_total{result="refused"} 152
roadstead_config_last_reload_successful 0
roadstead_tls_certificate_expiry_timestamp_seconds 1.8e+09
roadstead_tls_certificate_faults_total 153
roadstead_cache_evicted_bytes_total 36
roadstead_cache_evictions_total 37
roadstead_cache_pass_through_total 38
roadstead_cache_dropped_writes_total 39
roadstead_cache_faults_total 40
roadstead_server_requests_total{class="2xx",kind="blob"} 51
roadstead_server_requests_total{class="4xx",kind="manifest"} 52
roadstead_server_sent_bytes_total 5300
roadstead_server_requests_in_flight 54
roadstead_server_connections 55
roadstead_server_panics_total 56
roadstead_server_stalled_total 57
roadstead_server_received_bytes_total 58
roadstead_hosted_pushed_manifests_total 81
roadstead_hosted_pushed_blobs_total 82
roadstead_hosted_pushed_bytes_total 83
roadstead_hosted_mounted_total 84
roadstead_hosted_deleted_total 85
roadstead_hosted_refused_total 86
roadstead_hosted_uploads 87
roadstead_hosted_upload_bytes 88
roadstead_hosted_expired_uploads_total 89
roadstead_hosted_collections_total 90
roadstead_hosted_collected_total 91
roadstead_hosted_collected_bytes_total 92
roadstead_hosted_retired_total 93
roadstead_hosted_damaged_total 94
roadstead_hosted_faults_total 95
roadstead_upstream_requests_total{class="2xx",project="docker.io"} 61
roadstead_upstream_requests_total{class="429",project="docker.io"} 62
roadstead_upstream_requests_total{class="none",project="docker.io"} 63
roadstead_upstream_token_requests_total{project="docker.io"} 64
roadstead_upstream_retries_total{project="docker.io"} 65
roadstead_upstream_resumes_total{project="docker.io"} 66
roadstead_upstream_received_bytes_total{project="docker.io"} 67
roadstead_upstream_request_duration_seconds_bucket{project="docker.io",le="0.01"} 3
roadstead_upstream_request_duration_seconds_bucket{project="docker.io",le="1"} 5
roadstead_upstream_request_duration_seconds_bucket{project="docker.io",le="+Inf"} 6
roadstead_upstream_request_duration_seconds_sum{project="docker.io"} 2.5
roadstead_upstream_request_duration_seconds_count{project="docker.io"} 6
roadstead_upstream_rate_limit{project="docker.io"} 100
roadstead_upstream_rate_limit_remaining{project="docker.io"} 70
roadstead_upstream_rate_limit_timestamp_seconds{project="docker.io"} 1.7776368005e+09
roadstead_upstream_endpoint_up{endpoint="registry-1.docker.io",project="docker.io"} 1
roadstead_upstream_endpoint_up{endpoint="mirror.example:5000",project="docker.io"} 0
roadstead_upstream_endpoint_throttled{endpoint="mirror.example:5000",project="docker.io"} 1
roadstead_upstream_endpoint_throttled{endpoint="quiet.example",project="docker.io"} 0
`), "\n") {
		if !slices.Contains(lines, want) {
			t.Errorf("not in /metrics: %s", want)
		}
	}
	for _, absent := range []string{
		`roadstead_upstream_rate_limit{project="quay.io"}`, // it never told one
		`promhttp_metric_handler_errors_total{cause="gathering"} 1`,
	} {
		if strings.Contains(text, absent) {
			t.Errorf("in /metrics: %s", absent)
		}
	}
	for _, prefix := range []string{`roadstead_build_info{goversion="go`, "go_goroutines ", "process_resident_memory_bytes "} {
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, prefix) }) {
			t.Errorf("no line of /metrics begins with %s", prefix)
		}
	}
}

func TestMetricsWithoutFigures(t *testing.T) {
	text := scrape(t, New(Config{}))
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "roadstead_") && !strings.HasPrefix(line, "roadstead_build_info") {
			t.Errorf("a figure out of nothing: %s", line)
		}
	}
	uncounted := New(Config{Cache: func() cache.Stats { return cache.Stats{} }})
	text = scrape(t, uncounted)
	for _, name := range []string{"cache_max_bytes", "cache_stored_bytes", "cache_stored_digests", "cache_proxied_bytes"} {
		if strings.Contains(text, "roadstead_"+name) {
			t.Errorf("roadstead_%s of a cache without a mark, and with a catalog that does not answer, is in /metrics", name)
		}
	}
}

// TestMetricsLint has Prometheus' own parser and linter read the text, and its pedantic registry
// compare what is collected with what is described.
func TestMetricsLint(t *testing.T) {
	problems, err := promlint.New(strings.NewReader(scrape(t, New(busy())))).Lint()
	if err != nil {
		t.Errorf("the text cannot be parsed: %v", err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	pedantic := prometheus.NewPedanticRegistry()
	pedantic.MustRegister(figures{busy()})
	families, err := pedantic.Gather()
	if err != nil {
		t.Errorf("Gather: %v", err)
	}
	if len(families) != len(described()) {
		t.Errorf("%d families are collected and %d described", len(families), len(described()))
	}
}

func TestMetricsOddLabel(t *testing.T) {
	c := busy()
	c.Version = "\xff"
	text := scrape(t, New(c))
	if !strings.Contains(text, "roadstead_cache_flights 31") {
		t.Error("a label that cannot be rendered took the other figures with it")
	}
	if again := scrape(t, New(c)); strings.Contains(again, "roadstead_build_info{") {
		t.Error("a label that is not UTF-8 was rendered")
	}
}

// nothing is a registry that has nothing.
type nothing struct{}

func (nothing) Resolve(context.Context, registry.Repo, string) (registry.Descriptor, error) {
	return registry.Descriptor{}, registry.ManifestUnknown
}
func (nothing) Manifest(context.Context, registry.Repo, registry.Digest) (registry.Manifest, error) {
	return registry.Manifest{}, registry.ManifestUnknown
}
func (nothing) Blob(context.Context, registry.Repo, registry.Digest) (registry.Blob, error) {
	return registry.Blob{}, registry.BlobUnknown
}
func (nothing) Tags(context.Context, registry.Repo, string, int) ([]string, error) {
	return nil, registry.NameUnknown
}
func (nothing) Referrers(context.Context, registry.Repo, registry.Digest, string) ([]registry.Descriptor, error) {
	return nil, nil
}

// TestNoClientMakesASeries sends a real server 10^5 requests of random method, path and user agent
// (FAULTS C13).
func TestNoClientMakesASeries(t *testing.T) {
	s := server.New(server.Config{
		Registry: nothing{},
		Route: func(_, _, name string) (registry.Repo, error) {
			return registry.SplitRepo("docker.io/" + name), registry.CheckName(name)
		},
		Known: func(project string) bool { return project == "docker.io" },
		Log:   slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	c := busy()
	c.Server = s.Stats
	handler := New(c)
	before := series(scrape(t, handler))

	random := rand.New(rand.NewPCG(3, 5))
	word := func() string {
		return []string{"v2", "manifests", "blobs", "tags", "list", "referrers", "uploads", "_catalog", "..", "%00", "library",
			fmt.Sprint("name", random.IntN(1e6)), "sha256:" + strings.Repeat(fmt.Sprintf("%x", random.IntN(16)), 64)}[random.IntN(13)]
	}
	const requests = 100_000
	for range requests {
		method := []string{"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", fmt.Sprint("M", random.IntN(1000))}[random.IntN(8)]
		path := "/v2"
		for range random.IntN(7) {
			path += "/" + word()
		}
		r := httptest.NewRequest(method, path, nil)
		r.Header.Set("User-Agent", fmt.Sprint("agent/", random.IntN(1e6)))
		r.Host = word() + ".example"
		s.ServeHTTP(httptest.NewRecorder(), r)
	}
	var counted int64
	for _, n := range s.Stats().Requests {
		counted += n
	}
	if counted != requests {
		t.Errorf("the server counted %d requests of %d", counted, requests)
	}
	after := series(scrape(t, handler))
	for name := range after {
		if !before[name] {
			t.Errorf("a client made the series %s", name)
		}
	}
	if len(before) < 100 {
		t.Errorf("only %d series before the first request", len(before))
	}
}

// series are the names and labels in a scrape. Those that the Go runtime and the scrape itself
// have of their own are left out: a client has no part in them.
func series(text string) map[string]bool {
	all := map[string]bool{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "roadstead_") {
			all[line[:strings.LastIndexByte(line, ' ')]] = true
		}
	}
	return all
}
