package hosted

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"roadstead/storage/catalog"
)

// notes are what a registry says of its cleanings.
type notes struct {
	mu  sync.Mutex
	all []Cleaning
}

func (n *notes) note(c Cleaning) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, c)
}

// ended waits until so many cleanings have ended that fn wants, and returns them.
func (n *notes) ended(t *testing.T, count int, fn func(Cleaning) bool) []Cleaning {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		n.mu.Lock()
		some := slices.DeleteFunc(slices.Clone(n.all), func(c Cleaning) bool { return c.Ended.IsZero() || !fn(c) })
		n.mu.Unlock()
		if len(some) >= count {
			return some
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d cleanings have ended, want %d", len(some), count)
		}
	}
}

// TestPlans: a plan that is set while it runs counts at once, orders are carried out beside it, also by
// who has only just heard that another one has ended, and a project with a time of its own is left alone
// by both.
func TestPlans(t *testing.T) {
	rules := catalog.Retention{Newest: 1}
	h := newHouse(t, catalog.Project{Name: "production", Retention: rules, Schedule: Never}, catalog.Project{Name: "other"})
	h.blob(web, "config")
	h.push(web, image(h.blob(web, "config"), h.blob(web, "new")), "new")
	h.push(web, image(h.blob(web, "config"), h.blob(web, "old")), "old")
	h.pushed(web, "old", 50*day, 0)
	loose := image(h.blob(web, "config"), h.blob(web, "untagged"))
	h.push(web, loose, "soon")
	want(t, h.DeleteTag(t.Context(), web, "soon"), "")
	h.old(web, 50*day)
	said := &notes{}
	h.open(Config{Every: -1, Grace: time.Hour, Note: func(c Cleaning) {
		said.note(c)
		if !c.Ended.IsZero() {
			time.Sleep(50 * time.Millisecond)
		}
	}})
	if h.StopCleaning() {
		t.Error("nothing is under way, and something was stopped")
	}

	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { h.Run(ctx) })
	defer running.Wait()
	defer cancel()

	second, err := ParseSchedule("* * * * * *")
	want(t, err, "")
	h.SetPlan(&Plan{Schedule: second, Order: Order{Dry: true}})
	for _, c := range said.ended(t, 2, func(c Cleaning) bool { return c.By == "" && c.Dry }) {
		if len(c.Retired) > 0 || c.Err != nil {
			t.Errorf("by plan: %+v, want nothing of a project with a time of its own", c)
		}
	}
	h.SetPlan(&Plan{}) // never

	want(t, h.Clean(Order{By: "somebody", Project: "production", Dry: true}), "")
	dry := said.ended(t, 1, func(c Cleaning) bool { return c.Project == "production" })[0]
	if names := retiredTags(dry); names != "old" {
		t.Errorf("a dry retention would retire %q, want old", names)
	}
	if tags, err := h.Tags(t.Context(), web, "", -1); err != nil || strings.Join(tags, " ") != "new old" {
		t.Errorf("after a dry one: %v, %v", tags, err)
	}

	// Without rules every tag stays, and what has none goes.
	want(t, h.Clean(Order{By: "root", Untagged: true}), "")
	all := said.ended(t, 1, func(c Cleaning) bool { return c.By == "root" })[0]
	if names := retiredTags(all); names != "" || len(all.Retired) != 1 || all.Err != nil {
		t.Errorf("untagged manifests: %+v, want one of them and no tag", all)
	}
	want(t, h.Clean(Order{By: "again", Project: "production"}), "")
	if names := retiredTags(said.ended(t, 1, func(c Cleaning) bool { return c.By == "again" })[0]); names != "old" {
		t.Errorf("a retention has retired %q, want old", names)
	}
}

func retiredTags(c Cleaning) string {
	var names []string
	for _, r := range c.Retired {
		if r.Tag != "" {
			names = append(names, r.Tag)
		}
	}
	return strings.Join(names, " ")
}

// A collection that somebody has stopped has not failed, and one without a catalog has.
func TestCleaningsThatFail(t *testing.T) {
	h := newHouse(t)
	want(t, h.catalog.Close(), "")
	stopped, stop := context.WithCancel(t.Context())
	stop()
	for _, tt := range []struct {
		ctx    context.Context
		failed int64
	}{{stopped, 0}, {t.Context(), 1}} {
		h.alone(tt.ctx, Order{By: "root"})
		if got := h.Stats().Uncollected; got != tt.failed {
			t.Errorf("%d collections have failed, want %d: %s", got, tt.failed, h.log)
		}
	}
}
