package console

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
	"roadstead/registry/upstream"
)

// windows are how far back the charts go, as the address says it.
var windows = []struct {
	name string
	span time.Duration
}{{"1h", time.Hour}, {"6h", 6 * time.Hour}, {"24h", sampleAge}}

// chartSteps is how many points a chart has: more than that nobody sees on its width.
const chartSteps = 120

// overview is the first page.
type overview struct {
	Everything bool // the figures of the whole server are for whoever looks
	Windows    []choice
	Charts     []chart
	Ratio      float64 // since the start
	Answers    int64
	Saved      int64 // bytes that clients got and that did not come from upstream
	Sent       int64
	Received   int64
	Stored     int64
	Proxied    int64 // of what is stored, what no project has that people push to
	StoredOf   int64 // what is proxied above this is evicted; 0: nothing is
	Pieces     int64
	Projects   []estate.Project
	Bars       []bar
	Upstreams  []remote
	Live       live
	CanCreate  bool
}

// choice is one of several addresses.
type choice struct {
	Name, Text, Address string
	Chosen              bool
}

// remote is an upstream as people see how it fares.
type remote struct {
	Project   string
	Hosts     []host
	Requests  int64
	Failed    int64
	Limit     upstream.RateLimit
	Remaining float64 // share of the limit
}

type host struct {
	Name  string
	State string // "ok", "down", "quiet" or "unasked"
	Until time.Time
}

func showOverview(v *visit) error {
	all, err := v.config.Estate.Projects(v.r.Context(), v.me)
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, func(a, b estate.Project) int { return cmp.Compare(b.Usage.Bytes, a.Usage.Bytes) })
	page := overview{Projects: all, CanCreate: v.may(registry.Create, access.Settings, "")}
	var sizes []int64
	for _, p := range all {
		sizes = append(sizes, p.Usage.Bytes)
	}
	page.Bars = bars(sizes, func(i int) string { return all[i].Name + ": " + v.words[v.lang].size(all[i].Usage.Bytes) })
	if page.Everything = v.may(registry.Read, access.Statistics, ""); page.Everything {
		v.measure(&page)
	}
	return v.show(http.StatusOK, "overview", v.say("nav.overview"), page)
}

// measure fills in the figures of the whole server.
func (v *visit) measure(page *overview) {
	now := time.Now()
	cached, served := v.config.Cache(), v.config.Server()
	s := take(now, cached, served)
	page.Answers = s.hits + s.joins + s.misses
	if page.Answers > 0 {
		page.Ratio = float64(s.hits+s.joins) / float64(page.Answers)
	}
	page.Sent, page.Received, page.Saved = s.clients, s.upstream, max(s.clients-s.upstream, 0)
	page.Stored, page.Pieces = cached.StoredBytes, cached.StoredCount
	page.Proxied, page.StoredOf = cached.ProxiedBytes, cached.MaxSize
	span := windows[0]
	for _, w := range windows {
		if w.name == v.r.URL.Query().Get("window") {
			span = w
		}
	}
	for _, w := range windows {
		page.Windows = append(page.Windows, choice{w.name, v.say("window." + w.name), home + "?window=" + w.name, w == span})
	}
	// One sample more than the window has, to count from.
	from := now.Add(-span.span)
	list := steps(v.samples.since(from.Add(-sampleEvery)), from, now, chartSteps)
	page.Charts = []chart{v.trafficChart(list), v.ratioChart(list)}
	page.Upstreams = remotes(v.config.Upstreams(), now)
	page.Live = v.live()
}

// remotes says how upstreams fare, the troubled ones first.
func remotes(all map[string]upstream.Stats, now time.Time) []remote {
	var list []remote
	for project, s := range all {
		r := remote{Project: project, Limit: s.Limit}
		for class, n := range s.Requests {
			r.Requests += n
			if class == "none" || class == "5xx" {
				r.Failed += n
			}
		}
		if s.Limit.Limit > 0 {
			r.Remaining = float64(s.Limit.Remaining) / float64(s.Limit.Limit)
		}
		for _, e := range s.Endpoints {
			h := host{Name: e.Host, State: "ok"}
			switch {
			case !e.Asked:
				h.State = "unasked"
			case e.Down:
				h.State = "down"
			case e.QuietUntil.After(now):
				h.State, h.Until = "quiet", e.QuietUntil
			}
			r.Hosts = append(r.Hosts, h)
		}
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b remote) int {
		return cmp.Or(cmp.Compare(b.troubled(), a.troubled()), cmp.Compare(a.Project, b.Project))
	})
	return list
}

func (r remote) troubled() int {
	n := 0
	for _, h := range r.Hosts {
		if h.State != "ok" && h.State != "unasked" {
			n++
		}
	}
	return n
}

// may reports whether whoever visits may do something.
func (v *visit) may(action registry.Action, kind registry.Kind, project string) bool {
	return v.config.Estate.May(v.me, action, kind, project)
}

// Left is how much of the pull limit is left, of 100.
func (r remote) Left() float64 { return r.Remaining * 100 }
