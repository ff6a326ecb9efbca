package api

import (
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// policyBody is how a proxy caches, which Harbor has no words for. Times are as Go writes them, "90m";
// null is the house's own.
type policyBody struct {
	Prefix   string   `json:"prefix"`
	TTL      *string  `json:"ttl"`
	StaleFor *string  `json:"stale_for"`
	Keep     *string  `json:"keep"`
	Allow    []string `json:"allow"`
	Deny     []string `json:"deny"`
	Pin      []string `json:"pin"`
	KeepGone bool     `json:"keep_gone"`
}

func (c *call) readPolicy() error {
	row, err := c.estate.Project(c.ctx(), c.who, c.project())
	if err != nil {
		return err
	}
	// What is allowed, denied and pinned tells of what its people run: not everybody who may pull is to
	// know that.
	if err := c.estate.MayIn(c.who, registry.Read, access.Cache, row.Name); err != nil {
		return err
	}
	if row.Hosted() {
		return unknown("the project is no proxy, and has no policy")
	}
	p := row.Policy
	text := func(d *time.Duration) *string {
		if d == nil {
			return nil
		}
		s := d.String()
		return &s
	}
	list := func(all []string) []string { return append([]string{}, all...) }
	return c.ok(policyBody{p.Prefix, text(p.TTL), text(p.StaleFor), text(p.Keep), list(p.Allow), list(p.Deny), list(p.Pin), p.KeepGone})
}

func (c *call) updatePolicy() error {
	var b policyBody
	if err := c.body(&b); err != nil {
		return err
	}
	next := catalog.Policy{Prefix: b.Prefix, Allow: b.Allow, Deny: b.Deny, Pin: b.Pin, KeepGone: b.KeepGone}
	for _, set := range []struct {
		name string
		from *string
		to   **time.Duration
	}{{"ttl", b.TTL, &next.TTL}, {"stale_for", b.StaleFor, &next.StaleFor}, {"keep", b.Keep, &next.Keep}} {
		if set.from == nil {
			continue
		}
		d, err := time.ParseDuration(*set.from)
		if err != nil {
			return invalid("%s is a time such as 90m or 168h", set.name)
		}
		*set.to = &d
	}
	err := c.estate.ChangeProject(c.ctx(), c.who, c.project(), func(p *catalog.Project) error {
		if p.Hosted() {
			return invalid("the project is no proxy, and has no policy")
		}
		p.Policy = next
		return nil
	})
	if err != nil {
		return err
	}
	return c.done()
}
