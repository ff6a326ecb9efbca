package cache

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
)

func TestPullAndPullAgain(t *testing.T) {
	o := newOrigin()
	img := o.putImage(t, "library/busybox", "1.35", []byte("a layer"))
	h := proxy(t, o)
	if err := h.pull(t, hub("library/busybox"), "1.35"); err != nil {
		t.Fatal(err)
	}
	wantAsked(t, o, "tagged library/busybox 1.35",
		"blob library/busybox "+short(string(img.config)), "blob library/busybox "+short(string(img.layer)))

	o.set(func() { o.fail = down })
	if err := h.pull(t, hub("library/busybox"), "1.35"); err != nil {
		t.Errorf("at once, with upstream down: %v", err)
	}
	wantAsked(t, o)

	h.stop()
	again := newHouse(t, h.dir, Config{Projects: []Project{{Name: "docker.io", Upstream: o}}})
	if err := again.pull(t, hub("library/busybox"), "1.35"); err != nil {
		t.Errorf("after a restart, with upstream down: %v", err)
	}
	wantAsked(t, o)
}

func TestTagFreshness(t *testing.T) {
	const repo = "library/nginx"
	type step struct {
		after time.Duration
		do    func(o *origin)
		want  string // content of the manifest's layer, or the error's code
		asked []string
		trace registry.Outcome
	}
	resolve, tagged := "resolve "+repo+" latest", "tagged "+repo+" latest"
	rows := []struct {
		name    string
		project func(*Project)
		steps   []step
	}{
		{"fresh record asks nobody", nil, []step{
			{0, nil, "one", []string{tagged}, registry.Miss},
			{59 * time.Second, nil, "one", nil, registry.Hit},
		}},
		{"old record of an unmoved tag costs one HEAD", nil, []step{
			{0, nil, "one", []string{tagged}, registry.Miss},
			{61 * time.Second, nil, "one", []string{resolve}, registry.Hit},
			{59 * time.Second, nil, "one", nil, registry.Hit},
		}},
		{"ttl below zero asks each time", func(p *Project) { p.TTL = -1 }, []step{
			{0, nil, "one", []string{tagged}, registry.Miss},
			{0, nil, "one", []string{resolve}, registry.Hit},
		}},
		{"moved tag is fetched by digest", nil, []step{
			{0, nil, "one", []string{tagged}, registry.Miss},
			{2 * time.Minute, func(o *origin) { o.putImage(t, repo, "latest", []byte("two")) }, "two", []string{resolve, "manifest"}, registry.Miss},
		}},
		{"tag moved while upstream is down", nil, []step{
			{0, nil, "one", []string{tagged}, registry.Miss},
			{2 * time.Minute, func(o *origin) {
				o.putImage(t, repo, "latest", []byte("two"))
				o.fail = down
			}, "one", []string{resolve}, registry.Stale},
			{24 * 30 * time.Hour, nil, "one", []string{resolve}, registry.Stale},
			// The trouble is known: the answer is the old one at once, and the question
			// behind it finds upstream back.
			{time.Second, func(o *origin) { o.fail = nil }, "one", []string{resolve, "manifest"}, registry.Stale},
			{time.Second, nil, "two", nil, registry.Hit},
		}},
		{"upstream throttles", nil, []step{
			{0, nil, "one", []string{tagged}, registry.Miss},
			{2 * time.Minute, func(o *origin) {
				o.fail = func(string, string, string) error { return &registry.Fault{Code: registry.Throttled} }
			}, "one", []string{resolve}, registry.Stale},
		}},
		{"upstream denies", nil, []step{
			{0, nil, "one", []string{tagged}, registry.Miss},
			{2 * time.Minute, func(o *origin) {
				o.fail = func(string, string, string) error { return &registry.Fault{Code: registry.Denied} }
			}, "one", []string{resolve}, registry.Stale},
		}},
		{"upstream denies and that is final", func(p *Project) { p.DenyWithUpstream = true }, []step{
			{0, nil, "one", []string{tagged}, registry.Miss},
			{2 * time.Minute, func(o *origin) {
				o.fail = func(string, string, string) error { return &registry.Fault{Code: registry.Denied} }
			}, "DENIED", []string{resolve}, ""},
		}},
		{"stale no longer than allowed", func(p *Project) { p.StaleFor = time.Hour }, []step{
			{0, nil, "one", []string{tagged}, registry.Miss},
			{59 * time.Minute, func(o *origin) { o.fail = down }, "one", []string{resolve}, registry.Stale},
			{2 * time.Minute, nil, "UNAVAILABLE", []string{resolve}, ""},
		}},
		{"tag gone upstream", nil, []step{
			{0, nil, "one", []string{tagged}, registry.Miss},
			{2 * time.Minute, func(o *origin) { delete(o.tags, repo+":latest") }, "MANIFEST_UNKNOWN", []string{resolve}, ""},
			{9 * time.Second, nil, "MANIFEST_UNKNOWN", nil, ""},
			{2 * time.Second, nil, "MANIFEST_UNKNOWN", []string{tagged}, ""},
			{11 * time.Second, func(o *origin) { o.fail = down }, "UNAVAILABLE", []string{tagged}, ""},
		}},
		{"tag gone upstream and kept", func(p *Project) { p.KeepGone = true }, []step{
			{0, nil, "one", []string{tagged}, registry.Miss},
			{2 * time.Minute, func(o *origin) { delete(o.tags, repo+":latest") }, "one", []string{resolve}, registry.Stale},
			{time.Second, nil, "one", nil, registry.Hit},
		}},
		{"unknown tag is remembered for ten seconds", nil, []step{
			{0, func(o *origin) { delete(o.tags, repo+":latest") }, "MANIFEST_UNKNOWN", []string{tagged}, ""},
			{9 * time.Second, nil, "MANIFEST_UNKNOWN", nil, ""},
			{2 * time.Second, func(o *origin) { o.putImage(t, repo, "latest", []byte("two")) }, "two", []string{tagged}, registry.Miss},
		}},
		{"unknown tag while upstream is down is no 404", nil, []step{
			{0, func(o *origin) { o.fail = down }, "UNAVAILABLE", []string{tagged}, ""},
			{0, nil, "UNAVAILABLE", []string{tagged}, ""},
		}},
		{"manifest of a moved tag cannot be had", nil, []step{
			{0, nil, "one", []string{tagged}, registry.Miss},
			{2 * time.Minute, func(o *origin) {
				o.putImage(t, repo, "latest", []byte("two"))
				o.fail = func(question, _, _ string) error {
					if question == "manifest" {
						return &registry.Fault{Code: registry.Throttled}
					}
					return nil
				}
			}, "one", []string{resolve, "manifest"}, registry.Stale},
		}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin()
				layers := map[registry.Digest]string{}
				layers[o.putImage(t, repo, "latest", []byte("one")).manifest.Digest] = "one"
				two := newOrigin().putImage(t, repo, "latest", []byte("two"))
				layers[two.manifest.Digest] = "two"
				h := proxy(t, o)
				if row.project != nil {
					p := Project{Name: "docker.io", Upstream: o}
					row.project(&p)
					if err := h.SetProjects([]Project{p}); err != nil {
						t.Fatal(err)
					}
				}
				for i, s := range row.steps {
					time.Sleep(s.after)
					if s.do != nil {
						s.do(o)
					}
					var trace registry.Trace
					desc, err := h.Resolve(registry.WithTrace(t.Context(), &trace), hub(repo), "latest")
					got := layers[desc.Digest]
					var code registry.Code
					if errors.As(err, &code) {
						got = string(code)
					}
					if got != s.want || trace.Outcome != s.trace {
						t.Errorf("step %d: got %q, %v, %q; want %q, %q", i, got, err, trace.Outcome, s.want, s.trace)
					}
					if (trace.Why != nil) != (trace.Outcome == registry.Stale) {
						t.Errorf("step %d: the answer is %q because of %v", i, trace.Outcome, trace.Why)
					}
					synctest.Wait() // what goes on behind the answer ends
					var asked []string
					for _, q := range o.asked() {
						if len(q) > 8 && q[:8] == "manifest" {
							q = "manifest"
						}
						asked = append(asked, q)
					}
					if len(asked) != len(s.asked) {
						t.Errorf("step %d: upstream was asked %q, want %q", i, asked, s.asked)
					} else {
						for j := range asked {
							if asked[j] != s.asked[j] {
								t.Errorf("step %d: upstream was asked %q, want %q", i, asked, s.asked)
							}
						}
					}
				}
				h.stop()
			})
		})
	}
}

// A hung upstream holds up the first request for as long as it is patient, and no other.
func TestCachedTagWhileUpstreamHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		o.putImage(t, "library/nginx", "latest", []byte("one"))
		h := proxy(t, o)
		if _, err := h.Resolve(t.Context(), hub("library/nginx"), "latest"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		o.fail = func(string, string, string) error {
			time.Sleep(15 * time.Second)
			return down("", "", "")
		}
		began := time.Now()
		if _, err := h.Resolve(t.Context(), hub("library/nginx"), "latest"); err != nil || time.Since(began) > 3*time.Second {
			t.Errorf("first request after the hang: %v after %v", err, time.Since(began))
		}
		time.Sleep(20 * time.Second)
		began = time.Now()
		if _, err := h.Resolve(t.Context(), hub("library/nginx"), "latest"); err != nil || time.Since(began) > 0 {
			t.Errorf("once the trouble is known: %v after %v", err, time.Since(began))
		}
		time.Sleep(20 * time.Second)
		h.stop()
	})
}

// A check that lies in the future was made by a clock that has been set back since. It must
// not keep a tag fresh until that time comes again.
func TestClockSetBack(t *testing.T) {
	o := newOrigin()
	img := o.putImage(t, "library/nginx", "latest", []byte("one"))
	h := proxy(t, o)
	if _, err := h.Resolve(t.Context(), hub("library/nginx"), "latest"); err != nil {
		t.Fatal(err)
	}
	h.settle(t)
	o.asked()
	ahead := catalog.Tag{Descriptor: img.manifest.Descriptor, CheckedAt: time.Now().Add(24 * time.Hour)}
	h.memory.addTag(tagKey{hub("library/nginx"), "latest"}, tagRecord{Tag: ahead, savedAt: ahead.CheckedAt})
	for range 2 {
		if _, err := h.Resolve(t.Context(), hub("library/nginx"), "latest"); err != nil {
			t.Fatal(err)
		}
	}
	wantAsked(t, o, "resolve library/nginx latest")
}

func TestHerdOnOneTagAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		o.putImage(t, "library/nginx", "latest", []byte("one"))
		o.fail = func(string, string, string) error { time.Sleep(time.Second); return nil }
		h := proxy(t, o)
		for range 100 {
			go func() {
				if _, err := h.Resolve(t.Context(), hub("library/nginx"), "latest"); err != nil {
					t.Error(err)
				}
			}()
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		wantAsked(t, o, "tagged library/nginx latest")
		h.stop()
	})
}
