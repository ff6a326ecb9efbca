package api

import "roadstead/registry"

// repo is the repository of the path, whether it is there or not.
func (c *call) repo() (registry.Repo, error) {
	ref := c.project()
	if ref.ID != 0 {
		p, err := c.estate.Project(c.ctx(), c.who, ref)
		if err != nil {
			return registry.Repo{}, err
		}
		ref.Name = p.Name
	}
	return registry.Repo{Project: ref.Name, Name: c.item("repository")}, nil
}

// freshnessView is what is known of a tag of a proxy.
type freshnessView struct {
	Digest    string `json:"digest"`
	MediaType string `json:"media_type"`
	Size      int64  `json:"size"`       // of the manifest
	CheckedAt stamp  `json:"check_time"` // when upstream last answered for it
	ChangedAt stamp  `json:"change_time"`
	Stale     bool   `json:"stale"` // the next pull asks upstream first
	Gone      bool   `json:"gone"`  // upstream has no such tag any more
	Pinned    bool   `json:"pinned"`
}

func (c *call) freshness(repo registry.Repo) (freshnessView, error) {
	f, pinned, ok, err := c.estate.Fresh(c.ctx(), c.who, repo, c.item("tag"))
	if err == nil && !ok {
		err = unknown("%s:%s is not cached, which only a tag of a proxy can be", repo, c.item("tag"))
	}
	return freshnessView{f.Digest.String(), f.MediaType, f.Size, stamp(f.CheckedAt), stamp(f.ChangedAt), f.Stale, f.Gone, pinned}, err
}

// tagged is repo, and looks at the tag of the path.
func (c *call) tagged() (registry.Repo, error) {
	if err := registry.CheckTag(c.item("tag")); err != nil {
		return registry.Repo{}, invalid("%q is no tag", registry.Clip(c.item("tag")))
	}
	return c.repo()
}

func (c *call) readFreshness() error {
	repo, err := c.tagged()
	if err != nil {
		return err
	}
	v, err := c.freshness(repo)
	if err != nil {
		return err
	}
	return c.ok(v)
}

// refresh asks upstream now, and answers when it has.
func (c *call) refresh() error {
	repo, err := c.tagged()
	if err != nil {
		return err
	}
	moved, err := c.estate.Refresh(c.ctx(), c.who, repo, c.item("tag"), c.r.RemoteAddr)
	if err != nil {
		return err
	}
	v, err := c.freshness(repo)
	if err != nil {
		return err
	}
	return c.ok(struct {
		Moved bool `json:"moved"`
		freshnessView
	}{moved, v})
}

// warm brings an image here before anybody pulls it.
func (c *call) warm() error {
	var b struct {
		Reference string   `json:"reference"`
		Platforms []string `json:"platforms"`
	}
	if err := c.body(&b); err != nil {
		return err
	}
	repo, err := c.repo()
	if err != nil {
		return err
	}
	return c.started(c.estate.Warm(c.ctx(), c.who, repo, b.Reference, b.Platforms))
}
