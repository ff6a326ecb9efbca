package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"roadstead/registry"
	"roadstead/registry/estate"
	"roadstead/storage/catalog"
)

// retentionBody is a policy, as far as it means something here.
type retentionBody struct {
	Algorithm string          `json:"algorithm"`
	Rules     []retentionRule `json:"rules"`
	Scope     struct {
		Level string `json:"level"`
		Ref   int64  `json:"ref"`
	} `json:"scope"`
	Trigger struct {
		Kind     string `json:"kind"`
		Settings struct {
			Cron string `json:"cron"`
		} `json:"settings"`
	} `json:"trigger"`
}

type retentionRule struct {
	ID       int                        `json:"id"`
	Priority int                        `json:"priority"`
	Disabled bool                       `json:"disabled"`
	Action   string                     `json:"action"`
	Template string                     `json:"template"`
	Params   map[string]json.RawMessage `json:"params"`
	Tags     []selector                 `json:"tag_selectors"`
	Scopes   map[string][]selector      `json:"scope_selectors"`
}

// selector says what a rule is about.
type selector struct {
	Kind       string `json:"kind"`
	Decoration string `json:"decoration"`
	Pattern    string `json:"pattern"`
	Extras     string `json:"extras,omitempty"` // JSON that says whether it is about what has no tag
}

const understood = "what is understood is rules with one selector of repositories (repoMatches, repoExcludes) and one of tags (matches, excludes) at most, " +
	"and the templates latestPushedK, latestPulledN, nDaysSinceLastPush, nDaysSinceLastPull or always"

// meaning is a policy as the catalog has it: what stays, and when the rest goes.
func (b retentionBody) meaning() (r catalog.Retention, schedule string, err error) {
	if b.Algorithm != "" && b.Algorithm != "or" {
		return r, "", invalid("the algorithm of a retention is or: a tag stays that any of the rules keeps")
	}
	for i, rule := range b.Rules {
		if rule.Disabled {
			continue
		}
		meant, err := rule.meaning()
		if err != nil {
			return r, "", invalid("rule %d: %v", i+1, err)
		}
		r.Rules = append(r.Rules, meant)
	}
	schedule = b.Trigger.Settings.Cron
	if schedule == "" {
		schedule = estate.Never
	}
	return r, schedule, nil
}

// meaning is a rule as the catalog has it.
func (r retentionRule) meaning() (rule catalog.Rule, err error) {
	if r.Action != "" && r.Action != "retain" {
		return rule, fmt.Errorf("the action of a rule is retain")
	}
	for name := range r.Scopes {
		if name != "repository" {
			return rule, fmt.Errorf("the scope %q is not understood; %s", registry.Clip(name), understood)
		}
	}
	if rule.Repositories, err = selected(r.Scopes["repository"], "repoMatches", "repoExcludes"); err != nil {
		return rule, err
	}
	if rule.Tags, err = selected(r.Tags, "matches", "excludes"); err != nil {
		return rule, err
	}
	rule.Untagged = untagged(r.Tags)
	if r.Template == "always" {
		return rule, nil
	}
	counts := map[string]*int{"latestPushedK": &rule.Newest, "latestPulledN": &rule.LastPulled}
	times := map[string]*time.Duration{"nDaysSinceLastPush": &rule.Pushed, "nDaysSinceLastPull": &rule.Pulled}
	if counts[r.Template] == nil && times[r.Template] == nil {
		return rule, fmt.Errorf("the template %q is not understood; %s", registry.Clip(r.Template), understood)
	}
	n, err := r.parameter()
	if err != nil {
		return rule, err
	}
	if count := counts[r.Template]; count != nil {
		*count = n
	} else {
		*times[r.Template] = time.Duration(n) * 24 * time.Hour
	}
	return rule, nil
}

// selected is what selectors mean, of which there is one or none. None selects everything.
func selected(all []selector, matches, excludes string) (s catalog.Selector, err error) {
	if len(all) == 0 {
		return s, nil
	}
	sent := all[0]
	switch {
	case len(all) > 1:
		return s, fmt.Errorf("%d selectors are more than one of a kind; join the patterns with {a,b}", len(all))
	case sent.Kind != "" && sent.Kind != "doublestar":
		return s, fmt.Errorf("the kind of a selector is doublestar, not %q", registry.Clip(sent.Kind))
	case sent.Decoration != matches && sent.Decoration != excludes:
		return s, fmt.Errorf("the decoration of a selector here is %s or %s, not %q", matches, excludes, registry.Clip(sent.Decoration))
	}
	s = catalog.Selector{Glob: sent.Pattern, Except: sent.Decoration == excludes}
	if s.Glob == "**" {
		s.Glob = ""
	}
	return s, registry.Glob(sent.Pattern).Check()
}

// untagged reports whether a rule is about what has no tag. Harbor's word on that is one that a selector
// of tags matches, or excludes, and without the word a rule is about it in either case.
func untagged(tags []selector) bool {
	var extras struct {
		Untagged *bool `json:"untagged"`
	}
	if len(tags) == 0 || tags[0].Extras == "" || json.Unmarshal([]byte(tags[0].Extras), &extras) != nil {
		return true
	}
	word := extras.Untagged != nil && *extras.Untagged
	return word != (tags[0].Decoration == "excludes")
}

// everything reports whether a rule is about all repositories and tags of the project.
func (r retentionRule) everything() bool {
	all := func(selectors []selector, decoration string) bool {
		return !slices.ContainsFunc(selectors, func(s selector) bool { return s.Pattern != "**" || s.Decoration != decoration })
	}
	for name, selectors := range r.Scopes {
		if name != "repository" || !all(selectors, "repoMatches") {
			return false
		}
	}
	return all(r.Tags, "matches")
}

// parameter is the number of a rule, which is called as its template.
func (r retentionRule) parameter() (int, error) {
	text := strings.Trim(string(r.Params[r.Template]), `"`)
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n < 1 || n > 1e5 || n != float64(int(n)) {
		return 0, fmt.Errorf("params.%s is a number from 1 to 100000", registry.Clip(r.Template))
	}
	return int(n), nil
}

// inHarborsWords says what a retention does as nearly as Harbor's rules can, which count days and
// manifests. Of a proxy they say how long it keeps what was pulled.
func inHarborsWords(r catalog.Retention, hosted bool) (rules []retentionRule) {
	if !hosted {
		return rulesOfRetention(catalog.Rule{Pulled: r.Pulled}, []selector{{Kind: "doublestar", Decoration: "matches", Pattern: "**"}})
	}
	all := r.Rules
	if r.Newest > 0 || r.Pulled > 0 {
		all = append([]catalog.Rule{{Newest: r.Newest, Pulled: r.Pulled, Pushed: r.Pulled}}, all...)
	}
	for _, rule := range all {
		tags := selectorOf(rule.Tags, "matches", "excludes")
		tags.Extras = fmt.Sprintf(`{"untagged":%t}`, rule.Untagged != rule.Tags.Except)
		rules = append(rules, rulesOfRetention(rule, []selector{tags})...)
	}
	return rules
}

// rulesOfRetention are the rules of Harbor's that keep together what a rule keeps.
func rulesOfRetention(rule catalog.Rule, tags []selector) (rules []retentionRule) {
	add := func(template string, n int) {
		params := map[string]json.RawMessage{}
		if n > 0 {
			params[template] = json.RawMessage(strconv.Itoa(n))
		}
		rules = append(rules, retentionRule{
			Action: "retain", Template: template, Params: params, Tags: tags,
			Scopes: map[string][]selector{"repository": {selectorOf(rule.Repositories, "repoMatches", "repoExcludes")}},
		})
	}
	const day = 24 * time.Hour
	days := func(d time.Duration) int { return int((d + day - 1) / day) }
	for _, one := range []struct {
		template string
		n        int
	}{
		{"latestPushedK", rule.Newest}, {"latestPulledN", rule.LastPulled},
		{"nDaysSinceLastPush", days(rule.Pushed)}, {"nDaysSinceLastPull", days(rule.Pulled)},
	} {
		if one.n > 0 {
			add(one.template, one.n)
		}
	}
	if rule.All() {
		add("always", 0)
	}
	return rules
}

func selectorOf(s catalog.Selector, matches, excludes string) selector {
	sent := selector{Kind: "doublestar", Decoration: matches, Pattern: s.Glob}
	if s.Except {
		sent.Decoration = excludes
	}
	if s.Glob == "" {
		sent.Pattern = "**"
	}
	return sent
}
