package api

import (
	"fmt"
	"net/http"

	"roadstead/registry"
	"roadstead/registry/estate"
)

// jobView is work that takes longer than a request.
type jobView struct {
	ID      int64  `json:"id"`
	Kind    string `json:"kind"`
	Target  string `json:"target"` // what it is done to; "": all there is
	By      string `json:"started_by"`
	Node    string `json:"node"` // of a cluster
	State   string `json:"state"`
	Done    int64  `json:"done"`  // in units
	Total   int64  `json:"total"` // 0: not known
	Unit    string `json:"unit"`
	Result  string `json:"result"`
	Started stamp  `json:"start_time"`
	Ended   *stamp `json:"end_time"` // null while it runs
}

func viewJob(j estate.Job) jobView {
	v := jobView{j.ID, string(j.Kind), j.Target, j.By, j.Node, string(j.State), j.Done, j.Total, j.Unit, j.Result, stamp(j.StartedAt), nil}
	if !j.EndedAt.IsZero() {
		ended := stamp(j.EndedAt)
		v.Ended = &ended
	}
	return v
}

// started answers 202 and says where the job is that does what was asked for.
func (c *call) started(j estate.Job, err error) error {
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", fmt.Sprintf("%s/jobs/%d", mine, j.ID))
	return c.write(http.StatusAccepted, viewJob(j))
}

func (c *call) listJobs() error {
	if err := c.known(); err != nil {
		return err
	}
	var views []jobView
	all, err := c.estate.Jobs(c.ctx(), c.who, registry.Kind(c.r.URL.Query().Get("kind")))
	if err != nil {
		return err
	}
	for _, j := range all {
		views = append(views, viewJob(j))
	}
	return cut(c, views)
}

func (c *call) readJob() error {
	if err := c.known(); err != nil {
		return err
	}
	id, err := c.number("id", "job")
	if err != nil {
		return err
	}
	j, err := c.estate.Job(c.ctx(), c.who, id)
	if err != nil {
		return err
	}
	return c.ok(viewJob(j))
}

// stopJob tells a job to stop, which may take it a while.
func (c *call) stopJob() error {
	if err := c.known(); err != nil {
		return err
	}
	id, err := c.number("id", "job")
	if err != nil {
		return err
	}
	if err := c.estate.StopJob(c.ctx(), c.who, id); err != nil {
		return err
	}
	return c.done()
}

func (c *call) scrub() error { return c.started(c.estate.StartScrub(c.ctx(), c.who)) }

func (c *call) evict() error { return c.started(c.estate.StartEviction(c.ctx(), c.who)) }
