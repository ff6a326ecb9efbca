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
	Running   int // collections and tasks
	Since     hosted.Stats
	Evicted   int64
	EvictedOf int64
	CanStart  bool
	CanStop   bool
	Tasks     tasks
	Error     *trouble
}

// jobs looks at all of them.
func (v *visit) jobs() (page jobs, err error) {
	ctx := v.r.Context()
	page.Since = v.config.Hosted()
	if page.Plan, page.Planned, err = v.config.Estate.Collecting(ctx, v.me); err != nil {
		return jobs{}, err
	}
	if page.All, err = v.config.Estate.Collections(ctx, v.me); err != nil {
		return jobs{}, err
	}
	for _, c := range page.All {
		if c.EndedAt.IsZero() {
			page.Running++
		}
	}
	cached := v.config.Cache()
	page.Evicted, page.EvictedOf = cached.EvictedBytes, cached.EvictedCount
	page.CanStart = v.may(registry.Create, access.Collection, "")
	page.CanStop = v.may(access.Stop, access.Collection, "")
	if page.Tasks, err = v.tasks(); err != nil {
		return jobs{}, err
	}
	for _, one := range page.Tasks.All {
		if one.EndedAt.IsZero() {
			page.Running++
		}
	}
	return page, nil
}

func (v *visit) showJobs(status int, t *trouble) error {
	page, err := v.jobs()
	if err != nil {
		return err
	}
	page.Error = t
	return v.show(status, "jobs", v.say("nav.jobs"), page)
}

// streamJobs tells a browser how far the jobs are, until none runs.
func streamJobs(v *visit) error {
	return v.follow("jobs", func() ([]place, bool, error) {
		page, err := v.jobs()
		return []place{{"jobs-figures", page}, {"jobs-running", page}, {"jobs-collections", page}, {"jobs-tasks", page}}, page.Running > 0, err
	})
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
