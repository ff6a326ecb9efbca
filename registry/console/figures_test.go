package console

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/cache"
	"roadstead/registry"
	"roadstead/registry/upstream"
)

func TestSteps(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	var s samples
	for i := range sampleCount + 100 {
		s.add(sample{at: start.Add(time.Duration(i) * sampleEvery), hits: int64(3 * i), joins: int64(i), misses: int64(i), upstream: int64(i) * 1000, clients: int64(i) * 5000})
	}
	end := start.Add(time.Duration(sampleCount+99) * sampleEvery)
	if n := len(s.since(start)); n != sampleCount {
		t.Errorf("%d samples are kept, want %d", n, sampleCount)
	}
	all := steps(s.since(end.Add(-time.Hour-sampleEvery)), end.Add(-time.Hour), end, 60)
	for _, step := range all[1:] {
		if !step.known || step.upstream != 100 || step.clients != 500 || step.ratio() != 0.8 {
			t.Fatalf("a step is %+v", step)
		}
	}
	// A project that has gone takes its counters with it.
	all = steps([]sample{{at: end.Add(-20 * time.Second), hits: 100, upstream: 100}, {at: end.Add(-10 * time.Second), hits: 10, upstream: 10}}, end.Add(-time.Minute), end, 6)
	for _, step := range all {
		if step.answers < 0 || step.upstream < 0 {
			t.Errorf("less than nothing: %+v", step)
		}
	}
	if skip := unknown(all); skip == 0 {
		t.Error("the chart begins before the server did")
	}
	if all := steps(nil, end.Add(-time.Minute), end, 6); len(all) != 6 || unknown(all) != 0 {
		t.Errorf("without a sample there are %+v", all)
	}
}

// Of what nobody has asked yet nobody knows whether it answers.
func TestUnaskedUpstreams(t *testing.T) {
	v := open(t)
	b := v.as("admin")
	b.get("/c/").has(t, http.StatusOK, `<span class="state ok">Answers</span>`, `<span class="state unasked">Not asked yet</span>`)
	all := remotes(map[string]upstream.Stats{"new": {Endpoints: []upstream.EndpointStats{{Host: "a"}}}}, time.Now())
	if all[0].Hosts[0].State != "unasked" || all[0].troubled() != 0 {
		t.Errorf("one that was never asked is %+v", all[0])
	}
}

// What bounds the cache is set against what is cached, not against what was pushed with it.
func TestTheOverviewSetsWhatIsCachedAgainstItsBound(t *testing.T) {
	v := open(t)
	b := v.as("admin")
	if p := b.get("/c/"); !strings.Contains(p.body, "5 GiB") || strings.Contains(p.body, "of it cached") {
		t.Errorf("without a bound it is\n%s", p.body)
	}
	v.maxSize = 3 << 30
	b.get("/c/").has(t, http.StatusOK, "5 GiB", "2 GiB of it cached, of at most 3 GiB")
}

func TestRunNotesTheFigures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t).Console
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		time.Sleep(time.Minute + time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := len(c.samples.since(time.Time{})); n != 7 {
			t.Errorf("%d samples in a minute, want 7", n)
		}
	})
}

func TestBars(t *testing.T) {
	all := bars([]int64{90, 10, 0, -5}, func(int) string { return "" })
	end := 0.0
	for _, b := range all {
		if b.X < end-0.001 || b.Width <= 0 {
			t.Errorf("bars overlap or are nothing: %+v", all)
		}
		end = b.X + b.Width
	}
	if end > 100.001 || all[0].Width < 80 {
		t.Errorf("bars: %+v", all)
	}
	if bars([]int64{0, 0}, nil) != nil {
		t.Error("a picture of nothing")
	}
}

func TestFormats(t *testing.T) {
	w := words{all: map[string]string{}}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1 << 20: "1 MiB", 3 << 19: "1.5 MiB", 150 << 20: "150 MiB", 1 << 62: "4 EiB"} {
		if got := w.size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567"} {
		if got := w.number(n); got != want {
			t.Errorf("number(%d) = %q, want %q", n, got, want)
		}
	}
	for text, want := range map[string]int64{"": 0, "20 GiB": 20 << 30, "20g": 20 << 30, "1.5 MB": 1_500_000, "100": 100, "7 b": 7} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"-1", "x", "1 parsec", "NaN", "Inf", "9e99"} {
		if n, err := parseSize(text); err == nil {
			t.Errorf("parseSize(%q) = %d", text, n)
		}
	}
	for _, text := range []string{"0", "30m", "12h", "7d", "90s", "1h30m0s"} {
		d, err := parseDuration("ttl", text)
		if err != nil {
			t.Errorf("parseDuration(%q): %v", text, err)
			continue
		}
		again, err := parseDuration("ttl", writeDuration(d))
		if err != nil || *again != *d {
			t.Errorf("%q is written %q", text, writeDuration(d))
		}
	}
	for _, text := range []string{"-1d", "soon", "1000000d", "99999999999999999999d"} {
		if d, err := parseDuration("ttl", text); err == nil {
			t.Errorf("parseDuration(%q) = %v", text, d)
		}
	}
	for text, want := range map[string]bool{"https://a.example/x": true, "http://a": true, "javascript:alert(1)": false, "//a": false, "https://u@a": false, "ftp://a": false, "https:": false} {
		if link(text) != want {
			t.Errorf("link(%q) = %v", text, !want)
		}
	}
}

// What is being downloaded comes as it changes, to those who may know; and ends with the server.
func TestTheStream(t *testing.T) {
	v := open(t)
	v.as("gina").get("/c/live").has(t, http.StatusForbidden)
	v.as("").get("/c/live").leads(t, "/c/signin?next=%2Fc%2Flive")
	admin := v.as("admin")
	v.flights = []cache.Flight{{Repo: registry.Repo{Project: "hub", Name: "library/busybox"}, Digest: digest.FromString("layer"), Size: 1000, Written: 250, Readers: 3, Since: time.Now()}}
	s := httptest.NewServer(v)
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	r, err := http.NewRequest(http.MethodGet, s.URL+"/c/live", nil)
	v.must(err)
	for _, c := range admin.cookies {
		r.AddCookie(c)
	}
	res, err := http.DefaultClient.Do(r)
	v.must(err)
	defer res.Body.Close()
	if got := res.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("Content-Type: %s", got)
	}
	lines := bufio.NewScanner(res.Body)
	var text strings.Builder
	for lines.Scan() && lines.Text() != "" {
		text.WriteString(lines.Text())
	}
	for _, want := range []string{"event: live", "hub/library/busybox", `value="25"`, "250 B / 1000 B"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the stream lacks %q: %s", want, text.String())
		}
	}
	cancel()
	v.must(<-ended)
	for lines.Scan() {
	}
	if lines.Err() != nil {
		t.Errorf("the stream was cut: %v", lines.Err())
	}
}
