package api

import (
	"cmp"
	"strconv"
	"time"

	"roadstead/registry"
	"roadstead/registry/estate"
)

// quotaView is what a project has and may have. It has the number of the project.
type quotaView struct {
	ID  int64 `json:"id"`
	Ref struct {
		ID    int64  `json:"id"`
		Name  string `json:"name"`
		Owner string `json:"owner_name"`
	} `json:"ref"`
	Hard      storageBody `json:"hard"`
	Used      storageBody `json:"used"`
	CreatedAt stamp       `json:"creation_time"`
	UpdatedAt stamp       `json:"update_time"`
}

type storageBody struct {
	Storage int64 `json:"storage"` // bytes; -1: any
}

func viewQuota(p estate.Project) quotaView {
	v := quotaView{ID: p.ID, Hard: storageBody{limitOf(p.Quota)}, Used: storageBody{p.Usage.Bytes}, CreatedAt: stamp(p.CreatedAt), UpdatedAt: stamp(p.UpdatedAt)}
	v.Ref.ID, v.Ref.Name, v.Ref.Owner = p.ID, p.Name, "admin"
	return v
}

func (c *call) listQuotas() error {
	all, err := c.estate.Quotas(c.ctx(), c.who)
	if err != nil {
		return err
	}
	query := c.r.URL.Query()
	if kind := query.Get("reference"); kind != "" && kind != "project" {
		return invalid("%q is nothing that has a quota: projects do", registry.Clip(kind))
	}
	id := query.Get("reference_id")
	var views []quotaView
	for _, p := range all {
		if id == "" || id == strconv.FormatInt(p.ID, 10) {
			views = append(views, viewQuota(p))
		}
	}
	err = order(c, views, map[string]func(a, b quotaView) int{
		"hard.storage":  func(a, b quotaView) int { return cmp.Compare(a.Hard.Storage, b.Hard.Storage) },
		"used.storage":  func(a, b quotaView) int { return cmp.Compare(a.Used.Storage, b.Used.Storage) },
		"creation_time": func(a, b quotaView) int { return time.Time(a.CreatedAt).Compare(time.Time(b.CreatedAt)) },
		"update_time":   func(a, b quotaView) int { return time.Time(a.UpdatedAt).Compare(time.Time(b.UpdatedAt)) },
	})
	if err != nil {
		return err
	}
	return cut(c, views)
}

func (c *call) readQuota() error {
	id, err := c.number("id", "quota")
	if err != nil {
		return err
	}
	p, err := c.estate.Quota(c.ctx(), c.who, estate.Ref{ID: id})
	if err != nil {
		return err
	}
	return c.ok(viewQuota(p))
}

func (c *call) updateQuota() error {
	id, err := c.number("id", "quota")
	if err != nil {
		return err
	}
	var b struct {
		Hard struct {
			Storage *int64 `json:"storage"`
		} `json:"hard"`
	}
	if err := c.body(&b); err != nil {
		return err
	}
	if b.Hard.Storage == nil {
		return invalid("hard.storage is missing")
	}
	bytes, err := quotaOf(*b.Hard.Storage)
	if err != nil {
		return err
	}
	if err := c.estate.SetQuota(c.ctx(), c.who, estate.Ref{ID: id}, bytes); err != nil {
		return err
	}
	return c.done()
}
