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

	// What guards the pulls of others is not taken off by whoever has never heard of it.
	Cooldown    *string     `json:"cooldown"`     // left out of a change: as it is; "": none
	CooldownNew *bool       `json:"cooldown_new"` // the same
	Verify      *verifyBody `json:"verify"`       // the same; mode "": none
}

// verifyBody says what a proxy asks of signatures.
type verifyBody struct {
	Mode string   `json:"mode"` // "warn", "enforce", or "" for nothing
	Keys []string `json:"keys"` // in PEM
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
	b := policyBody{
		Prefix: p.Prefix, TTL: text(p.TTL), StaleFor: text(p.StaleFor), Keep: text(p.Keep),
		Allow: list(p.Allow), Deny: list(p.Deny), Pin: list(p.Pin), KeepGone: p.KeepGone,
		Cooldown: text(p.Cooldown), CooldownNew: &p.CooldownNew, Verify: &verifyBody{Keys: []string{}},
	}
	if b.Cooldown == nil {
		b.Cooldown = new(string)
	}
	if p.Verify != nil {
		b.Verify = &verifyBody{p.Verify.Mode, list(p.Verify.Keys)}
	}
	return c.ok(b)
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
	var cooldown *time.Duration
	if b.Cooldown != nil && *b.Cooldown != "" {
		d, err := time.ParseDuration(*b.Cooldown)
		if err != nil {
			return invalid("cooldown is a time such as 72h, or empty for none")
		}
		cooldown = &d
	}
	err := c.estate.ChangeProject(c.ctx(), c.who, c.project(), func(p *catalog.Project) error {
		if p.Hosted() {
			return invalid("the project is no proxy, and has no policy")
		}
		was := p.Policy
		p.Policy = next
		p.Policy.Cooldown, p.Policy.CooldownNew, p.Policy.Verify = was.Cooldown, was.CooldownNew, was.Verify
		if b.Cooldown != nil {
			p.Policy.Cooldown = cooldown
		}
		if b.CooldownNew != nil {
			p.Policy.CooldownNew = *b.CooldownNew
		}
		if b.Verify != nil {
			p.Policy.Verify = nil
			if b.Verify.Mode != "" || len(b.Verify.Keys) > 0 {
				p.Policy.Verify = &catalog.Verify{Mode: b.Verify.Mode, Keys: b.Verify.Keys}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.done()
}
