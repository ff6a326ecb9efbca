package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"roadstead/registry"
	"roadstead/registry/registrytest"
	"roadstead/registry/server"
)

// receiver is a collector: it reads what it is sent as OTLP says, and keeps it.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	resource map[string]string
	spans    []*tracepb.Span
	keys     []string // that came with it
}

func startReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		var body io.Reader = q.Body
		if q.Header.Get("Content-Encoding") == "gzip" {
			unpacked, err := gzip.NewReader(q.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = unpacked
		}
		text, err := io.ReadAll(body)
		if err != nil {
			t.Error(err)
			return
		}
		var sent coltracepb.ExportTraceServiceRequest
		if err := proto.Unmarshal(text, &sent); err != nil || q.URL.Path != "/v1/traces" || q.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("%s %s, %s: %v", q.Method, q.URL, q.Header, err)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.keys = append(r.keys, q.Header.Get("X-Key"))
		for _, of := range sent.ResourceSpans {
			r.resource = map[string]string{}
			for _, a := range of.Resource.Attributes {
				r.resource[a.Key] = a.Value.GetStringValue()
			}
			for _, scope := range of.ScopeSpans {
				r.spans = append(r.spans, scope.Spans...)
			}
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// of returns the spans of a trace, once there is one of that name among them.
func (r *receiver) of(t *testing.T, traceID, name string) []*tracepb.Span {
	t.Helper()
	var all []*tracepb.Span
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		r.mu.Lock()
		all = nil
		for _, s := range r.spans {
			if hex.EncodeToString(s.TraceId) == traceID {
				all = append(all, s)
			}
		}
		r.mu.Unlock()
		if slices.ContainsFunc(all, func(s *tracepb.Span) bool { return s.Name == name }) {
			return all
		}
	}
	t.Fatalf("no span %q of trace %s has come, but %v", name, traceID, all)
	return nil
}

// spanNamed is the one of that name.
func spanNamed(t *testing.T, all []*tracepb.Span, name string) *tracepb.Span {
	t.Helper()
	i := slices.IndexFunc(all, func(s *tracepb.Span) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("there is no span %q among %v", name, all)
	}
	return all[i]
}

func attributesOf(s *tracepb.Span) map[string]any {
	all := map[string]any{}
	for _, a := range s.Attributes {
		switch v := a.Value.Value.(type) {
		case *commonpb.AnyValue_IntValue:
			all[a.Key] = v.IntValue
		case *commonpb.AnyValue_BoolValue:
			all[a.Key] = v.BoolValue
		default:
			all[a.Key] = a.Value.GetStringValue()
		}
	}
	return all
}

// asks sends a request as a client that traces it does.
func (p *process) asks(t *testing.T, path, traceID string) (status int, body []byte) {
	t.Helper()
	q, err := http.NewRequest(http.MethodGet, p.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Traceparent", "00-"+traceID+"-b7ad6b7169203331-01")
	res, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Error(err)
		return 0, nil
	}
	defer res.Body.Close()
	body, err = io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return res.StatusCode, body
}

// A miss is a request with what it had to do below it, somebody who joins a download is linked to it, a hit
// is one span, and a refusal is no failure. What a client sends along stays in the house.
func TestTracesTellHowAnAnswerCameAbout(t *testing.T) {
	to := startReceiver(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", to.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=one%20key")
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
	t.Setenv("OTEL_SERVICE_NAME", "mirror")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
	up := registrytest.New(t)
	layer := bytes.Repeat([]byte("layer"), 40_000)
	up.PutImage("app", "v1", layer)
	blob := up.PutBlob("app", layer)
	going := make(chan struct{})
	up.Fail("GET /v2/app/blobs/"+string(blob), 1, registrytest.Hold(going))
	p := serve(t, configuration(t, map[string]map[string]any{"up.example": proxied(up)}, nil))

	const miss, first, second, hit, unknown = "0af7651916cd43dd8448eb211c803101", "0af7651916cd43dd8448eb211c803102", "0af7651916cd43dd8448eb211c803103",
		"0af7651916cd43dd8448eb211c803104", "0af7651916cd43dd8448eb211c803105"
	const tag = "/v2/up.example/app/manifests/v1"
	if status, body := p.asks(t, tag, miss); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	var clients sync.WaitGroup
	pull := func(traceID string) {
		clients.Go(func() {
			if status, body := p.asks(t, "/v2/up.example/app/blobs/"+string(blob), traceID); status != http.StatusOK || !bytes.Equal(body, layer) {
				t.Errorf("%d, %d bytes", status, len(body))
			}
		})
	}
	pull(first)
	arrives(t, up, "GET /v2/app/blobs/")
	pull(second)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, text := p.get("admin/metrics"); strings.Contains(text, "\nroadstead_server_requests_in_flight 2\n") {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the second client has not come")
		}
	}
	time.Sleep(100 * time.Millisecond) // from being counted to the flight, which nothing shows
	close(going)
	clients.Wait()
	if status, _ := p.asks(t, tag, hit); status != http.StatusOK {
		t.Errorf("a hit: %d", status)
	}
	if status, _ := p.asks(t, "/v2/up.example/app/manifests/none", unknown); status != http.StatusNotFound {
		t.Errorf("a tag that there is not: %d", status)
	}

	spans := to.of(t, miss, "registry manifest")
	top, check, ask := spanNamed(t, spans, "registry manifest"), spanNamed(t, spans, "check tag"), spanNamed(t, spans, "upstream GET")
	if hex.EncodeToString(top.ParentSpanId) != "b7ad6b7169203331" || !bytes.Equal(check.ParentSpanId, top.SpanId) || !bytes.Equal(ask.ParentSpanId, check.SpanId) {
		t.Errorf("the spans of a miss do not hang together: %v", spans)
	}
	if top.Kind != tracepb.Span_SPAN_KIND_SERVER || ask.Kind != tracepb.Span_SPAN_KIND_CLIENT {
		t.Errorf("kinds are %v and %v", top.Kind, ask.Kind)
	}
	if a := attributesOf(top); a["roadstead.project"] != "up.example" || a["roadstead.repo"] != "up.example/app" || a["roadstead.ref"] != "v1" ||
		a["roadstead.outcome"] != "miss" || a["http.response.status_code"] != int64(200) || a["http.response.body.size"] == nil || a["http.request.method"] != "GET" {
		t.Errorf("a miss is %v", a)
	}

	fetch := spanNamed(t, to.of(t, first, "fetch blob"), "fetch blob")
	if a := attributesOf(fetch); a["roadstead.bytes"] != int64(len(layer)) || a["roadstead.ref"] != string(blob) {
		t.Errorf("a fetch is %v", a)
	}
	spans = to.of(t, second, "registry blob")
	wait := spanNamed(t, spans, "wait for blob")
	if len(wait.Links) != 1 || !bytes.Equal(wait.Links[0].SpanId, fetch.SpanId) || hex.EncodeToString(wait.Links[0].TraceId) != first {
		t.Errorf("who waits is linked to %v, want the fetch of the other", wait.Links)
	}
	if a := attributesOf(spanNamed(t, spans, "registry blob")); a["roadstead.outcome"] != "join" {
		t.Errorf("who joins is %v", a)
	}

	if spans = to.of(t, hit, "registry manifest"); len(spans) != 1 || attributesOf(spans[0])["roadstead.outcome"] != "hit" {
		t.Errorf("a hit is %v", spans)
	}
	spans = to.of(t, unknown, "registry manifest")
	spanNamed(t, spans, "upstream GET")
	for _, s := range spans {
		if s.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR {
			t.Errorf("that there is no such tag is a failure: %v", s)
		}
	}

	for _, q := range up.Log() {
		if q.Header.Get("Traceparent") != "" || q.Header.Get("Tracestate") != "" {
			t.Errorf("upstream was sent %v", q.Header)
		}
	}
	to.mu.Lock()
	defer to.mu.Unlock()
	if to.resource["service.name"] != "mirror" || to.resource["deployment.environment.name"] != "test" || to.resource["service.version"] == "" {
		t.Errorf("the resource is %v", to.resource)
	}
	if slices.ContainsFunc(to.keys, func(k string) bool { return k != "one key" }) {
		t.Errorf("keys are %q", to.keys)
	}
}

// A failure of upstream is one of the span that asked it, and of the request.
func TestTracesTellWhatFailed(t *testing.T) {
	to := startReceiver(t)
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", to.URL+"/v1/traces")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
	up := registrytest.New(t)
	up.Fail("GET /v2/app/", 100, registrytest.Status(http.StatusInternalServerError))
	p := serve(t, configuration(t, map[string]map[string]any{"up.example": proxied(up)}, nil))
	const id = "0af7651916cd43dd8448eb211c803106"
	if status, _ := p.asks(t, "/v2/up.example/app/manifests/v1", id); status != http.StatusServiceUnavailable {
		t.Fatalf("status %d", status)
	}
	spans := to.of(t, id, "registry manifest")
	for _, name := range []string{"registry manifest", "check tag", "upstream GET"} {
		if s := spanNamed(t, spans, name); s.Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR || s.Status.Message == "" {
			t.Errorf("%s ended with %v", name, s.Status)
		}
	}
}

// A collector that is not there is said once, and is nothing to those who pull.
func TestTracesWithoutACollector(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+l.Addr().String())
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
	up := registrytest.New(t)
	up.PutImage("app", "v1", []byte("layer"))
	p := serve(t, configuration(t, map[string]map[string]any{"up.example": proxied(up)}, nil))
	said := "traces cannot be delivered, and are thrown away until they can"
	for i := range 20 {
		if status, body := p.get("/v2/up.example/app/manifests/v1"); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
		if i == 0 {
			p.wait(said)
		}
		time.Sleep(15 * time.Millisecond) // each in a batch of its own
	}
	p.signal(syscall.SIGTERM)
	if status := p.exit(); status != 0 {
		t.Errorf("it ended with %d", status)
	}
	if n := strings.Count(p.log.String(), said); n != 1 {
		t.Errorf("it was said %d times", n)
	}
}

// What a collector is told, headers with keys among it, nobody else is told.
func TestTracesFollowNoRedirect(t *testing.T) {
	for _, status := range []int{http.StatusMovedPermanently, http.StatusTemporaryRedirect} {
		var asked atomic.Int64
		elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
		defer elsewhere.Close()
		collector := httptest.NewServer(http.RedirectHandler(elsewhere.URL, status))
		defer collector.Close()
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
		t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=canary")
		c, err := newCollector(slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.UploadTraces(t.Context(), nil); err == nil || !strings.Contains(err.Error(), strconv.Itoa(status)) || asked.Load() != 0 {
			t.Errorf("%d: %v, and the other server was asked %d times", status, err, asked.Load())
		}
	}
}

// What of the environment is not understood is refused with what to write, and names no secret.
func TestTracesOfTheEnvironment(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
	for _, row := range []struct {
		name string
		env  map[string]string
		on   bool
		says string
	}{
		{name: "nothing", env: nil},
		{name: "a collector", env: map[string]string{endpoint: "http://127.0.0.1:4318"}, on: true},
		{name: "one for traces", env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://127.0.0.1/traces"}, on: true},
		{name: "the word alone", env: map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, on: true},
		{name: "none after all", env: map[string]string{endpoint: "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"}},
		{name: "disabled", env: map[string]string{endpoint: "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"}},
		{name: "a share", env: map[string]string{endpoint: "http://127.0.0.1:4318", "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}, on: true},
		{name: "another exporter", env: map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, says: "write otlp, or none"},
		{name: "neither true nor false", env: map[string]string{"OTEL_SDK_DISABLED": "maybe"}, says: "write true or false"},
		{name: "gRPC", env: map[string]string{endpoint: "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, says: "only http/protobuf is spoken here"},
		{name: "gRPC for traces", env: map[string]string{endpoint: "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, says: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"},
		{name: "no URL", env: map[string]string{endpoint: "user:canary@host:4318"}, says: "write http://host:4318"},
		{name: "another sampler", env: map[string]string{endpoint: "http://127.0.0.1:4318", "OTEL_TRACES_SAMPLER": "often"}, says: "write always_on"},
		{name: "too large a share", env: map[string]string{endpoint: "http://127.0.0.1:4318", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "10"}, says: "from 0 to 1"},
		{name: "headers", env: map[string]string{endpoint: "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_HEADERS": "canary"}, says: "name=value"},
		{name: "a time", env: map[string]string{endpoint: "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_TIMEOUT": "10s"}, says: "write milliseconds"},
		{name: "compression", env: map[string]string{endpoint: "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}, says: "write gzip or none"},
		{name: "an authority", env: map[string]string{endpoint: "https://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_CERTIFICATE": "nowhere.pem"}, says: "nowhere.pem"},
		{name: "a resource", env: map[string]string{endpoint: "http://127.0.0.1:4318", "OTEL_RESOURCE_ATTRIBUTES": "nothing"}, says: "name=value"},
	} {
		t.Run(row.name, func(t *testing.T) {
			for name, value := range row.env {
				t.Setenv(name, value)
			}
			opened, err := openTraces(t.Context(), "", slog.New(slog.DiscardHandler))
			if err := opened.Close(); err != nil {
				t.Error(err)
			}
			if row.says == "" {
				if err != nil || (opened != nil) != row.on || (opened.request() != nil) != row.on {
					t.Errorf("%v, %v", opened, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), row.says) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%v, want that it says %q", err, row.says)
			}
		})
	}
}

// one is a registry of one manifest, which is a hit.
type one struct {
	registry.Reader
	manifest registry.Manifest
}

func (o one) Manifest(ctx context.Context, _ registry.Repo, _ registry.Digest) (registry.Manifest, error) {
	registry.Note(ctx, registry.Hit)
	return o.manifest, nil
}

// hits is a server of one hit, and how it is asked for it.
func hits(traced func(http.Header, string) registry.Span) (ask func()) {
	body := []byte(`{"schemaVersion":2}`)
	d := registry.Digest("sha256:" + strings.Repeat("a", 64))
	s := server.New(server.Config{
		Registry: one{manifest: registry.Manifest{Descriptor: registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: d, Size: int64(len(body))}, Bytes: body}},
		Known:    func(string) bool { return true },
		Traced:   traced,
	})
	q := httptest.NewRequest(http.MethodHead, "/v2/docker.io/library/busybox/manifests/"+string(d), nil)
	w := &void{header: http.Header{}}
	return func() {
		clear(w.header)
		s.ServeHTTP(w, q)
	}
}

type void struct{ header http.Header }

func (v *void) Header() http.Header         { return v.header }
func (v *void) Write(p []byte) (int, error) { return len(p), nil }
func (v *void) WriteHeader(int)             {}

// Off, traces cost nothing on a hit: as many allocations as without the place where they would begin.
func TestTracesThatAreOffCostNothing(t *testing.T) {
	var off *traces
	without, with := testing.AllocsPerRun(2000, hits(nil)), testing.AllocsPerRun(2000, hits(off.request()))
	asked := testing.AllocsPerRun(2000, hits(func(http.Header, string) registry.Span { return nil }))
	if with != without || asked != without {
		t.Errorf("a hit takes %v allocations without traces, %v with those that are off, and %v when it is asked each time", without, with, asked)
	}
	to := startReceiver(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", to.URL)
	on, err := openTraces(t.Context(), "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer on.Close()
	if traced := testing.AllocsPerRun(100, hits(on.request())); traced <= without {
		t.Errorf("a hit that is traced takes %v allocations, and %v one that is not: nothing is measured here", traced, without)
	}
}

// BenchmarkTracedHit says what a hit costs with traces that are off, and how often that with those that are on.
func BenchmarkTracedHit(b *testing.B) {
	to := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer to.Close()
	var base float64
	for _, row := range []struct{ name, sampler string }{{"off", ""}, {"none sampled", "always_off"}, {"all sampled", "always_on"}} {
		b.Run(row.name, func(b *testing.B) {
			var from *traces
			if row.sampler != "" {
				b.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", to.URL)
				b.Setenv("OTEL_TRACES_SAMPLER", row.sampler)
				var err error
				if from, err = openTraces(b.Context(), "", slog.New(slog.DiscardHandler)); err != nil {
					b.Fatal(err)
				}
				defer from.Close()
			}
			ask := hits(from.request())
			b.ReportAllocs()
			for b.Loop() {
				ask()
			}
			each := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
			if row.sampler == "" {
				base = each
			}
			b.ReportMetric(each/base, "×off")
		})
	}
}
