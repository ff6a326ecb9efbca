package console

import (
	"net/http"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
	"roadstead/registry/hosted"
)

// jobs is the page of what the house does by itself.
type jobs struct {
	Plan      estate.Plan
	Planned   bool
	All       []estate.Collection
	Running   bool
	Since     hosted.Stats
	Evicted   int64
	EvictedOf int64
	CanStart  bool
	CanStop   bool
	Tasks     tasks
	Error     *trouble
}

func (v *visit) showJobs(status int, t *trouble) error {
	ctx, page := v.r.Context(), jobs{Error: t, Since: v.config.Hosted()}
	var err error
	if page.Plan, page.Planned, err = v.config.Estate.Collecting(ctx, v.me); err != nil {
		return err
	}
	if page.All, err = v.config.Estate.Collections(ctx, v.me); err != nil {
		return err
	}
	for _, c := range page.All {
		page.Running = page.Running || c.EndedAt.IsZero()
	}
	cached := v.config.Cache()
	page.Evicted, page.EvictedOf = cached.EvictedBytes, cached.EvictedCount
	page.CanStart = v.may(registry.Create, access.Collection, "")
	page.CanStop = v.may(access.Stop, access.Collection, "")
	page.Tasks = v.tasks()
	return v.show(status, "jobs", v.say("nav.jobs"), page)
}

func listJobs(v *visit) error { return v.showJobs(http.StatusOK, nil) }

func startCollection(v *visit) error {
	dry := v.r.PostFormValue("do") == "dry"
	if _, err := v.config.Estate.Collect(v.r.Context(), v.me, dry, false, nil); err != nil {
		t := v.trouble(err)
		if !t.amends() {
			return err
		}
		return v.showJobs(t.Status, &t)
	}
	return v.done(home+"jobs", "job.started")
}

func stopCollection(v *visit) error {
	id, err := v.number("id")
	if err != nil {
		return err
	}
	if err := v.config.Estate.StopCollection(v.r.Context(), v.me, id); err != nil {
		return err
	}
	return v.done(home+"jobs", "job.stopped")
}
