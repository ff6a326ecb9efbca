package upstream

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"roadstead/registry"
	"roadstead/registry/registrytest"
)

func TestRetry(t *testing.T) {
	const head = "HEAD /v2/a/manifests/1"
	times := func(n int) []string { return slices.Repeat([]string{head}, n) }
	for _, row := range []struct {
		name     string
		fault    registrytest.Fault
		times    int
		want     registry.Code
		requests []string
		after    time.Duration // RetryAfter of the fault
	}{
		{"U7 500 once", registrytest.Status(500), 1, "", times(2), 0},
		{"U7 502 twice", registrytest.Status(502), 2, "", times(3), 0},
		{"U7 503 always", registrytest.Status(503), 0, registry.Unavailable, times(3), time.Second},
		{"U7 503 always, and says until when", registrytest.Status(503, "Retry-After", "30"), 0, registry.Unavailable, times(1), 30 * time.Second},
		{"U7 503 once, and says soon", registrytest.Status(503, "Retry-After", "1"), 1, "", times(2), 0},
		{"cut once", registrytest.Hangup(), 1, "", times(2), 0},
		{"408", registrytest.Status(408), 1, "", times(2), 0},
		{"U6 429", registrytest.Status(429, "Retry-After", "7"), 0, registry.Throttled, times(1), 7 * time.Second},
		{"U6 429 that does not say until when", registrytest.Status(429), 0, registry.Throttled, times(1), 10 * time.Second},
		{"U6 429 for ever", registrytest.Status(429, "Retry-After", "99999999"), 0, registry.Throttled, times(1), time.Hour},
		{"403", registrytest.Status(403), 0, registry.Denied, times(1), 0},
		{"451", registrytest.Status(451), 0, registry.Denied, times(1), 0},
		{"400", registrytest.Status(400), 0, registry.Unavailable, times(1), 0},
		{"204", registrytest.Status(204), 0, registry.Unavailable, times(1), 0},
		{"206 that nobody asked for", registrytest.Status(206), 0, registry.Unavailable, times(1), 0},
		{"300", registrytest.Status(300), 0, registry.Unavailable, times(1), 0},
		{"410", registrytest.Status(410), 0, registry.ManifestUnknown, times(1), 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			up := registrytest.New(t)
			up.PutImage("a", "1", []byte("x"))
			up.Fail(head, row.times, row.fault)
			r := open(t, Config{}, up)
			_, err := r.Resolve(t.Context(), repo("a"), "1")
			if row.want == "" && err != nil {
				t.Error(err)
			}
			if row.want != "" {
				if f := fault(t, err, row.want); f.RetryAfter != row.after {
					t.Errorf("RetryAfter %s, want %s", f.RetryAfter, row.after)
				}
			}
			wants(t, up, row.requests...)
		})
	}
}

// TestThrottledOnce is U6: nobody asks again before upstream said so, whatever the question.
func TestThrottledOnce(t *testing.T) {
	up := registrytest.New(t)
	image := up.PutImage("a", "1", []byte("x"))
	up.Fail("/manifests/", 1, registrytest.Status(429, "Retry-After", "30"))
	r := open(t, Config{}, up)
	for range 3 {
		_, err := r.Resolve(t.Context(), repo("a"), "1")
		if f := fault(t, err, registry.Throttled); f.RetryAfter < 29*time.Second || f.RetryAfter > 30*time.Second {
			t.Errorf("RetryAfter %s", f.RetryAfter)
		}
	}
	_, err := r.Manifest(t.Context(), repo("a"), image)
	fault(t, err, registry.Throttled)
	wants(t, up, "HEAD /v2/a/manifests/1")
	s := r.Stats()
	if left := time.Until(s.Endpoints[0].QuietUntil); left < 25*time.Second || left > 30*time.Second {
		t.Errorf("quiet for %s", left)
	}
	// When the time is over, it is asked again.
	r.endpoints[0].silent = time.Now()
	if _, err := r.Resolve(t.Context(), repo("a"), "1"); err != nil {
		t.Error(err)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, row := range []struct {
		field string
		want  time.Duration
	}{
		{"7", 7 * time.Second},
		{" 7 ", 7 * time.Second},
		{"0", 0},
		{"-1", 0},
		{"", 0},
		{"soon", 0},
		{"99999999999999999999", 0},
		{"Fri, 02 Jan 2026 03:05:05 GMT", time.Minute},
		{"Fri, 02 Jan 2026 03:00:05 GMT", 0},
		{"1767323105", time.Minute}, // Docker Hub's: seconds since 1970
		{"1767323045", 0},
		{"999999999", time.Hour},
	} {
		h := http.Header{"Retry-After": {row.field}}
		if got := retryAfter(h, now); got != row.want {
			t.Errorf("%q: %s, want %s", row.field, got, row.want)
		}
	}
}

// TestFailover is several endpoints that are one upstream, as k8s.gcr.io and registry.k8s.io.
func TestFailover(t *testing.T) {
	const head = "HEAD /v2/a/manifests/1"
	down := registrytest.Hangup()
	for _, row := range []struct {
		name          string
		first, second registrytest.Fault // nil: it knows the tag
		want          registry.Code
		asked         [2]int
	}{
		{"the first knows", nil, nil, "", [2]int{1, 0}},
		{"U5 moved to the second", registrytest.Status(404, "Docker-Distribution-Api-Version", "registry/2.0"), nil, "", [2]int{1, 1}},
		{"U7 the first is broken", registrytest.Status(503), nil, "", [2]int{3, 1}},
		{"the first is cut", down, nil, "", [2]int{3, 1}},
		{"U4 the first denies", registrytest.Status(403), nil, "", [2]int{1, 1}},
		{"U6 the first throttles", registrytest.Status(429), nil, "", [2]int{1, 1}},
		{"U13 the first is a portal", registrytest.HTML(), nil, "", [2]int{1, 1}},
		{"neither knows", registrytest.Status(404, "Docker-Distribution-Api-Version", "x"), registrytest.Status(404, "Docker-Distribution-Api-Version", "x"),
			registry.ManifestUnknown, [2]int{1, 1}},
		{"one does not know and one cannot say", registrytest.Status(404, "Docker-Distribution-Api-Version", "x"), registrytest.Status(503),
			registry.Unavailable, [2]int{1, 3}},
		{"one cannot say and one does not know", registrytest.Status(503), registrytest.Status(404, "Docker-Distribution-Api-Version", "x"),
			registry.Unavailable, [2]int{3, 1}},
		{"one denies and one does not know", registrytest.Status(403), registrytest.Status(404, "Docker-Distribution-Api-Version", "x"),
			registry.Denied, [2]int{1, 1}},
		{"one throttles and one denies", registrytest.Status(429), registrytest.Status(403), registry.Throttled, [2]int{1, 1}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			first, second := registrytest.New(t), registrytest.New(t)
			for i, up := range []*registrytest.Registry{first, second} {
				up.PutImage("a", "1", []byte("x"))
				if f := []registrytest.Fault{row.first, row.second}[i]; f != nil {
					up.Fail(head, 0, f)
				}
			}
			if row.name == "U13 the first is a portal" {
				// HEAD says too little and GET says it again.
				first.Heal()
				first.Fail("", 0, row.first)
				row.asked[0]++
			}
			r := open(t, Config{}, first, second)
			_, err := r.Resolve(t.Context(), repo("a"), "1")
			if row.want == "" && err != nil {
				t.Error(err)
			}
			if row.want != "" {
				fault(t, err, row.want)
			}
			if got := [2]int{len(first.Requests()), len(second.Requests())}; got != row.asked {
				t.Errorf("asked %d times, want %d", got, row.asked)
			}
		})
	}
}

// TestDown is U1: what cannot be connected to is not waited for, and is noticed within a
// second when it is back.
func TestDown(t *testing.T) {
	up := registrytest.New(t)
	up.PutImage("a", "1", []byte("x"))
	up.Stop()
	r := open(t, Config{}, up)
	begun := time.Now()
	for range 5 {
		_, err := r.Resolve(t.Context(), repo("a"), "1")
		if f := fault(t, err, registry.Unavailable); f.Timeout || f.RetryAfter != time.Second {
			t.Errorf("fault %+v", f)
		}
	}
	// On a busy machine time for a probe may have passed.
	probes := int64(time.Since(begun) / probeEvery)
	if s := r.Stats(); !s.Endpoints[0].Down || s.Requests["none"] > 1+probes {
		t.Errorf("%d connections were tried in a row: %+v", s.Requests["none"], s)
	}
	up.Start()
	back := time.Now()
	for {
		_, err := r.Resolve(t.Context(), repo("a"), "1")
		if err == nil {
			break
		}
		fault(t, err, registry.Unavailable)
		if time.Since(back) > 10*time.Second {
			t.Fatal("it is not noticed that upstream is back")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if s := r.Stats(); s.Endpoints[0].Down {
		t.Error("the circuit is open after a success")
	}
	wants(t, up, "HEAD /v2/a/manifests/1")
}

// TestNoName is U2.
func TestNoName(t *testing.T) {
	names, resolver := registrytest.NewNames(t)
	up := registrytest.New(t)
	up.PutImage("a", "1", []byte("x"))
	_, port, _ := strings.Cut(up.Host(), ":")
	r := open(t, Config{Endpoints: []string{"http://registry.example:" + port}, Resolver: resolver})
	_, err := r.Resolve(t.Context(), repo("a"), "1")
	fault(t, err, registry.Unavailable)
	names.Put("registry.example", "127.0.0.1")
	deadline := time.Now().Add(5 * time.Second)
	for err != nil && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
		_, err = r.Resolve(t.Context(), repo("a"), "1")
	}
	if err != nil {
		t.Errorf("a name that is there now is not found: %v", err)
	}
}

// TestCircuit bends time: when a host is asked again, and what closes it.
func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c circuits
		pass := func(want bool) {
			t.Helper()
			if got := c.passes("h"); got != want {
				t.Errorf("passes: %t, want %t", got, want)
			}
		}
		for range openAt - 1 {
			c.failed("h", broken)
			pass(true)
		}
		c.failed("h", broken)
		pass(false)
		if c.passes("other"); !c.open("h") || c.open("other") {
			t.Error("one host's circuit is another's")
		}
		time.Sleep(probeEvery)
		pass(true) // the probe
		pass(false)
		time.Sleep(probeEvery)
		pass(true) // the next, although the first has no answer yet
		c.failed("h", unreachable)
		pass(false)
		c.answered("h")
		pass(true)
		c.failed("h", silent)
		pass(true)
		c.answered("h")
		c.failed("h", silent)
		pass(true) // what was before the answer is forgotten
		c.failed("h", silent)
		pass(false)
		for i := range 10 * mostHosts {
			c.failed(strings.Repeat("x", i), broken)
		}
		if len(c.hosts) > mostHosts {
			t.Errorf("%d hosts are remembered", len(c.hosts))
		}
	})
}

func TestBudget(t *testing.T) {
	var b budget
	spend := func() (n int) {
		for b.spend() {
			n++
		}
		return n
	}
	if n := spend(); n != budgetMost {
		t.Errorf("%d retries from the start, want %d", n, budgetMost)
	}
	for range 100 {
		b.earn()
	}
	if n := spend(); n < 9 || n > 10 {
		t.Errorf("%d retries for 100 requests, want a tenth", n)
	}
	for range 10_000 {
		b.earn()
	}
	if n := spend(); n != budgetMost {
		t.Errorf("%d retries saved up, want %d", n, budgetMost)
	}
}

// TestBudgetIsKept is U7: a broken upstream gets few requests more than there are questions.
func TestBudgetIsKept(t *testing.T) {
	up := registrytest.New(t)
	up.Fail("", 0, registrytest.Status(500))
	r := open(t, Config{}, up)
	r.budget.spent = budgetMost // all is used up
	for range 4 {
		_, err := r.Resolve(t.Context(), repo("a"), "1")
		fault(t, err, registry.Unavailable)
	}
	if n := len(up.Requests()); n != 4 {
		t.Errorf("%d requests for 4 questions", n)
	}
}

// TestHung is U19.
func TestHung(t *testing.T) {
	const timeout = 300 * time.Millisecond
	ask := func(r *Registry) error {
		_, err := r.Resolve(context.Background(), repo("a"), "1")
		return err
	}
	t.Run("the registry", func(t *testing.T) {
		up := registrytest.New(t)
		up.Fail("", 0, registrytest.Hang())
		r := open(t, Config{Timeout: timeout}, up)
		for range 2 {
			if f := fault(t, ask(r), registry.Unavailable); !f.Timeout {
				t.Errorf("fault %+v is no timeout", f)
			}
		}
		if err := ask(r); !errors.Is(err, errDown) {
			t.Errorf("after two silences it is asked again: %v", err)
		}
		wants(t, up, "HEAD /v2/a/manifests/1", "HEAD /v2/a/manifests/1")
	})
	t.Run("the token service", func(t *testing.T) {
		up := registrytest.New(t)
		up.Require(registrytest.Auth{Anonymous: true})
		up.Fail("/token", 0, registrytest.Hang())
		r := open(t, Config{Timeout: timeout}, up)
		if f := fault(t, ask(r), registry.Unavailable); !f.Timeout {
			t.Errorf("fault %+v is no timeout", f)
		}
	})
	t.Run("the first of two", func(t *testing.T) {
		first, second := registrytest.New(t), registrytest.New(t)
		first.Fail("", 0, registrytest.Hang())
		second.PutImage("a", "1", []byte("x"))
		r := open(t, Config{Timeout: timeout}, first, second)
		if err := ask(r); err != nil {
			t.Error(err)
		}
	})
	t.Run("after the header of an error", func(t *testing.T) {
		up := registrytest.New(t)
		up.PutImage("a", "1", []byte("x"))
		up.Fail("", 1, registrytest.Both(registrytest.Header("Content-Length", "1000"), registrytest.Stall(1)))
		r := open(t, Config{}, up)
		if _, err := r.Tags(t.Context(), repo("b"), "", -1); !registry.Unknown(err) {
			t.Error(err)
		}
	})
	t.Run("longer than its caller waits", func(t *testing.T) {
		up := registrytest.New(t)
		up.Fail("", 0, registrytest.Hang())
		r := open(t, Config{}, up)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := r.Resolve(ctx, repo("a"), "1")
		if f := fault(t, err, registry.Unavailable); !f.Timeout || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("fault %+v", f)
		}
	})
	t.Run("and its caller leaves", func(t *testing.T) {
		up := registrytest.New(t)
		up.Fail("", 0, registrytest.Hang())
		r := open(t, Config{}, up)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		for range 10 {
			_, err := r.Resolve(ctx, repo("a"), "1")
			if f := fault(t, err, registry.Unavailable); f.Timeout || !errors.Is(err, context.Canceled) {
				t.Errorf("fault %+v", f)
			}
		}
		if r.Stats().Endpoints[0].Down {
			t.Error("callers that leave make an endpoint look down")
		}
	})
}

// What upstream says of one blob it does not say of the next: the circuit is for hosts that are
// away.
func TestServerErrorsOfOneBlobAreItsOwn(t *testing.T) {
	up := registrytest.New(t)
	bad, good := up.PutBlob("a", []byte("bad")), up.PutBlob("a", []byte("good"))
	up.Fail(bad.String(), 0, registrytest.Status(500))
	r := open(t, Config{}, up)
	for range 4 {
		_, err := r.Blob(t.Context(), repo("a"), bad)
		fault(t, err, registry.Unavailable)
	}
	if got, err := all(r, "a", good); err != nil || string(got) != "good" {
		t.Errorf("got %q, %v", got, err)
	}
}
