package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// retentionKey is where the policy of a project is kept as it was sent, so that a client that compares
// finds what it sent. What is in force is in the project itself.
const retentionKey = ours + "retention"

// usualKeep is how long a proxy keeps what was pulled when nobody has said anything else, as in Harbor.
const usualKeep = 7 * 24 * time.Hour

// keep is how long a proxy keeps what was pulled: all that a policy can say of one. What else is here
// goes when room is needed, and not by a rule.
func (b retentionBody) keep() (keep time.Duration, err error) {
	for i, rule := range b.Rules {
		if rule.Disabled {
			continue
		}
		if rule.Template != "nDaysSinceLastPull" || !rule.everything() || rule.Action != "" && rule.Action != "retain" {
			return 0, invalid("rule %d: a proxy keeps what was pulled in the last days, of all repositories and tags (nDaysSinceLastPull, ** in both selectors), and knows no other rule: pin what is to stay", i+1)
		}
		n, err := rule.parameter()
		if err != nil {
			return 0, invalid("rule %d: %v", i+1, err)
		}
		keep = max(keep, time.Duration(n)*24*time.Hour)
	}
	if keep == 0 {
		return 0, invalid("a proxy has one rule, nDaysSinceLastPull: how long it keeps at least what was pulled")
	}
	return keep, nil
}

// keeps is how long a proxy keeps what was pulled.
func keeps(p catalog.Project) time.Duration {
	if p.Policy.Keep != nil {
		return *p.Policy.Keep
	}
	return usualKeep
}

// retains reports whether somebody has said which tags of a project stay.
func retains(p catalog.Project) bool {
	return p.Metadata[retentionKey] != "" || !p.Retention.None() || !p.Hosted() && p.Policy.Keep != nil
}

// readRetentionBody reads a policy: what it means and the JSON to keep.
func (c *call) readRetentionBody() (b retentionBody, kept string, err error) {
	var raw json.RawMessage
	if err := c.body(&raw); err != nil {
		return b, "", err
	}
	if err := json.Unmarshal(raw, &b); err != nil {
		return b, "", invalid("the body is no policy of retention: %s", understood)
	}
	if b.Scope.Level != "" && b.Scope.Level != "project" || b.Scope.Ref <= 0 {
		return b, "", invalid("the scope of a retention is a project: scope.ref is its number")
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		return b, "", invalid("the body is not JSON")
	}
	return b, compact.String(), nil
}

func (c *call) createRetention() error {
	b, kept, err := c.readRetentionBody()
	if err != nil {
		return err
	}
	err = c.estate.ChangeRules(c.ctx(), c.who, registry.Create, access.Retention, estate.Ref{ID: b.Scope.Ref}, func(p *catalog.Project) error {
		if retains(*p) {
			return &registry.Fault{Code: registry.Conflict, Message: fmt.Sprintf("project %s has a retention already: change /retentions/%d", p.Name, p.ID)}
		}
		return b.apply(p, kept)
	})
	if err != nil {
		return err
	}
	return c.created(nil, "/retentions/%d", b.Scope.Ref)
}

// apply writes a policy into a project.
func (b retentionBody) apply(p *catalog.Project, kept string) error {
	if p.Metadata == nil {
		p.Metadata = map[string]string{}
	}
	if !p.Hosted() {
		keep, err := b.keep()
		if err != nil {
			return err
		}
		p.Policy.Keep, p.Metadata[retentionKey] = &keep, kept
		return nil
	}
	retention, schedule, err := b.meaning()
	if err != nil {
		return err
	}
	p.Retention, p.Schedule, p.Metadata[retentionKey] = retention, schedule, kept
	return nil
}

func (c *call) readRetention() error {
	id, err := c.number("id", "retention")
	if err != nil {
		return err
	}
	p, err := c.estate.ReadRules(c.ctx(), c.who, access.Retention, estate.Ref{ID: id})
	if err != nil {
		return err
	}
	policy, ok := policyOf(p)
	if !ok {
		return unknown("project %s has no retention", p.Name)
	}
	policy["id"] = p.ID
	return c.ok(policy)
}

// policyOf is the policy of a project: as it was sent, or one that says what somebody else has set.
func policyOf(p catalog.Project) (map[string]any, bool) {
	var (
		b    retentionBody
		sent map[string]any
	)
	kept := []byte(p.Metadata[retentionKey])
	if len(kept) > 0 && json.Unmarshal(kept, &b) == nil && json.Unmarshal(kept, &sent) == nil {
		if !p.Hosted() {
			if keep, err := b.keep(); err == nil && keep == keeps(p) {
				return sent, true
			}
		} else if r, schedule, err := b.meaning(); err == nil && r.Equal(p.Retention) && schedule == p.Schedule {
			return sent, true
		}
	}
	// How long a declared proxy keeps what was pulled says the configuration, and only that knows.
	if p.Hosted() && p.Retention.None() || !p.Hosted() && p.Configured {
		return nil, false
	}
	said := p.Retention
	if !p.Hosted() {
		said.Pulled = keeps(p)
	}
	rules := []any{}
	for i, rule := range inHarborsWords(said, p.Hosted()) {
		rule.ID = i + 1
		rules = append(rules, rule)
	}
	cron := p.Schedule
	if cron == estate.Never {
		cron = ""
	}
	return map[string]any{
		"algorithm": "or", "rules": rules, "scope": map[string]any{"level": "project", "ref": p.ID},
		"trigger": map[string]any{"kind": "Schedule", "settings": map[string]any{"cron": cron}, "references": map[string]any{}},
	}, true
}

func (c *call) updateRetention() error {
	id, err := c.number("id", "retention")
	if err != nil {
		return err
	}
	b, kept, err := c.readRetentionBody()
	if err != nil {
		return err
	}
	if b.Scope.Ref != id {
		return invalid("scope.ref is %d and not the project of retention %d", b.Scope.Ref, id)
	}
	err = c.estate.ChangeRules(c.ctx(), c.who, registry.Update, access.Retention, estate.Ref{ID: id}, func(p *catalog.Project) error {
		return b.apply(p, kept)
	})
	if err != nil {
		return err
	}
	return c.done()
}

func (c *call) deleteRetention() error {
	id, err := c.number("id", "retention")
	if err != nil {
		return err
	}
	err = c.estate.ChangeRules(c.ctx(), c.who, registry.Delete, access.Retention, estate.Ref{ID: id}, func(p *catalog.Project) error {
		if p.Hosted() && !retains(*p) {
			return unknown("project %s has no retention", p.Name)
		}
		if !p.Hosted() {
			p.Policy.Keep = nil
		}
		p.Retention, p.Schedule = catalog.Retention{}, ""
		delete(p.Metadata, retentionKey)
		return nil
	})
	if err != nil {
		return err
	}
	return c.done()
}

// runView is one time that the tags of a project were retained.
type runView struct {
	ID       int64    `json:"id"`
	Policy   int64    `json:"policy_id"`
	Trigger  string   `json:"trigger"`
	Dry      bool     `json:"dry_run"`
	Status   string   `json:"status"`
	Retired  int      `json:"retired"`        // ours
	Gone     []string `json:"gone,omitempty"` // ours: the first of them
	Started  stamp    `json:"start_time"`
	Finished stamp    `json:"end_time"`
}

func (c *call) listRetentionRuns() error {
	id, err := c.number("id", "retention")
	if err != nil {
		return err
	}
	all, err := c.estate.Retentions(c.ctx(), c.who, estate.Ref{ID: id})
	if err != nil {
		return err
	}
	var views []runView
	for _, r := range all {
		views = append(views, runView{r.ID, id, kindOf(r), r.Dry, statusOf(r), r.Retired, r.Gone, stamp(r.BeganAt), stamp(r.EndedAt)})
	}
	return cut(c, views)
}

func (c *call) runRetention() error {
	id, err := c.number("id", "retention")
	if err != nil {
		return err
	}
	var b struct {
		Dry bool `json:"dry_run"`
	}
	if err := c.body(&b); err != nil {
		return err
	}
	run, err := c.estate.Retain(c.ctx(), c.who, estate.Ref{ID: id}, b.Dry)
	if err != nil {
		return err
	}
	return c.created(nil, "/retentions/%d/executions/%d", id, run)
}
