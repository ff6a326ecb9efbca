package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/registry/estate"
)

// scheduleBody is when to collect, as clients send it.
type scheduleBody struct {
	Schedule struct {
		Type string `json:"type"`
		Cron string `json:"cron"`
	} `json:"schedule"`
	Parameters struct {
		Untagged bool `json:"delete_untagged"`
		Dry      bool `json:"dry_run"`
		Workers  int  `json:"workers"` // there is one, whatever is asked for
	} `json:"parameters"`
}

// parameters are what is kept to be shown again.
func (b scheduleBody) parameters() map[string]any {
	return map[string]any{"delete_untagged": b.Parameters.Untagged, "dry_run": b.Parameters.Dry, "workers": max(b.Parameters.Workers, 1)}
}

// crons are what types of schedules mean that come without a cron.
var crons = map[string]string{"Hourly": "0 0 * * * *", "Daily": "0 0 0 * * *", "Weekly": "0 0 0 * * 0", "Custom": ""}

// collectionView is a collection, or the plan of them, as clients see it.
type collectionView struct {
	ID         int64         `json:"id"`
	Name       string        `json:"job_name"`
	Kind       string        `json:"job_kind"`
	Parameters string        `json:"job_parameters"` // JSON
	Schedule   *scheduleView `json:"schedule,omitempty"`
	Status     string        `json:"job_status"`
	Deleted    bool          `json:"deleted"`
	CreatedAt  stamp         `json:"creation_time"`
	UpdatedAt  stamp         `json:"update_time"`
}

type scheduleView struct {
	Type string `json:"type"`
	Cron string `json:"cron"`
	Next *stamp `json:"next_scheduled_time,omitempty"`
}

func jsonText(parameters map[string]any) string {
	text, err := json.Marshal(parameters)
	if err != nil || parameters == nil {
		return "{}"
	}
	return string(text)
}

func kindOf(r estate.Collection) string {
	if r.Manual {
		return "MANUAL"
	}
	return "SCHEDULE"
}

func statusOf(r estate.Collection) string {
	switch {
	case r.EndedAt.IsZero():
		return "Running"
	case strings.Contains(r.Error, "stopped"):
		return "Stopped"
	case r.Error != "":
		return "Error"
	}
	return "Success"
}

func viewCollection(r estate.Collection) collectionView {
	parameters := r.Parameters
	if parameters == nil {
		parameters = map[string]any{"delete_untagged": r.Untagged, "dry_run": r.Dry, "workers": 1}
	}
	v := collectionView{
		ID: r.ID, Name: "GARBAGE_COLLECTION", Kind: kindOf(r), Parameters: jsonText(parameters), Status: statusOf(r),
		CreatedAt: stamp(r.BeganAt), UpdatedAt: stamp(r.BeganAt),
	}
	if !r.EndedAt.IsZero() {
		v.UpdatedAt = stamp(r.EndedAt)
	}
	if r.Manual {
		v.Schedule = &scheduleView{Type: "Manual"}
	}
	return v
}

// readSchedule answers with an empty body when there is no plan, which is how clients know.
func (c *call) readSchedule() error {
	plan, set, err := c.estate.Collecting(c.ctx(), c.who)
	if err != nil {
		return err
	}
	if !set || plan.Type == "None" {
		return c.done()
	}
	v := collectionView{
		ID: 1, Name: "GARBAGE_COLLECTION", Kind: "SCHEDULE", Parameters: jsonText(plan.Parameters), Status: "Scheduled",
		Schedule: &scheduleView{Type: plan.Type, Cron: plan.Cron}, CreatedAt: stamp(plan.CreatedAt), UpdatedAt: stamp(plan.UpdatedAt),
	}
	if at := plan.Next(time.Now()); !at.IsZero() {
		next := stamp(at)
		v.Schedule.Next = &next
	}
	return c.ok(v)
}

// setSchedule sets the plan, or with the type Manual begins a collection now.
func (c *call) setSchedule() (id int64, err error) {
	var b scheduleBody
	if err := c.body(&b); err != nil {
		return 0, err
	}
	kind := b.Schedule.Type
	if kind == "Manual" {
		return c.estate.Collect(c.ctx(), c.who, b.Parameters.Dry, b.Parameters.Untagged, b.parameters())
	}
	plan := estate.Plan{Type: kind, Cron: b.Schedule.Cron, Untagged: b.Parameters.Untagged, Dry: b.Parameters.Dry, Parameters: b.parameters()}
	switch usual, known := crons[kind]; {
	case kind == "None" || kind == "":
		plan.Type, plan.Cron = "None", ""
	case !known:
		return 0, invalid("%q is no type of schedule: take Hourly, Daily, Weekly, Custom, Manual or None", registry.Clip(kind))
	case plan.Cron == "":
		if plan.Cron = usual; usual == "" {
			return 0, invalid("a Custom schedule has a cron: second, minute, hour, day, month and day of the week")
		}
	}
	return 1, c.estate.SetCollecting(c.ctx(), c.who, plan)
}

func (c *call) createSchedule() error {
	id, err := c.setSchedule()
	if err != nil {
		return err
	}
	return c.created(nil, "/system/gc/%d", id)
}

func (c *call) updateSchedule() error {
	if _, err := c.setSchedule(); err != nil {
		return err
	}
	return c.done()
}

func (c *call) listCollections() error {
	f, err := c.filter("id", "job_kind", "job_status")
	if err != nil {
		return err
	}
	all, err := c.estate.Collections(c.ctx(), c.who)
	if err != nil {
		return err
	}
	var views []collectionView
	for _, r := range all {
		v := viewCollection(r)
		if f.fits("id", fmt.Sprint(v.ID)) && f.fits("job_kind", v.Kind) && f.fits("job_status", v.Status) {
			views = append(views, v)
		}
	}
	return cut(c, views)
}

func (c *call) collection() (estate.Collection, error) {
	id, err := c.number("id", "collection")
	if err != nil {
		return estate.Collection{}, err
	}
	all, err := c.estate.Collections(c.ctx(), c.who)
	if err != nil {
		return estate.Collection{}, err
	}
	for _, r := range all {
		if r.ID == id {
			return r, nil
		}
	}
	return estate.Collection{}, unknown("there is no collection %d", id)
}

func (c *call) readCollection() error {
	r, err := c.collection()
	if err != nil {
		return err
	}
	return c.ok(viewCollection(r))
}

// readCollectionLog says in words what a collection did.
func (c *call) readCollectionLog() error {
	r, err := c.collection()
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s began\n", r.BeganAt.UTC().Format(time.RFC3339))
	would := ""
	if r.Dry {
		would = "would be "
	}
	for _, name := range r.Gone {
		fmt.Fprintf(&b, "%sretired: %s\n", would, name)
	}
	if !r.EndedAt.IsZero() {
		fmt.Fprintf(&b, "%sretired: %d tags and manifests\n%sremoved: %d blobs, %d bytes\n", would, r.Retired, would, r.Blobs, r.Bytes)
		fmt.Fprintf(&b, "%s ended: %s %s\n", r.EndedAt.UTC().Format(time.RFC3339), statusOf(r), r.Error)
	}
	return c.text(b.String())
}

func (c *call) stopCollection() error {
	id, err := c.number("id", "collection")
	if err != nil {
		return err
	}
	var b struct {
		Status string `json:"status"`
	}
	if err := c.body(&b); err != nil {
		return err
	}
	if !strings.EqualFold(b.Status, "stopped") && !strings.EqualFold(b.Status, "stop") {
		return invalid("the status that a collection can be given is Stopped")
	}
	if err := c.estate.StopCollection(c.ctx(), c.who, id); err != nil {
		return err
	}
	return c.done()
}
