package api

import (
	"encoding/json"
	"hash/fnv"
	"slices"
	"strings"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// immutableKey is where the rules of a project are kept as they were sent, with their numbers. Which
// tags are immutable is in the project itself.
const immutableKey = ours + "immutable"

// ruleBody is a rule of immutable tags as clients send and see it.
type ruleBody struct {
	ID       int64                 `json:"id"`
	Project  int64                 `json:"project_id"`
	Disabled bool                  `json:"disabled"`
	Priority int                   `json:"priority"`
	Action   string                `json:"action"`
	Template string                `json:"template"`
	Params   json.RawMessage       `json:"params,omitempty"`
	Tags     []selector            `json:"tag_selectors"`
	Scopes   map[string][]selector `json:"scope_selectors"`
}

// glob is the pattern that means the same here.
func (b ruleBody) glob() (string, error) {
	repos := b.Scopes["repository"]
	if len(repos) != 1 || len(b.Scopes) != 1 || len(b.Tags) != 1 || repos[0].Decoration != "repoMatches" || b.Tags[0].Decoration != "matches" {
		return "", invalid("what is understood is rules with one pattern of repositories (repoMatches) and one of tags (matches)")
	}
	repo, tag := repos[0].Pattern, b.Tags[0].Pattern
	if repo == "" || tag == "" || strings.Contains(repo, ":") {
		return "", invalid("a pattern is missing or has a colon in it: write ** for all")
	}
	return repo + ":" + tag, nil
}

// ruleOf is the rule that says what a pattern does, which somebody else has set.
func ruleOf(glob string) ruleBody {
	repo, tag, tagged := strings.Cut(glob, ":")
	if !tagged {
		tag = "**"
	}
	h := fnv.New32a()
	h.Write([]byte(glob)) // never fails
	return ruleBody{
		ID:     1<<32 + int64(h.Sum32()), // far from those that are counted
		Action: "immutable", Template: "immutable_template",
		Tags:   []selector{{Kind: "doublestar", Decoration: "matches", Pattern: tag}},
		Scopes: map[string][]selector{"repository": {{Kind: "doublestar", Decoration: "repoMatches", Pattern: repo}}},
	}
}

// rulesOf are the rules of a project: those that were sent and are still in force, or are disabled,
// and those that others have set.
func rulesOf(p catalog.Project) (rules []ruleBody, last int64) {
	var kept []ruleBody
	_ = json.Unmarshal([]byte(p.Metadata[immutableKey]), &kept) // none, if there is none
	left := slices.Clone(p.Immutable)
	for _, rule := range kept {
		last = max(last, rule.ID)
		glob, err := rule.glob()
		i := slices.Index(left, glob)
		switch {
		case err != nil:
			continue
		case i >= 0 && !rule.Disabled:
			left = slices.Delete(left, i, i+1)
		case !rule.Disabled:
			continue
		}
		rule.Project = p.ID
		rules = append(rules, rule)
	}
	for _, glob := range left {
		rule := ruleOf(glob)
		rule.Project = p.ID
		rules = append(rules, rule)
	}
	return rules, min(last, 1<<32)
}

// setRules writes rules into a project.
func setRules(p *catalog.Project, rules []ruleBody) error {
	p.Immutable = nil
	for _, rule := range rules {
		glob, err := rule.glob()
		if err != nil {
			return err
		}
		if rule.Disabled {
			continue
		}
		if slices.Contains(p.Immutable, glob) {
			return &registry.Fault{Code: registry.Conflict, Message: "there is a rule for these tags already"}
		}
		p.Immutable = append(p.Immutable, glob)
	}
	text, err := json.Marshal(rules)
	if err != nil {
		return err
	}
	if p.Metadata == nil {
		p.Metadata = map[string]string{}
	}
	p.Metadata[immutableKey] = string(text)
	if len(rules) == 0 {
		delete(p.Metadata, immutableKey)
	}
	return nil
}

func (c *call) listRules() error {
	p, err := c.estate.ReadRules(c.ctx(), c.who, access.Immutable, c.project())
	if err != nil {
		return err
	}
	rules, _ := rulesOf(p)
	return cut(c, rules)
}

func (c *call) createRule() error {
	var b ruleBody
	if err := c.body(&b); err != nil {
		return err
	}
	project := int64(0)
	err := c.estate.ChangeRules(c.ctx(), c.who, registry.Create, access.Immutable, c.project(), func(p *catalog.Project) error {
		rules, last := rulesOf(*p)
		b.ID, b.Project, project = last+1, p.ID, p.ID
		return setRules(p, append(rules, b.tidy()))
	})
	if err != nil {
		return err
	}
	return c.created(nil, "/projects/%d/immutabletagrules/%d", project, b.ID)
}

// tidy is a rule with what clients leave out.
func (b ruleBody) tidy() ruleBody {
	if b.Action == "" {
		b.Action = "immutable"
	}
	if b.Template == "" {
		b.Template = "immutable_template"
	}
	return b
}

// changeRule has fn change the list of rules, in which the one of the path is at i.
func (c *call) changeRule(action registry.Action, fn func(rules []ruleBody, i int) []ruleBody) error {
	id, err := c.number("id", "rule")
	if err != nil {
		return err
	}
	err = c.estate.ChangeRules(c.ctx(), c.who, action, access.Immutable, c.project(), func(p *catalog.Project) error {
		rules, _ := rulesOf(*p)
		i := slices.IndexFunc(rules, func(r ruleBody) bool { return r.ID == id })
		if i < 0 {
			return unknown("project %s has no rule %d", p.Name, id)
		}
		return setRules(p, fn(rules, i))
	})
	if err != nil {
		return err
	}
	return c.done()
}

func (c *call) updateRule() error {
	var b ruleBody
	if err := c.body(&b); err != nil {
		return err
	}
	return c.changeRule(registry.Update, func(rules []ruleBody, i int) []ruleBody {
		b.ID, b.Project = rules[i].ID, rules[i].Project
		rules[i] = b.tidy()
		return rules
	})
}

func (c *call) deleteRule() error {
	return c.changeRule(registry.Delete, func(rules []ruleBody, i int) []ruleBody { return slices.Delete(rules, i, i+1) })
}
